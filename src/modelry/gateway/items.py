"""The items of a JSON list, where no more than so many are wanted.

A body of 16 MiB can hold millions of them. As objects they would take a second and half a gigabyte
before they could be counted. A struct with a field for each item ends at the first that has no
field, in less than a millisecond; https://jcristharif.com/msgspec/structs.html#encoding-decoding-as-arrays
"""

import re

import msgspec

MOST = 2048
"""The longest list that can be read."""

_FIRST = re.compile(rb"\[[ \t\r\n]*(.)", re.DOTALL)
_NONE = msgspec.Raw()
_Items = msgspec.defstruct(
    "_Items",
    [(f"item_{at}", msgspec.Raw, _NONE) for at in range(MOST)],
    array_like=True,
    forbid_unknown_fields=True,
)
_decode = msgspec.json.Decoder(_Items).decode


class TooMany(Exception):
    """The list has more items than were wanted."""


def kind_of(value: msgspec.Raw) -> bytes:
    """Its first byte, which tells a text from a list, an object and the rest."""
    return bytes(memoryview(value)[:1])


def first_of(given: msgspec.Raw) -> bytes:
    """The first byte within a list, behind white space: of its first item, or its end."""
    found = _FIRST.match(memoryview(given))
    return b"" if found is None else found[1]


def items_of(given: msgspec.Raw, most: int) -> list[msgspec.Raw]:
    """Each item of a list as it came. Raises `TooMany`, and as msgspec where it is no JSON.

    `given` begins with a bracket; `most` is at most `MOST`.
    """
    try:
        read = msgspec.structs.astuple(_decode(given))
    except msgspec.ValidationError:
        # Of what begins with a bracket, only the length can be wrong.
        raise TooMany from None
    found = [item for item in read if item is not _NONE]
    if len(found) > most:
        raise TooMany
    return found
