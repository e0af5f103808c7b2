"""A long list of inputs, cut into pieces that an engine works on one after another.

An engine that does not notice a hang-up works on to the end of what it was given: that should be
soon. A piece has work for about a second on a processor, and for every slot of its replica.
"""

from collections.abc import Sequence

import msgspec

_INPUTS = 32
_BYTES = 16 * 1024


def cut(items: Sequence[msgspec.Raw], *, whole: bool, beside_bytes: int = 0) -> list[int]:
    """Where each piece ends. `whole`: there is but one. `beside_bytes` come with every item."""
    if whole:
        return [len(items)]
    ends, start, size = [], 0, 0
    for at, item in enumerate(items):
        mine = len(memoryview(item)) + beside_bytes
        if at > start and (at - start >= _INPUTS or size + mine > _BYTES):
            ends.append(at)
            start, size = at, 0
        size += mine
    return [*ends, len(items)]
