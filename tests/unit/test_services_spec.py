"""What an owner may ask of a service."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelry.services.spec import (
    NAME_RULE,
    URL_RULE,
    EndpointSpec,
    EndpointsSpec,
    Replicas,
    ServiceSpec,
    access_path,
    check_name,
    check_url,
    parse_spec,
)

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
    assert parse_spec(spec.model_dump(mode="json")) == spec
    elsewhere = EndpointsSpec(endpoints=(EndpointSpec(id="ep_1", url="http://host"),))
    assert parse_spec(elsewhere.model_dump(mode="json")) == elsewhere


def test_a_spec_that_was_stored_before_there_was_idleness_reads_well() -> None:
    stored = {"model": "m", "model_name": "m", "engine": "llama.cpp", "variant": "Q4"}
    spec = parse_spec(stored)
    assert isinstance(spec, ServiceSpec)
    assert spec.idle_after_s is None


def test_a_revision_cannot_be_changed() -> None:
    spec = ServiceSpec(model="m", model_name="m", engine="llama.cpp", variant="Q4")
    with pytest.raises(ValidationError):
        spec.slots = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("HTTPS://API.Example.com/V1//", "https://api.example.com/V1"),
        ("http://host", "http://host"),
        ("http://host/", "http://host"),
        ("http://my_host:8000/openai/v1", "http://my_host:8000/openai/v1"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
    ],
)
def test_an_endpoints_address_is_kept_without_a_final_slash(given: str, kept: str) -> None:
    assert check_url(given) == kept
    assert check_url(kept) == kept


@pytest.mark.parametrize(
    "url",
    [
        *("", "host", "host/v1", "//host", "ftp://host", "file:///x", "http://", "http:///v1"),
        *("http://user@host", "http://user:pass@host", "http://host?", "http://host/v1?a=b"),
        *("http://host#", "http://host/#x", "http://host:", "http://host:0", "http://host:65536"),
        *("http://ho st", "http://host/a b", "http://host/\n", "http://host\r\nx: y", "http://é"),
        *("http://[::1", "http://[:::1]", "http://[1.2.3.4]", "http://[fe80::1%25eth0]"),
        *("http://host\\@x", "http://host/\\", 'http://host/"', "http://host:٠"),
    ],
)
def test_what_is_no_address_of_an_endpoint_is_refused_with_the_rule(url: str) -> None:
    with pytest.raises(ValueError, match=re.escape(URL_RULE)):
        check_url(url)


def test_an_address_of_a_call_is_refused_and_told_what_to_leave_out() -> None:
    with pytest.raises(ValueError, match="leave /chat/completions out"):
        check_url("https://api.example.com/v1/chat/completions")


def test_a_model_is_named_where_every_endpoint_calls_it_so() -> None:
    def named(*models: str | None) -> str | None:
        endpoints = [EndpointSpec(id="ep", url="http://host", model=model) for model in models]
        return EndpointsSpec(endpoints=tuple(endpoints)).model_name

    assert named("a") == named("a", "a") == "a"
    assert named(None) is named("a", "b") is named("a", None) is None
