"""Grammars of an answer's form that are complete before its tokens are used up."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import Any

from modelry.gateway.grammars.compiling import STEPS_MOST, Bounds, Unfollowable, written
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

_WEIGHT_MOST = 1_000_000
CALLS_MOST = 16
"""Of one answer."""

_OPEN = Bounds(None, None, None)
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
_SEVERAL_FROM_TOKENS = 512
"""With so many, there is to be room for two calls where several may come."""
_WORDS = sequence(
    Chars(tuple((ord(each), ord(each)) for each in "\t\n\r [{"), but=True),
    Repeat(Chars(((0, 0),), but=True)),
)
"""An answer that is no call: it does not begin with a bracket or brace, nor with space before."""
_WORD = re.compile(r"[A-Za-z0-9$_.-]{1,64}")
"""What a keyword looks like that is told of; others are a caller's own inventions."""
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
        return (Bounds(self.tokens * _CHARACTERS_PER_TOKEN, None, None),)


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
    bounds, tokens = room.bounds(), room.tokens or 0
    several = offer is not None and offer.several
    together = 2 if several and tokens >= _SEVERAL_FROM_TOKENS else 1

    @cache
    def made(at: int) -> "_Made":
        return _made(offer, schema, bounds[at], strict=strict, schema_path=schema_path)

    def fits(at: int) -> bool:
        return together * _longest(made(at).grammar) <= tokens

    chosen = made(bisect_left(range(len(bounds) - 1), True, key=fits))
    calls_most = CALLS_MOST if several else 1
    if several and len(bounds) > 1:
        # As many as are complete before the tokens are used up, whatever is in them.
        calls_most = min(CALLS_MOST, int(tokens / max(1, _longest(chosen.grammar))))
    chosen.begin(calls_most)
    if chosen.grammar.weight > _WEIGHT_MOST:
        where = "tools" if offer is not None and schema is None else schema_path
        raise _refused(Unfollowable("", "its texts or lists may be too long, all together"), where)
    left_out = frozenset(filter(_WORD.fullmatch, chosen.left_out))
    return Form(chosen.grammar.text(), left_out)


@dataclass
class _Made:
    """A grammar that lacks what it begins with: `call`, or else one of `others`."""

    grammar: Grammar
    left_out: set[str]
    call: Node | None
    others: list[Node]

    def begin(self, calls_most: int) -> None:
        """With one call, or a list of up to so many."""
        of: list[Node] = []
        if self.call is not None:
            of.append(self.call)
            if calls_most > 1:
                # What it begins with decides: small models would go on with a call after every
                # call.
                separator = sequence(",", optional(characters(" \n")))
                more = Repeat(sequence(separator, self.call), 0, calls_most - 1)
                of.append(sequence(OPENING_LIST, self.call, more, CLOSING_LIST))
        self.grammar.define(Rule("root"), choice([*of, *self.others]))


def _made(
    offer: Offer | None, schema: Any, bounds: Bounds, *, strict: bool, schema_path: str
) -> _Made:
    grammar = Grammar()
    root = grammar.reserve("root")
    left_out: set[str] = set()
    call = None if offer is None else _call(grammar, offer, bounds, left_out)
    of: list[Node] = []
    if schema is not None and (offer is None or not offer.must):
        compiler = Compiler(grammar, bounds, not strict, "answer", left_out, root=schema)
        try:
            of.append(compiler.compile(schema))
        except Unfollowable as problem:
            raise _refused(problem, schema_path) from None
    elif offer is not None and not offer.must:
        of.append(_WORDS)
    grammar.define(root, choice(of if call is None else [call, *of]))
    return _Made(grammar, left_out, call, of)


def _call(grammar: Grammar, offer: Offer, bounds: Bounds, left_out: set[str]) -> Node:
    calls = []
    steps_left = STEPS_MOST
    for at, function in enumerate(offer.functions):
        parameters = function.parameters
        if parameters.get("type") is None:
            parameters = {**parameters, "type": "object"}
        compiler = Compiler(
            *(grammar, bounds, not function.strict, f"f{at}", left_out),
            root=parameters,
            steps_left=steps_left,
        )
        try:
            arguments = compiler.compile(parameters)
            if not _is_object(arguments, grammar):
                raise Unfollowable("", "arguments are an object: set 'type' to 'object'")
        except Unfollowable as problem:
            where = f"tools[{function.index}].function.parameters"
            raise _refused(problem, where) from None
        steps_left = compiler.steps_left
        calls.append(sequence(opening(function), arguments, CLOSING))
    return grammar.add("call", choice(calls))


def _is_object(node: Node, grammar: Grammar) -> bool:
    """Whether all that may be written begins with a brace."""
    match node:
        case Literal(text):
            return text.startswith("{")
        case Sequence(parts):
            return _is_object(parts[0], grammar)
        case Choice(of):
            return all(_is_object(each, grammar) for each in of)
        case Rule(name):
            return _is_object(grammar.rules[name], grammar)
    return False


def _refused(problem: Unfollowable, where: str) -> Exception:
    path = "" if problem.path == "/" else problem.path
    message = f"{where}{path}: {problem.why}. An answer cannot be held to this schema."
    return bad_request(message, where)


def _longest(grammar: Grammar) -> float:
    """Tokens of the longest call or JSON. Words count for nothing."""
    known: dict[str, float] = {}

    def longest(node: Node) -> float:
        match node:
            case Literal(text):
                return sum(1 if char.isdigit() else _TOKENS_A_LETTER for char in text)
            case Chars():
                return 1
            case Sequence(parts):
                return sum(map(longest, parts))
            case Choice(of):
                return max(map(longest, of))
            case Repeat(inner, _, most):
                return 0 if most is None else most * longest(inner)
            case Rule(name):
                return known[name]
        raise TypeError(node)

    # Each rule after those that it is made of: nothing holds itself where there are bounds.
    _, *names = grammar.rules
    for name in names:
        known[name] = longest(grammar.rules[name])
    return longest(grammar.rules["root"])
