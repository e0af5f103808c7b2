"""Grammars in llama.cpp's GBNF notation
(https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md), built of nodes.

A grammar works on code points. Rules may refer to one another, also to themselves.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

_REPETITIONS_MOST = 1500
"""llama.cpp refuses more than 2000 in one place, and counts what is repeated by the rules that it
makes of it.
"""
_BRANCHES_DEEPEST = 40


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


def one_of(texts: Iterable[str]) -> Node:
    """One of these. What several of them begin with is written once: the engine follows all that
    may come of what there is so far, which is slow where they are thousands.
    """
    return _one_of(list(dict.fromkeys(texts)), 0)


def _one_of(texts: list[str], depth: int) -> Node:
    if depth > _BRANCHES_DEEPEST:
        return choice(map(Literal, texts))
    branches: dict[str, list[str]] = {}
    for text in texts:
        branches.setdefault(text[:1], []).append(text)
    return choice([_branch(branch, depth) for branch in branches.values()])


def _branch(texts: list[str], depth: int) -> Node:
    if len(texts) == 1:
        return Literal(texts[0])
    # The first and the last of them differ where any two do, as everywhere in an order.
    first, last = min(texts), max(texts)
    shared = 0
    while shared < len(first) and first[shared] == last[shared]:
        shared += 1
    return sequence(first[:shared], _one_of([text[shared:] for text in texts], depth + 1))


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
        self._numbers: Counter[str] = Counter()
        self._known: dict[tuple[str, Node], Rule] = {}

    def add(self, name: str, node: Node) -> Rule:
        """Under `name`, or one like it where that is taken by another rule."""
        rule = self._known.get((name, node))
        if rule is None:
            rule = self._known[name, node] = self.reserve(name)
            self.rules[rule.name] = node
        return rule

    def reserve(self, name: str) -> Rule:
        """A name for a rule that is set later, by `define`: it may refer to itself."""
        self._numbers[name] += 1
        number = self._numbers[name]
        rule = Rule(name if number == 1 else f"{name}-{number}")
        self.rules[rule.name] = NOTHING
        return rule

    def define(self, rule: Rule, node: Node) -> None:
        self.rules[rule.name] = node

    def ending(self) -> set[str]:
        """Names of the rules by which something can be written to its end."""
        found: set[str] = set()
        before = -1
        while before < len(found):
            before = len(found)
            # Most stand after those that they are made of, so once through is enough for these.
            for name, node in self.rules.items():
                if name not in found and _ends(node, found):
                    found.add(name)
        return found

    @property
    def weight(self) -> int:
        """About how many rules the engine makes of it: a million take it a second and 300 MB."""
        return sum(map(_weight, self.rules.values()))

    def text(self) -> str:
        writer = _Writer()
        for name, node in self.rules.items():
            writer.rule(name, node)
        return "".join(writer.lines)


def _ends(node: Node, ending: set[str]) -> bool:
    match node:
        case Sequence(parts):
            return all(_ends(part, ending) for part in parts)
        case Choice(of):
            return any(_ends(each, ending) for each in of)
        case Repeat(inner, least):
            return least == 0 or _ends(inner, ending)
        case Rule(name):
            return name in ending
    return True


class _Writer:
    """Of rules, and of those that are made besides for what is repeated."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._named: dict[Node, str] = {}

    def rule(self, name: str, node: Node) -> None:
        self.lines.append(f"{name} ::= {self._written(node)}\n")

    def _written(self, node: Node, *, within: bool = False) -> str:
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
                told = " ".join(self._written(part, within=True) for part in parts)
                return f"({told})" if within and len(parts) > 1 else told
            case Choice(of):
                told = " | ".join(self._written(each, within=True) for each in of)
                return f"({told})" if within else told
            case Repeat():
                return self._repeated(node, within=within)

    def _repeated(self, node: Repeat, *, within: bool) -> str:
        times = max(node.most or 0, node.least)
        inner = node.node
        if _weight(inner) * min(times, _REPETITIONS_MOST) > _REPETITIONS_MOST:
            inner = self._rule_of(inner)
        if times > _REPETITIONS_MOST:
            return self._written(_in_pieces(inner, node.least, node.most), within=within)
        told = self._written(inner, within=True)
        if isinstance(inner, Repeat | Sequence) and not told.startswith("("):
            told = f"({told})"
        return told + _count(node.least, node.most)

    def _rule_of(self, node: Node) -> Rule:
        name = self._named.get(node)
        if name is None:
            name = self._named[node] = f"repeated-{len(self._named)}"
            self.rule(name, node)
        return Rule(name)


def _weight(node: Node) -> int:
    """How many rules the engine makes of something that is repeated, at least 1."""
    match node:
        case Sequence(parts) | Choice(parts):
            return 1 + sum(_weight(part) for part in parts if not isinstance(part, _PLAIN))
        case Repeat(inner, least, most):
            return _weight(inner) + max(most or 0, least, 1)
    return 1


_PLAIN = (Literal, Chars, Rule)


def _in_pieces(node: Node, least: int, most: int | None) -> Node:
    """So many of it, counted in pieces. What there is so far says in which it is: the engine would
    go through every way to come there.
    """
    piece = _REPETITIONS_MOST
    if most is not None and most <= piece:
        return Repeat(node, least, most)
    if least >= piece:
        most = None if most is None else most - piece
        return sequence(Repeat(node, piece, piece), _in_pieces(node, least - piece, most))
    if most is None:
        return Repeat(node, least, None)
    more = sequence(Repeat(node, piece, piece), _in_pieces(node, 0, most - piece))
    return choice((Repeat(node, least, piece - 1), more))


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
