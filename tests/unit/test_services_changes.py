"""What a service becomes of what it is and what its owner wants otherwise."""

from typing import Any

import pytest

from modelry.engines.base import Defaults
from modelry.errors import Conflict, InvalidRequest
from modelry.services.changes import Change, check_guests, in_words, next_spec, wish_of
from modelry.services.drafts import Wish
from modelry.services.requests import ServiceUpdate
from modelry.services.spec import Replicas, ServiceSpec, hosted_on

SPEC = ServiceSpec(
    model="mdl-base",
    model_name="base",
    engine="vllm",
    variant="default",
    runtime="vllm-0.9.2-cpu",
    engine_args=("--seed", "1"),
    slots=7,
    idle_after_s=60.0,
    defaults=Defaults(temperature=0.5),
)


def wish(**fields: Any) -> Wish:
    return wish_of(Change(frozenset(fields), **fields), SPEC, "test")


def test_what_is_not_named_stays() -> None:
    wanted = wish(context_tokens=512)
    assert (wanted.model, wanted.variant, wanted.engine) == ("mdl-base", "default", "vllm")
    assert (wanted.runtime, wanted.slots, wanted.context_tokens) == ("vllm-0.9.2-cpu", 7, 512)
    assert (wanted.engine_args, wanted.idle_after_s) == (("--seed", "1"), 60.0)
    assert not wanted.stays


def test_none_gives_the_choice_back() -> None:
    wanted = wish(slots=None, idle_after_s=None, replicas=None)
    assert (wanted.slots, wanted.replicas) == (None, None)
    assert wanted.stays


@pytest.mark.parametrize(
    ("fields", "engine", "runtime"),
    [
        ({"model": "other"}, None, None),
        ({"variant": "small"}, None, None),
        ({"variant": None}, None, None),
        ({"model": "other", "engine": "vllm"}, "vllm", None),
        ({"engine": "llama.cpp"}, "llama.cpp", None),
        ({"runtime": None}, "vllm", None),
        ({"model": "mdl-base", "variant": "default", "engine": "vllm"}, "vllm", "vllm-0.9.2-cpu"),
        ({"adapter": "words"}, "vllm", "vllm-0.9.2-cpu"),
    ],
)
def test_what_follows_from_a_change_is_chosen_anew_and_nothing_else(
    fields: dict[str, Any], engine: str | None, runtime: str | None
) -> None:
    wanted = wish(**fields)
    assert (wanted.engine, wanted.runtime) == (engine, runtime)
    assert wanted.slots == 7


def test_another_model_brings_its_best_variant_unless_one_is_named() -> None:
    assert wish(model="other").variant is None
    assert wish(model="other", variant="default").variant == "default"


def test_with_the_same_weights_what_the_card_says_by_now_is_of_no_account() -> None:
    drafted = SPEC.model_copy(
        update={"slots": 2, "defaults": Defaults(), "model_name": "renamed", "dimensions_min": 3}
    )
    assert next_spec(SPEC, drafted) == SPEC.model_copy(update={"slots": 2})
    other = drafted.model_copy(update={"variant": "small"})
    assert next_spec(SPEC, other) == other


def test_what_changed_is_told_by_names_alone() -> None:
    wanted = SPEC.model_copy(update={"engine_env": {"TOKEN": "hidden"}, "slots": 2})
    assert in_words(SPEC, wanted) == "engine_env, slots"


@pytest.mark.parametrize("field", ["model", "variant", "engine", "adapter"])
def test_weights_that_adapters_are_of_do_not_change(field: str) -> None:
    wanted = SPEC.model_copy(update={field: "other"})
    check_guests(SPEC, wanted, [])
    with pytest.raises(Conflict) as caught:
        check_guests(SPEC, wanted, ["words"])
    assert (caught.value.param, caught.value.code) == (field, "service_has_adapters")


@pytest.mark.parametrize("fields", [{"slots": 1}, {"runtime": "vllm-0.10.0-cpu"}])
def test_what_adapters_do_not_mind_may_change(fields: dict[str, Any]) -> None:
    check_guests(SPEC, SPEC.model_copy(update=fields), ["words"])


def test_an_adapter_goes_with_its_base() -> None:
    guest = SPEC.model_copy(update={"adapter": "a", "adapter_name": "mine", "host": "svc_1"})
    base = SPEC.model_copy(update={"slots": 2, "context_tokens": 512})
    its = hosted_on(base, guest)
    assert (its.slots, its.context_tokens, its.idle_after_s) == (2, 512, None)
    assert (its.adapter, its.adapter_name, its.host) == ("a", "mine", "svc_1")


@pytest.mark.parametrize(
    ("fields", "alike"),
    [
        ({"replicas": Replicas(min=3)}, True),
        ({"idle_after_s": None}, True),
        ({"dimensions_min": 8}, True),
        ({"slots": 8}, False),
        ({"engine_args": ()}, False),
        ({"runtime": None}, False),
        ({"defaults": Defaults()}, False),
    ],
)
def test_replicas_are_alike_where_their_processes_are(fields: dict[str, Any], alike: bool) -> None:
    other = SPEC.model_copy(update=fields)
    assert SPEC.replicas_alike(other) is other.replicas_alike(SPEC) is alike


# -- as it is asked for --------------------------------------------------------


def test_a_change_names_what_was_sent_null_too() -> None:
    change = ServiceUpdate.model_validate({"slots": None, "engine_args": None}).change()
    assert change.named == {"slots", "engine_args"}
    assert (change.slots, change.engine_args) == (None, ())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"endpoint": {"url": "https://a"}}, "endpoint"),
        ({"tasks": ["chat"]}, "tasks"),
        ({"slots": 257}, "slots"),
    ],
)
def test_what_a_service_of_a_model_cannot_be_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ServiceUpdate.model_validate(body).change()
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "base"}, "model"),
        ({"endpoint": None}, "endpoint"),
        ({"replicas": {"min": 2}}, "replicas"),
        ({"engine_args": ["--seed"]}, "engine_args"),
    ],
)
def test_what_a_service_on_endpoints_cannot_be_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ServiceUpdate.model_validate(body).endpoints_change()
    assert caught.value.param == param
