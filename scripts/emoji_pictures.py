"""The pictures that the demo's image model is trained on, and their captions.

Noto Color Emoji (Debian's `fonts-noto-color-emoji`), with the short names of Unicode's CLDR.
"""

from dataclasses import dataclass
from pathlib import Path

import emoji
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SIDE = 64
STRIKE = 109
"""The only size, in pixels, that the font's bitmaps come in."""

# Animals, plants, food, weather, sights, vehicles, things, hearts and faces; without people,
# hands, flags and signs, which are hard to tell apart at this size.
BLOCKS = (
    (0x1F300, 0x1F384),
    (0x1F38E, 0x1F393),
    (0x1F3A0, 0x1F3C1),
    (0x1F3C5, 0x1F3C9),
    (0x1F3CD, 0x1F3F0),
    (0x1F400, 0x1F43F),
    (0x1F493, 0x1F49D),
    (0x1F600, 0x1F610),
    (0x1F680, 0x1F6A4),
    (0x1F950, 0x1F96F),
    (0x1F980, 0x1F9AD),
    (0x1F9C0, 0x1F9CB),
    (0x2600, 0x2604),
    (0x2764, 0x2764),
    (0x26BD, 0x26C5),
    (0x2B50, 0x2B50),
)
COUNT = 400


@dataclass(frozen=True)
class Pair:
    caption: str
    picture: np.ndarray
    """SIDE x SIDE x 3, of 0 to 255."""


def pairs(font_file: Path) -> list[Pair]:
    """The pictures and their captions, in the order of their code points."""
    font = ImageFont.truetype(str(font_file), STRIKE)
    found: dict[int, Pair] = {}
    for text, about in emoji.EMOJI_DATA.items():
        points = [ord(character) for character in text if ord(character) != 0xFE0F]
        if len(points) != 1 or about["status"] != emoji.STATUS["fully_qualified"]:
            continue
        if not any(first <= points[0] <= last for first, last in BLOCKS):
            continue
        drawn = _drawn(font, chr(points[0]))
        if drawn is not None:
            caption = about["en"].strip(":").replace("_", " ").replace("’", "'").lower()
            found[points[0]] = Pair(caption, drawn)
    return [found[point] for point in sorted(found)][:COUNT]


def _drawn(font: ImageFont.FreeTypeFont, text: str) -> np.ndarray | None:
    """The picture on white with a small margin; None where the font has no such sign."""
    sheet = Image.new("RGBA", (160, 160), (255, 255, 255, 0))
    ImageDraw.Draw(sheet).text((12, 12), text, font=font, embedded_color=True)
    box = sheet.getbbox()
    if box is None:
        return None
    cut = sheet.crop(box)
    cut.thumbnail((SIDE - 4, SIDE - 4), Image.Resampling.LANCZOS)
    page = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 255))
    page.alpha_composite(cut, ((SIDE - cut.width) // 2, (SIDE - cut.height) // 2))
    return np.asarray(page.convert("RGB"))
