"""JSON strings: of any content, of a format, and by regular expressions.

Of JSON's escapes only those that are needed are written: `\\uXXXX` could give halves of characters,
which are no text.
"""

from modelry.gateway.grammars.gbnf import (
    DIGIT,
    Chars,
    Choice,
    Literal,
    Node,
    Repeat,
    Sequence,
    characters,
    choice,
    optional,
    sequence,
)
from modelry.gateway.grammars.numbers import padded

QUOTE = Literal('"')
_CONTROLS = (0, 0x1F)
_PLAIN = Chars((_CONTROLS, (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F)), but=True)
_ESCAPE = sequence("\\", characters('"\\/bfnrt'))
CHARACTER = Choice((_PLAIN, _ESCAPE))
"""Of a string's content, any."""

_HEX = Chars(((0x30, 0x39), (0x61, 0x66)))
_ALNUM = Chars(((0x30, 0x39), (0x61, 0x7A)))


def _digits(count: int) -> Node:
    return Repeat(DIGIT, count, count)


def _between(least: int, most: int, length: int) -> Node:
    return padded(least, most, length)


# Of every month there are 28 days: a grammar has no calendar.
_DATE = sequence(_between(1900, 2199, 4), "-", _between(1, 12, 2), "-", _between(1, 28, 2))
_OFFSET = choice((Literal("Z"), sequence(characters("+-"), _between(0, 13, 2), ":00")))
_TIME = sequence(
    *(_between(0, 23, 2), ":", _between(0, 59, 2), ":", _between(0, 59, 2)),
    *(optional(sequence(".", Repeat(DIGIT, 1, 3))), _OFFSET),
)
_LABEL = sequence(_ALNUM, Repeat(Choice((_ALNUM, sequence("-", _ALNUM))), 0, 20))
_HOST = sequence(_LABEL, Repeat(sequence(".", _LABEL), 1, 3))
_OCTET = choice(
    (
        DIGIT,
        sequence(Chars(((0x31, 0x39),)), DIGIT),
        sequence("1", _digits(2)),
        sequence("2", Chars(((0x30, 0x34),)), DIGIT),
        sequence("25", Chars(((0x30, 0x35),))),
    )
)


def _hexes(count: int) -> Node:
    return Repeat(_HEX, count, count)


FORMATS: dict[str, Node] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": sequence(_DATE, "T", _TIME),
    "uuid": sequence(*(each for n in (8, 4, 4, 4) for each in (_hexes(n), "-")), _hexes(12)),
    "ipv4": sequence(*(_OCTET, "."), *(_OCTET, "."), *(_OCTET, "."), _OCTET),
    "email": sequence(
        _ALNUM, Repeat(Choice((_ALNUM, characters("._+-"))), 0, 20), _ALNUM, "@", _HOST
    ),
    "hostname": _HOST,
    "uri": sequence(
        *("http", optional(Literal("s")), "://", _HOST),
        Repeat(sequence("/", Repeat(Choice((_ALNUM, characters("-_.~%"))), 0, 24)), 0, 6),
    ),
}
"""The content of a string of each format that is known; every other format is a remark."""


def quoted(content: Node) -> Node:
    return sequence(QUOTE, content, QUOTE)


def lengths(node: Node) -> tuple[int, int | None]:
    """How many characters some content has at least and at most; None without an end."""
    match node:
        case Literal(text):
            return len(text), len(text)
        case Chars():
            return 1, 1
        case Sequence((Literal("\\"), *_)):
            return 1, 1
        case Sequence(parts):
            each = [lengths(part) for part in parts]
            ends = [most for _, most in each if most is not None]
            return sum(least for least, _ in each), sum(ends) if len(ends) == len(each) else None
        case Choice(of):
            each = [lengths(one) for one in of]
            ends = [most for _, most in each if most is not None]
            return min(least for least, _ in each), max(ends) if len(ends) == len(each) else None
        case Repeat(inner, least, most):
            low, high = lengths(inner)
            return low * least, None if most is None or high is None else high * most
    raise TypeError(node)


