"""Grammars of an answer's form that are complete before its tokens are used up."""

from dataclasses import dataclass
from typing import Any

from modelry.gateway.grammars.compiling import Bounds, Unfollowable, written
from modelry.gateway.grammars.gbnf import (
    Chars,
    Choice,
    Grammar,
    Literal,
    Node,
    Repeat,
    Rule,
    Sequence,
    characters,
    choice,
    optional,
    sequence,
)
from modelry.gateway.grammars.schemas import Compiler
from modelry.gateway.replies import bad_request
from modelry.gateway.structured.functions import Function, Offer

CALLS_MOST = 16
"""Of one answer."""

_OPEN = Bounds(None, None)
_OPEN_FROM_TOKENS = 2048
"""With so many, nothing is bounded for a model that ends by itself."""
_CHARACTERS_PER_TOKEN = 4
# For small models, which may repeat themselves without an end, from wide to narrow: the first is
# taken whose longest answer fits, and the last in any case.
_TIERS = (
    Bounds(4000, 64),
    Bounds(2000, 64),
    Bounds(1000, 48),
    Bounds(500, 32),
    Bounds(256, 24),
    Bounds(160, 16),
    Bounds(96, 12),
    Bounds(64, 10, 2),
    Bounds(48, 8, 2),
    Bounds(32, 8, 2),
    Bounds(24, 6, 2),
    Bounds(24, 4, 1),
    Bounds(16, 3, 1),
    Bounds(16, 2, 1),
    Bounds(16, 1, 1),
)
_TOKENS_A_LETTER = 0.4
"""Of what a grammar spells out. Whatever it leaves open may be digits, of a token each."""
_WORDS = sequence(Chars(((0x5B, 0x5B), (0x7B, 0x7B)), but=True), Repeat(Chars(((0, 0),), but=True)))
"""An answer that is no call: it does not begin with a bracket or brace."""
OPENING_LIST = "["
CLOSING_LIST = "]"


@dataclass(frozen=True)
class Room:
    """How many tokens an answer may have, None for as many as it likes. `small`: the model is, and
    may not end by itself.
    """

    tokens: int | None
    small: bool

    def bounds(self) -> tuple[Bounds, ...]:
        """Those to try, from wide to narrow."""
        if self.small and self.tokens is not None:
            return _TIERS
        if self.tokens is None or self.tokens >= _OPEN_FROM_TOKENS:
            return (_OPEN,)
        return (Bounds(self.tokens * _CHARACTERS_PER_TOKEN, None),)


class Form:
    """What an answer has to be like. `left_out`: keywords of schemas that it is not held to."""

    def __init__(self, grammar: str, left_out: frozenset[str]) -> None:
        self.grammar = grammar
        self.left_out = left_out


def opening(function: Function) -> str:
    """How a call of a function begins, up to its arguments."""
    return f'{{"name": {written(function.name)}, "arguments": '


CLOSING = "}"


def form_of(
    offer: Offer | None, schema: Any, *, strict: bool, schema_path: str, room: Room
) -> Form:
    """The grammar of calls that `offer` allows, or of JSON by `schema` where it may be no call.

    `schema` None: it may be any words. `strict`: all of it has to be held to. Raises a 400 for what
    cannot be followed.
    """
    first, *others = room.bounds()
    grammar, left_out = _grammar(offer, schema, first, strict=strict, schema_path=schema_path)
    for bounds in others:
        if _longest(grammar) <= (room.tokens or 0):
            break
        grammar, left_out = _grammar(offer, schema, bounds, strict=strict, schema_path=schema_path)
    return Form(grammar.text(), frozenset(left_out))


def _grammar(
    offer: Offer | None, schema: Any, bounds: Bounds, *, strict: bool, schema_path: str
) -> tuple[Grammar, set[str]]:
    grammar = Grammar()
    root = grammar.reserve("root")
    left_out: set[str] = set()
    of: list[Node] = []
    if offer is not None:
        of.append(_calls(grammar, offer, bounds, left_out))
    if schema is not None and (offer is None or not offer.must):
        compiler = Compiler(grammar, bounds, not strict, "answer", left_out, root=schema)
        try:
            of.append(compiler.compile(schema))
        except Unfollowable as problem:
            raise _refused(problem, schema_path) from None
    elif offer is not None and not offer.must:
        of.append(_WORDS)
    grammar.define(root, choice(of))
    return grammar, left_out


def _calls(grammar: Grammar, offer: Offer, bounds: Bounds, left_out: set[str]) -> Node:
    calls = []
    for at, function in enumerate(offer.functions):
        parameters = {"type": "object", **function.parameters}
        compiler = Compiler(
            grammar, bounds, not function.strict, f"f{at}", left_out, root=parameters
        )
        try:
            arguments = compiler.compile(parameters)
        except Unfollowable as problem:
            where = f"tools[{function.index}].function.parameters"
            raise _refused(problem, where) from None
        calls.append(sequence(opening(function), arguments, CLOSING))
    call = grammar.add("call", choice(calls))
    if not offer.several:
        return call
    # What it begins with decides: small models would go on with a call after every call.
    more = Repeat(sequence(",", optional(characters(" \n")), call), 0, CALLS_MOST - 1)
    return choice((call, sequence(OPENING_LIST, call, more, CLOSING_LIST)))


def _refused(problem: Unfollowable, where: str) -> Exception:
    path = "" if problem.path == "/" else problem.path
    message = f"{where}{path}: {problem.why}. An answer cannot be held to this schema."
    return bad_request(message, where)


def _longest(grammar: Grammar) -> float:
    """Tokens of the longest call or JSON. Of a list of calls the first counts: one that is begun
    too late is left out. Words count for nothing.
    """
    known: dict[str, float] = {}

    def longest(node: Node) -> float:
        match node:
            case Literal(text):
                return sum(1 if char.isdigit() else _TOKENS_A_LETTER for char in text)
            case Chars():
                return 1
            case Sequence((Literal(text), Rule("call"), *_)) if text == OPENING_LIST:
                return 0
            case Sequence(parts):
                return sum(map(longest, parts))
            case Choice(of):
                return max(map(longest, of))
            case Repeat(inner, _, most):
                return 0 if most is None else most * longest(inner)
            case Rule(name):
                if name not in known:
                    known[name] = longest(grammar.rules[name])
                return known[name]
        raise TypeError(node)

    return longest(grammar.rules["root"])
