"""How an engine's threads wait for each other. For every engine that runs on the processor."""

import os

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def waiting_environment() -> dict[str, str]:
    """Threads of the engine wait for each other awake for a moment, then asleep, unless this
    process was told otherwise.

    By default they stay awake for long, which keeps the one they wait for from running
    where there are more of them than cores. Measured on two cores, with the embedded model:

    | they wait | tokens a second, alone | 64 tokens of three replicas at once |
    | --- | --- | --- |
    | long, as by default | 135 | 7.7 s |
    | for 300 rounds | 121 to 135 | 1.9 s |
    | asleep (`OMP_WAIT_POLICY=passive`) | 42 to 50 | 1.8 s |
    """
    told = {name: os.environ[name] for name in _WAITING if name in os.environ}
    return told or {"GOMP_SPINCOUNT": "300"}
