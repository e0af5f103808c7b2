"""What a probe found: results of checks, and what they come to. Pure data and words."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Result(StrEnum):
    """`unsupported`: refused plainly. `failed`: it answered otherwise than it claims to, or a
    field was passed over in silence. `skipped`: not asked, or not told in time.
    """

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    SKIPPED = "skipped"


class State(StrEnum):
    """Of a report. `failed`: the probe broke off, which says nothing of the checks it had made."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Found:
    """The result of one check. `detail`: in words, for people."""

    name: str
    task: str
    result: Result
    detail: str
    duration_s: float

    def stored(self) -> dict[str, Any]:
        return {**vars(self), "result": self.result.value}


def summary(found: Iterable[Found]) -> str:
    """Such as `28 supported; failed: chat.n; unsupported: completion.echo; 2 skipped`."""
    by_result: dict[Result, list[str]] = {result: [] for result in Result}
    for each in found:
        by_result[each.result].append(each.name)
    told = [f"{len(by_result[Result.SUPPORTED])} supported"]
    told += [
        f"{result}: {', '.join(by_result[result])}"
        for result in (Result.FAILED, Result.UNSUPPORTED)
        if by_result[result]
    ]
    if by_result[Result.SKIPPED]:
        told.append(f"{len(by_result[Result.SKIPPED])} skipped")
    return "; ".join(told)
