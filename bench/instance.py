"""A whole Modelry of its own, as a person starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def up(data_dir: Path, *options: str, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    """`modelry up` on a free port; what it prints is for whoever asked for it."""
    environment = {
        "MODELRY_DATA_DIR": str(data_dir),
        "MODELRY_PORT": "0",
        "MODELRY_CONFORMANCE": "asked",
        **settings,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "modelry", "up", *options],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def printed(process: "subprocess.Popen[str]", start: str) -> str:
    """The first line it prints that begins so. Raises where it ends without one."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise RuntimeError(f"`up` ended with status {process.wait()}")
