"""Forms of answers that were made before: agents send the same functions with every call, and to
make a grammar of a hundred takes a tenth of a second of the event loop.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable

from msgspec import Raw

from modelry.gateway.structured.fitting import Form, Room

_LARGEST = 2 * 1024 * 1024
"""Characters of a grammar that is not remembered."""
_STEP_TOKENS = 32


def rounded(room: Room) -> Room:
    """A little less room: the next turn of a conversation is to find the form of this one."""
    if room.tokens is None or room.tokens <= 2 * _STEP_TOKENS:
        return room
    return Room(room.tokens - room.tokens % _STEP_TOKENS, room.small)


class KnownForms:
    """Those asked for last, of so many characters together."""

    def __init__(self, characters_most: int = 8 * 1024 * 1024) -> None:
        self._most = characters_most
        self._held = 0
        self._forms: OrderedDict[bytes, Form] = OrderedDict()

    def form(self, said: Iterable[Raw], room: Room, make: Callable[[], Form]) -> Form:
        """The form of what a request said, `make` of it where it is not known. Raises what that
        does.
        """
        digest = hashlib.blake2b(f"{room}".encode(), digest_size=16)
        for each in said:
            digest.update(b"%d," % len(memoryview(each)))
            digest.update(each)
        name = digest.digest()
        form = self._forms.get(name)
        if form is not None:
            self._forms.move_to_end(name)
            return form
        form = make()
        size = len(form.grammar)
        if size <= min(_LARGEST, self._most):
            self._forms[name] = form
            self._held += size
            while self._held > self._most:
                _, gone = self._forms.popitem(last=False)
                self._held -= len(gone.grammar)
        return form
