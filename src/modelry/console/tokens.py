"""The design tokens, as the stylesheet has them, and how well colours stand out on one another."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).parent / "styles" / "10-tokens.css"
_COLOUR = re.compile(r"light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")

# Which colours stand on which, and the least contrast that they need there: 4.5 for text, 3 for
# what is no text. https://www.w3.org/TR/WCAG22/#contrast-minimum, #non-text-contrast
TEXT, GRAPHIC = 4.5, 3.0
PAIRS = (
    *((name, ground, TEXT) for name in ("text", "quiet") for ground in ("ground", "surface")),
    ("text", "raised", TEXT),
    ("quiet", "raised", TEXT),
    ("accent", "surface", TEXT),
    ("accent", "ground", TEXT),
    ("accent-strong", "accent-soft", TEXT),
    ("on-accent", "accent", TEXT),
    ("on-accent", "accent-strong", TEXT),
    ("text", "accent-soft", TEXT),
    ("on-bad", "bad", TEXT),
    *((name, ground, TEXT) for name in ("good", "bad", "wait") for ground in ("surface", "ground")),
    *((name, f"{name}-soft", TEXT) for name in ("good", "bad", "wait")),
    *(("text", f"{name}-soft", TEXT) for name in ("good", "bad", "wait")),
    ("line-strong", "surface", GRAPHIC),
    *((f"series-{name}", "surface", GRAPHIC) for name in ("1", "2", "3", "4", "bad")),
)


@dataclass(frozen=True)
class Colour:
    """In either theme, as `#rrggbb`."""

    light: str
    dark: str


@dataclass(frozen=True)
class Contrast:
    """How well one colour stands out on another, from 1 to 21, in either theme."""

    name: str
    ground: str
    least: float
    light: float
    dark: float

    @property
    def enough(self) -> bool:
        return min(self.light, self.dark) >= self.least


@cache
def tokens() -> Mapping[str, str]:
    """Name → what the stylesheet says, in its order."""
    root = _FILE.read_text().partition("}")[0]
    found = re.findall(r"--([a-z0-9-]+):\s*([^;]+);", root)
    return {name: re.sub(r"\s+", " ", value) for name, value in found}


def colours() -> dict[str, Colour]:
    return {
        name: Colour(*match.groups())
        for name, value in tokens().items()
        if (match := _COLOUR.fullmatch(value)) is not None
    }


def contrasts() -> list[Contrast]:
    known = colours()
    return [
        Contrast(
            name,
            ground,
            least,
            contrast(known[name].light, known[ground].light),
            contrast(known[name].dark, known[ground].dark),
        )
        for name, ground, least in PAIRS
    ]


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
