"""A control plane that dies, a feed that is late, doubled or cut: calls go on, usage adds up."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.data_plane import Plane, chat
from tests.support.leaks import accounted, accounted_once, at_rest
from tests.support.tampered_feed import Cut, TamperedFeed
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Broken, get, post

CHAT = "/v1/chat/completions"


def status(plane: Plane, path: str, key: str | None = None, **fake: Any) -> int:
    with plane.wire() as wire:
        return wire.ask(post(CHAT, key or plane.owner_key, chat(path, **fake))).status


def name_of(path: str) -> str:
    return path.partition("/")[2]


@contextmanager
def under_load(plane: Plane, path: str) -> Iterator[list[Answer]]:
    """Calls and streams without a pause, until the block ends; what came of them is in the list."""
    answers: list[Answer] = []
    over = threading.Event()
    kinds = [{}, {"do": "stream", "chunks": 3, "pace_s": 0.001}]

    def call_on(number: int) -> None:
        request = post(CHAT, plane.owner_key, chat(path, **kinds[number % 2]))
        with plane.wire() as wire:
            while not over.is_set():
                answers.append(wire.ask(request))

    with ThreadPoolExecutor(6) as pool:
        calls: list[Future[None]] = [pool.submit(call_on, number) for number in range(6)]
        try:
            more(answers, 20)
            yield answers
            more(answers, 20)
        finally:
            over.set()
        for each in calls:
            each.result()


def more(answers: list[Answer], count: int) -> None:
    """Wait for so many answers more."""
    known = len(answers)
    wait_for(lambda: len(answers) >= known + count, "calls to be answered", pause_s=0.01)


def all_served(answers: list[Answer]) -> None:
    assert {answer.status for answer in answers} == {200}
    streams = [answer.body for answer in answers if answer.chunks]
    assert streams
    assert all(body.endswith(b"data: [DONE]\n\n") for body in streams)


# -- gone ------------------------------------------------------------------------------


def test_a_control_plane_that_goes_and_comes_under_load_costs_no_call_and_no_usage(
    plane: Plane,
) -> None:
    path = plane.service(plane.replica(), plane.replica())
    with under_load(plane, path) as answers:
        for _ in range(3):
            plane.control.stop()
            more(answers, 30)
            plane.control.start()
            known = len(accounted(plane))
            wait_for(lambda known=known: len(accounted(plane)) > known, "usage to come")  # type: ignore[misc]
    all_served(answers)
    at_rest(plane, path)
    accounted_once(plane, answers)


@pytest.mark.parametrize("control_too", [False, True], ids=["alone", "and-the-control-plane"])
def test_a_gateway_killed_under_load_accounts_once_for_all_it_answered(
    make_plane: Callable[..., Plane], control_too: bool
) -> None:
    plane = make_plane()
    path = plane.service(plane.replica(), plane.replica())
    snapshot = plane.paths.feed_snapshot
    wait_for(lambda: snapshot.exists() and path in snapshot.read_text(), "the route to be kept")
    answers: list[Answer] = []

    def call_on(number: int) -> None:
        """Until the gateway is gone."""
        request = post(CHAT, plane.owner_key, chat(path, text=f'"{number}"'))
        try:
            with plane.wire() as wire:
                while True:
                    answers.append(wire.ask(request))
        except (Broken, OSError):
            return

    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call_on, number) for number in range(4)]
            more(answers, 200)
            if control_too:
                plane.control.stop()
                more(answers, 100)
            plane.gateway.kill()
            for each in calls:
                each.result()
        plane.restart_gateway()
        assert status(plane, path) == 200
        if control_too:
            plane.control.start()
    all_of = {answer.status for answer in answers}
    assert all_of == {200}
    accounted_once(plane, answers)
    # What was answered but not heard any more may be told as well; nothing is told twice.
    told = accounted(plane)
    assert len(told) == len(set(told))
    assert len(told) <= len(answers) + 2 * 4 + 3


# -- tampered with ---------------------------------------------------------------------


def doubled(line: bytes) -> Iterable[bytes]:
    return [line, line]


class OldNews:
    """After each line, all changes that came before once more, the oldest last."""

    def __init__(self) -> None:
        self.before: list[bytes] = []

    def __call__(self, line: bytes) -> Iterable[bytes]:
        lines = [line, *reversed(self.before)]
        if b'"snapshot"' not in line and b'"usage_taken"' not in line:
            self.before.append(line)
        return lines


class Late:
    """Each line comes after a while, in order."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, line: bytes) -> Iterable[bytes]:
        time.sleep(self.seconds)
        return [line]


