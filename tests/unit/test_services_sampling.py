"""How services stand, as it is noted each minute."""

from modelry.engines.base import Endpoint
from modelry.executors.base import Observed, ProcessState
from modelry.services.sampling import gauges
from modelry.services.states import ReplicaState
from modelry.services.store import ReplicaRow
from modelry.usage.series.peaks import Peak
from modelry.usage.series.points import Gauged


def replica(id_: str, service_id: str = "svc_1", state: str = ReplicaState.READY) -> ReplicaRow:
    return ReplicaRow(id=id_, service_id=service_id, revision=1, state=state)


def observed(**memory: int | None) -> dict[str, Observed]:
    endpoint = Endpoint("unix:/nowhere", "secret")
    return {
        id_: Observed(id_, ProcessState.READY, "here", endpoint, memory_bytes=size)
        for id_, size in memory.items()
    }


def test_a_services_replicas_count_together() -> None:
    rows = [replica("a"), replica("b"), replica("c", state=ReplicaState.STARTING)]
    seen = gauges(rows, observed(a=100, b=20, c=3), {"svc_1": Peak(4, 2)})
    assert seen == {"svc_1": Gauged(inflight=4, waiting=2, memory_bytes=123, replicas=2)}


def test_a_service_with_replicas_that_nobody_calls_has_no_load() -> None:
    assert gauges([replica("a")], observed(a=1), {}) == {"svc_1": Gauged(0, 0, 1, 1)}


def test_what_nobody_tells_is_not_made_up() -> None:
    assert gauges([replica("a")], {}, None) == {"svc_1": Gauged(None, None, None, 1)}
    assert gauges([replica("a")], observed(a=None), {})["svc_1"].memory_bytes is None


def test_a_service_that_is_called_is_noted_without_replicas_too() -> None:
    assert gauges([], {}, {"svc_2": Peak(1, 0)}) == {"svc_2": Gauged(1, 0, None, 0)}


def test_a_service_that_only_is_there_is_not_noted() -> None:
    assert gauges([], observed(a=100), {}) == {}
