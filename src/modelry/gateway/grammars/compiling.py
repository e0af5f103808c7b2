"""What every part of a schema's way to a grammar works with."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelry.gateway.grammars.gbnf import (
    NOTHING,
    Grammar,
    Literal,
    Node,
    Repeat,
    Rule,
    optional,
    sequence,
)

Json = Any


class Unfollowable(ValueError):
    """A schema that no answer can be held to. `path`: where, as a JSON pointer."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path = path or "/"
        self.why = why


class Nothing(Unfollowable):
    """Where a schema allows no value at all: what need not be there is left out then."""


class TooDeep(Nothing):
    """Something that holds itself again, where it has done so often enough."""


@dataclass(frozen=True)
class Bounds:
    """Of what a schema leaves open: characters of a string, items of an array or of a map, and how
    often something may hold itself. None: open.
    """

    characters: int | None = 256
    items: int | None = 16
    depth: int | None = 3


STEPS_MOST = 10_000
"""Of work on one grammar. A step is about what a small schema takes, 50 µs."""
RULES_MOST = 3000
TOO_LARGE = "the schema is too large, or too deep"
REPEATS_MOST = 16_000
"""Characters or items that are counted: the engine makes a rule of each."""


COMMA = sequence(",", optional(Literal(" ")))
COLON = sequence(":", optional(Literal(" ")))


@dataclass
class Compiling(ABC):
    """Adds rules to `grammar`, each under a name that begins with `prefix`.

    `loose`: keywords that cannot be followed are left out, and collected in `left_out`.
    `steps_left`: how much work may be done.
    """

    grammar: Grammar
    bounds: Bounds = field(default_factory=Bounds)
    loose: bool = False
    prefix: str = "v"
    left_out: set[str] = field(default_factory=set)
    steps_left: int = STEPS_MOST

    @abstractmethod
    def value(self, schema: Json, path: str, depth: int) -> Node:
        """What is valid by a schema. Raises `Unfollowable`."""

    @abstractmethod
    def seen_through(self, schema: Json) -> Json:
        """What a schema that refers to another means."""

    def spend(self, steps: int, path: str) -> None:
        """Count work that is to be done. Raises `Unfollowable` where that is too much."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise Unfollowable(path, TOO_LARGE)

    def add(self, node: Node, name: str) -> Node:
        """A rule of its own for what is written more than once, or is long."""
        if isinstance(node, Literal | Rule) or node == NOTHING:
            return node
        if len(self.grammar.rules) > RULES_MOST:
            raise Unfollowable("", TOO_LARGE)
        return self.grammar.add(f"{self.prefix}-{name}", node)

    def leave_out(self, word: str, path: str, why: str = "cannot be followed") -> None:
        """Raises `Unfollowable` unless it may be left out."""
        if not self.loose:
            raise Unfollowable(f"{path}/{word}", f"'{word}' {why}")
        self.left_out.add(word)

    def items(self, start: str, item: Node, low: int, high: int | None, end: str) -> Node:
        """Items with commas between; not more than the bounds where the schema leaves it open."""
        if high is None and self.bounds.items is not None:
            high = max(low, self.bounds.items)
        more = Repeat(sequence(COMMA, item), max(0, low - 1), None if high is None else high - 1)
        filled = sequence(item, more)
        return sequence(start, filled if low else optional(filled), end)


def size_of(schema: Mapping[str, Json], least: str, most: str, path: str) -> tuple[int, int | None]:
    """How many there are at least and at most. Raises `Unfollowable`."""
    low, high = _whole(schema.get(least)), _whole(schema.get(most))
    for word, said in ((least, low), (most, high)):
        if said is not None and (type(said) is not int or said < 0):
            raise Unfollowable(f"{path}/{word}", f"'{word}' is a whole number of at least 0")
    low = low or 0
    if low > REPEATS_MOST:
        raise Unfollowable(f"{path}/{least}", f"'{least}' is {REPEATS_MOST} at most here")
    if high is not None and high < low:
        raise Nothing(path, f"'{most}' is below '{least}'")
    return low, None if high is None else min(high, REPEATS_MOST)


def _whole(said: Json) -> Json:
    """2.0 counts as 2."""
    return int(said) if isinstance(said, float) and said.is_integer() else said


def written(value: Json) -> str:
    """As JSON, the way the grammars write it."""
    return json.dumps(value, ensure_ascii=False)
