"""One at a time for each name."""

import threading

import pytest

from modelry.catalog.turns import Turns


def test_the_second_waits_until_the_first_is_done() -> None:
    turns, order, waits = Turns(), [], threading.Event()

    def second() -> None:
        with turns.turn("a", waits.set):
            order.append("second")

    with turns.turn("a", lambda: None):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert waits.wait(10)
        # Another name has turns of its own.
        with turns.turn("b", lambda: None):
            order.append("other")
        order.append("first")
    waiting.join(10)
    assert order == ["other", "first", "second"]


def test_who_gives_up_waiting_takes_no_turn() -> None:
    turns = Turns()

    def tired() -> None:
        raise TimeoutError

    with turns.turn("a", lambda: None), pytest.raises(TimeoutError), turns.turn("a", tired):
        raise AssertionError("it was not its turn")
    with turns.turn("a", tired):
        pass
