"""Pictures that callers send: how large they may be, and what opening them takes."""

import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modelry.runners import image_sources
from modelry.runners.image_bounds import Bounds, sides_of
from modelry.runners.image_files import Sent, flat, pixels_max, read_picture
from modelry.runners.image_requests import read_request
from modelry.runners.image_sources import Opener, Sources
from modelry.runners.refusals import Refused

BOUNDS = Bounds(sides_of(8, 512, None), steps=20, guidance=None)
SIDE = BOUNDS.sides.most
TURNED = 6
"""As EXIF has it: the camera was held upright."""


def file(size: tuple[int, int], format: str = "PNG", mode: str = "RGB", **how: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 200 if mode == "L" else (200, 100, 50, 255)[: len(mode)]).save(
        out, format, **how
    )
    return out.getvalue()


def read(data: bytes, side: int = SIDE) -> Sent:
    return read_picture(data, "image", side)


def opened(*images: bytes, mask: bytes | None = None, **fields: object) -> Sources:
    request = read_request(
        {"prompt": "a cat", **fields}, "edit" if mask is None else "inpaint", BOUNDS
    )
    return Opener().open(request, images, mask, BOUNDS)


# -- how large they may be --------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "megapixels"), [(64, 4), (1024, 4), (2048, 16), (4096, 64), (8192, 64)]
)
def test_pictures_may_be_as_large_as_is_of_use(side: int, megapixels: int) -> None:
    assert pixels_max(side) == megapixels * 1024**2


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_larger_one_is_refused_before_it_is_decoded(
    format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickly: dict[str, Any] = {"method": 0} if format == "WEBP" else {"compress_level": 1}
    assert read(file((2048, 2048), format, **quickly)).picture.size == (2048, 2048)
    large = file((2048, 2056), format, **quickly)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(Refused, match="4 megapixels at most") as caught:
        read(large)
    assert caught.value.param == "image"


@pytest.mark.parametrize("format", ["JPEG", "MPO"])
def test_of_a_large_photo_only_what_is_of_use_is_decoded(format: str) -> None:
    second: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (64, 64))]}
    sent = read(file((6000, 4500), format, **(second if format == "MPO" else {})))
    assert sent.size == (6000, 4500)
    assert sent.picture.size == (1500, 1125)
    assert sent.picture.getpixel((700, 500)) == pytest.approx((200, 100, 50), abs=3)


def test_a_small_photo_is_decoded_as_it_is() -> None:
    assert read(file((1500, 2000), "JPEG")).picture.size == (1500, 2000)


def test_a_photo_may_not_be_larger_than_any_is() -> None:
    with pytest.raises(Refused, match="64 megapixels at most"):
        read(file((65_000, 1040), "JPEG"))


def in_several_scans(data: bytes) -> bytes:
    """A JPEG whose first scan says that it has one of the three layers."""
    at = data.index(b"\xff\xda")
    assert data[at + 2 : at + 5] == b"\0\x0c\x03"
    return data[:at] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + data[at + 14 :]


def test_a_jpeg_that_has_to_be_decoded_whole_may_be_as_large_as_others() -> None:
    progressive = file((2100, 2100), "JPEG", progressive=True)
    for data in (progressive, in_several_scans(file((2100, 2100), "JPEG"))):
        with pytest.raises(Refused, match="4 megapixels at most"):
            read(data)
    assert read(file((2000, 2000), "JPEG", progressive=True)).picture.size == (2000, 2000)


def test_an_end_in_the_midst_of_a_head_is_a_broken_picture() -> None:
    data = file((64, 64), "JPEG")
    for length in range(2, data.index(b"\xff\xda") + 20):
        with pytest.raises(Refused):
            read(data[:length])


# -- what is seen of them -----------------------------------------------------------------


def test_a_picture_is_turned_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    for data in (
        file((80, 40), "PNG", exif=exif),
        file((80, 40), "JPEG", exif=exif),
    ):
        sent = read(data)
        assert (sent.picture.size, sent.size) == ((40, 80), (40, 80))
    large = read(file((6000, 4500), "JPEG", exif=exif))
    assert (large.picture.size, large.size) == ((1125, 1500), (4500, 6000))


