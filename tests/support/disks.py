"""File systems of a size that a test can fill."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

only_root_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of that size at `folder`; the test is skipped where none can be mounted."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", folder],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def resize(folder: Path, megabytes: int) -> None:
    """And let it have as many files as there is room for."""
    remount(folder, f"size={megabytes}m,nr_inodes=0")


def allow_no_more_files(folder: Path) -> None:
    """As on a full disk on which a new folder takes a block."""
    stat = os.statvfs(folder)
    remount(folder, f"nr_inodes={stat.f_files - stat.f_ffree}")


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left; the file that takes it may be deleted."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as filler:
        size = 65536
        while size:
            try:
                # What did not fit whole is tried again in smaller pieces.
                if filler.write(b"x" * size) < size:
                    size //= 2
            except OSError:
                size //= 2
    return file
