"""How much the bodies of all callers may take together."""

from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway.memory import SMALL_BYTES, Memory
from modelry.gateway.request import Request
from modelry.routing.messages import KeyGrant


def request(*, stranger: bool = False) -> Request:
    made = Request("127.0.0.1", 0.0)
    made.key = None if stranger else KeyGrant("key_1", "0" * 64, "u-1")
    return made


def arrive(memory: Memory, made: Request, size: int) -> bool:
    """A piece of its body, held where there is memory for it."""
    held = memory.hold(made, size)
    if held:
        made.body = bytes(made.body) + bytes(size)
    return held


def test_a_small_body_in_one_piece_is_not_counted() -> None:
    memory = Memory(10)
    assert arrive(memory, request(), SMALL_BYTES)
    assert memory.held_bytes == 0


def test_a_body_in_pieces_is_counted_from_its_first_byte() -> None:
    memory, made = Memory(1000), request()
    assert arrive(memory, made, 300)
    assert arrive(memory, made, 300)
    assert memory.held_bytes == 600
    assert not arrive(memory, made, 401)
    memory.release(made)
    assert (memory.held_bytes, made.body) == (0, b"")


def test_strangers_leave_room_for_calls() -> None:
    memory = Memory(8 * SMALL_BYTES)
    assert not arrive(memory, request(stranger=True), 3 * SMALL_BYTES)
    stranger = request(stranger=True)
    assert arrive(memory, stranger, 2 * SMALL_BYTES)
    assert not memory.take(1, stranger=True)
    assert arrive(memory, request(), 6 * SMALL_BYTES)
    memory.release(stranger)
    assert memory.take(1, stranger=True)


def test_what_a_stranger_held_is_given_back_as_such_whoever_it_turned_out_to_be() -> None:
    memory, made = Memory(8 * SMALL_BYTES), request(stranger=True)
    assert arrive(memory, made, SMALL_BYTES + 1)
    made.key = request().key
    memory.release(made)
    assert (memory.held_bytes, memory.strangers_bytes) == (0, 0)


def test_there_is_room_for_one_body_of_a_stranger_however_little_there_is() -> None:
    memory = Memory(1000, 3 * SMALL_BYTES)
    assert arrive(memory, request(stranger=True), 3 * SMALL_BYTES)
    assert not memory.take(1, stranger=False)


SIZES = [1, 100, SMALL_BYTES, SMALL_BYTES + 1, 90_000]


@given(pieces=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(SIZES)), max_size=40))
def test_what_is_held_is_within_bounds_and_all_given_back(pieces: list[tuple[int, int]]) -> None:
    memory = Memory(200_000)
    requests = [request(stranger=number > 1) for number in range(4)]
    for number, size in pieces:
        arrive(memory, requests[number], size)
        assert 0 <= memory.held_bytes <= 200_000
        uncounted = sum(len(each.body) for each in requests if not each.held_bytes)
        assert memory.held_bytes + uncounted == sum(len(each.body) for each in requests)
        assert uncounted <= len(requests) * SMALL_BYTES
    for each in requests:
        memory.release(each)
    assert (memory.held_bytes, memory.strangers_bytes) == (0, 0)
    assert memory.take(50_000, stranger=True)
