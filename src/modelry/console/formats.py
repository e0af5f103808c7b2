"""Numbers and times as pages show them: the same in every language."""

import math
from datetime import datetime

from markupsafe import Markup

_STEPS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_COUNTS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def size(count: float) -> str:
    """Bytes, in decimal units: `98.3 MB`."""
    for unit, step in _STEPS:
        if abs(count) >= step * 0.9995:
            return f"{_three_digits(count / step)} {unit}"
    return f"{count:.0f} B"


def whole(count: float) -> str:
    """A whole number, with its thousands apart: `1,234,567`."""
    return f"{count:,.0f}"


def short(count: float) -> str:
    """A number in a narrow place: `135 M`, `0.4`, `0`."""
    for unit, step in _COUNTS:
        if abs(count) >= step * 0.9995:
            return f"{_three_digits(count / step)} {unit}"
    return f"{count:.3g}"


def left(duration: float) -> str:
    """How long something still takes, which nobody knows to the millisecond: `1 s`, `3 min 5 s`."""
    return seconds(max(1, math.ceil(duration)))


def seconds(duration: float) -> str:
    """A duration: `85 ms`, `2.4 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`."""
    if duration < 1:
        return f"{duration * 1000:.0f} ms"
    if duration < 60:
        return f"{duration:.3g} s"
    parts = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    rest = round(duration)
    shown: list[str] = []
    for step, unit in parts:
        count, rest = divmod(rest, step)
        if count or shown:
            shown.append(f"{count} {unit}" if count else "")
        if len(shown) == 2:
            break
    return " ".join(part for part in shown if part)


def when(at: datetime, style: str = "date") -> Markup:
    """A moment. The browser shows it in its own zone; `style`: `date`, `moment` with its seconds,
    `ago` or `clock`.
    """
    return Markup('<local-time datetime="{}" data-style="{}">{} UTC</local-time>').format(
        at.isoformat(), style, at.strftime("%Y-%m-%d %H:%M")
    )


def _three_digits(number: float) -> str:
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:,.0f}"
