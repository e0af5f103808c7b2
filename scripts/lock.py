"""Pin every version, transitive ones too, without recording where it came from.

`uv.lock` names download addresses, which belong to a machine and not to the
project; so the pins live in `[tool.uv] constraint-dependencies` of
pyproject.toml, between two marker lines that only this script writes.

    lock.py           resolve anew and write the newest pins
    lock.py --check   exit 1 where the pins are not exactly what uv resolves
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYPROJECT = ROOT / "pyproject.toml"
BEGIN = "# pins: begin (written by `just lock`)\n"
END = "# pins: end\n"
BLOCK = re.compile(re.escape(BEGIN) + r".*?" + re.escape(END), re.DOTALL)
REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;]+)(?P<where> ; .+)?")


def resolve(pyproject: str) -> list[str]:
    """The `name==version` lines uv chooses for this pyproject on every platform; with the marker
    that says where, if it chooses several versions.
    """
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        (project / "pyproject.toml").write_text(pyproject)
        for name in ("README.md", "LICENSE"):
            (project / name).touch()
        command = ["uv", "export", "--quiet", "--project", scratch, "--all-groups"]
        command += ["--no-hashes", "--no-emit-project", "--no-annotate", "--no-header"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"lock: uv could not resolve the dependencies:\n{done.stderr.strip()}")
    found = [match for line in done.stdout.splitlines() if (match := REQUIREMENT.match(line))]
    versions: dict[str, set[str]] = {}
    for match in found:
        versions.setdefault(match["name"], set()).add(match["version"])
    return sorted(
        {
            f"{match['name']}=={match['version']}"
            + ((match["where"] or "") if len(versions[match["name"]]) > 1 else "")
            for match in found
        }
    )


def block(pins: list[str]) -> str:
    lines = "".join(f'  "{pin}",\n' for pin in pins)
    return f"{BEGIN}constraint-dependencies = [\n{lines}]\n{END}"


def main(arguments: list[str]) -> int:
    text = PYPROJECT.read_text()
    if not BLOCK.search(text):
        sys.exit(f"lock: {PYPROJECT.name} has lost its marker lines {BEGIN.strip()!r}")
    if arguments == ["--check"]:
        if BLOCK.search(text).group() == block(resolve(text)):  # type: ignore[union-attr]
            return 0
        print("lock: the pins in pyproject.toml are not what uv resolves; run `just lock`")
        return 1
    unpinned = BLOCK.sub(lambda _: block([]), text)
    PYPROJECT.write_text(BLOCK.sub(lambda _: block(resolve(unpinned)), text))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
