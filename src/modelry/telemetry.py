"""Logging for the long-running processes: a rotated file, and warnings on stderr.

Secrets never reach a log line: nothing here or elsewhere logs headers, bodies,
command environments or records.
"""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(process: str, folder: Path, level: str) -> None:
    """Send `process`'s log to `folder/process.log` (10 MB, 3 kept) and warnings to stderr."""
    file = RotatingFileHandler(
        folder / f"{process}.log", maxBytes=10_000_000, backupCount=3, encoding="utf-8"
    )
    file.setFormatter(logging.Formatter(_FORMAT))
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter(f"{process}: %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[file, terminal], force=True)
    # They log every URL, and an index's URL can hold a password.
    for name in ("httpx2", "httpcore2", "unearth"):
        logging.getLogger(name).setLevel(logging.ERROR)
