"""Slots and the queue for them: never more than a replica has, fair, bounded, and left in time."""

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from tests.support.data_plane import GatewayProcess, Plane, Replica, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Broken, Wire, get, post

CHAT = "/v1/chat/completions"
ANSWER_S = 0.05


def held_up(plane: Plane) -> None:
    """Return once the gateway has read what was sent to it before."""
    with plane.wire() as wire:
        assert wire.ask(get("/healthz")).status == 200


def notes(replica: Replica) -> list[str]:
    """What the requests that reached the replica say of themselves, in their order."""
    return [json.loads(request["body"]).get("note", "") for request in replica.requests]


def noted(path: str, note: str, max_tokens: int = 400) -> dict[str, Any]:
    """A request that uses as many tokens as it may."""
    usage = {"prompt_tokens": 50, "completion_tokens": max_tokens}
    text = json.dumps({"object": "chat.completion", "choices": [], "usage": usage})
    return {**chat(path, text=text), "note": note, "max_tokens": max_tokens}


class Stage:
    """One slot, held by a request until `go`; whoever comes then waits."""

    def __init__(self, plane: Plane, wires: ExitStack) -> None:
        self.plane = plane
        self.replica = plane.replica(slots=1, gated=True)
        self.path = plane.service(self.replica)
        self._wires = wires
        self.first = self.send(plane.owner_key, "first")
        wait_for(lambda: self.replica.requests, "the slot to be taken")

    def send(self, key: str, note: str, max_tokens: int = 400) -> Wire:
        """A request; the gateway has read it once this returns."""
        wire = self._wires.enter_context(self.plane.wire())
        wire.send(post(CHAT, key, noted(self.path, note, max_tokens)))
        held_up(self.plane)
        return wire

    def served(self, count: int) -> list[str]:
        """Let one after the other go; the order in which `count` more reached the replica."""
        for number in range(count):
            self.replica.go()
            wait_for(lambda n=number: len(self.replica.requests) > n + 1, "the next", 5, 0.005)  # type: ignore[misc]
        self.replica.go()
        return notes(self.replica)[1:]


@contextmanager
def stage(plane: Plane) -> Iterator[Stage]:
    with ExitStack() as wires:
        yield Stage(plane, wires)


def refused(answer: Answer) -> None:
    assert (answer.status, answer.code) == (503, "overloaded")
    assert answer.json()["error"]["type"] == "server_error"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


# -- slots -------------------------------------------------------------------


def many_calls(ports: list[int], key: str, path: str, callers: int, calls: int) -> None:
    """So many callers with so many calls each; every one is answered."""
    request = post(CHAT, key, chat(path))

    def call(number: int) -> list[int]:
        with Wire(ports[number % len(ports)]) as wire:
            return [wire.ask(request).status for _ in range(calls)]

    with ThreadPoolExecutor(callers) as pool:
        assert [status for found in pool.map(call, range(callers)) for status in found] == [200] * (
            callers * calls
        )


def test_a_replica_never_works_on_more_than_its_slots(plane: Plane) -> None:
    replicas = [plane.replica(slots=3, delay_s=0.01), plane.replica(slots=1, delay_s=0.01)]
    path = plane.service(*replicas)
    many_calls([plane.gateway.port], plane.owner_key, path, callers=12, calls=10)
    assert [replica.seen()["peak"] for replica in replicas] == [3, 1]


def test_two_gateways_together_give_a_replica_no_more_than_its_slots(
    two_gateways: tuple[Plane, GatewayProcess],
) -> None:
    plane, other = two_gateways
    replicas = [plane.replica(slots=3, delay_s=0.01), plane.replica(slots=1, delay_s=0.01)]
    path = plane.service(*replicas)
    ports = [plane.gateway.port, other.port]
    many_calls(ports, plane.owner_key, path, callers=12, calls=10)
    assert [replica.seen()["peak"] for replica in replicas] == [3, 1]


def test_an_endpoint_elsewhere_never_gets_more_than_its_slots(
    two_gateways: tuple[Plane, GatewayProcess],
) -> None:
    plane, other = two_gateways
    replica = plane.replica(tcp=True, delay_s=0.01)
    path = plane.service(endpoints=(plane.endpoint(replica, slots=3),))
    many_calls([plane.gateway.port, other.port], plane.owner_key, path, callers=8, calls=10)
    assert replica.seen()["peak"] == 3


