"""Pictures by their first bytes: which kind, and how large they become once an engine opens them.

Nothing is decompressed here. A few kilobytes can hold a picture of gigabytes, and an engine
opens whatever it gets, so what does not say its size in its header goes no further.
Formats: PNG (RFC 2083, 3.2), JPEG (ITU T.81, annex B), GIF89a (section 18), WebP (RFC 9649).
"""

import re
from dataclasses import dataclass

BYTES_MOST = 20 * 1024 * 1024
"""Of one picture, as a file."""
HEAD_BYTES = 1024 * 1024
"""So far into a file its size has to stand; what cameras write before it is less."""
_SIDE_MOST = 16384
_PIXELS_MOST = 64 * 1024 * 1024

# The media types that callers use → the one that a picture's first bytes lead to.
MEDIA_TYPES = {
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/webp": "image/webp",
    "image/gif": "image/gif",
}

# JPEG's frame headers, of which every picture has one.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""JPEG's markers that nothing belongs to."""
_SEGMENTS_MOST = 1000
_AFTER_FILLING = re.compile(rb"[^\xff]")


class NotAPicture(Exception):
    """Why not, to come after "the image "."""


@dataclass(frozen=True)
class Picture:
    """Its sides are in pixels."""

    media_type: str
    width: int
    height: int


def look(head: bytes) -> Picture:
    """What the file is that begins so, with `HEAD_BYTES` of it or all there is.

    Raises `NotAPicture`, also for one that is too large once it is opened.
    """
    picture = _read(head)
    width, height = picture.width, picture.height
    if not width or not height:
        raise NotAPicture("is damaged: it has no size")
    if max(width, height) > _SIDE_MOST or width * height > _PIXELS_MOST:
        raise NotAPicture(
            f"is {width} x {height} pixels; {_SIDE_MOST} a side and "
            f"{_PIXELS_MOST // (1024 * 1024)} million in all are taken at most"
        )
    return picture


def _read(head: bytes) -> Picture:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        _require(head[12:16] == b"IHDR" and len(head) >= 24)
        return Picture("image/png", _big(head[16:20]), _big(head[20:24]))
    if head.startswith((b"GIF87a", b"GIF89a")):
        _require(len(head) >= 10)
        return Picture("image/gif", _little(head[6:8]), _little(head[8:10]))
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(head)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(head)
    raise NotAPicture("is neither PNG, JPEG, WebP nor GIF")


def _jpeg(head: bytes) -> Picture:
    at = 2
    for _ in range(_SEGMENTS_MOST):
        # Filling, and what lies between segments and should not, is passed over by decoders too.
        at = head.find(b"\xff", at)
        _require(at >= 0)
        marked = _AFTER_FILLING.search(head, at)
        at = len(head) if marked is None else marked.start() - 1
        _require(at < len(head) - 9)
        marker = head[at + 1]
        if marker in _FRAMES:
            return Picture("image/jpeg", _big(head[at + 7 : at + 9]), _big(head[at + 5 : at + 7]))
        _require(marker not in (_SCAN, _END))
        at += 2
        if marker not in _BARE and marker:
            at += max(2, _big(head[at : at + 2]))
    raise NotAPicture("is damaged: its header has no end")


def _webp(head: bytes) -> Picture:
    kind, data = head[12:16], head[20:30]
    _require(len(data) == 10)
    if kind == b"VP8X":
        return Picture("image/webp", _little(data[4:7]) + 1, _little(data[7:10]) + 1)
    if kind == b"VP8L":
        _require(data[0] == 0x2F)
        bits = _little(data[1:5])
        return Picture("image/webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    _require(kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a")
    return Picture("image/webp", _little(data[6:8]) & 0x3FFF, _little(data[8:10]) & 0x3FFF)


def _require(holds: bool) -> None:
    if not holds:
        raise NotAPicture("is damaged: its header cannot be read")


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
