"""What callers sent, held against types; a 400 names the part that is wrong."""

import re
from typing import Any, TypeVar

import msgspec

from modelry.gateway.replies import Reply, bad_request, shown

Json = dict[str, Any]
Kind = TypeVar("Kind")

_PLACED = re.compile(r"(.*) - at `(?:key in )?\$(.*)`", re.DOTALL)


def read(value: Any, kind: type[Kind], at: str) -> Kind:
    """`value`, which lies at `at` of the body, as a `kind`. Raises a 400."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as problem:
        raise wrong(problem, at) from None


def wrong(problem: msgspec.ValidationError, at: str = "") -> Reply:
    """The 400 for what is not of its type; `at`: where the value lay that was read."""
    told = str(problem)
    match = _PLACED.fullmatch(told)
    if match is not None:
        told, at = match[1], (at + match[2]).lstrip(".")
    at = shown(at)
    told = shown(told[:1].lower() + told[1:].replace("`", ""))
    return bad_request(f"'{at}' is not right: {told}.", at)
