"""Pictures that callers send, opened without trust, and pictures as they are sent.

A few bytes can claim a picture of gigabytes, so what a file says of its size counts before
anything of it is decoded. Only the formats that are named here are tried.
"""

import base64
import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from modelry.runners.image_drafts import Picture
from modelry.runners.image_requests import FORMATS
from modelry.runners.refusals import Refused

PIXELS_MAX = 64 * 1024 * 1024
"""Of a picture that is sent, 8192x8192: what is more is no photograph."""

_READ = ("PNG", "JPEG", "WEBP")
_OPAQUE = 128


def read_picture(data: bytes, name: str) -> Picture:
    """In RGB or RGBA, turned as its camera says. Raises `Refused` that names the field."""
    if not data:
        raise Refused(f"'{name}' is empty: send a picture.", param=name)
    try:
        with warnings.catch_warnings():
            # Its own bound on sizes is not ours.
            warnings.simplefilter("ignore")
            opened = Image.open(io.BytesIO(data), formats=_READ)
            width, height = opened.size
            if width * height > PIXELS_MAX:
                raise _too_large(name)
            opened.load()
            picture = ImageOps.exif_transpose(opened)
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            return picture.convert("RGBA" if has_alpha else "RGB")
    except Refused:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except UnidentifiedImageError:
        raise Refused(f"'{name}' is no PNG, JPEG or WebP picture.", param=name) from None
    # Pillow's readers raise whatever a broken file makes them stumble over.
    except Exception as problem:
        raise Refused(
            f"'{name}' is a broken picture: {type(problem).__name__}.", param=name
        ) from None


def _too_large(name: str) -> Refused:
    most = PIXELS_MAX // 1024**2
    return Refused(f"'{name}' is too large: {most} megapixels at most.", param=name)


def flat(picture: Picture, size: tuple[int, int]) -> Picture:
    """In RGB, at `size`; what is transparent is white."""
    if picture.mode == "RGBA":
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture).convert("RGB")
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


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
