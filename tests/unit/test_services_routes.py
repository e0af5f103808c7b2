"""Which revision of a service serves, and what its route says of it."""

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest

from modelry.engines.base import Endpoint
from modelry.engines.vllm import Vllm
from modelry.executors.base import Observed, ProcessState
from modelry.routing.messages import Route
from modelry.services.hosting import Hosting
from modelry.services.routes import Routes, Sight, serving
from modelry.services.situation import AdapterSeen
from modelry.services.spec import Replicas, ServiceSpec, Spec
from modelry.services.states import ReplicaState
from modelry.services.store import ReplicaRow, ServiceRow
from modelry.services.traits import TraitsReader

FIRST = ServiceSpec(model="m", model_name="m", engine="vllm", variant="default", slots=1)
SECOND = FIRST.model_copy(update={"slots": 2, "context_tokens": 512})
SCALED = SECOND.model_copy(update={"replicas": Replicas(min=2)})
REVISIONS: dict[tuple[str, int], Spec] = {
    ("base", 1): FIRST,
    ("base", 2): SECOND,
    ("base", 3): SCALED,
}


def replica(id_: str, revision: int) -> ReplicaRow:
    return ReplicaRow(id=id_, service_id="base", revision=revision, state=ReplicaState.READY)


@pytest.mark.parametrize(
    ("spec", "ready", "slots", "who"),
    [
        (SECOND, [], 2, []),
        (SECOND, [("a", 2)], 2, ["a"]),
        (SECOND, [("a", 1)], 1, ["a"]),
        (SECOND, [("a", 1), ("b", 2)], 2, ["b"]),
        (SCALED, [("a", 1), ("b", 3)], 1, ["a"]),
        (SCALED, [("a", 1), ("b", 3), ("c", 2)], 2, ["b", "c"]),
        (SCALED, [("a", 2)], 2, ["a"]),
        # Of two earlier ones that which was served by has more, or is the older.
        (FIRST, [("a", 2), ("b", 2), ("c", 1)], 1, ["c"]),
        (FIRST.model_copy(update={"slots": 9}), [("a", 1), ("b", 2), ("c", 2)], 2, ["b", "c"]),
        (FIRST.model_copy(update={"slots": 9}), [("a", 1), ("b", 2)], 1, ["a"]),
    ],
)
def test_one_revision_serves_until_enough_of_the_present_one_do(
    spec: ServiceSpec, ready: list[tuple[str, int]], slots: int, who: list[str]
) -> None:
    found = serving(spec, [replica(*each) for each in ready], REVISIONS)
    assert isinstance(found.spec, ServiceSpec)
    assert found.spec.slots == slots
    assert [row.id for row in found.replicas] == who


class On(Hosting):
    """It says where the adapter is, as it was told."""

    def __init__(self, *replicas: str) -> None:
        super().__init__()
        self.on = frozenset(replicas)

    def seen(self, service_id: str) -> AdapterSeen:
        return AdapterSeen(self.on)


class NoTraits:
    async def read(self, *_: object) -> dict[str, object]:
        return {}


def service(id_: str) -> ServiceRow:
    return ServiceRow(
        id=id_, owner_id="u-1", name=id_, tasks=["chat"], want="run", state="running", message="",
        revision=2, created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("on", "slots", "who"),
    [((), 2, []), (("old",), 1, ["old"]), (("old", "new"), 2, ["new"]), (("new",), 2, ["new"])],
)
def test_an_adapter_is_called_where_it_is_by_the_slots_of_those_replicas(
    on: tuple[str, ...], slots: int, who: list[str]
) -> None:
    guest = SECOND.model_copy(update={"adapter": "a", "adapter_name": "a", "host": "base"})
    rows = [replica("old", 1), replica("new", 2)]
    observed = {
        row.id: Observed(row.id, ProcessState.READY, "here", Endpoint("unix:/x", "secret"))
        for row in rows
    }
    sight = Sight(
        {id_: service(id_) for id_ in ("base", "guest")},
        {"base": SECOND, "guest": guest}, REVISIONS, rows, observed, {}, {},
    )  # fmt: skip
    routes = Routes({"vllm": Vllm()}, On(*on), cast(TraitsReader, NoTraits()))
    found: dict[str, Route] = asyncio.run(routes.of(sight))
    # Its base has gone on already.
    assert [each.id for each in found["base"].replicas] == ["new"]
    assert [(each.id, each.slots, each.model) for each in found["guest"].replicas] == [
        (id_, slots, "u-1/guest") for id_ in who
    ]
