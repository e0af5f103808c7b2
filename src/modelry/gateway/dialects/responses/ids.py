"""Ids of responses and of what they are made of.

An item's id holds that of the response which it came with: a reference to it is resolved with
one look at the store, which needs no index.
"""

import re
import secrets

RESPONSE = re.compile(r"resp_([0-9a-f]{48})")
_ITEM = re.compile(r"[a-z]{2,6}_([0-9a-f]{48})[0-9a-f]{4,8}")
_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


class Ids:
    """Those of one response. `digits`: what is random of them."""

    def __init__(self) -> None:
        self.digits = secrets.token_hex(24)
        self._count = 0

    @property
    def response(self) -> str:
        return f"resp_{self.digits}"

    def item(self, kind: str) -> str:
        """The next item's. `kind`: its `type`."""
        self._count += 1
        return f"{_PREFIXES[kind]}_{self.digits}{self._count:04x}"


def response_of(item_id: str) -> str | None:
    """The response that an item came with, by its id; None where that is none of ours."""
    match = _ITEM.fullmatch(item_id)
    return None if match is None else f"resp_{match[1]}"


def call_id() -> str:
    """For a tool call to which the engine gave none."""
    return f"call_{secrets.token_hex(12)}"
