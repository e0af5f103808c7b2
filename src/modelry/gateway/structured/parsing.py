"""Calls of functions in what a model writes, told from words while it comes."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from modelry.gateway.structured.fitting import CLOSING, CLOSING_LIST, OPENING_LIST, opening
from modelry.gateway.structured.functions import Offer


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Begun:
    """A call of a function begins."""

    name: str


@dataclass(frozen=True)
class Arguments:
    """More of the arguments of the call that has begun."""

    text: str


@dataclass(frozen=True)
class Ended:
    """The call that has begun is complete."""


_AFTER = f"{CLOSING}{CLOSING_LIST}, \n"

Piece = Words | Begun | Arguments | Ended


class _In(Enum):
    NOTHING = auto()
    """It is not known yet what comes."""
    WORDS = auto()
    ARGUMENTS = auto()
    AFTER = auto()
    """A call is complete but for its last brace, or another may come."""
    OVER = auto()
    """What comes after calls is none, and nothing else."""


class CallReader:
    """Takes what one answer's text brings, gives what it is made of."""

    def __init__(self, offer: Offer) -> None:
        self._openings = {opening(each): each.name for each in offer.functions}
        self._must = offer.must
        self._state = _In.NOTHING
        self._held = ""
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self.calls = 0
        """How many have begun."""

    @property
    def within_call(self) -> bool:
        """Whether a call has begun and is not complete."""
        return self._state is _In.ARGUMENTS

    def feed(self, text: str) -> Iterator[Piece]:
        self._held += text
        while self._held:
            match self._state:
                case _In.WORDS:
                    yield Words(self._taken(len(self._held)))
                case _In.ARGUMENTS:
                    yield from self._arguments()
                case _In.OVER:
                    self._held = ""
                case _:
                    found = self._looked()
                    if found is None:
                        return
                    yield from found

    def end(self) -> Iterator[Piece]:
        """What is left when there is no more: of an answer that broke off before it was known to be
        a call. The beginning of one that had to come is no words.
        """
        if self._state is _In.NOTHING and self._held and not self.calls and not self._must:
            yield Words(self._taken(len(self._held)))

    # ------------------------------------------------------------------------

    def _looked(self) -> list[Piece] | None:
        """What begins with what is held; None where that cannot be told yet."""
        if self._state is _In.AFTER:
            # The brace that closes a call, and what stands between calls of a list.
            self._held = self._held.lstrip(_AFTER)
            if self._held:
                self._state = _In.NOTHING
            return [] if self._held else None
        held = self._held.removeprefix(OPENING_LIST)
        listed = len(self._held) - len(held)
        for start, name in self._openings.items():
            if held.startswith(start):
                self._taken(listed + len(start))
                self._state, self._depth = _In.ARGUMENTS, 0
                self._in_text = self._escaped = False
                self.calls += 1
                return [Begun(name)]
            if start.startswith(held):
                return None
        if self.calls:
            self._state = _In.OVER
            return []
        self._state = _In.WORDS
        return []

    def _arguments(self) -> Iterator[Piece]:
        """What is held of arguments, up to the brace that ends them."""
        for at, char in enumerate(self._held):
            if self._in_text:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._in_text = False
            elif char == '"':
                self._in_text = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    yield Arguments(self._taken(at + 1))
                    self._state = _In.AFTER
                    yield Ended()
                    return
        yield Arguments(self._taken(len(self._held)))

    def _taken(self, count: int) -> str:
        taken, self._held = self._held[:count], self._held[count:]
        return taken