@pytest.mark.parametrize(
    ("mode", "seen"),
    [("RGB", "RGB"), ("RGBA", "RGBA"), ("L", "RGB"), ("LA", "RGBA"), ("P", "RGBA"), ("1", "RGB")],
)
def test_every_kind_of_png_becomes_colours(mode: str, seen: str) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (32, 32), (255, 255, 255, 255)).convert(mode).save(out, "PNG")
    picture = read(out.getvalue()).picture
    assert picture.mode == seen
    assert picture.getpixel((5, 5))[:3] == (255, 255, 255)


def test_what_is_transparent_is_white_at_any_size() -> None:
    picture = Image.new("RGBA", (64, 64), (10, 20, 30, 255))
    picture.paste((90, 0, 0, 0), (32, 0, 64, 64))
    for size in ((64, 64), (128, 128), (32, 32)):
        made = flat(picture, size)
        assert (made.mode, made.size) == ("RGB", size)
        assert made.getpixel((2, 2)) == (10, 20, 30)
        assert made.getpixel((size[0] - 2, 2)) == (255, 255, 255)


def test_a_mask_fits_the_picture_as_it_was_sent() -> None:
    # The photo is opened at half its size, the mask is not.
    photo = file((2048, 2048), "JPEG")
    assert read(photo).picture.size == (1024, 1024)
    sources = opened(photo, mask=file((2048, 2048), mode="L"))
    assert (sources.size, sources.pictures[0].size) == ((1024, 1024), (1024, 1024))
    assert sources.mask.size == (1024, 1024)  # type: ignore[union-attr]
    with pytest.raises(Refused, match="of one size") as caught:
        opened(photo, mask=file((1024, 1024), mode="L"))
    assert caught.value.param == "mask"


def test_several_pictures_get_the_size_of_the_first() -> None:
    sources = opened(file((256, 128)), file((99, 300)))
    assert [each.size for each in sources.pictures] == [(256, 128)] * 2
    assert opened(file((256, 128)), size="64x64").pictures[0].size == (64, 64)


# -- what it takes ----------------------------------------------------------------------


def test_requests_open_their_pictures_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)
    met: list[bool] = []

    def reading(data: bytes, name: str, side: int) -> Sent:
        with suppress(threading.BrokenBarrierError):
            together.wait(0.3)
            met.append(True)
        return read_picture(data, name, side)

    monkeypatch.setattr(image_sources, "read_picture", reading)
    opener, request = Opener(), read_request({"prompt": "a cat"}, "edit", BOUNDS)
    with ThreadPoolExecutor(2) as callers:
        done = [
            callers.submit(opener.open, request, [file((64, 64))], None, BOUNDS) for _ in range(2)
        ]
        assert [each.result().size for each in done] == [(64, 64)] * 2
    assert not met


def test_a_picture_that_is_refused_keeps_nobody_waiting() -> None:
    opener, request = Opener(), read_request({"prompt": "a cat"}, "edit", BOUNDS)
    with pytest.raises(Refused):
        opener.open(request, [b"a text"], None, BOUNDS)
    assert opener.open(request, [file((64, 64))], None, BOUNDS).size == (64, 64)


_PEAK = """
import sys
from PIL import Image
from modelry.runners.image_files import flat, read_picture

def kib(name):
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(name)).split()[1])

Image.init()
with open(sys.argv[1], "rb") as file:
    data = file.read()
before = kib("VmRSS")
flat(read_picture(data, "image", 2048).picture, (512, 512))
print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_the_largest_picture_is_opened_in_little_more_than_twice_its_pixels(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(file((4096, 4096), mode="RGBA", compress_level=1))
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(large)], capture_output=True, text=True, check=True
    )
    pixels_kib = 4 * 4096**2 // 1024
    assert int(done.stdout) < 2.5 * pixels_kib
