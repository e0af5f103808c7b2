"""Lists cut into pieces: nothing is lost, and no piece is much work."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway.pieces import Cutting, cut


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


@given(st.integers(1, 100), st.data())
def test_by_halves_the_one_that_is_refused_is_found(count: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, count - 1))
    cutting = Cutting([msgspec.Raw(b"%d" % at) for at in range(count)], whole=False)
    done: list[bytes] = []
    while True:
        due = [bytes(item) for item in cutting.due]
        if b"%d" % bad not in due:
            done += due
            cutting.go_on()
        elif not cutting.halve():
            break
    assert due == [b"%d" % bad]
    assert cutting.place("input") == f"input[{bad}]"
    assert done == [b"%d" % at for at in range(bad)]


def test_a_piece_of_very_many_is_not_halved() -> None:
    cutting = Cutting([msgspec.Raw(b"1")] * 33, whole=True)
    assert not cutting.halve()
    assert cutting.place("input") == "input"
