"""`just bench [start|wake|gateway|tasks] [options]`: run measurements, print tables."""

import sys
from collections.abc import Callable

from bench import start, tasks, wake
from bench.gateway import command

MEASUREMENTS: dict[str, Callable[[list[str]], int | None]] = {
    "start": lambda _: start.main(),
    "wake": lambda _: wake.main(),
    "gateway": command.main,
    "tasks": tasks.main,
}


def main(arguments: list[str]) -> int:
    """The options are the named measurement's; without a name all are run, as they come."""
    if arguments and arguments[0] not in MEASUREMENTS:
        print(f"there is no measurement {arguments[0]!r}; there are: {', '.join(MEASUREMENTS)}")
        return 2
    names, options = arguments[:1] or list(MEASUREMENTS), arguments[1:]
    statuses = [MEASUREMENTS[name](options) for name in names]
    return max(status or 0 for status in statuses)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
