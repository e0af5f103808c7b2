"""A gateway that does more often what it does every second, for tests that wait for it.

    python hurried_gateway.py modelry.gateway.feed._LOAD_S=0.1 …

Nobody needs to set these times but a test: one that cannot wait half a minute,
or one of many that would each wait a second.
"""

import importlib
import sys
from collections.abc import Mapping

from modelry.app.gateway import main

TELLS_OFTEN = {
    "modelry.gateway.feed._LOAD_S": 0.1,
    "modelry.gateway.feed._RECONNECT_S": 0.05,
    "modelry.gateway.gateway._FLUSH_S": 0.05,
    "modelry.gateway.gateway._SWEEP_S": 0.1,
    "modelry.gateway.server._SWEEP_S": 0.1,
}


def hurried(times: Mapping[str, float] = TELLS_OFTEN) -> tuple[str, ...]:
    """The program and its arguments, as a `Plane` takes them."""
    return (__file__, *(f"{name}={seconds}" for name, seconds in times.items()))


def set_constant(assignment: str) -> None:
    place, _, value = assignment.partition("=")
    module, _, name = place.rpartition(".")
    found = importlib.import_module(module)
    # A constant that has another name by now must not go unnoticed.
    getattr(found, name)
    setattr(found, name, float(value))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        set_constant(argument)
    del sys.argv[1:]
    sys.exit(main())
