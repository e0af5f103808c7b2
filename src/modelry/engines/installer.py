"""Installing runtimes: each in a virtual environment of its own, by uv, from hashed pins.

    runtimes/<id>/…               the environment
    runtimes/<id>/modelry.json    written last: without it, the environment is not whole

Nothing is built from source: what has no wheel for this machine cannot be installed.
"""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import msgspec
from uv import find_uv_bin

from modelry.engines.runtimes import Runtime
from modelry.errors import ModelryError

log = logging.getLogger(__name__)

_MARK = "modelry.json"
_PASSED_NAMES = ("PATH", "HOME", "LANG", "TMPDIR", "NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PASSED_PREFIXES = ("UV_", "XDG_", "http", "HTTP", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY")
_DOWNLOADING = re.compile(
    r"^\s*Downloading (?P<name>\S+) \((?P<size>\d+(\.\d+)?)(?P<unit>[KMG]iB)\)"
)
_DOWNLOADED = re.compile(r"^\s*Downloaded (?P<name>\S+)")
_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_REASONS = ("error", "×")
_LINES_KEPT = 12


class RuntimeFailure(ModelryError):
    """A runtime could not be installed."""

    code = "runtime_install_failed"


@dataclass(frozen=True)
class Missing:
    """Not here, and nobody installs it."""


@dataclass(frozen=True)
class Installing:
    """`done_bytes` of the `total_bytes` that are downloaded, as far as they are known."""

    message: str
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True)
class InstallFailed:
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Installed:
    """`folder` is the environment."""

    folder: Path
    size_bytes: int
    installed_at: datetime

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


RuntimeState: TypeAlias = Missing | Installing | InstallFailed | Installed


@dataclass(frozen=True)
class PackageSources:
    """Where packages come from on this machine, as uv's own variables say it: addresses can hold
    passwords, so never in arguments. `offline`: only what uv has in its cache.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    offline: bool = False


class _Mark(msgspec.Struct):
    installed_at: datetime
    size_bytes: int


class Downloads:
    """What uv has told of its downloads, line by line."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._here: set[str] = set()
        self._last = ""

    def take(self, line: str) -> None:
        if match := _DOWNLOADING.match(line):
            size = float(match["size"]) * _UNITS[match["unit"]]
            self._sizes[match["name"]] = int(size)
        elif match := _DOWNLOADED.match(line):
            self._here.add(match["name"])
        elif line.startswith(("Prepared", "Resolved", "Installed")):
            self._last = line.partition(" in ")[0].strip().lower()

    def state(self, name: str) -> Installing:
        missing = {each: size for each, size in self._sizes.items() if each not in self._here}
        total = sum(self._sizes.values())
        if missing:
            largest = max(missing, key=missing.__getitem__)
            doing = f"downloading {largest} and {len(missing) - 1} more packages"
            if len(missing) == 1:
                doing = f"downloading {largest}"
        else:
            doing = self._last or "preparing"
        done = total - sum(missing.values())
        return Installing(f"installing {name}: {doing}", done, total)


