"""Which services are in use, by what gateways report."""

from datetime import datetime

from modelry.routing.messages import Load, ServiceLoad, Wake
from modelry.services.activity import Activity
from tests.unit.worlds import NOW, at

GATEWAY, OTHER = 1, 2


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return at(self.seconds)


def report(*, inflight: int = 0, waiting: int = 0, used: float = 0, service: str = "svc") -> Load:
    return Load({service: ServiceLoad(inflight, waiting, at(used).timestamp())})


def connected(*gateways: int) -> tuple[Activity, Clock]:
    clock = Clock()
    activity = Activity(clock)
    for gateway in gateways:
        activity.gateway_connected(gateway)
    return activity, clock


def test_without_a_gateway_nothing_is_known() -> None:
    activity, _ = connected()
    assert activity.known_from() is None
    assert activity.used_at("svc") is None


def test_a_gateway_has_time_to_tell_and_every_gateway_has() -> None:
    activity, clock = connected(GATEWAY)
    assert activity.known_from() == at(3)
    clock.seconds = 100
    activity.gateway_connected(OTHER)
    assert activity.known_from() == at(103)
    activity.gateway_gone(OTHER)
    assert activity.known_from() == at(3)
    activity.gateway_gone(GATEWAY)
    assert activity.known_from() is None


def test_a_service_is_in_use_while_requests_run_or_wait() -> None:
    for load in (report(inflight=1), report(waiting=1)):
        activity, clock = connected(GATEWAY)
        activity.load(GATEWAY, load)
        clock.seconds = 500
        assert activity.used_at("svc") == at(500)
        assert activity.used_at("other") is None


def test_a_long_request_counts_until_its_end() -> None:
    activity, clock = connected(GATEWAY)
    activity.load(GATEWAY, report(inflight=1, used=0))
    clock.seconds = 500
    activity.load(GATEWAY, report(used=0))
    clock.seconds = 900
    assert activity.used_at("svc") == at(500)


def test_a_request_between_two_reports_counts_when_it_was() -> None:
    activity, clock = connected(GATEWAY)
    clock.seconds = 10
    activity.load(GATEWAY, report(used=9.5))
    assert activity.used_at("svc") == at(9.5)
    # An older word of another gateway takes nothing back.
    activity.gateway_connected(OTHER)
    activity.load(OTHER, report(used=4))
    assert activity.used_at("svc") == at(9.5)


def test_a_clock_that_is_ahead_keeps_no_service_awake() -> None:
    activity, _ = connected(GATEWAY)
    activity.load(GATEWAY, report(used=10**6))
    assert activity.used_at("svc") == NOW


def test_a_service_is_in_use_while_any_gateway_uses_it() -> None:
    activity, clock = connected(GATEWAY, OTHER)
    activity.load(GATEWAY, report(inflight=1))
    activity.load(OTHER, report())
    clock.seconds = 60
    assert activity.used_at("svc") == at(60)


def test_what_a_gateway_had_when_it_went_was_in_use_until_then() -> None:
    activity, clock = connected(GATEWAY)
    activity.load(GATEWAY, report(inflight=1))
    clock.seconds = 60
    activity.gateway_gone(GATEWAY)
    clock.seconds = 100
    assert activity.used_at("svc") == at(60)


def test_a_wake_is_a_use_and_is_told_at_once() -> None:
    activity, clock = connected(GATEWAY)
    told: list[datetime | None] = []
    activity.on_wake = lambda: told.append(activity.used_at("svc"))
    clock.seconds = 5
    activity.wake(Wake("svc"))
    assert told == [at(5)]


def test_services_that_are_gone_are_forgotten() -> None:
    activity, clock = connected(GATEWAY)
    activity.load(GATEWAY, report(service="gone", inflight=1))
    activity.load(GATEWAY, report(service="kept", inflight=1))
    activity.keep_only({"kept"})
    clock.seconds = 9
    assert activity.used_at("gone") is None
    assert activity.used_at("kept") == at(9)
