"""Lists cut into pieces: nothing is lost, and no piece is much work."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway.pieces import cut


@given(st.lists(st.integers(2, 30_000), min_size=1, max_size=300), st.integers(0, 5000))
def test_pieces_are_small_and_together_all(sizes: list[int], beside: int) -> None:
    items = [msgspec.Raw(b"x" * size) for size in sizes]
    ends = cut(items, whole=False, beside_bytes=beside)
    assert ends[-1] == len(items)
    starts = [0, *ends[:-1]]
    for start, end in zip(starts, ends, strict=True):
        assert 1 <= end - start <= 32
        # One that is too large by itself goes alone.
        assert end - start == 1 or sum(sizes[start:end]) + beside * (end - start) <= 16 * 1024


@given(st.integers(1, 3000))
def test_where_it_may_be_whole_there_is_one(count: int) -> None:
    assert cut([msgspec.Raw(b"1")] * count, whole=True) == [count]
