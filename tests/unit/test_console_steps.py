"""How far a service is on its way, told by its events alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from modelry.console.steps import Way, way
from modelry.services.states import ServiceState

START = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    at: datetime
    state: str
    message: str = ""


def events(*told: tuple[float, str] | tuple[float, str, str]) -> list[Event]:
    return [Event(START + timedelta(seconds=each[0]), *each[1:]) for each in told]


def standings(seen: Way) -> dict[str, str]:
    return {step.name: step.standing for step in seen.steps}


def took(seen: Way) -> dict[str, float | None]:
    return {step.name: step.took_s for step in seen.steps}


def test_a_service_that_was_just_wished_for_fetches() -> None:
    seen = way(events((0, "pending", "created")), converts=False)
    assert standings(seen) == {"fetch": "moving", "start": "waiting", "serve": "waiting"}
    assert seen.standing == "moving"
    assert seen.whole_s is None


def test_each_step_has_its_time() -> None:
    seen = way(
        events(
            (0, "pending", "created"),
            (1, "fetching", "fetching its weights"),
            (8, "fetching", "converting its weights to GGUF"),
            (20, "starting", "the engine loads the weights"),
            (23.5, "running", "serving"),
        ),
        converts=False,
    )
    assert took(seen) == {"fetch": 7, "convert": 12, "start": 3.5, "serve": None}
    assert set(standings(seen).values()) == {"done"}
    assert seen.whole_s == 23.5


def test_what_was_here_took_no_time() -> None:
    seen = way(events((0, "pending"), (0.1, "starting"), (2, "running")), converts=False)
    assert took(seen)["fetch"] is None
    assert standings(seen)["fetch"] == "done"


def test_a_conversion_that_is_known_of_is_a_step_before_it_begins() -> None:
    seen = way(events((0, "fetching", "fetching its weights")), converts=True)
    assert list(standings(seen)) == ["fetch", "convert", "start", "serve"]


def test_a_failure_is_at_the_step_where_it_happened() -> None:
    fetching = events((0, "pending"), (1, "fetching"), (4, "failed", "no such repository"))
    assert standings(way(fetching, converts=False)) == {
        "fetch": "failed",
        "start": "waiting",
        "serve": "waiting",
    }
    starting = events((0, "pending"), (1, "starting"), (4, "failed", "out of memory"))
    seen = way(starting, converts=False)
    assert standings(seen)["fetch"] == "done"
    assert standings(seen)["start"] == "failed"
    assert seen.standing == "failed"


def test_beginning_anew_forgets_what_was_before() -> None:
    seen = way(
        events(
            (0, "pending"), (1, "starting"), (4, "failed"),
            (100, "pending", "started by its owner"), (101, "starting"), (103, "running"),
        ),
        converts=False,
    )  # fmt: skip
    assert seen.whole_s == 3
    assert took(seen)["start"] == 2


def test_what_happens_after_it_served_changes_no_time() -> None:
    ran = events((0, "pending"), (1, "starting"), (3, "running"), (60, "updating"))
    assert way(ran, converts=False).whole_s == 3


def test_one_that_waits_for_its_first_call_is_ready() -> None:
    assert way(events((0, "pending"), (1, "idle")), converts=False).standing == "done"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([str(state) for state in ServiceState]),
            st.sampled_from(["", "converting its weights to GGUF", "fetching its weights"]),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_no_step_comes_before_the_one_that_goes_on(
    told: Sequence[tuple[str, str]], converts: bool
) -> None:
    history = events(*((float(at), *each) for at, each in enumerate(told)))
    steps = way(history, converts=converts).steps
    order = {"done": 0, "moving": 1, "failed": 1, "waiting": 2}
    reached = [order[step.standing] for step in steps]
    assert reached == sorted(reached)
    assert reached.count(1) <= 1
    assert all(step.took_s is None or step.took_s >= 0 for step in steps)
