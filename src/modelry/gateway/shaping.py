"""What a task does to the bodies of its calls on their way to an engine and back.

Most calls go through untouched and have no shaping. It is for replicas of ours alone: endpoints
elsewhere get what the caller sent, and the caller gets what they answered.
"""

from typing import Protocol, runtime_checkable

from modelry.gateway.usage import Usage
from modelry.routing.messages import Route


class Shaping(Protocol):
    """Made when a call comes in, which is when bad input is refused."""

    changes_answer: bool
    """Whether `answer` makes anything else of what it gets: such an answer is held until it is
    whole.
    """
    in_thread: bool
    """Whether `answer` takes so long that it is called in a thread. Not with `Pieces`."""

    def request(self, body: bytes | bytearray) -> bytes | bytearray:
        """The body as an engine of ours gets it."""
        ...

    def answer(self, answer: bytes) -> bytes:
        """An engine's whole JSON answer with status 200, as the caller gets it.

        Raises a `ValueError` or a decoder's error for one that is none to what was asked, which
        is its replica's fault, a `ModelryError` where the fault is ours, and a `Reply` where the
        caller asked for what the answer does not have.
        """
        ...

    def estimated(self) -> Usage:
        """What the call used, where nobody says."""
        ...


@runtime_checkable
class Pieces(Shaping, Protocol):
    """One that may ask an engine for its answer piece by piece: `request` gives the next, `take`
    takes what came for it, and `answer` makes the whole of the last and of what was taken.

    It is for engines that do not notice a hang-up: they stop at the end of a piece.
    """

    def take(self, answer: bytes) -> bool:
        """Keep the answer to a piece. False where it was the last, and is for `answer`. Raises as
        that does.
        """
        ...

    def narrow(self) -> str | None:
        """An engine refuses one of the inputs of the piece that is due: where it stands in the
        body, such as `input[3]`. None where the piece was made smaller, to find out.
        """
        ...

    def taken(self) -> Usage:
        """What engines told of the pieces that were worked on: used, however the call ends."""
        ...


@runtime_checkable
class Asking(Pieces, Protocol):
    """One whose pieces are asked at addresses of the engine's own."""

    @property
    def path(self) -> bytes:
        """Where the piece is asked that `request` gives next, once it was `routed`."""
        ...


@runtime_checkable
class Routed(Shaping, Protocol):
    """One that goes by what the service is when a replica is asked, and not when the call came in:
    it may have waited meanwhile for weights that say more.
    """

    def routed(self, route: Route) -> None:
        """Told before each `request`."""
        ...
