"""Numbers between bounds, digit by digit."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from modelry.gateway.grammars.gbnf import (
    DIGIT,
    Chars,
    Choice,
    Literal,
    Node,
    Repeat,
    choice,
    optional,
    sequence,
)

DIGITS_MOST = 15
"""Of a whole number without a bound: as many as every reader of JSON keeps."""
DECIMALS_MOST = 6


class NoNumber(ValueError):
    """There is none between the bounds."""


def whole(least: int | None, most: int | None) -> Node:
    """A whole number from `least` to `most`, either of which may be missing. Raises `NoNumber`."""
    if least is not None and most is not None and least > most:
        raise NoNumber
    of = []
    if least is None or least < 0:
        # The negative ones, by their size.
        low = 1 if most is None or most >= 0 else -most
        high = None if least is None else -least
        of.append(sequence("-", _natural(low, high)))
    if most is None or most >= 0:
        low = 0 if least is None or least < 0 else least
        of.append(_natural(low, most))
    return choice(of)


def real(least: Decimal | None, most: Decimal | None, *, decimals: int = DECIMALS_MOST) -> Node:
    """A number from `least` to `most` with so many decimals at most, but for those of the bounds.

    Raises `NoNumber`.
    """
    if least is not None and most is not None and least > most:
        raise NoNumber
    if least is None and most is None:
        return sequence(optional(Literal("-")), _natural(0, None), _decimals(decimals))
    of = []
    if least is None or least < 0:
        low = Decimal(0) if most is None or most >= 0 else -most
        # Not -0, which is 0 to some and none to others.
        high = None if least is None else -least
        of += [sequence("-", node) for node in _positive(low, high, decimals, zero=False)]
    if most is None or most >= 0:
        of.extend(_positive(max(least or Decimal(0), Decimal(0)), most, decimals, zero=True))
    if not of:
        raise NoNumber
    return choice(of)


def _decimals(most: int) -> Node:
    return optional(sequence(".", Repeat(DIGIT, 1, most))) if most else sequence()


def _positive(low: Decimal, high: Decimal | None, decimals: int, *, zero: bool) -> list[Node]:
    """From `low`, which is none below 0, to `high`. `zero`: 0 itself counts."""
    of: list[Node] = []
    first = int(low.to_integral_value(ROUND_CEILING))
    if not zero and first == 0 and low == 0:
        first = 1
    # Whole numbers in between, and, of all but the last, what follows them up to the next.
    last = None if high is None else int(high.to_integral_value(ROUND_FLOOR))
    if last is None or first <= last:
        of.append(_natural(first, last))
    if not decimals:
        return of
    if last is None or first <= last - 1:
        below = None if last is None else last - 1
        of.append(sequence(_natural(first, below), ".", Repeat(DIGIT, 1, decimals)))
    # Below the first whole number, and above the last.
    floor = int(low.to_integral_value(ROUND_FLOOR))
    if floor < first and (last is None or floor < last):
        of += _fractions(floor, low - floor, Decimal(1), decimals)
    if high is not None and last is not None and last < high:
        of += _fractions(last, max(low - last, Decimal(0)), high - last, decimals)
    return of


def _fractions(whole_part: int, low: Decimal, high: Decimal, decimals: int) -> list[Node]:
    """`whole_part` and a fraction from `low` to `high`, which is not reached where it is 1."""
    places = max(decimals, _places(low), _places(high), 1)
    unit = 10**places
    least, most = int(low * unit), int(high * unit)
    most = unit - 1 if most == unit else most
    least = max(least, 1)
    if least > most:
        return []
    return [sequence(f"{whole_part}.", padded(least, most, places))]


def _places(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _natural(low: int, high: int | None) -> Node:
    """A whole number of at least 0 without leading zeros."""
    if high is None:
        return _from(low)
    of: list[Node] = []
    for length in range(len(str(low)), len(str(high)) + 1):
        least = max(low, 10 ** (length - 1) if length > 1 else 0)
        most = min(high, 10**length - 1)
        if least <= most:
            of.append(padded(least, most, length))
    return choice(of)


def _from(low: int) -> Node:
    if low == 0:
        more = sequence(Chars(((0x31, 0x39),)), Repeat(DIGIT, 0, DIGITS_MOST - 1))
        return Choice((Literal("0"), more))
    length = len(str(low))
    of: list[Node] = [padded(low, 10**length - 1, length)]
    if length < DIGITS_MOST:
        more = sequence(Chars(((0x31, 0x39),)), Repeat(DIGIT, length, DIGITS_MOST - 1))
        of.append(more)
    return choice(of)


def padded(least: int, most: int, length: int) -> Node:
    """A number of exactly `length` digits, zeros in front, from `least` to `most`."""
    low, high = str(least).rjust(length, "0"), str(most).rjust(length, "0")
    same = 0
    while same < length and low[same] == high[same]:
        same += 1
    if same == length:
        return Literal(low)
    head, low, high = low[:same], low[same:], high[same:]
    rest = len(low) - 1
    if not rest:
        return sequence(head, _digits(low, high))
    of: list[Node] = []
    first, last = int(low[0]), int(high[0])
    if int(low[1:]):
        of.append(sequence(low[0], padded(int(low[1:]), 10**rest - 1, rest)))
        first += 1
    above = None
    if int(high[1:]) != 10**rest - 1:
        above = sequence(high[0], padded(0, int(high[1:]), rest))
        last -= 1
    if first <= last:
        of.append(sequence(_digits(str(first), str(last)), Repeat(DIGIT, rest, rest)))
    if above is not None:
        of.append(above)
    return sequence(head, choice(of)) if head else choice(of)


def _digits(low: str, high: str) -> Node:
    return Literal(low) if low == high else Chars(((ord(low), ord(high)),))
