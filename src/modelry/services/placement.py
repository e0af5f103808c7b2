"""Which GPUs a replica gets. Pure.

An engine takes most of a GPU's memory when it starts, so a GPU has one replica.
"""

from collections.abc import Iterable

from modelry.engines.inventory import Gpu, Inventory


def place_gpus(
    inventory: Inventory, taken: Iterable[int], count: int, memory_bytes: int = 0
) -> tuple[int, ...] | None:
    """`count` free GPUs by their index, None where there are not so many free.

    They are of one kind where there are enough of one: a model that is split goes at
    the pace of the slowest. Of the kinds, the smallest that together have `memory_bytes`,
    so that large ones stay free for what needs them; else the largest there is.
    """
    if count == 0:
        return ()
    occupied = set(taken)
    free = [gpu for gpu in inventory.gpus if gpu.index not in occupied]
    if len(free) < count:
        return None
    kinds: dict[tuple[int, str], list[Gpu]] = {}
    for gpu in free:
        kinds.setdefault((gpu.memory_bytes, gpu.name), []).append(gpu)
    sufficient = [kind for kind in sorted(kinds) if len(kinds[kind]) >= count]
    roomy = [kind for kind in sufficient if kind[0] * count >= memory_bytes]
    if roomy:
        chosen = kinds[roomy[0]]
    elif sufficient:
        chosen = kinds[sufficient[-1]]
    else:
        chosen = sorted(free, key=lambda gpu: -gpu.memory_bytes)
    return tuple(sorted(gpu.index for gpu in chosen[:count]))
