"""Texts that a grammar allows, found by going through it at random."""

import json
import random
from typing import Any

from modelry.gateway.grammars.compiling import Bounds
from modelry.gateway.grammars.gbnf import (
    Chars,
    Choice,
    Grammar,
    Literal,
    Node,
    Repeat,
    Rule,
    Sequence,
)
from modelry.gateway.grammars.schemas import Compiler

Json = Any

_ODD = "aZ0 .,-_/é漢😀\u00a0\u2028"
_MORE_MOST = 4


class Sampler:
    """`deep`: from where on it takes the shortest way."""

    def __init__(self, grammar: Grammar, seed: int, deep: int = 200) -> None:
        self._rules = grammar.rules
        self._random = random.Random(seed)
        self._left = deep

    def text(self) -> str:
        return self._of(self._rules["root"])

    def _of(self, node: Node) -> str:
        self._left -= 1
        match node:
            case Literal(text):
                return text
            case Chars(ranges, but):
                return self._char(ranges, but)
            case Sequence(parts):
                return "".join(map(self._of, parts))
            case Choice(of):
                return self._of(
                    min(of, key=self._size) if self._left < 0 else self._random.choice(of)
                )
            case Repeat(inner, least, most):
                more = 0 if self._left < 0 else self._random.randint(0, _MORE_MOST)
                if self._left >= 0 and most is not None and self._random.random() < 0.2:
                    more = min(most - least, 40)
                times = least + (more if most is None else min(more, most - least))
                return "".join(self._of(inner) for _ in range(times))
            case Rule(name):
                return self._of(self._rules[name])
        raise TypeError(node)

    def _char(self, ranges: tuple[tuple[int, int], ...], but: bool) -> str:
        if but:
            fit = [c for c in _ODD if not any(low <= ord(c) <= high for low, high in ranges)]
            return self._random.choice(fit)
        low, high = self._random.choice(ranges)
        return chr(self._random.randint(low, high))

    def _size(self, node: Node, depth: int = 0) -> float:
        """About how long the shortest text is."""
        if depth > 12:
            return 1000.0
        match node:
            case Literal(text):
                return float(len(text))
            case Sequence(parts):
                return sum((self._size(part, depth + 1) for part in parts), 0.0)
            case Choice(of):
                return min(self._size(each, depth + 1) for each in of)
            case Repeat(inner, least, _):
                return least * self._size(inner, depth + 1) if least else 0.0
            case Rule(name):
                return self._size(self._rules[name], depth + 1)
        return 1.0


def grammar_of(schema: Json, *, loose: bool = False, **bounds: Any) -> tuple[Grammar, set[str]]:
    grammar = Grammar()
    root = grammar.reserve("root")
    compiler = Compiler(grammar, Bounds(**bounds), loose=loose, root=schema)
    grammar.define(root, compiler.compile(schema))
    return grammar, compiler.left_out


def samples(schema: Json, count: int = 60, **more: Any) -> list[Json]:
    grammar, _ = grammar_of(schema, **more)
    return [json.loads(Sampler(grammar, seed).text()) for seed in range(count)]