class NoPattern(ValueError):
    """A regular expression that a grammar cannot follow. Its words are for people."""


def matching(pattern: str, *, repeats_most: int) -> Node:
    """The content of a string that a regular expression matches, somewhere unless it is anchored
    (https://json-schema.org/understanding-json-schema/reference/regular_expressions).

    What it repeats without an end is repeated up to `repeats_most` times. Raises `NoPattern`.
    """
    return _Pattern(pattern, repeats_most).content()


_NAMED = {
    "d": ((0x30, 0x39),),
    "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "s": ((0x20, 0x20),),
}
_CONTROL = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C}
_SHORT = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\"}
_DEEPEST = 20
_REPEATED_MOST = 1000
_AROUND_MOST = 100

_Ranges = tuple[tuple[int, int], ...]
_LINE_ENDS: _Ranges = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))


class _Pattern:
    """A parser of the part of ECMA-262's syntax that grammars can follow."""

    def __init__(self, pattern: str, repeats_most: int) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._most = repeats_most

    def content(self) -> Node:
        of: list[Node] = []
        while True:
            start = self._taken("^")
            node = self._sequence(top=True)
            end = self._taken("$")
            anything = Repeat(CHARACTER, 0, min(self._most, _AROUND_MOST))
            parts = (*(() if start else (anything,)), node, *(() if end else (anything,)))
            of.append(Sequence(parts))
            if self._at == len(self._text):
                return choice(of)
            if not self._taken("|"):
                raise NoPattern(
                    f"cannot be followed from '{self._text[self._at : self._at + 10]}' on"
                )

    # ------------------------------------------------------------------------

    def _sequence(self, *, top: bool = False) -> Node:
        parts: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            rest = self._text[self._at : self._at + 2]
            if top and (rest == "$|" or (rest == "$" and self._at + 1 == len(self._text))):
                break
            parts.append(self._repeated(self._atom()))
        return Sequence(tuple(parts))

    def _choice(self) -> Node:
        of = [self._sequence()]
        while self._taken("|"):
            of.append(self._sequence())
        return choice(of)

    def _repeated(self, node: Node) -> Node:
        least, most = 1, 1
        if self._taken("*"):
            least, most = 0, self._most
        elif self._taken("+"):
            least, most = 1, max(1, self._most)
        elif self._taken("?"):
            least, most = 0, 1
        elif self._text.startswith("{", self._at):
            least, most = self._counts()
        else:
            return node
        # Whether it takes as much as it can makes no difference to what matches.
        if self._taken("?"):
            pass
        return Repeat(node, least, most)

    def _counts(self) -> tuple[int, int]:
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : max(end, self._at + 1)].partition(",")
        if end < 0 or not low.isdecimal() or not (high.isdecimal() or not high):
            raise NoPattern("has a '{' that begins no count")
        self._at = end + 1
        least = int(low[:6])
        most = least if not comma else int(high[:6]) if high else max(least, self._most)
        if most < least or most > _REPEATED_MOST:
            raise NoPattern(f"repeats something more than {_REPEATED_MOST} times, or never")
        return least, most

    def _atom(self) -> Node:
        char = self._text[self._at]
        self._at += 1
        if char == "(":
            return self._group()
        if char == "[":
            return self._class()
        if char == ".":
            return _of(_LINE_ENDS, but=True)
        if char == "\\":
            return _of(*self._escape(within=False))
        if char in "^$*+?{":
            raise NoPattern(f"has a '{char}' in a place that cannot be followed")
        return _of(((ord(char), ord(char)),), but=False)

    def _group(self) -> Node:
        if self._taken("?") and not self._taken(":"):
            if not self._text.startswith("<", self._at) or self._next in "=!":
                raise NoPattern("looks ahead or behind")
            end = self._text.find(">", self._at)
            if end < 0:
                raise NoPattern("has a group without an end")
            self._at = end + 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise NoPattern("has too many groups in one another")
        node = self._choice()
        self._depth -= 1
        if not self._taken(")"):
            raise NoPattern("has a group without an end")
        return node

    def _class(self) -> Node:
        but = self._taken("^")
        ranges: list[tuple[int, int]] = []
        while not self._taken("]"):
            if self._at >= len(self._text):
                raise NoPattern("has a '[' without an end")
            low, negated = self._member()
            if negated:
                raise NoPattern("has a negated class within another")
            if self._text.startswith("-", self._at) and self._next not in ("", "]"):
                self._at += 1
                high, negated = self._member()
                single = len(low) == len(high) == 1 and low[0][0] == low[0][1]
                if negated or not single or high[0][0] != high[0][1] or high[0][0] < low[0][0]:
                    raise NoPattern("has a range that is none")
                ranges.append((low[0][0], high[0][0]))
            else:
                ranges.extend(low)
        return _of(tuple(ranges), but=but)

    def _member(self) -> tuple[_Ranges, bool]:
        if self._at >= len(self._text):
            raise NoPattern("has a '[' without an end")
        char = self._text[self._at]
        self._at += 1
        if char == "\\":
            return self._escape(within=True)
        return ((ord(char), ord(char)),), False

    def _escape(self, *, within: bool) -> tuple[_Ranges, bool]:
        """What follows a backslash, and whether it is anything but that."""
        if self._at >= len(self._text):
            raise NoPattern("ends in a '\\'")
        char = self._text[self._at]
        self._at += 1
        if char.lower() in _NAMED:
            return _NAMED[char.lower()], char.isupper()
        if char in _CONTROL:
            return ((_CONTROL[char], _CONTROL[char]),), False
        if char in "ux":
            digits = self._text[self._at : self._at + (4 if char == "u" else 2)]
            try:
                code = int(digits, 16)
            except ValueError:
                raise NoPattern(f"has a '\\{char}' without its digits") from None
            if 0xD800 <= code <= 0xDFFF:
                raise NoPattern("names half a character")
            self._at += len(digits)
            return ((code, code),), False
        if char.isalnum() and not (within and char == "b"):
            raise NoPattern(f"has '\\{char}', which cannot be followed")
        code = 0x08 if char == "b" else ord(char)
        return ((code, code),), False

    @property
    def _next(self) -> str:
        """What follows the character that is due; empty at the end."""
        return self._text[self._at + 1 : self._at + 2]

    def _taken(self, char: str) -> bool:
        if self._text.startswith(char, self._at):
            self._at += 1
            return True
        return False


def _of(ranges: _Ranges, but: bool) -> Node:
    """One character of a class, as it stands in JSON."""
    if but:
        excluded = {code for code in _SHORT if any(low <= code <= high for low, high in ranges)}
        plain = Chars((*ranges, _CONTROLS, (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F)), but=True)
        escapes = "".join(short for code, short in _SHORT.items() if code not in excluded)
        return choice((plain, sequence("\\", characters(escapes)))) if escapes else plain
    escapes = "".join(
        short for code, short in _SHORT.items() if any(low <= code <= high for low, high in ranges)
    )
    plain_ranges = _without(ranges, (0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F))
    of: list[Node] = []
    if plain_ranges:
        of.append(Chars(plain_ranges))
    if escapes:
        of.append(sequence("\\", characters(escapes)))
    if not of:
        raise NoPattern("asks for characters that JSON has no short way to write")
    return choice(of)


def _without(ranges: _Ranges, *holes: tuple[int, int]) -> _Ranges:
    for start, end in holes:
        left: list[tuple[int, int]] = []
        for low, high in ranges:
            if low < start:
                left.append((low, min(high, start - 1)))
            if high > end:
                left.append((max(low, end + 1), high))
        ranges = tuple(left)
    return ranges