def test_slots_of_a_gateway_that_was_killed_are_another_s(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane(gateway_workers="2", queue_wait_s="5")
    other = plane.another_gateway()
    replica = plane.replica(slots=2)
    path = plane.service(replica)
    with plane.wire() as one, plane.wire() as two, Wire(other.port) as waiting:
        for wire in (one, two):
            wire.send(post(CHAT, plane.owner_key, chat(path, do="hang")))
        wait_for(lambda: replica.seen()["busy"] == 2, "the slots to be taken")
        waiting.send(post(CHAT, plane.owner_key, chat(path)))
        waiting.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            waiting.socket.recv(1)
        plane.gateway.kill()
        waiting.socket.settimeout(5)
        assert waiting.answer().status == 200


def test_a_replica_that_leaves_the_route_and_comes_back_still_has_its_requests(
    plane: Plane,
) -> None:
    replica = plane.replica(slots=2)
    path = plane.service(replica)
    name = path.partition("/")[2]
    with ExitStack() as wires:
        sent = [wires.enter_context(plane.wire()) for _ in range(4)]
        for wire in sent[:2]:
            wire.send(post(CHAT, plane.owner_key, chat(path, gated=True)))
        wait_for(lambda: replica.seen()["busy"] == 2, "the slots to be taken")
        plane.service(name=name, state="updating")
        plane.service(replica, name=name)
        for wire in sent[2:]:
            wire.send(post(CHAT, plane.owner_key, chat(path, gated=True)))
        held_up(plane)
        for _ in sent:
            replica.go()
        assert [wire.answer().status for wire in sent] == [200] * 4
    assert replica.seen()["peak"] == 2


def test_calls_that_end_badly_give_their_slots_back(plane: Plane) -> None:
    """Whoever hangs up, dies, refuses or breaks off: afterwards both slots are to be had."""
    replica = plane.replica(slots=2)
    path = plane.service(replica)
    collected = plane.service(replica, collect=True)
    ways: list[dict[str, Any]] = [
        {"die_after": 0},
        {"do": "stream", "chunks": 9, "die_after": 42},
        {"status": 400, "text": "no"},
        {"status": 503, "text": "no"},
        {"status": 401, "text": "no"},
        {"text": "x" * 1_000_000, "die_after": 500_000},
    ]
    for way in ways * 2:
        for model in (path, collected):
            with plane.wire() as wire:
                wire.send(post(CHAT, plane.owner_key, chat(model, **way)))
                with suppress(Broken):
                    wire.answer()
    for model in (path, collected, path):
        with plane.wire() as wire:
            wire.send(post(CHAT, plane.owner_key, chat(model, do="hang")))
            wait_for(lambda: replica.seen()["busy"] == 1, "the request to arrive")
        wait_for(lambda: replica.seen()["busy"] == 0, "the replica to be hung up on")
    with plane.wire() as one, plane.wire() as two:
        for wire in (one, two):
            wire.send(post(CHAT, plane.owner_key, chat(path, gated=True)))
        wait_for(lambda: replica.seen()["busy"] == 2, "both slots to be taken")
        replica.go()
        replica.go()
        assert [one.answer().status, two.answer().status] == [200, 200]


# -- the queue's order -------------------------------------------------------


def test_keys_take_turns_however_many_requests_one_throws_in(plane: Plane) -> None:
    flood, calm = plane.key(), plane.key()
    with stage(plane) as on:
        for number in range(6):
            on.send(flood, f"flood {number}")
        for number in range(2):
            on.send(calm, f"calm {number}")
        order = on.served(8)
    assert [note for note in order if "flood" in note] == [f"flood {n}" for n in range(6)]
    assert [note for note in order if "calm" in note] == ["calm 0", "calm 1"]
    assert order.index("calm 0") <= 2
    assert order.index("calm 1") <= 4


def test_turns_are_by_tokens(plane: Plane) -> None:
    """A key whose requests are ten times as large gets a tenth of the turns."""
    large, small = plane.key(), plane.key()
    with stage(plane) as on:
        for number in range(3):
            on.send(large, f"large {number}", max_tokens=10_000)
        for number in range(12):
            on.send(small, f"small {number}", max_tokens=1000)
        order = on.served(15)
    assert sum(note.startswith("small") for note in order[:11]) >= 9


def test_a_call_whose_replica_failed_does_not_queue_up_again_at_the_end(plane: Plane) -> None:
    with stage(plane) as on:
        failing = plane.replica(slots=1, die_after=0)
        waiting = [on.send(plane.owner_key, f"waiting {number}") for number in range(3)]
        # With a slot that fails it is the first of them who gets it, and fails.
        plane.service(on.replica, failing, name=on.path.partition("/")[2])
        wait_for(lambda: failing.requests, "a request to fail")
        # And the gateway to see that it did: until then another would go first.
        wait_for(lambda: failing.seen()["open"] == 0, "its connection to end", pause_s=0.005)
        held_up(plane)
        order = on.served(3)
        assert [wire.answer().status for wire in (on.first, *waiting)] == [200] * 4
    assert order == [f"waiting {number}" for number in range(3)]


def test_whoever_waits_takes_the_slot_of_a_replica_that_comes(plane: Plane) -> None:
    with stage(plane) as on:
        waiting = on.send(plane.owner_key, "waiting")
        new = plane.replica()
        plane.service(on.replica, new, name=on.path.partition("/")[2])
        assert waiting.answer().status == 200
        assert notes(new) == ["waiting"]
        on.replica.go()
        assert on.first.answer().status == 200


def test_what_waits_when_the_gateway_ends_is_answered_still(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane()
    with stage(plane) as on:
        waiting = on.send(plane.owner_key, "waiting")
        plane.gateway.terminate()
        for _ in range(2):
            on.replica.go()
        assert [on.first.answer().status, waiting.answer().status] == [200, 200]
    assert plane.gateway.wait(5) == 0


# -- the queue's bounds ------------------------------------------------------


@pytest.fixture(scope="module")
def short_queue() -> Iterator[Plane]:
    plane = Plane(queue_max="3", queue_wait_s="20")
    yield plane
    plane.close()


def test_a_full_queue_refuses_and_those_in_it_are_served(short_queue: Plane) -> None:
    plane = short_queue
    with stage(plane) as on:
        waiting = [on.send(plane.owner_key, f"waiting {number}") for number in range(3)]
        refused(on.send(plane.owner_key, "too much").answer())
        assert on.served(3) == [f"waiting {number}" for number in range(3)]
        assert [wire.answer().status for wire in waiting] == [200] * 3


def test_in_a_full_queue_the_newest_of_the_key_with_most_waiting_gives_way(
    short_queue: Plane,
) -> None:
    plane = short_queue
    flood, calm = plane.key(), plane.key()
    with stage(plane) as on:
        waiting = [on.send(flood, f"flood {number}") for number in range(3)]
        answered = on.send(calm, "calm")
        refused(waiting.pop().answer())
        order = on.served(3)
        assert [wire.answer().status for wire in (*waiting, answered)] == [200] * 3
    assert sorted(order) == ["calm", "flood 0", "flood 1"]


def test_a_caller_who_hangs_up_leaves_the_queue_and_its_place_to_another(
    short_queue: Plane,
) -> None:
    plane = short_queue
    with stage(plane) as on:
        waiting = [on.send(plane.owner_key, f"waiting {number}") for number in range(3)]
        waiting[1].close()
        held_up(plane)
        late = on.send(plane.owner_key, "late")
        assert on.served(3) == ["waiting 0", "waiting 2", "late"]
        assert late.answer().status == 200


def test_the_official_client_tries_again_where_it_is_overloaded(short_queue: Plane) -> None:
    plane = short_queue
    with stage(plane) as on, plane.openai(plane.owner_key) as client, ThreadPoolExecutor() as pool:
        waiting = [on.send(plane.owner_key, f"waiting {number}") for number in range(3)]
        patient = client.with_options(max_retries=2)

        def ask() -> str:
            messages: Any = [{"role": "user", "content": "hi"}]
            note = {"note": "patient"}
            made = patient.chat.completions.create(
                model=on.path, messages=messages, extra_body=note
            )
            return str(made.object)

        answer = pool.submit(ask)
        on.served(3)
        assert [wire.answer().status for wire in waiting] == [200] * 3
        wait_for(lambda: "patient" in notes(on.replica), "another try", 10)
        on.replica.go()
        assert answer.result(10) == "chat.completion"


def test_nobody_waits_longer_than_the_queue_lets_them(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(queue_wait_s="0.4")
    with stage(plane) as on:
        start = time.monotonic()
        answer = on.send(plane.owner_key, "waiting").answer()
        assert 0.35 <= time.monotonic() - start < 3
        refused(answer)
        event = plane.event(answer)
        assert (event.status, event.replica_id, event.prompt_tokens) == (503, None, 0)
        assert 0.35 <= event.queue_s < 3
        # Whoever has a slot has all the time it needs.
        on.replica.go()
        assert on.first.answer().status == 200
    assert notes(on.replica) == ["first"]


def test_without_a_queue_a_full_service_refuses_at_once(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(queue_max="0")
    with stage(plane) as on:
        refused(on.send(plane.owner_key, "too much").answer())
        on.replica.go()
        assert on.first.answer().status == 200
        again = on.send(plane.owner_key, "again")
        on.replica.go()
        assert again.answer().status == 200


def test_what_waits_is_told_to_the_control_plane(plane: Plane) -> None:
    with stage(plane) as on:
        on.send(plane.owner_key, "waiting")
        service_id = "svc_" + on.path.partition("/")[2]

        def load() -> tuple[int, int] | None:
            found = [load for (_, id_), load in plane.control.loads.items() if id_ == service_id]
            return (found[-1].inflight, found[-1].waiting) if found else None

        wait_for(lambda: load() == (1, 1), "the load to be told", 5)
        on.served(1)
        wait_for(lambda: load() == (0, 0), "the load to be gone", 5)


# -- floods ------------------------------------------------------------------


def median_wait_s(
    plane: Plane, ports: list[int], *, slots: int, flooding: int, calls: int = 15
) -> float:
    """Of a tenant who calls one after the other, while another one floods from so many
    connections. Each answer takes `ANSWER_S`.
    """
    path = plane.service(plane.replica(slots=slots, delay_s=ANSWER_S))
    tenant, flooder = plane.key(), plane.key()
    over = threading.Event()

    def flood(number: int) -> None:
        with Wire(ports[number % len(ports)]) as wire:
            while not over.is_set():
                assert wire.ask(post(CHAT, flooder, chat(path))).status == 200

    with ThreadPoolExecutor(flooding or 1) as pool:
        floods = [pool.submit(flood, number) for number in range(flooding)]
        with Wire(ports[0]) as wire:
            answers = [wire.ask(post(CHAT, tenant, chat(path))) for _ in range(calls)]
        over.set()
        for each in floods:
            each.result()
    assert {answer.status for answer in answers} == {200}
    return statistics.median(plane.event(answer).queue_s for answer in answers)


def test_a_tenant_who_floods_does_not_raise_another_tenant_s_median_wait(plane: Plane) -> None:
    ports = [plane.gateway.port]
    calm = median_wait_s(plane, ports, slots=4, flooding=0)
    flooded = median_wait_s(plane, ports, slots=4, flooding=16)
    print(f"median wait: {calm * 1e3:.1f} ms alone, {flooded * 1e3:.1f} ms with a flood")
    assert calm == 0
    assert flooded < 0.1 * ANSWER_S


def test_with_one_slot_a_flood_costs_another_tenant_a_turn_of_it(plane: Plane) -> None:
    """One slot cannot be kept free: who comes waits for the flood's turn, not for the flood."""
    flooded = median_wait_s(plane, [plane.gateway.port], slots=1, flooding=16, calls=10)
    print(f"median wait: {flooded * 1e3:.1f} ms with a flood, an answer takes 50 ms")
    assert flooded < 5.5 * ANSWER_S


def test_a_flood_through_two_gateways_costs_another_tenant_a_turn_or_two(
    two_gateways: tuple[Plane, GatewayProcess],
) -> None:
    plane, other = two_gateways
    ports = [plane.gateway.port, other.port]
    flooded = median_wait_s(plane, ports, slots=8, flooding=24)
    print(f"median wait: {flooded * 1e3:.1f} ms with a flood, an answer takes 50 ms")
    # Each gateway keeps a slot for the keys that it knows, so the other may take it.
    assert flooded < 5.5 * ANSWER_S
