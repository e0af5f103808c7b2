"""Which GPUs a replica gets."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.engines.inventory import Gpu, Inventory, parse_gpus
from modelry.services.placement import place_gpus

GIB = 1024**3
MIB = 1024**2
KINDS = (("NVIDIA L4", 24), ("NVIDIA A100", 40), ("NVIDIA A100", 80), ("NVIDIA H100", 80))


def machine(printed: str) -> Inventory:
    return Inventory(32, 256 * GIB, parse_gpus(printed))


# As `nvidia-smi` printed them.
NONE = machine("")
FOUR = machine("".join(f"{n}, NVIDIA A100-SXM4-80GB, 81920\n" for n in range(4)))
MIXED = machine(
    "0, NVIDIA GeForce RTX 4090, 24564\n1, NVIDIA GeForce RTX 3060, 12288\n"
    "2, NVIDIA GeForce RTX 3060, 12288\n"
)
# The first shares the machine's memory, so it is none for us.
SECOND_ONLY = machine("0, NVIDIA GB10, [N/A]\n1, NVIDIA RTX A6000, 49140\n")


@pytest.mark.parametrize(
    ("inventory", "taken", "count", "memory_bytes", "placed"),
    [
        (NONE, (), 0, 0, ()),
        (NONE, (), 1, 0, None),
        (FOUR, (), 0, 0, ()),
        (FOUR, (), 1, 0, (0,)),
        (FOUR, (0, 1), 2, 0, (2, 3)),
        (FOUR, (0, 1), 3, 0, None),
        (FOUR, (0, 1, 2, 3), 0, 0, ()),
        (FOUR, (9,), 4, 0, (0, 1, 2, 3)),
        (FOUR, (), 4, 10**15, (0, 1, 2, 3)),
        # The smallest that do, so that the large one stays free.
        (MIXED, (), 1, 0, (1,)),
        (MIXED, (), 1, 12288 * MIB, (1,)),
        (MIXED, (), 1, 12288 * MIB + 1, (0,)),
        (MIXED, (), 2, 24576 * MIB, (1, 2)),
        (MIXED, (1,), 1, 0, (2,)),
        (MIXED, (1, 2), 1, 0, (0,)),
        # Nothing has so much memory: then the largest.
        (MIXED, (), 1, 100 * GIB, (0,)),
        # Two of one kind come before more memory of two kinds.
        (MIXED, (), 2, 30 * GIB, (1, 2)),
        (MIXED, (1,), 2, 0, (0, 2)),
        (MIXED, (), 3, 0, (0, 1, 2)),
        (SECOND_ONLY, (), 1, 0, (1,)),
        (SECOND_ONLY, (), 2, 0, None),
    ],
)
def test_on_machines_as_they_are(
    inventory: Inventory,
    taken: tuple[int, ...],
    count: int,
    memory_bytes: int,
    placed: tuple[int, ...] | None,
) -> None:
    assert place_gpus(inventory, taken, count, memory_bytes) == placed


@st.composite
def machines(draw: st.DrawFn) -> Inventory:
    kinds = draw(st.lists(st.sampled_from(KINDS), max_size=8))
    indices = draw(st.permutations(range(len(kinds))))
    gpus = [
        Gpu(index, name, size * GIB) for index, (name, size) in zip(indices, kinds, strict=True)
    ]
    return Inventory(8, 64 * GIB, tuple(gpus))


takens = st.frozensets(st.integers(0, 9))
counts = st.integers(0, 8)
sizes = st.integers(0, 700).map(lambda gib: gib * GIB)


@given(machines(), takens, counts, sizes)
def test_so_many_different_ones_that_are_free_or_none_where_too_few_are(
    inventory: Inventory, taken: frozenset[int], count: int, memory_bytes: int
) -> None:
    free = {gpu.index for gpu in inventory.gpus} - taken
    placed = place_gpus(inventory, taken, count, memory_bytes)
    assert (placed is None) == (count > len(free))
    if placed is not None:
        assert len(placed) == len(set(placed)) == count
        assert set(placed) <= free
        assert list(placed) == sorted(placed)


@given(machines(), takens, st.integers(1, 8), sizes)
def test_of_one_kind_where_so_many_of_one_are_free(
    inventory: Inventory, taken: frozenset[int], count: int, memory_bytes: int
) -> None:
    by_index = {gpu.index: gpu for gpu in inventory.gpus}
    placed = place_gpus(inventory, taken, count, memory_bytes)
    if placed is None:
        return
    free = [(gpu.name, gpu.memory_bytes) for gpu in inventory.gpus if gpu.index not in taken]
    enough = {kind for kind in free if free.count(kind) >= count}
    used = {(by_index[index].name, by_index[index].memory_bytes) for index in placed}
    if not enough:
        return
    assert len(used) == 1
    (kind,) = used
    assert kind in enough
    roomy = [size for _, size in enough if size * count >= memory_bytes]
    assert kind[1] == (min(roomy) if roomy else max(size for _, size in enough))


@given(machines(), takens, counts, sizes, st.randoms())
def test_the_order_in_which_a_driver_lists_them_does_not_count_for_the_kind(
    inventory: Inventory, taken: frozenset[int], count: int, memory_bytes: int, random: Random
) -> None:
    shuffled = list(inventory.gpus)
    random.shuffle(shuffled)
    sizes_of = {gpu.index: gpu.memory_bytes for gpu in inventory.gpus}

    def memory(found: tuple[int, ...] | None) -> list[int] | None:
        return None if found is None else sorted(sizes_of[index] for index in found)

    other = Inventory(inventory.cores, inventory.memory_bytes, tuple(shuffled))
    assert memory(place_gpus(inventory, taken, count, memory_bytes)) == memory(
        place_gpus(other, taken, count, memory_bytes)
    )
