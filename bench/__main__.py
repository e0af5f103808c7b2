"""`just bench [start|relay]`: run the measurements and print a table of each."""

import sys

from bench import relay, start

MEASUREMENTS = {"start": start.main, "relay": relay.main}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        print(f"there is no measurement {unknown[0]!r}; there are: {', '.join(MEASUREMENTS)}")
        return 2
    for name in names or MEASUREMENTS:
        MEASUREMENTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
