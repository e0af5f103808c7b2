"""What an owner may ask of a service."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelry.services.spec import NAME_RULE, Replicas, ServiceSpec, access_path, check_name

# The contract: "2–64 characters of a-z0-9-, starts with a letter, ends with a letter or digit".
CONTRACT = re.compile(r"\A(?=.{2,64}\Z)(?=[a-z])[a-z0-9-]*[a-z0-9]\Z", re.DOTALL)

near_names = st.text("abz019-", min_size=0, max_size=70)
slips = st.text("abz019-A_./ \n\u00e9\u0660", max_size=8)


def accepted(name: str) -> bool:
    try:
        return check_name(name) == name
    except ValueError:
        return False


@given(near_names | slips | st.text(max_size=70))
def test_a_name_is_accepted_exactly_as_the_contract_says(name: str) -> None:
    assert accepted(name) == bool(CONTRACT.match(name))


@given(st.from_regex(r"[a-z][a-z0-9-]{0,62}[a-z0-9]", fullmatch=True))
def test_every_name_of_the_contract_is_accepted(name: str) -> None:
    assert accepted(name)


@pytest.mark.parametrize("name", ["ab", "a1", "a-b", "a--b", "a" * 64, "x" + "-" * 62 + "9"])
def test_names_at_the_edge_are_accepted(name: str) -> None:
    assert accepted(name)


@pytest.mark.parametrize(
    "name", ["", "a", "a" * 65, "1a", "-a", "a-", "aB", "a_b", "a.b", "a/b", "ab\n", "é1", "a٠"]
)
def test_names_beyond_the_edge_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(NAME_RULE)):
        check_name(name)


def test_an_access_path_is_owner_and_name() -> None:
    assert access_path("u-8105f7322477", "test") == "u-8105f7322477/test"


def test_one_replica_is_the_default() -> None:
    assert (Replicas().min, Replicas().max) == (1, 1)


def test_at_least_so_many_replicas_are_at_most_as_many_too() -> None:
    wished = Replicas.model_validate({"min": 3})
    assert (wished.min, wished.max) == (3, 3)


@pytest.mark.parametrize("wish", [{"min": 3, "max": 2}, {"min": 0}, {"max": 65}, {"least": 1}])
def test_replicas_that_make_no_sense_are_refused(wish: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Replicas.model_validate(wish)


@pytest.mark.parametrize(
    "wrong", [{"slots": 0}, {"slots": 257}, {"context_tokens": 63}, {"colour": "red"}]
)
def test_a_spec_beyond_its_limits_is_refused(wrong: dict[str, object]) -> None:
    right: dict[str, object] = {
        "model": "m",
        "model_name": "m",
        "engine": "llama.cpp",
        "variant": "Q4",
    }
    ServiceSpec.model_validate(right)
    with pytest.raises(ValidationError):
        ServiceSpec.model_validate(right | wrong)


def test_a_spec_reads_back_as_it_was_stored() -> None:
    spec = ServiceSpec(
        model="m", model_name="m", engine="llama.cpp", variant="Q4", slots=2, context_tokens=512
    )
    assert ServiceSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_a_revision_cannot_be_changed() -> None:
    spec = ServiceSpec(model="m", model_name="m", engine="llama.cpp", variant="Q4")
    with pytest.raises(ValidationError):
        spec.slots = 9  # type: ignore[misc]
