"""Packages that tests install for themselves, once for each content of the files that pin them."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


def installed(cache: Path, files: Sequence[Path], install: Callable[[Path], None]) -> Path:
    """The folder in `cache` that `install` has filled; it is called where there is none yet."""
    contents = b"\0".join(file.read_bytes() for file in files)
    wanted = cache / hashlib.sha256(contents).hexdigest()[:16]
    if not wanted.is_dir():
        # Installed aside and moved, so that an install that breaks off is never taken for whole.
        draft = Path(tempfile.mkdtemp(dir=cache))
        install(draft)
        draft.rename(wanted)
    return wanted
