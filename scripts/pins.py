"""Requirements compiled into pins with digests, for `lock_runtimes.py` and `lock_clients.py`."""

import subprocess
import sys
import tempfile
from pathlib import Path


def compile(
    verb: str,
    name: str,
    requirements: tuple[str, ...],
    overrides: tuple[str, ...] = (),
    find_links: str | None = None,
) -> str:
    """The text of a requirements file that `verb` wrote, for Python 3.11 and newer on Linux and
    macOS. It names no index, and where packages come from is up to who installs it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        wanted, overriding = Path(scratch) / "in.txt", Path(scratch) / "overrides.txt"
        wanted.write_text("\n".join(requirements))
        overriding.write_text("\n".join(overrides))
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--no-config", "--generate-hashes", "--no-annotate", "--no-header"]
        command += ["--only-binary", ":all:"]
        command += ["--override", str(overriding), str(wanted)]
        if find_links:
            command += ["--find-links", find_links]
        # Away from the project, whose own pins are of no matter here.
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch)
    if done.returncode != 0:
        sys.exit(f"{verb}: {name}: {done.stderr.strip()}")
    head = f"# {name}: written by `just {verb}`, from {', '.join(requirements)}.\n"
    return head + _for_linux_and_mac(done.stdout)


def _for_linux_and_mac(text: str) -> str:
    """Without the packages that only other systems need."""
    kept: list[str] = []
    dropping = False
    for line in text.splitlines(keepends=True):
        if not line.startswith((" ", "\t")):
            dropping = "sys_platform == 'win32'" in line or "sys_platform == 'emscripten'" in line
        if not dropping:
            kept.append(line)
    return "".join(kept)
