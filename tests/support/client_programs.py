"""Clients that others made, each in an environment of its own, and what the guide says of them.

Their pins contradict each other's and ours, so none of them is in the test group.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from tests.support.installed import installed

CLIENTS = Path(__file__).parent.parent / "e2e" / "clients"
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "clients.md"
_RUN_EACH = "import runpy, sys; [runpy.run_path(file) for file in sys.argv[1:]]"


@dataclass(frozen=True)
class ClientEnvironment:
    """A virtual environment, in `folder`."""

    folder: Path

    def run(
        self, folder: Path, programs: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run programs one after the other in one process, as their imports are what takes long."""
        files = [folder / f"program-{index}.py" for index in range(len(programs))]
        for file, text in zip(files, programs, strict=True):
            file.write_text(text)
        return self._run([str(self.folder / "bin" / "python"), "-c", _RUN_EACH], files, environment)

    def shell(
        self, commands: str, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run commands of bash that find the environment's own."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return self._run(["bash", "-ec", commands], [], {**environment, "PATH": path})

    def _run(
        self, command: Sequence[str], files: Sequence[Path], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *files],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )


def install_client(cache: Path, name: str) -> ClientEnvironment:
    """Install what `name`.txt pins into `cache`, once for each content of that file."""
    pins = CLIENTS / f"{name}.txt"

    def install(folder: Path) -> None:
        # Relocatable, as it is made aside and moved; away from the project, whose constraints
        # are not the client's.
        uv("venv", "--relocatable", "--clear", "--python", sys.executable, str(folder))
        where = ("--python", str(folder / "bin" / "python"))
        uv("pip", "install", *where, "--require-hashes", "--only-binary", ":all:", "-r", str(pins))

    def uv(*arguments: str) -> None:
        done = subprocess.run(
            [find_uv_bin(), "--quiet", *arguments],
            cwd=tempfile.gettempdir(),
            capture_output=True,
            text=True,
            timeout=170,
        )
        assert done.returncode == 0, f"cannot install {pins.name}: {done.stderr}"

    return ClientEnvironment(installed(cache, [pins], install))


def guide_sections() -> dict[str, str]:
    """The guide's sections that have code, by their headings."""
    parts = GUIDE.read_text().split("\n## ")[1:]
    found = {heading: text for heading, _, text in (part.partition("\n") for part in parts)}
    return {heading: text for heading, text in found.items() if "```" in text}


def guide_code(heading: str, language: str, *, url: str, path: str) -> list[str]:
    """A section's programs, with an address and an access path that there are."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", guide_sections()[heading], re.M | re.S)
    return [
        block.replace("http://127.0.0.1:8080", url).replace("u-…/demo", path) for block in blocks
    ]
