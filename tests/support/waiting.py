"""Waiting for a condition, never for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def wait_for(
    look: Callable[[], Value | None], what: str, timeout_s: float = 30.0, pause_s: float = 0.05
) -> Value:
    """The first truthy value of `look`. Fails, saying what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(pause_s)