class Held:
    """Nothing comes until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self, line: bytes) -> Iterable[bytes]:
        self.let_go.wait(20)
        return [line]


@pytest.mark.parametrize("tamper", [doubled, OldNews(), Late(0.05)], ids=["doubled", "old", "late"])
def test_a_feed_that_repeats_itself_or_is_late_leads_to_the_same(
    plane: Plane, tamper: Callable[[bytes], Iterable[bytes]]
) -> None:
    with TamperedFeed(plane, tamper):
        old, new = plane.replica(text='"old"'), plane.replica(text='"new"')
        path, gone = plane.service(old), plane.service(old)
        key = plane.key()
        wait_for(lambda: status(plane, gone, key) == 200, "the route to be known")
        plane.control.drop_route("svc_" + name_of(gone))
        plane.revoke(key)
        plane.service(new, name=name_of(path))
        # All that came before has been heard, and heard again, once this is.
        last = plane.service(new)
        wait_for(lambda: status(plane, last) == 200, "the last change to be heard")
        plane.await_key(plane.key())
        assert status(plane, gone) == 404
        assert status(plane, path, key) == 401
        with plane.wire() as wire:
            answers = [wire.ask(post(CHAT, plane.owner_key, chat(path))) for _ in range(3)]
        assert [answer.body for answer in answers] == [b'"new"'] * 3
        accounted_once(plane, answers)


def test_a_feed_that_stands_still_leaves_things_as_they_were(plane: Plane) -> None:
    """And what waits for news of it waits, and is served once they come."""
    held = Held()
    path = plane.service(plane.replica())
    with TamperedFeed(plane) as feed, plane.wire() as wire:
        coming = plane.service(state="starting")
        feed.tamper = held
        # A line that comes now shows that it is held.
        plane.service(plane.replica(), name=name_of(coming))
        wire.send(post(CHAT, plane.owner_key, chat(coming)))
        for _ in range(3):
            assert status(plane, path) == 200
        held.let_go.set()
        assert wire.answer().status == 200


def test_a_feed_cut_within_any_line_is_followed_anew(plane: Plane) -> None:
    path = plane.service(plane.replica())
    with TamperedFeed(plane) as feed:
        for part in (0.0, 0.5, 0.99):
            cut = [False]

            def within(line: bytes, part: float = part, cut: list[bool] = cut) -> Iterator[bytes]:
                if cut[0]:
                    yield line
                    return
                cut[0] = True
                yield line[: int(len(line) * part)]
                raise Cut

            feed.tamper = within
            connections = feed.connections
            key = plane.key()
            assert cut[0]
            assert status(plane, path, key) == 200
            # Now the snapshot, with which each connection begins.
            cut[0] = False
            feed.cut()
            feed.followed(connections + 3)
            plane.revoke(key)
            wait_for(lambda key=key: status(plane, path, key) == 401, "that")  # type: ignore[misc]


NONSENSE = [
    b"\n",
    b"garbage\n",
    b"{}\n",
    b'{"type":"snapshot"}\n',
    b'{"type":"usage_taken","source":"x","segment":"y","offset":null}\n',
    b"\xff\n",
    b"[" * 5000 + b"\n",
]


def test_a_feed_that_says_nonsense_is_followed_anew(plane: Plane) -> None:
    path = plane.service(plane.replica())
    with TamperedFeed(plane) as feed:
        key = ""
        for line in NONSENSE:
            before = [line]

            def nonsense(line: bytes, before: list[bytes] = before) -> Iterable[bytes]:
                yield from before
                before.clear()
                yield line

            feed.tamper = nonsense
            key = plane.key()
            assert not before
            assert status(plane, path, key) == 200
        plane.revoke(key)
        wait_for(lambda: status(plane, path, key) == 401, "the next change to be heard")


def test_a_feed_cut_again_and_again_under_load_costs_no_call_and_no_usage(plane: Plane) -> None:
    replicas = [plane.replica() for _ in range(3)]
    path = plane.service(*replicas)
    with TamperedFeed(plane) as feed, under_load(plane, path) as answers:
        for turn in range(6):
            plane.service(*replicas[: 1 + turn % 3], name=name_of(path))
            connections = feed.connections
            feed.cut()
            feed.followed(connections + 1)
            more(answers, 10)
    all_served(answers)
    at_rest(plane, path)
    accounted_once(plane, answers)


def test_usage_whose_receipt_is_lost_is_told_again_and_counted_once(plane: Plane) -> None:
    """The control plane holds it; the gateway cannot know."""
    path = plane.service(plane.replica())
    lost: list[bytes] = []

    def without_receipts(line: bytes) -> Iterable[bytes]:
        if b'"usage_taken"' in line and len(lost) < 3:
            lost.append(line)
            raise Cut
        return [line]

    with TamperedFeed(plane, without_receipts), plane.wire() as wire:
        answers = []
        while len(lost) < 3:
            answers.append(wire.ask(post(CHAT, plane.owner_key, chat(path))))
            assert wire.ask(get("/healthz")).status == 200
        answers.append(wire.ask(post(CHAT, plane.owner_key, chat(path))))
        accounted_once(plane, answers)
