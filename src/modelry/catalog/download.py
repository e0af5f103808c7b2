"""One file from a web server to the disk: taken up where it was left, checked, whole or not there.

What has come lies under the target's name with `.part`, and gets the name itself
once its size and digest are right.
"""

import errno
import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock

import httpx2

from modelry.catalog.remote import Digest, RemoteFile, git_digest
from modelry.catalog.speed import Speed, seconds_left
from modelry.catalog.weights import sync_file
from modelry.errors import FetchError

_BLOCK = 1024 * 1024
# Left free for everything else on the disk.
_SPARE_BYTES = 32 * 1024 * 1024

Unreachable = Callable[[httpx2.HTTPError], FetchError]
"""What to tell a person of a request that failed."""
Tells = Callable[[int, int], None]
"""Called with the bytes that are here and those of them that just came; may raise to stop."""
Expects = Callable[[int], None]
"""Called with how many bytes there will be."""
Brings = Callable[[RemoteFile, Path, Tells, Expects], str]
"""Brings a file to where it is wanted; returns its SHA-256 in hex. Raises `FetchError`."""


class WrongWeights(FetchError):
    """They are not what their origin, or the model card, says."""


class Cancelled(Exception):
    """The fetch was told to stop; what it has so far is kept."""


class Progress:
    """Written by fetching threads, read by others. `total_bytes` 0: not known yet."""

    def __init__(self) -> None:
        self.done_bytes = 0
        self.total_bytes = 0
        self.cancel = Event()
        self._speed = Speed()
        self._lock = Lock()

    def set(self, done_bytes: int, came_bytes: int = 0) -> None:
        """`came_bytes` of them just now: the speed is that of these. Raises `Cancelled`."""
        if self.cancel.is_set():
            raise Cancelled
        self.done_bytes = done_bytes
        if came_bytes:
            with self._lock:
                self._speed.add(came_bytes, time.monotonic())

    def pace(self) -> tuple[float | None, float | None]:
        """Bytes a second, and the seconds that are left at that speed."""
        with self._lock:
            speed = self._speed.bytes_per_second(time.monotonic())
        missing = self.total_bytes - self.done_bytes
        return speed, seconds_left(missing, speed) if self.total_bytes else None


def download(
    session: httpx2.Client,
    file: RemoteFile,
    target: Path,
    told: Tells,
    *,
    unreachable: Unreachable,
    beside_bytes: int = 0,
    expect: Expects = lambda total: None,
) -> str:
    """Bring `file` to `target`; returns its SHA-256 in hex.

    `beside_bytes` more must be free on the disk. Raises `FetchError`.
    """
    part = target.with_name(target.name + ".part")
    have = resumed = part.stat().st_size if part.exists() else 0
    headers = {"accept-encoding": "identity", **dict(file.headers)}
    if have:
        headers["range"] = f"bytes={have}-"
    total = file.size_bytes or 0
    if not have or have != total:
        try:
            with session.stream("GET", file.url, headers=headers) as response:
                have = _continued(response, part, have)
                length = int(response.headers.get("content-length") or 0)
                total = have + length if length else total
                expect(total)
                require_space(part.parent, length, beside_bytes)
                with part.open("ab" if have else "wb") as out:
                    part.chmod(0o600)
                    for block in response.iter_raw():
                        out.write(block)
                        have += len(block)
                        told(have, len(block))
                    sync_file(out)
        except httpx2.HTTPError as error:
            raise unreachable(error) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                # What came so far only stands in the way.
                part.unlink(missing_ok=True)
            raise
    if total and have != total:
        raise FetchError("the connection ended before the file was complete", retryable=True)
    sha256 = checked(file, part, lambda: told(have, 0), retryable=resumed > 0)
    part.replace(target)
    return sha256


def _continued(response: httpx2.Response, part: Path, have: int) -> int:
    """From which byte on the answer goes on. Raises where it is of no use."""
    if response.status_code == 416:
        part.unlink(missing_ok=True)
        raise FetchError("the server could not go on from there", retryable=True)
    if response.status_code not in (200, 206):
        status = response.status_code
        raise FetchError(
            f"{response.url.host} answered {status}",
            retryable=status == 429 or status >= 500,
            hint=_HINTS.get(status),
        )
    if response.status_code == 206 and not _continues(response, have):
        part.unlink(missing_ok=True)
        raise FetchError("the server sent another part than asked", retryable=True)
    return have if response.status_code == 206 else 0


_HINTS = {
    401: "it asks for credentials that Modelry does not have",
    403: "it does not let us have the file; a gated model's licence must be accepted first",
    404: "check the model's source",
}


def _continues(response: httpx2.Response, have: int) -> bool:
    return response.headers.get("content-range", "").startswith(f"bytes {have}-")


def checked(file: RemoteFile, part: Path, told: Callable[[], None], *, retryable: bool) -> str:
    """The SHA-256 of what came, if it is what the origin names; otherwise it is deleted."""
    size = part.stat().st_size
    sha256 = hashlib.sha256()
    digests: list[Digest] = [sha256]
    git = None if file.git_oid is None else git_digest(size)
    if git is not None:
        digests.append(git)
    with part.open("rb") as came:
        while block := came.read(_BLOCK):
            told()
            for digest in digests:
                digest.update(block)
    wrong = ""
    if file.size_bytes is not None and size != file.size_bytes:
        wrong = f"it has {size} bytes instead of {file.size_bytes}"
    elif (file.sha256 is not None and sha256.hexdigest() != file.sha256) or (
        git is not None and git.hexdigest() != file.git_oid
    ):
        wrong = "its checksum is wrong"
    if wrong:
        part.unlink()
        raise WrongWeights(
            f"{file.name} is not the file that its origin names ({wrong}); it was deleted",
            # Where it was taken up, the earlier part may be at fault.
            retryable=retryable,
            hint="a proxy or mirror on the way may be serving something else",
        )
    return sha256.hexdigest()


def require_space(folder: Path, *parts: int) -> None:
    """Raises `FetchError` where so many bytes do not fit on the folder's disk."""
    needed = sum(parts) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchError(
            f"the disk is too full: {needed // 1_000_000} MB are needed, "
            f"{free // 1_000_000} MB are free",
            hint=f"free some space on the disk of {folder.parent}, then start again",
        )
