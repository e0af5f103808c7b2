"""Pictures that callers send, opened without trust, and pictures as they are sent.

A few bytes can claim a picture of gigabytes, so what a file says of its size counts before
anything of it is decoded. Only the formats that are named here are tried.
"""

import base64
import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from modelry.runners.image_drafts import Picture
from modelry.runners.image_requests import FORMATS
from modelry.runners.refusals import Refused

PIXELS_MAX = 64 * 1024 * 1024
"""Of a picture that is sent, 8192x8192: what is more is no photograph."""
_PIXELS_ALWAYS = 4 * 1024 * 1024
"""That a picture may have for the smallest of models: more than a screen."""

_READ = ("PNG", "JPEG", "WEBP")
_OPAQUE = 128
_START_OF_SCAN = 0xDA


@dataclass(frozen=True)
class Sent:
    """`size`: as it came, turned as its camera says. `picture` may be smaller, and has what is of
    use of it.
    """

    picture: Picture
    size: tuple[int, int]


def pixels_max(side: int) -> int:
    """Of a picture that is sent, where none is made with sides above `side`: more is of no use,
    and takes four bytes for each while it is opened.
    """
    return min(PIXELS_MAX, max(_PIXELS_ALWAYS, 4 * side**2))


def read_picture(data: bytes, name: str, side: int) -> Sent:
    """In RGB or RGBA, turned as its camera says. `side`: the longest of what is made from it.

    Raises `Refused` that names the field.
    """
    if not data:
        raise Refused(f"'{name}' is empty: send a picture.", param=name)
    try:
        with warnings.catch_warnings():
            # Its own bound on sizes is not ours.
            warnings.simplefilter("ignore")
            opened = Image.open(io.BytesIO(data), formats=_READ)
            width, height = opened.size
            if _can_be_opened_smaller(opened, data):
                if width * height > PIXELS_MAX:
                    raise _too_large(name, PIXELS_MAX)
                opened.draft(None, (side, side))
            most = pixels_max(side)
            if opened.size[0] * opened.size[1] > most:
                raise _too_large(name, most)
            opened.load()
            before = opened.size
            # In place, and no copy where there is nothing to convert: each would be as large again.
            ImageOps.exif_transpose(opened, in_place=True)
            if opened.size != before:
                width, height = height, width
            has_alpha = "A" in opened.getbands() or "transparency" in opened.info
            mode = "RGBA" if has_alpha else "RGB"
            picture = opened if opened.mode == mode else opened.convert(mode)
            return Sent(picture, (width, height))
    except Refused:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name, pixels_max(side)) from None
    except UnidentifiedImageError:
        raise Refused(f"'{name}' is no PNG, JPEG or WebP picture.", param=name) from None
    # Pillow's readers raise whatever a broken file makes them stumble over.
    except Exception:
        raise Refused(
            f"'{name}' cannot be opened: the picture is broken, or cut off.", param=name
        ) from None


def _can_be_opened_smaller(opened: Picture, data: bytes) -> bool:
    """Whether it is a JPEG of which a half, quarter or eighth can be decoded in less memory. Of one
    in several scans all coefficients are kept, two bytes each: libjpeg needs the last scan before
    it can give the first row.
    """
    if not isinstance(opened, JpegImageFile) or "progressive" in opened.info:
        return False
    # Segments, as in B.1.1 of https://www.w3.org/Graphics/JPEG/itu-t81.pdf
    at = 2
    while data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:
            at += 1
            continue
        if kind == _START_OF_SCAN:
            return data[at + 4] == opened.layers
        if kind < 0xC0 or 0xD0 <= kind <= 0xD9:
            # Has no length, and no business here.
            return False
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _too_large(name: str, most: int) -> Refused:
    return Refused(
        f"'{name}' is too large: {most // 1024**2} megapixels at most. Of a JPEG that is not "
        f"progressive there may be {PIXELS_MAX // 1024**2}.",
        param=name,
    )


def flat(picture: Picture, size: tuple[int, int]) -> Picture:
    """In RGB, at `size`; what is transparent is white."""
    if picture.size != size:
        # First: what follows makes copies.
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    if picture.mode == "RGBA":
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture).convert("RGB")
    return picture


def mask_of(picture: Picture, size: tuple[int, int]) -> Picture:
    """White where a picture is to be made anew. As OpenAI has it where there is transparency:
    that is what changes. Otherwise white is.

    Raises `Refused` where nothing is.
    """
    if picture.mode == "RGBA":
        mask = picture.getchannel("A").point(lambda alpha: 0 if alpha >= _OPAQUE else 255)
    else:
        mask = picture.convert("L").point(lambda light: 255 if light >= _OPAQUE else 0)
    if mask.getextrema()[1] == 0:
        raise Refused(
            "'mask' marks nothing: make transparent, or white, what is to change.", param="mask"
        )
    return mask if mask.size == size else mask.resize(size, Image.Resampling.NEAREST)


def keep_outside(made: Picture, before: Picture, mask: Picture) -> Picture:
    """What the mask leaves alone is as it was, to the bit: an encoder's way there and back
    changes it a little.
    """
    return Image.composite(made, before, mask)


def encoded(picture: Picture, format: str, compression: int) -> str:
    """As a file of `format`, in base64. `compression`: a quality in percent, not of PNG."""
    out = io.BytesIO()
    if format == "png":
        picture.save(out, FORMATS[format])
    else:
        # Above 95 a JPEG only grows.
        picture.save(out, FORMATS[format], quality=max(1, min(compression, 95)))
    return base64.b64encode(out.getvalue()).decode("ascii")
