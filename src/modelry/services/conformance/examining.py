"""Asking one service everything, one check after the other, within a time."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from modelry.services.conformance.caller import (
    Busy,
    Caller,
    Interrupted,
    Skipped,
    Subject,
    Unsupported,
    Wrong,
)
from modelry.services.conformance.checks import Check
from modelry.services.conformance.report import Found, Result

log = logging.getLogger(__name__)

LIMIT_S = 60.0
_CHECK_S = 25.0
_BUSY_S = 5.0
_AGAIN_S = 0.25
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError)


async def examine(
    caller: Caller,
    subject: Subject,
    checks: Iterable[Check],
    tell: Callable[[Found], None],
    limit_s: float = LIMIT_S,
) -> None:
    """`tell` hears of each result. Raises `Interrupted` where the service cannot be asked on."""
    clock = asyncio.get_running_loop().time
    until = clock() + limit_s
    for check in sorted(checks, key=lambda check: check.slow):
        since = clock()
        if since >= until:
            result, detail = Result.SKIPPED, f"the probe's {limit_s:g} s were over"
        else:
            result, detail = await _one(check, caller, subject, min(_CHECK_S, until - since))
        tell(Found(check.name, check.task, result, detail, round(clock() - since, 3)))


async def _one(
    check: Check, caller: Caller, subject: Subject, limit_s: float
) -> tuple[Result, str]:
    try:
        async with asyncio.timeout(limit_s):
            return Result.SUPPORTED, await _unless_busy(check, caller, subject)
    except Unsupported as refusal:
        return Result.UNSUPPORTED, str(refusal)
    except Wrong as problem:
        return Result.FAILED, str(problem)
    except Skipped as reason:
        return Result.SKIPPED, str(reason)
    except TimeoutError:
        return Result.SKIPPED, f"it was not at its end after {limit_s:.0f} s"
    except _UNREADABLE as problem:
        log.info("%s of %s: %r", check.name, subject.access_path, problem)
        return Result.FAILED, "the answer is none to what was asked"


async def _unless_busy(check: Check, caller: Caller, subject: Subject) -> str:
    """Callers come first: where they have every slot, try again for a while."""
    clock = asyncio.get_running_loop().time
    until = clock() + _BUSY_S
    while True:
        try:
            return await check.run(caller, subject)
        except Busy as problem:
            if clock() >= until:
                raise Interrupted("callers use all its slots") from problem
            await asyncio.sleep(_AGAIN_S)
