"""Grammars in llama.cpp's GBNF notation
(https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md), built of nodes.

A grammar works on code points. Rules may refer to one another, also to themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

_REPETITIONS_MOST = 1500
"""llama.cpp refuses more than 2000 in one place."""


@dataclass(frozen=True)
class Literal:
    text: str


@dataclass(frozen=True)
class Chars:
    """One character of `ranges`, inclusive pairs of code points; with `but`, any other."""

    ranges: tuple[tuple[int, int], ...]
    but: bool = False


@dataclass(frozen=True)
class Sequence:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    """At least one of them. The engine takes any that fits."""

    of: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """`most` None: without an end."""

    node: "Node"
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class Rule:
    """The rule of that name."""

    name: str


Node: TypeAlias = Literal | Chars | Sequence | Choice | Repeat | Rule

NOTHING = Sequence(())


def sequence(*parts: "Node | str") -> Node:
    """Texts stand for themselves."""
    return Sequence(tuple(Literal(part) if isinstance(part, str) else part for part in parts))


def choice(nodes: Iterable[Node]) -> Node:
    """Of one, that itself."""
    of = tuple(dict.fromkeys(nodes))
    return of[0] if len(of) == 1 else Choice(of)


def optional(node: Node) -> Node:
    return Repeat(node, 0, 1)


def characters(text: str) -> Chars:
    """One of these."""
    return Chars(tuple((ord(each), ord(each)) for each in text))


DIGIT = Chars(((0x30, 0x39),))


class Grammar:
    """Named rules, of which `root` is where it begins."""

    def __init__(self) -> None:
        self.rules: dict[str, Node] = {}

    def add(self, name: str, node: Node) -> Rule:
        """Under `name`, or one like it where that is taken by another rule."""
        taken = name
        number = 1
        while self.rules.get(taken, node) != node:
            number += 1
            taken = f"{name}-{number}"
        self.rules[taken] = node
        return Rule(taken)

    def reserve(self, name: str) -> Rule:
        """A name for a rule that is set later, by `define`: it may refer to itself."""
        taken = name
        number = 1
        while taken in self.rules:
            number += 1
            taken = f"{name}-{number}"
        self.rules[taken] = NOTHING
        return Rule(taken)

    def define(self, rule: Rule, node: Node) -> None:
        self.rules[rule.name] = node

    def text(self) -> str:
        return "".join(f"{name} ::= {_written(node)}\n" for name, node in self.rules.items())


def _written(node: Node, *, within: bool = False) -> str:
    """`within`: it stands in a sequence, or is repeated."""
    match node:
        case Literal(text):
            return '"' + "".join(map(_escaped, text)) + '"'
        case Chars(ranges, but):
            return f"[{'^' if but else ''}{''.join(map(_range, ranges))}]"
        case Rule(name):
            return name
        case Sequence(()):
            return '""'
        case Sequence(parts):
            told = " ".join(_written(part, within=True) for part in parts)
            return f"({told})" if within and len(parts) > 1 else told
        case Choice(of):
            told = " | ".join(_written(each, within=True) for each in of)
            return f"({told})" if within else told
        case Repeat():
            return _repeated(node, within=within)


def _repeated(node: Repeat, *, within: bool) -> str:
    inner = _written(node.node, within=True)
    if isinstance(node.node, Repeat | Sequence) and not inner.startswith("("):
        inner = f"({inner})"
    if node.least > _REPETITIONS_MOST or (node.most or 0) > _REPETITIONS_MOST:
        parts = _counts(node.least, node.most)
        told = " ".join(inner + _count(least, most) for least, most in parts)
        return f"({told})" if within else told
    return inner + _count(node.least, node.most)


def _count(least: int, most: int | None) -> str:
    match (least, most):
        case (0, None):
            return "*"
        case (1, None):
            return "+"
        case (0, 1):
            return "?"
        case (_, None):
            return f"{{{least},}}"
    return f"{{{least}}}" if least == most else f"{{{least},{most}}}"


def _counts(least: int, most: int | None) -> list[tuple[int, int | None]]:
    """The same number in pieces that are small enough."""
    pieces: list[tuple[int, int | None]] = []
    while least > 0 or most is None or most > 0:
        some = min(least, _REPETITIONS_MOST)
        if most is None:
            pieces.append((some, None if least <= _REPETITIONS_MOST else some))
            if least <= _REPETITIONS_MOST:
                return pieces
        else:
            up_to = some if least > some else min(most, _REPETITIONS_MOST)
            pieces.append((some, up_to))
            most -= up_to
        least -= some
    return pieces


def _range(pair: tuple[int, int]) -> str:
    low, high = (_code(code) for code in pair)
    return low if low == high else f"{low}-{high}"


def _code(code: int) -> str:
    """Of a class, in which few characters mean themselves."""
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return _hex(code)


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else _hex(ord(char))


def _hex(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
