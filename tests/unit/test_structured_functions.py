"""What a chat offers a model to call, and what is refused of it."""

from typing import Any

import pytest

from modelry.gateway.replies import Reply
from modelry.gateway.structured.functions import FUNCTIONS_MOST, Offer, offer_of


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


TOOLS = [tool("look"), tool("listen", description="Hears.", strict=True), tool("a.b:c-d_1")]


def offered(choice: Any = None, parallel: Any = None, tools: Any = TOOLS) -> Offer:
    offer = offer_of(tools, choice, parallel)
    assert offer is not None
    return offer


def names(offer: Offer) -> list[str]:
    return [each.name for each in offer.functions]


@pytest.mark.parametrize("choice", [None, "auto", "required"])
def test_all_are_offered_unless_one_is_chosen(choice: Any) -> None:
    offer = offered(choice)
    assert names(offer) == ["look", "listen", "a.b:c-d_1"]
    assert [each.index for each in offer.functions] == [0, 1, 2]
    assert [each.strict for each in offer.functions] == [False, True, False]
    assert (offer.must, offer.several) == (choice == "required", True)
    assert offer.named is None


def test_one_that_is_named_has_to_be_called_once() -> None:
    offer = offered({"type": "function", "function": {"name": "listen"}}, True)
    assert names(offer) == ["listen"]
    assert (offer.must, offer.several) == (True, False)
    assert offer.named == offer.functions[0]
    assert offer.functions[0].index == 1


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_some_may_be_allowed(mode: str) -> None:
    allowed = [tool("listen"), {"type": "function", "name": "look"}, tool("listen")]
    wish = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}
    offer = offered(wish)
    assert names(offer) == ["listen", "look"]
    assert offer.must == (mode == "required")


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        (TOOLS, "none"),
        (None, "required"),
        ([], "required"),
        (TOOLS, {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
    ],
)
def test_there_may_be_nothing_to_call(tools: Any, choice: Any) -> None:
    assert offer_of(tools, choice, None) is None


@pytest.mark.parametrize(("parallel", "several"), [(None, True), (True, True), (False, False)])
def test_several_calls_may_be_forbidden(parallel: Any, several: bool) -> None:
    assert offered("required", parallel).several is several


def test_parameters_may_be_missing() -> None:
    empty: list[Any] = [None, {}, {"type": "object"}, {"type": "object", "properties": {}}]
    without: list[dict[str, Any]] = [{}, *({"parameters": each} for each in empty)]
    for missing in without:
        (function,) = offered(tools=[tool("look", **missing)]).functions
        # Nothing, or a model would make up what is not asked for.
        assert function.parameters["additionalProperties"] is False
        assert function.parameters["properties"] == {}
    for more in ({"additionalProperties": True}, {"anyOf": [{"required": ["a"]}]}):
        (function,) = offered(tools=[tool("look", parameters={"type": "object", **more})]).functions
        assert "anyOf" in function.parameters or function.parameters["additionalProperties"] is True


@pytest.mark.parametrize(
    ("tools", "choice", "parallel", "param"),
    [
        ("look", None, None, "tools"),
        ({}, None, None, "tools"),
        ([tool(f"f{at}") for at in range(FUNCTIONS_MOST + 1)], None, None, "tools"),
        ([tool("a"), 1], None, None, "tools[1]"),
        ([{"type": "web_search"}], None, None, "tools[0].type"),
        ([{"type": ["function"]}], None, None, "tools[0].type"),
        ([{"type": "function"}], None, None, "tools[0].function"),
        ([{"type": "function", "function": []}], None, None, "tools[0].function"),
        ([tool("")], None, None, "tools[0].function.name"),
        ([tool("a b")], None, None, "tools[0].function.name"),
        ([tool("a\n")], None, None, "tools[0].function.name"),
        ([tool('a"')], None, None, "tools[0].function.name"),
        ([tool("größe")], None, None, "tools[0].function.name"),
        ([tool("a" * 129)], None, None, "tools[0].function.name"),
        ([{"type": "function", "function": {}}], None, None, "tools[0].function.name"),
        ([tool("a"), tool("b"), tool("a")], None, None, "tools[2].function.name"),
        ([tool("a", description=1)], None, None, "tools[0].function.description"),
        ([tool("a", parameters=[])], None, None, "tools[0].function.parameters"),
        ([tool("a", parameters="x")], None, None, "tools[0].function.parameters"),
        (TOOLS, "any", None, "tool_choice"),
        (TOOLS, 1, None, "tool_choice"),
        (TOOLS, {"type": "function", "name": "look"}, None, "tool_choice"),
        (TOOLS, tool("missing"), None, "tool_choice"),
        (TOOLS, {"type": "allowed_tools"}, None, "tool_choice"),
        (
            TOOLS,
            {"type": "allowed_tools", "allowed_tools": {"mode": "any", "tools": [tool("look")]}},
            None,
            "tool_choice",
        ),
        (
            TOOLS,
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("x")]}},
            None,
            "tool_choice",
        ),
        (
            TOOLS,
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": ["look"]}},
            None,
            "tool_choice",
        ),
        (TOOLS, None, "yes", "parallel_tool_calls"),
        (TOOLS, None, 0, "parallel_tool_calls"),
        (None, None, [], "parallel_tool_calls"),
    ],
)
def test_what_is_none_of_openai_s_is_refused_by_its_name(
    tools: Any, choice: Any, parallel: Any, param: str
) -> None:
    with pytest.raises(Reply) as refused:
        offer_of(tools, choice, parallel)
    assert refused.value.status == 400
    assert b'"param":"' + param.encode() + b'"' in refused.value.body
