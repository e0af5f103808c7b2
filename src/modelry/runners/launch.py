"""Starts a runner with the Python of a runtime: `python -X REPLICA launch.py KIND`.

Only this folder is made importable, as `modelry.runners`: what else the control plane has
installed beside it must not reach into a runtime that is pinned without it. The replica's id
stands in the arguments for people who read `ps`.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

KINDS = ("image", "speech", "transcription")


def main() -> None:
    kind = sys.argv[1]
    if kind not in KINDS:
        raise SystemExit(f"there is no runner {kind!r}")
    folder = Path(__file__).parent
    # Its own folder comes first otherwise, and a module here would hide a library's.
    sys.path = [each for each in sys.path if Path(each or ".").resolve() != folder]
    for name, places in (("modelry", []), ("modelry.runners", [str(folder)])):
        package = ModuleType(name)
        package.__path__ = places
        sys.modules[name] = package
    importlib.import_module(f"modelry.runners.{kind}_runner").main()


if __name__ == "__main__":
    main()
