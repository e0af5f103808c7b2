"""What a picture is by its first bytes."""

import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelry.gateway.pictures import HEAD_BYTES, NotAPicture, Picture, look
from tests.support.pictures import GIF, JPEG, WEBP, png

VP8 = (
    b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0"
    b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 0x4000 | 640, 480) + bytes(14)
)
VP8X = (
    b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0"
    + bytes(4)
    + (1919).to_bytes(3, "little")
    + (1079).to_bytes(3, "little")
)


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def frame(width: int, height: int, marker: int = 0xC0) -> bytes:
    return segment(marker, struct.pack(">BHHB", 8, height, width, 3) + bytes(9))


@pytest.mark.parametrize(
    ("head", "picture"),
    [
        (png(300, 200), Picture("image/png", 300, 200)),
        (JPEG, Picture("image/jpeg", 1, 1)),
        (GIF, Picture("image/gif", 1, 1)),
        (WEBP, Picture("image/webp", 1, 1)),
        (VP8, Picture("image/webp", 640, 480)),
        (VP8X, Picture("image/webp", 1920, 1080)),
        (b"\xff\xd8" + frame(7, 5), Picture("image/jpeg", 7, 5)),
        (b"\xff\xd8" + frame(7, 5, 0xC2), Picture("image/jpeg", 7, 5)),
        # A preview with a frame of its own lies within a segment; filling lies between segments.
        (
            b"\xff\xd8" + segment(0xE1, b"Exif" + frame(1, 1)) + b"\xff\xff" + frame(7, 5),
            Picture("image/jpeg", 7, 5),
        ),
        (b"\xff\xd8\xff\x01" + b"junk" + frame(7, 5), Picture("image/jpeg", 7, 5)),
        # Tables, which have a number amid the frames'.
        (b"\xff\xd8" + segment(0xC4, bytes(20)) + frame(7, 5), Picture("image/jpeg", 7, 5)),
    ],
)
def test_kind_and_size_of_a_picture(head: bytes, picture: Picture) -> None:
    assert look(head) == picture


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF", b"\x89PNG", b"<svg/>", b"%PDF-1.7", b"RIFF\0\0\0\0WAVEfmt ", b"BM" + bytes(50)],
)
def test_what_is_none_is_told(data: bytes) -> None:
    with pytest.raises(NotAPicture):
        look(data)


@pytest.mark.parametrize("whole", [png(), b"\xff\xd8" + frame(7, 5), GIF, WEBP, VP8, VP8X])
def test_a_header_that_is_cut_off_says_no_size(whole: bytes) -> None:
    sizes = set()
    for end in range(len(whole)):
        try:
            picture = look(whole[:end])
        except NotAPicture:
            continue
        sizes.add(picture)
    assert sizes <= {look(whole)}


@pytest.mark.parametrize(
    ("width", "height"), [(16385, 1), (1, 16385), (16384, 8192), (2**31, 2**31), (0, 5), (5, 0)]
)
def test_what_would_fill_the_memory_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(NotAPicture):
        look(png(claims=(width, height)))


def test_a_header_without_an_end_is_left_after_a_while() -> None:
    with pytest.raises(NotAPicture, match="no end"):
        look(b"\xff\xd8" + b"\xff\x01" * (HEAD_BYTES // 2))


class Counted(bytes):
    """Bytes that know how often one of them, or a part, was asked for."""

    asked = 0

    def __getitem__(self, index: Any) -> Any:
        type(self).asked += 1
        return super().__getitem__(index)


def test_filling_is_passed_over_at_once() -> None:
    filling = b"\xff" * (HEAD_BYTES - 100)
    assert look(Counted(b"\xff\xd8" + filling + frame(7, 5))) == Picture("image/jpeg", 7, 5)
    with pytest.raises(NotAPicture):
        look(Counted(b"\xff\xd8" + filling))
    assert Counted.asked < 100


@given(st.binary(max_size=400), st.sampled_from([b"\xff\xd8\xff", b"RIFF....WEBP", b"GIF89a", b""]))
@example(b"\xff" * 400, b"\xff\xd8\xff")
def test_no_bytes_break_it(data: bytes, start: bytes) -> None:
    try:
        picture = look(start + data)
    except NotAPicture:
        return
    assert 0 < picture.width <= 16384
    assert 0 < picture.height <= 16384
