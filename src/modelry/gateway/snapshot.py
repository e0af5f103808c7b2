"""The gateway's last snapshot on disk: what it serves from where no control plane can be heard.

One of 100,000 keys takes a twentieth of a second to encode, and calls would wait
for it. So the file has it in parts, a `Snapshot` a line, and an empty one ends it:
a file that was cut off says less than was known, and must not be believed.
"""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from modelry.routing.messages import KeyGrant, Route, Snapshot, decode_from_control, encode

log = logging.getLogger(__name__)

_PART = 1000
"""Routes or keys: a millisecond."""


class SnapshotFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Snapshot | None:
        """What was written last, if there is a sound one."""
        self._clear_drafts()
        try:
            return _read(self._path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the snapshot on disk cannot be used: %s", error)
            return None

    def _clear_drafts(self) -> None:
        """Of processes that were killed while they wrote."""
        for draft in self._path.parent.glob(f"{self._path.name}.*-*"):
            pid = draft.suffix[1:].partition("-")[0]
            gone = Path("/proc").is_dir() and not Path("/proc", pid).exists()
            # Where processes are few, a new one has the pid of the one before.
            if pid.isdigit() and (gone or int(pid) == os.getpid()):
                draft.unlink(missing_ok=True)

    def write(self, snapshot: Snapshot) -> None:
        """Write it at once; readable by this account alone, whole or not at all."""
        try:
            for _ in self.steps(snapshot):
                pass
        except OSError as error:
            log.warning("the snapshot could not be written: %s", error)

    def steps(self, snapshot: Snapshot) -> Iterator[None]:
        """The same in steps of a millisecond, with time for other things in between. Raises
        `OSError`.
        """
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}-{time.time_ns()}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                for part in _parts(snapshot):
                    file.write(encode(part))
                    yield
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)


def _parts(snapshot: Snapshot) -> Iterator[Snapshot]:
    seq, routes, keys = snapshot.seq, snapshot.routes, snapshot.keys
    for start in range(0, len(routes), _PART):
        yield Snapshot(seq, routes[start : start + _PART], ())
    for start in range(0, len(keys), _PART):
        yield Snapshot(seq, (), keys[start : start + _PART])
    yield Snapshot(seq, (), ())


def _read(path: Path) -> Snapshot:
    """Raises `OSError` or `ValueError`, of which `msgspec.DecodeError` is one."""
    routes: list[Route] = []
    keys: list[KeyGrant] = []
    last: Snapshot | None = None
    with path.open("rb") as file:
        for line in file:
            message = decode_from_control(line)
            if not isinstance(message, Snapshot):
                raise ValueError(f"it holds a {type(message).__name__}")
            routes += message.routes
            keys += message.keys
            last = message
    if last is None or last.routes or last.keys:
        raise ValueError("it is cut off")
    return Snapshot(last.seq, tuple(routes), tuple(keys))
