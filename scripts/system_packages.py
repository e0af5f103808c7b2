"""Make sure of the system packages that the tests need: a browser, PostgreSQL, curl, a font.

As root on Debian or Ubuntu it installs what is missing; for anybody else it
says exactly what to install, and exits with 1.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

POSTGRES = Path("/usr/lib/postgresql")


def missing() -> list[str]:
    """Names of the Debian packages that are not there."""
    found = {
        "chromium": any(shutil.which(name) for name in ("chromium", "chromium-browser")),
        "curl": shutil.which("curl") is not None,
        "fonts-noto-color-emoji": any(Path("/usr/share/fonts").rglob("NotoColorEmoji.ttf")),
        "libgomp1": any(Path("/usr/lib").glob("*/libgomp.so.1")),
        "postgresql": any(POSTGRES.glob("*/bin/initdb")),
    }
    return [package for package, there in found.items() if not there]


def main() -> int:
    packages = missing()
    if not packages:
        return 0
    install = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        print(f"The tests need these, under the names Debian gives them: {' '.join(packages)}")
        return 1
    if os.geteuid() != 0:
        print(f"The tests need packages of the system. Run: sudo {install}")
        return 1
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ("apt-get update", install):
        print(f"+ {command}", flush=True)
        done = subprocess.run(command.split(), env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stdout[-2000:] + done.stderr[-2000:])
            return 1
    still = missing()
    if still:
        print(f"After installing, these are still missing: {' '.join(still)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
