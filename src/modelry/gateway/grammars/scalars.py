"""Texts and numbers of a schema."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext

from modelry.gateway.grammars import numbers, strings
from modelry.gateway.grammars.compiling import Compiling, Json, Nothing, Unfollowable, size_of
from modelry.gateway.grammars.gbnf import Literal, Node, Repeat, choice

NUMBER_WORDS = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
_MULTIPLES_MOST = 400
_MULTIPLES, _LETTERS = 16, 20
"""How many of each, the latter of a regular expression, are about a step's work."""
_PATTERN_REPEATS = 500
_PLACES = 12
_UNIT = Decimal(1).scaleb(-_PLACES)
_FINEST, _FARTHEST = 10**-_PLACES, 10**30
_NO_SUCH_NUMBER = f"is followed from 1e-{_PLACES} to 1e30 alone"


def string_of(compiling: Compiling, schema: Mapping[str, Json], path: str) -> Node:
    low, high = size_of(schema, "minLength", "maxLength", path)
    if "pattern" in schema:
        return pattern_of(compiling, schema["pattern"], (low, high), path)
    known = strings.FORMATS.get(str(schema.get("format")))
    if known is not None:
        shortest, longest = strings.lengths(known)
        if shortest >= low and (high is None or (longest is not None and longest <= high)):
            return compiling.add(strings.quoted(known), str(schema["format"]))
        compiling.leave_out("format", path, "and a length cannot be followed together")
    return _any_text(compiling, low, high)


def _any_text(compiling: Compiling, low: int, high: int | None) -> Node:
    if high is None and compiling.bounds.characters is not None:
        high = max(low, compiling.bounds.characters)
    return compiling.add(strings.quoted(Repeat(strings.CHARACTER, low, high)), "string")


def pattern_of(
    compiling: Compiling, pattern: Json, size: tuple[int, int | None], path: str
) -> Node:
    low, high = size
    if not isinstance(pattern, str):
        raise Unfollowable(f"{path}/pattern", "'pattern' is a regular expression")
    compiling.spend(len(pattern) // _LETTERS, path)
    try:
        most = compiling.bounds.characters or _PATTERN_REPEATS
        content = strings.matching(pattern, repeats_most=min(high or most, most, _PATTERN_REPEATS))
    except strings.NoPattern as problem:
        compiling.leave_out("pattern", path, str(problem))
        return _any_text(compiling, low, high)
    shortest, longest = strings.lengths(content)
    if shortest < low or (high is not None and (longest is None or longest > high)):
        compiling.leave_out("pattern", path, "and a length cannot be followed together")
        return _any_text(compiling, low, high)
    return compiling.add(strings.quoted(content), "pattern")


def number_of(compiling: Compiling, schema: Mapping[str, Json], path: str, *, whole: bool) -> Node:
    # More digits than the farthest multiple of the finest step has.
    with localcontext(prec=80):
        return _number(compiling, schema, path, whole=whole)


def _number(compiling: Compiling, schema: Mapping[str, Json], path: str, *, whole: bool) -> Node:
    bounds: dict[str, Decimal] = {}
    for word in sorted(NUMBER_WORDS & set(schema)):
        said = schema[word]
        if isinstance(said, bool) and word.startswith("exclusive"):
            # As it was written before 2019: a remark on the other one.
            other = schema.get(word.replace("exclusiveM", "m"))
            if said and isinstance(other, int | float):
                bounds[word] = _bound(word, other, path)
            continue
        if isinstance(said, bool) or not isinstance(said, int | float):
            raise Unfollowable(f"{path}/{word}", f"'{word}' is a number")
        bounds[word] = _bound(word, said, path)
    step = bounds.pop("multipleOf", None)
    try:
        if step is not None:
            return _multiples(compiling, bounds, step, path, whole=whole)
        if whole:
            return compiling.add(numbers.whole(*_whole_bounds(bounds)), "integer")
        return compiling.add(numbers.real(*_real_bounds(bounds)), "number")
    except numbers.NoNumber:
        raise Nothing(path, "there is no number between its bounds") from None


def _bound(word: str, said: float, path: str) -> Decimal:
    """Not further than numbers are followed, and with no more places than those."""
    if word == "multipleOf":
        if said > 0 and not _FINEST <= said <= _FARTHEST:
            raise Unfollowable(f"{path}/{word}", f"'{word}' {_NO_SUCH_NUMBER}")
        return Decimal(str(said))
    is_low = word.endswith("inimum")
    if said > _FARTHEST if is_low else said < -_FARTHEST:
        raise Unfollowable(f"{path}/{word}", f"'{word}' {_NO_SUCH_NUMBER}")
    near = Decimal(str(max(-_FARTHEST, min(_FARTHEST, said))))
    return near.quantize(_UNIT, ROUND_CEILING if is_low else ROUND_FLOOR).normalize()


def _multiples(
    compiling: Compiling, bounds: dict[str, Decimal], step: Decimal, path: str, *, whole: bool
) -> Node:
    if step <= 0:
        raise Unfollowable(f"{path}/multipleOf", "'multipleOf' is above 0")
    if whole and (1 / step) % 1 == 0:
        return compiling.add(numbers.whole(*_whole_bounds(bounds)), "integer")
    compiling.spend(_MULTIPLES_MOST // _MULTIPLES, path)
    # Its multiples one by one: around 0, or from a bound on.
    low, high = _whole_bounds({word: said / step for word, said in bounds.items()})
    if low is None:
        low = -_MULTIPLES_MOST // 2 if high is None else high - _MULTIPLES_MOST
    if high is None or high - low > _MULTIPLES_MOST:
        high = low + _MULTIPLES_MOST
    found = [step * factor for factor in range(low, high + 1)]
    # Many who check it divide floating point numbers: 0.29 is no multiple of 0.01 to them.
    found = [
        each
        for each in found
        if (not whole or each % 1 == 0) and (float(each) / float(step)).is_integer()
    ]
    if not found:
        raise numbers.NoNumber
    return compiling.add(choice(Literal(_plain(each)) for each in found), "multiple")


def _plain(number: Decimal) -> str:
    return "0" if number == 0 else format(number.normalize(), "f")


def _whole_bounds(bounds: Mapping[str, Decimal]) -> tuple[int | None, int | None]:
    lows = [_up(each) for word, each in bounds.items() if word == "minimum"]
    lows += [_down(each) + 1 for word, each in bounds.items() if word == "exclusiveMinimum"]
    highs = [_down(each) for word, each in bounds.items() if word == "maximum"]
    highs += [_up(each) - 1 for word, each in bounds.items() if word == "exclusiveMaximum"]
    return max(lows, default=None), min(highs, default=None)


def _up(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_CEILING))


def _down(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_FLOOR))


def _real_bounds(bounds: Mapping[str, Decimal]) -> tuple[Decimal | None, Decimal | None]:
    unit = Decimal(1).scaleb(-numbers.DECIMALS_MOST)
    lows = [each for word, each in bounds.items() if word == "minimum"]
    lows += [each + unit for word, each in bounds.items() if word == "exclusiveMinimum"]
    highs = [each for word, each in bounds.items() if word == "maximum"]
    highs += [each - unit for word, each in bounds.items() if word == "exclusiveMaximum"]
    return max(lows, default=None), min(highs, default=None)