class Runtimes:
    """The runtimes of this node. `on_change` is called whenever an installation ended."""

    def __init__(
        self,
        folder: Path,
        known: Mapping[str, Runtime],
        sources: Callable[[], PackageSources] = PackageSources,
    ) -> None:
        self.known = known
        self._folder = folder
        self._sources = sources
        self._running: dict[str, tuple[Downloads, asyncio.Task[None]]] = {}
        self._failed: dict[str, InstallFailed] = {}
        self._going: set[str] = set()
        self.on_change: Callable[[], None] = lambda: None
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def state(self, runtime_id: str) -> RuntimeState:
        running = self._running.get(runtime_id)
        if running is not None:
            return running[0].state(runtime_id)
        if runtime_id in self._going:
            return Installing(f"{runtime_id} is being removed first")
        return self._failed.get(runtime_id) or self._found(runtime_id) or Missing()

    def here(self) -> list[str]:
        """The ids of all that is installed, those that this version does not know included."""
        return sorted(mark.parent.name for mark in self._folder.glob(f"*/{_MARK}"))

    def ensure(self, runtime_id: str) -> None:
        """Begin to install, unless it is here, on its way, or has failed."""
        if isinstance(self.state(runtime_id), Missing):
            downloads = Downloads()
            task = asyncio.create_task(self._run(self.known[runtime_id], downloads))
            self._running[runtime_id] = (downloads, task)

    def installing(self) -> bool:
        return bool(self._running)

    def forget_failure(self, runtime_id: str) -> None:
        """Let the next `ensure` try again."""
        self._failed.pop(runtime_id, None)

    async def remove(self, runtime_id: str) -> None:
        """Whether it is whole or not; an installation that is under way is stopped."""
        running = self._running.get(runtime_id)
        if running is not None:
            running[1].cancel()
            await asyncio.gather(running[1], return_exceptions=True)
        self._failed.pop(runtime_id, None)
        self._going.add(runtime_id)
        try:
            await asyncio.shield(asyncio.to_thread(_delete, self._folder / runtime_id))
        finally:
            self._going.discard(runtime_id)
            self.on_change()

    async def close(self) -> None:
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------------

    def _found(self, runtime_id: str) -> Installed | None:
        folder = self._folder / runtime_id
        try:
            mark = msgspec.json.decode((folder / _MARK).read_bytes(), type=_Mark)
        except (OSError, ValueError):
            return None
        found = Installed(folder, mark.size_bytes, mark.installed_at)
        # Its interpreter is a link to ours as it was, which may be gone.
        return found if found.python.exists() else None

    async def _run(self, runtime: Runtime, downloads: Downloads) -> None:
        try:
            await self._install(runtime, downloads)
        except RuntimeFailure as error:
            log.warning("%s", error.message)
            self._failed[runtime.id] = InstallFailed(error.message, error.hint)
        except Exception as error:
            log.exception("installation of %s", runtime.id)
            self._failed[runtime.id] = InstallFailed(f"{runtime.id} was not installed: {error}")
        finally:
            del self._running[runtime.id]
            self.on_change()

    async def _install(self, runtime: Runtime, downloads: Downloads) -> None:
        folder = self._folder / runtime.id
        sources = self._sources()
        await asyncio.to_thread(_delete, folder)
        log.info("installing %s", runtime.id)
        await _uv(["venv", "--quiet", "--python", sys.executable, str(folder)], sources)
        arguments = [
            *("pip", "install", "--python", str(folder / "bin" / "python")),
            # The file names every package, so none is looked up by another's wish.
            *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *("--requirements", str(runtime.requirements)),
        ]
        try:
            await _uv(arguments, sources, downloads)
        except RuntimeFailure as error:
            # PyTorch's builds without CUDA are on an index of its own, if not on ours.
            if runtime.flavour != "cpu" or sources.offline or "torch" not in error.message:
                raise
            await _uv([*arguments, "--torch-backend", "cpu"], sources, downloads)
        size = await asyncio.to_thread(_size, folder)
        mark = _Mark(datetime.now(UTC), size)
        draft = folder / f"{_MARK}.new"
        draft.write_bytes(msgspec.json.encode(mark))
        draft.replace(folder / _MARK)
        log.info("installed %s, %.1f GB", runtime.id, size / 1e9)


async def _uv(
    arguments: list[str], sources: PackageSources, downloads: Downloads | None = None
) -> None:
    """Raises `RuntimeFailure` with what uv said last."""
    offline = ["--offline"] if sources.offline else []
    process = await asyncio.create_subprocess_exec(
        find_uv_bin(),
        *arguments,
        *offline,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(sources),
    )
    assert process.stderr is not None
    told: list[str] = []
    try:
        async for data in process.stderr:
            line = data.decode("utf-8", "replace").rstrip()
            if line:
                told = [*told, line][-_LINES_KEPT:]
            if downloads is not None:
                downloads.take(line)
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    if code != 0:
        message, hint = _why(told)
        raise RuntimeFailure(message, hint=hint)


def _why(told: list[str]) -> tuple[str, str]:
    """Uv's own words, from its error on, without addresses' passwords, and a hint."""
    first = next((i for i, line in enumerate(told) if line.lstrip().startswith(_REASONS)), 0)
    text = " ".join(line.strip(" ×╰─▶│├") for line in told[first:])
    text = re.sub(r"://[^/\s]+@", "://", text).removeprefix("error: ")
    if "No space left" in text:
        return f"the disk is full: {text}", "free some space, then try again"
    hint = "its packages come from where uv and pip are set up to find them on this machine"
    return f"uv could not install it: {text or 'it gave no reason'}", hint


def _environment(sources: PackageSources) -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_NAMES or name.startswith(_PASSED_PREFIXES)
    }
    # A project's own settings, where we happen to be started, are not ours.
    return {**passed, "UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1", **sources.environment}


def _delete(folder: Path) -> None:
    # First what makes it whole: a removal that is cut short leaves nothing that looks so.
    (folder / _MARK).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _size(folder: Path) -> int:
    return sum(
        entry.stat(follow_symlinks=False).st_size for entry in folder.rglob("*") if entry.is_file()
    )
