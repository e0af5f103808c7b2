"""The port that checks ask through, and how what comes back turns into their results."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

Json: TypeAlias = dict[str, Any]


class Unsupported(Exception):
    """It was refused plainly."""


class Wrong(Exception):
    """What came is not what was asked for."""


class Skipped(Exception):
    """It cannot be found out here, for the reason given."""


class Interrupted(Exception):
    """The service cannot be asked now: it stops, starts, or is busy with callers."""


class Busy(Interrupted):
    """No slot of it is free: it may be asked again in a moment."""


@dataclass(frozen=True)
class Subject:
    """The service that is probed. `context_tokens` and `slots` are None where nobody knows them:
    of endpoints elsewhere.
    """

    access_path: str
    tasks: tuple[str, ...]
    context_tokens: int | None = None
    slots: int | None = None


@dataclass(frozen=True)
class Answer:
    """`value`: its body as JSON, None where it is none. `raw`: the body's first bytes.
    `ignored`: the fields that it says had no effect, separated by commas.
    """

    status: int
    type: str
    raw: bytes
    value: Any
    ignored: str = ""


@dataclass(frozen=True)
class File:
    name: str
    type: str
    data: bytes


class Stream(Protocol):
    """An answer that comes bit by bit. `lines` raises `Wrong` where it breaks off."""

    @property
    def status(self) -> int: ...
    @property
    def type(self) -> str: ...

    def lines(self) -> AsyncGenerator[str, None]: ...
    async def whole(self) -> Answer:
        """All of it at once, instead of `lines`."""
        ...


class Caller(Protocol):
    """Both raise `Interrupted`, or `Busy`, and `Skipped` where no answer came in time."""

    async def ask(self, path: str, body: Json, file: File | None = None) -> Answer:
        """A whole answer; with a `file`, a form is sent instead of JSON."""
        ...

    def stream(self, path: str, body: Json) -> AbstractAsyncContextManager[Stream]:
        """Leaving the block hangs up."""
        ...


def told(answer: Answer) -> str:
    """What a refusal says, in a line."""
    error = answer.value.get("error") if isinstance(answer.value, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return short(str(message or answer.raw.decode("utf-8", "replace") or "nothing"))


def short(text: str, most: int = 160) -> str:
    """On one line, and not too long for a table."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def accepted(answer: Answer) -> Json:
    """The object it holds. Raises `Unsupported` for a refusal, and `Wrong` for everything else."""
    if answer.status != 200:
        raise refused(answer)
    if answer.ignored:
        raise Unsupported(f"it has no effect, and the answer says so: {short(answer.ignored)}")
    if not isinstance(answer.value, dict):
        raise Wrong(f"the answer is no JSON object but {answer.type or 'untyped'}")
    return answer.value


def refused(answer: Answer) -> Unsupported | Wrong:
    if 400 <= answer.status < 500 or answer.status == 501:
        return Unsupported(f"{answer.status}: {told(answer)}")
    return Wrong(f"it answers {answer.status}: {told(answer)}")
