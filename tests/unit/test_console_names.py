"""Names that are suggested are names that can be had."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.console.names import said_of, suggested
from modelry.services.spec import check_name


@pytest.mark.parametrize(
    ("model", "taken", "name"),
    [
        ("qwen3-8b", (), "qwen3-8b"),
        ("qwen3-8b", ("qwen3-8b",), "qwen3-8b-2"),
        ("qwen3-8b", ("qwen3-8b", "qwen3-8b-2"), "qwen3-8b-3"),
        ("FLUX.1 [schnell]", (), "flux-1-schnell"),
        ("3d-model", (), "model-3d-model"),
        ("...", (), "model"),
        ("x", (), "model-x"),
        ("<b>", (), "model-b"),
    ],
)
def test_a_name_is_like_the_model_s(model: str, taken: tuple[str, ...], name: str) -> None:
    assert suggested(model, taken) == name


@given(st.text(max_size=120), st.integers(0, 12))
def test_a_suggested_name_is_always_free_and_by_the_rule(model: str, used: int) -> None:
    taken: set[str] = set()
    for _ in range(used + 1):
        name = suggested(model, taken)
        check_name(name)
        assert said_of(name, taken) == "free"
        taken.add(name)


def test_what_is_said_of_a_name() -> None:
    assert said_of("", ()) is None
    assert said_of("Upper", ()) == "against_rule"
    assert said_of("a", ()) == "against_rule"
    assert said_of("mine", ("mine",)) == "taken"
    assert said_of("mine", ("yours",)) == "free"
