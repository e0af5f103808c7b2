"""A gateway whose times are short, for tests of what happens when they have passed.

    python hurried_gateway.py modelry.gateway.connection._HEAD_TIMEOUT_S=0.5 …

Nobody needs to set these times but a test that cannot wait half a minute.
"""

import importlib
import sys

from modelry.app.gateway import main


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
