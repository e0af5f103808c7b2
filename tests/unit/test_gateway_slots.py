"""Slots that gateways share: a replica that several services stand on."""

from pathlib import Path

from modelry.gateway.slots import SharedSlots


def test_the_end_of_one_service_leaves_the_claims_of_others(tmp_path: Path) -> None:
    slots = SharedSlots(tmp_path)
    for _ in ("its base", "its adapter"):
        slots.enlist("rep")
    assert slots.take("rep", 1)
    slots.forget("rep")
    assert not slots.take("rep", 1), "the slot is still held"
    assert (tmp_path / "rep.slots").exists()
    slots.release("rep")
    assert slots.take("rep", 1)
    slots.forget("rep")
    assert not (tmp_path / "rep.slots").exists()


def test_a_replica_that_comes_again_begins_anew(tmp_path: Path) -> None:
    slots = SharedSlots(tmp_path)
    for _ in range(2):
        slots.enlist("rep")
        assert slots.take("rep", 1)
        slots.forget("rep")
    assert list(tmp_path.iterdir()) == []
