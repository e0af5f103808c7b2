"""Which replica a call goes to, what a failed one costs, and services that have to be woken."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.data_plane import Plane, Replica, chat
from tests.support.waiting import wait_for
from tests.support.wire import get, post

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
_numbers = itertools.count(1)


class Conversation:
    """A chat that goes on: each turn sends all that was said before."""

    def __init__(self, plane: Plane, path: str) -> None:
        self._plane = plane
        self._path = path
        self.name = f"conversation {next(_numbers)}"
        self._messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": self.name},
        ]

    def body(self, **fields: Any) -> dict[str, Any]:
        return {"model": self._path, "messages": self._messages, **fields}

    def turn(self, **fields: Any) -> int:
        """Say something and hear an answer; its status."""
        with self._plane.wire() as wire:
            status = wire.ask(post(CHAT, self._plane.owner_key, self.body(**fields))).status
        self._messages = [
            *self._messages,
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": f"And {next(_numbers)}?"},
        ]
        return status


def homes(replicas: list[Replica]) -> dict[str, set[int]]:
    """Conversation → numbers of the replicas that saw it."""
    found: dict[str, set[int]] = {}
    for number, replica in enumerate(replicas):
        for request in replica.requests:
            name = json.loads(request["body"])["messages"][1]["content"]
            found.setdefault(name, set()).add(number)
    return found


def home(replicas: list[Replica], conversation: Conversation) -> int:
    """The replica of a conversation that was on one only."""
    (number,) = homes(replicas)[conversation.name]
    return number


# -- conversations -----------------------------------------------------------


@pytest.mark.parametrize("collect", [False, True])
def test_a_conversation_comes_back_to_its_replica_at_every_turn(
    plane: Plane, collect: bool
) -> None:
    replicas = [plane.replica(do="stream", chunks=1) for _ in range(3)]
    path = plane.service(*replicas, collect=collect)
    talks = [Conversation(plane, path) for _ in range(16)]
    for turn in range(4):
        for talk in talks:
            assert talk.turn(stream=bool(turn % 2), temperature=turn) == 200
    found = homes(replicas)
    assert len(found) == 16
    assert all(len(numbers) == 1 for numbers in found.values())
    # They are spread, and not all on one.
    assert len(set.union(*found.values())) >= 2


def test_when_its_replica_leaves_a_conversation_moves_and_the_others_stay(plane: Plane) -> None:
    replicas = [plane.replica() for _ in range(3)]
    path = plane.service(*replicas)
    talks = [Conversation(plane, path) for _ in range(12)]
    for talk in talks:
        talk.turn()
    before = homes(replicas)
    gone = next(iter(before[talks[0].name]))
    stay = [replica for number, replica in enumerate(replicas) if number != gone]
    plane.service(*stay, name=path.partition("/")[2])
    for talk in talks * 2:
        assert talk.turn() == 200
    after = homes(replicas)
    for talk in talks:
        moved = after[talk.name] - before[talk.name]
        assert len(moved) == (before[talk.name] == {gone})


def test_when_its_replica_dies_a_conversation_moves_and_the_others_stay(plane: Plane) -> None:
    replicas = [plane.replica() for _ in range(3)]
    path = plane.service(*replicas)
    talks = [Conversation(plane, path) for _ in range(12)]
    for talk in talks:
        talk.turn()
    before = homes(replicas)
    gone = next(iter(before[talks[0].name]))
    replicas[gone].kill()
    for talk in talks * 2:
        assert talk.turn() == 200
    after = homes([replica for number, replica in enumerate(replicas) if number != gone])
    for talk in talks:
        assert len(after[talk.name]) == 1


def test_a_conversation_whose_replica_is_full_goes_elsewhere_for_a_turn(plane: Plane) -> None:
    replicas = [plane.replica(slots=1) for _ in range(2)]
    path = plane.service(*replicas)
    talk, other = Conversation(plane, path), Conversation(plane, path)
    assert talk.turn() == 200
    full = home(replicas, talk)
    while other.turn() and home(replicas, other) != full:
        other = Conversation(plane, path)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, other.body(fake={"gated": True})))
        wait_for(lambda: replicas[full].seen()["busy"], "the slot to be taken")
        assert talk.turn() == 200
        assert homes(replicas)[talk.name] == {0, 1}
        replicas[full].go()
        assert wire.answer().status == 200
    known = len(replicas[full].requests)
    assert talk.turn() == 200
    assert len(replicas[full].requests) == known + 1


def test_conversations_do_not_pile_up_on_one_replica(plane: Plane) -> None:
    """Ten at once of what one replica is home to: a quarter over the mean is the most."""
    replicas = [plane.replica(slots=16) for _ in range(2)]
    path = plane.service(*replicas)
    talk = Conversation(plane, path)
    talk.turn()
    wires = [plane.wire() for _ in range(10)]
    for wire in wires:
        wire.send(post(CHAT, plane.owner_key, talk.body(fake={"gated": True})))
    wait_for(lambda: sum(each.seen()["busy"] for each in replicas) == 10, "all to arrive")
    busy = sorted(replica.seen()["busy"] for replica in replicas)
    for replica in replicas:
        for _ in range(replica.seen()["busy"]):
            replica.go()
    for wire in wires:
        assert wire.answer().status == 200
        wire.close()
    assert busy in ([4, 6], [3, 7], [5, 5])


# -- everything else ---------------------------------------------------------


def test_completions_go_where_less_is_going_on(plane: Plane) -> None:
    """As they fill up, neither is ever two ahead of the other."""
    replicas = [plane.replica(slots=8, gated=True) for _ in range(2)]
    path = plane.service(*replicas)
    wires = [plane.wire() for _ in range(10)]
    for number, wire in enumerate(wires, start=1):
        wire.send(post(COMPLETIONS, plane.owner_key, {"model": path, "prompt": "x"}))
        wait_for(lambda: sum(each.seen()["busy"] for each in replicas) >= number, "it to arrive")  # noqa: B023
        one, other = (replica.seen()["busy"] for replica in replicas)
        assert abs(one - other) <= 1
    for replica in replicas:
        for _ in range(5):
            replica.go()
    for wire in wires:
        assert wire.answer().status == 200
        wire.close()


def test_endpoints_share_by_weight_exactly(plane: Plane) -> None:
    replicas = [plane.replica(tcp=True) for _ in range(2)]
    heavy, light = (
        plane.endpoint(replica, weight=weight)
        for replica, weight in zip(replicas, (3, 1), strict=True)
    )
    path = plane.service(endpoints=(heavy, light))

    def call(_: int) -> list[int]:
        with plane.wire() as wire:
            request = post(CHAT, plane.owner_key, chat(path))
            return [wire.ask(request).status for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(status for found in pool.map(call, range(8)) for status in found)
    assert statuses == {200: 80}
    assert [len(replica.requests) for replica in replicas] == [60, 20]


# -- replicas that fail ------------------------------------------------------


def ask(plane: Plane, path: str) -> int:
    with plane.wire() as wire:
        return wire.ask(post(COMPLETIONS, plane.owner_key, {"model": path, "prompt": "x"})).status


def test_a_replica_that_failed_is_left_alone_and_comes_back_by_itself(plane: Plane) -> None:
    failing, well = plane.replica(die_after=0), plane.replica()
    path = plane.service(failing, well)
    wait_for(lambda: ask(plane, path) == 200 and failing.requests, "a call to fail over")
    failing.now()
    start = time.monotonic()
    while time.monotonic() < start + 0.3:
        assert ask(plane, path) == 200
    assert len(failing.requests) == 1
    wait_for(lambda: ask(plane, path) == 200 and len(failing.requests) > 1, "it to be back", 5)


def test_a_replica_that_ended_comes_back_once_it_is_there_again(plane: Plane) -> None:
    replicas = [plane.replica(), plane.replica()]
    path = plane.service(*replicas)
    for replica in replicas:
        wait_for(lambda each=replica: ask(plane, path) == 200 and each.requests, "a call")  # type: ignore[misc]
    replicas[0].kill()
    for _ in range(20):
        assert ask(plane, path) == 200
    replicas[0].revive()
    wait_for(lambda: ask(plane, path) == 200 and replicas[0].requests, "it to be back", 8)


def test_a_service_whose_only_replica_failed_is_asked_all_the_same(plane: Plane) -> None:
    """To leave out the last one would be to refuse for sure."""
    replica = plane.replica(die_after=0)
    path = plane.service(replica)
    assert ask(plane, path) == 502
    replica.now()
    assert ask(plane, path) == 200


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_replica_in_trouble_costs_the_caller_nothing(plane: Plane, status: int) -> None:
    failing, well = plane.replica(status=status, text="{}"), plane.replica()
    path = plane.service(failing, well)
    for _ in range(8):
        assert ask(plane, path) == 200
    assert len(failing.requests) <= 1
    assert len(well.requests) == 8


def test_what_a_replica_refuses_is_no_failure_of_it(plane: Plane) -> None:
    replicas = [plane.replica(status=422, text='{"error": "no"}') for _ in range(2)]
    path = plane.service(*replicas)
    for _ in range(12):
        assert ask(plane, path) == 422
    assert sum(len(replica.requests) for replica in replicas) == 12
    assert all(replica.requests for replica in replicas)


def test_a_replica_that_says_nothing_for_too_long_is_given_up(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane(answer_timeout_s="0.5")
    silent, well = plane.replica(do="hang"), plane.replica(text='"well"')
    path = plane.service(silent)
    name = path.partition("/")[2]
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        wait_for(lambda: silent.requests, "the request to arrive")
        plane.service(silent, well, name=name)
        assert wire.answer().body == b'"well"'
    wait_for(lambda: silent.seen()["abandoned"] == 1, "the silent one to be hung up on", 5)


# -- services that sleep -----------------------------------------------------


def test_a_call_of_an_idle_service_wakes_it_once_and_is_answered_when_it_is_there(
    plane: Plane,
) -> None:
    path = plane.service(state="idle")
    name = path.partition("/")[2]
    wires = [plane.wire() for _ in range(5)]
    for wire in wires:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
    wait_for(lambda: f"svc_{name}" in plane.control.woken, "the service to be woken", 5)
    plane.service(name=name, state="starting")
    with plane.wire() as wire:
        assert wire.ask(get("/healthz")).status == 200
    replica = plane.replica()
    plane.service(replica, name=name)
    for wire in wires:
        assert wire.answer().status == 200
        wire.close()
    assert len(replica.requests) == 5
    assert plane.control.woken.count(f"svc_{name}") == 1


def test_an_idle_service_nobody_calls_is_left_to_sleep(plane: Plane) -> None:
    path = plane.service(state="idle")
    with plane.wire() as wire:
        assert path in wire.ask(get("/v1/models", plane.owner_key)).body.decode()
        assert wire.ask(post(CHAT, plane.owner_key, chat(path + "x"))).status == 404
        assert wire.ask(post(CHAT, "sk-wrong", chat(path))).status == 401
    other = plane.service(state="idle")
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(other)))
        wait_for(lambda: "svc_" + other.partition("/")[2] in plane.control.woken, "a wake", 5)
    assert "svc_" + path.partition("/")[2] not in plane.control.woken


def test_a_call_that_waits_when_its_service_falls_asleep_wakes_it(plane: Plane) -> None:
    path = plane.service(state="starting")
    name = path.partition("/")[2]
    with plane.wire() as wire, plane.wire() as other:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        assert other.ask(get("/healthz")).status == 200
        plane.service(name=name, state="idle")
        wait_for(lambda: f"svc_{name}" in plane.control.woken, "the service to be woken", 5)
        plane.service(plane.replica(), name=name)
        assert wire.answer().status == 200


def test_a_wake_that_the_control_plane_missed_is_told_when_it_is_back(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane()
    path = plane.service(state="idle", name="sleeper")
    plane.control.stop()
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        with plane.wire() as other:
            assert other.ask(get("/healthz")).status == 200
        plane.control.start()
        wait_for(lambda: "svc_sleeper" in plane.control.woken, "the service to be woken", 5)
        plane.service(plane.replica(), name="sleeper")
        assert wire.answer().status == 200


def test_a_service_that_does_not_wake_in_time_is_a_503_that_says_when_to_try_again(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane(start_wait_s="0.4")
    path = plane.service(state="idle", name="sleeper")
    with plane.wire() as wire:
        start = time.monotonic()
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
        assert 0.35 <= time.monotonic() - start < 3
        assert (answer.status, answer.code) == (503, "service_starting")
        assert int(answer.headers["retry-after"]) > 0
        event = plane.event(answer)
        assert (event.status, event.replica_id) == (503, None)
        plane.service(plane.replica(), name="sleeper")
        assert wire.ask(post(CHAT, plane.owner_key, chat(path))).status == 200
    assert "svc_sleeper" in plane.control.woken
