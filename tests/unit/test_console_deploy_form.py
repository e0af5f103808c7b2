"""What is typed in the deploy forms is what the API takes, or is complained of at its field."""

from typing import Any

import pytest
from pydantic import ValidationError
from starlette.datastructures import FormData

from modelry.catalog.choice import Wanted
from modelry.console.complaints import complaints_of
from modelry.console.deploy_form import FIELDS, PLACES, of_endpoints, of_model, typed
from modelry.errors import Conflict, InvalidRequest, ModelryError


def form(*more: tuple[str, str], **fields: str) -> FormData:
    return FormData([*({"name": "mine", "model": "m"} | fields).items(), *more])


def test_what_is_left_empty_is_left_to_the_server() -> None:
    wanted = of_model(typed(form(slots="", replicas="", idle_after_s="", variant=" ")))
    assert wanted.model_dump(exclude_unset=True) == {
        "name": "mine",
        "model": "m",
        "engine_args": [],
        "engine_env": {},
    }


def test_all_that_is_typed_is_asked_for() -> None:
    wanted = of_model(
        typed(
            form(
                variant="Q8_0", engine="vllm/vllm-0.32.0-cpu", quantisation="Q8_0", adapter="lora",
                replicas="2", slots="8", context_tokens=" 2048 ", gpus="1",
                idle_after_s="300", engine_args="--a 'b c' --d=e",
                engine_env="A=1\n\n B = x=y \nC=",
            )
        )
    )  # fmt: skip
    assert wanted.model_dump(exclude_unset=True, exclude={"name", "model"}) == {
        "variant": "Q8_0",
        "engine": "vllm",
        "runtime": "vllm-0.32.0-cpu",
        "quantisation": "Q8_0",
        "adapter": "lora",
        "replicas": {"min": 2},
        "slots": 8,
        "context_tokens": 2048,
        "gpus": 1,
        "idle_after_s": 300.0,
        "engine_args": ["--a", "b c", "--d=e"],
        "engine_env": {"A": "1", "B ": " x=y", "C": ""},
    }


def test_never_going_idle_is_said_and_no_word_is_not() -> None:
    never = of_model(typed(form(idle_after_s="never")))
    assert "idle_after_s" in never.model_fields_set
    assert never.idle_after_s is None
    assert "idle_after_s" not in of_model(typed(form())).model_fields_set


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"name": "No"}, "name", "2-64 characters"),
        ({"slots": "many"}, "slots", "valid integer"),
        ({"slots": "0"}, "slots", "greater than or equal to 1"),
        ({"context_tokens": "9" * 30}, "context_tokens", "less than or equal"),
        ({"replicas": "x"}, "replicas", "valid integer"),
        ({"idle_after_s": "soon"}, "idle_after_s", "valid number"),
        ({"quantisation": "Q1"}, "quantisation", "F32"),
        ({"engine_args": "--a 'b"}, "engine_args", "no other"),
        ({"engine_env": "A"}, "engine_env", "has no value"),
        ({"engine_env": "=1"}, "engine_env", "has no value"),
    ],
)
def test_a_complaint_is_at_its_field(fields: dict[str, str], field: str, told: str) -> None:
    with pytest.raises((ValidationError, InvalidRequest)) as caught:
        of_model(typed(form(**fields)))
    assert isinstance(caught.value, ValidationError | ModelryError)
    found = complaints_of(caught.value, FIELDS, PLACES)
    assert told in (found.of(field) or "")
    assert found.rest == ()
    assert found.status == 422


def test_what_belongs_to_no_field_is_told_all_the_same() -> None:
    error = Conflict("there is no room", hint="make some", param="elsewhere")
    found = complaints_of(error, FIELDS, PLACES)
    assert (found.fields, found.rest, found.status) == ({}, ("there is no room (make some)",), 409)


def test_a_parameter_s_name_is_not_told_beside_its_field() -> None:
    found = complaints_of(InvalidRequest("runtime: none such", param="runtime"), FIELDS, PLACES)
    assert found.of("engine") == "none such"


def test_attributes_of_a_field_are_escaped() -> None:
    found = complaints_of(InvalidRequest("name: <b>", param="name"), FIELDS)
    assert found.attributes("name", 'a"b') == (
        ' aria-invalid="true" aria-describedby="name-wrong a&#34;b"'
    )
    assert found.attributes("slots", "slots-hint") == ' aria-describedby="slots-hint"'
    assert found.attributes("slots") == ""


def endpoint(url: str, key: str = "", model: str = "", weight: str = "") -> list[tuple[str, str]]:
    values = {"url": url, "api_key": key, "model": model, "weight": weight}
    return [(f"endpoint_{name}", value) for name, value in values.items()]


def test_rows_in_which_nothing_is_typed_are_none() -> None:
    given = typed(
        FormData(
            [
                ("name", "mine"), ("tasks", "chat"), ("tasks", "rerank"), ("slots", "9"),
                *endpoint("https://a.example/v1", "sk-1", "big", "3"),
                *endpoint("", "", "", "1"),
                *endpoint("https://b.example/v1"),
            ]
        )
    )  # fmt: skip
    wanted = of_endpoints(given)
    assert wanted.tasks == ["chat", "rerank"]
    assert wanted.slots == 9
    found: list[Any] = wanted.endpoint or []
    assert [(each.url, each.model, each.weight) for each in found] == [
        ("https://a.example/v1", "big", 3),
        ("https://b.example/v1", None, 1),
    ]


def test_an_endpoint_without_an_address_is_complained_of() -> None:
    for rows in ([], endpoint("", "sk-1")):
        with pytest.raises(ValidationError) as caught:
            of_endpoints(typed(FormData([("name", "mine"), *rows])))
        assert caught.value.errors()[0]["loc"][:3] == ("endpoint", 0, "url")


def test_numbers_that_cannot_be_are_passed_over_while_one_types() -> None:
    given = typed(form(slots="12", context_tokens="-1", replicas="1e3", engine="a/b"))
    assert given.number("slots", 1, 256) == 12
    assert given.number("slots", 13, 256) is None
    assert given.number("context_tokens", 64, 100) is None
    assert given.number("replicas", 1, 64) is None
    assert given.wanted == Wanted("a", "b")
    assert typed(form()).wanted == Wanted()
