"""Heads of answers; and heads and chunks that repeat, which are not parsed again.

A caller that keeps its connection sends the same head each time, but for the
length of the body; so does a replica with its answers. What llhttp has parsed
once is known by its bytes, whatever length they say. Only whole messages, and
whole chunks, are taken this way: whatever comes in pieces, or differs in one
byte, is llhttp's.
"""

import re
from typing import Generic, TypeVar

from modelry.gateway.replies import JSON_TYPE

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_BODILESS = re.compile(rb"HTTP/1\.[01] (?:1\d\d|204|304)\b")
_DIGITS_MAX = 9

Meaning = TypeVar("Meaning")
Headers = list[tuple[bytes, bytes]]


class Head:
    """An answer's head. `type_line`: its Content-Type as a header line. `framed`: its end can
    be told from its being cut off. `units`: what a replica says it used beyond tokens.
    """

    __slots__ = (
        "chunked",
        "event_stream",
        "framed",
        "headers",
        "is_json",
        "retry_after",
        "status",
        "type_line",
        "units",
    )

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.framed = self.chunked = self.event_stream = self.is_json = False
        self.type_line = JSON_TYPE
        self.retry_after = b""
        self.units = b""
        for name, value in headers:
            if name == b"content-type":
                self.type_line = b"content-type: %b\r\n" % value
                self.event_stream = value.startswith(b"text/event-stream")
                self.is_json = b"json" in value
            elif name == b"retry-after":
                self.retry_after = b"retry-after: %b\r\n" % value
            elif name == b"content-length":
                self.framed = True
            elif name == b"x-modelry-usage":
                self.units = value
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self.framed = self.chunked = True


class KnownHead(Generic[Meaning]):
    """A head that was parsed and found to mean `meaning`, its body's length apart."""

    __slots__ = ("_after", "_after_size", "_before", "_before_size", "meaning")

    def __init__(self, before: bytes, after: bytes, meaning: Meaning) -> None:
        self._before = before
        self._before_size = len(before)
        self._after = after
        self._after_size = len(after)
        self.meaning = meaning

    def body_of(self, message: bytes) -> bytes | None:
        """The body of a whole message with this head; None for any other."""
        if not message.startswith(self._before):
            return None
        at = self._before_size
        end = message.find(b"\r", at, at + _DIGITS_MAX + 1)
        digits = message[at:end]
        if not digits.isdigit() or not message.startswith(self._after, end):
            return None
        body = message[end + self._after_size :]
        return body if len(body) == int(digits) else None


def known_head(message: bytes, meaning: Meaning) -> KnownHead[Meaning] | None:
    """What to know of a whole, valid message with a Content-Length; None where it has none,
    or says one without having a body (RFC 9110, 8.6).
    """
    if _BODILESS.match(message):
        return None
    end = message.find(b"\r\n\r\n") + 4
    found = _LENGTH.search(message, 0, end)
    if found is None:
        return None
    return KnownHead(message[: found.start(1)], message[found.end(1) : end], meaning)


_SIZE = re.compile(rb"[0-9A-Fa-f]{1,7}")
_SIZES_KNOWN = 4096
_sizes: dict[bytes, int] = {}


def whole_chunk(data: bytes) -> bytes | None:
    """What a chunk holds (RFC 9112, 7.1), where `data` is exactly one in its plainest form.

    None for any other, and for the last, which holds nothing.
    """
    end = data.find(b"\r\n", 1, 9)
    if end < 0:
        return None
    digits = data[:end]
    size = _sizes.get(digits)
    if size is None:
        size = int(digits, 16) if _SIZE.fullmatch(digits) else 0
        if len(_sizes) < _SIZES_KNOWN:
            _sizes[digits] = size
    if not size or len(data) != end + size + 4 or data[-2:] != b"\r\n":
        return None
    return data[end + 2 : -2]
