"""Chats with functions or a schema, as an engine that knows grammars gets them."""

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.gateway import body as bodies
from modelry.gateway.replies import Reply
from modelry.gateway.request import CHAT, DerivedRequest, Request
from modelry.gateway.structured import chats
from modelry.gateway.structured.known_forms import KnownForms
from modelry.gateway.translating import Answering, TranslatedAnswer
from modelry.routing.messages import Route

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
LOOK = {"type": "function", "function": {"name": "look", "parameters": CITY}}
LISTEN = {"type": "function", "function": {"name": "listen"}}
HI = [{"role": "user", "content": "hi"}]
HISTORY = [
    *HI,
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "function": {"name": "look", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "A tree."},
]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": CITY}}
ROUTE = Route("svc_a", "u-1/a", "u-1", ("chat",), "running", "", 0, grammars=True)


class Caller:
    """What an answer is written to; nothing is, here."""

    translates = False


def structured(fields: Any, route: Route = ROUTE) -> tuple[DerivedRequest, Answering] | None:
    request = Request("peer", 0.0)
    request.path = CHAT
    request.body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    caller: Any = Caller()
    return chats.structured(request, caller, bodies.read(request.body), route, KnownForms())


def made(route: Route = ROUTE, **fields: Any) -> dict[str, Any]:
    """The body that the engine gets."""
    found = structured({"model": "m", "messages": HI, **fields}, route)
    assert found is not None
    body: dict[str, Any] = json.loads(found[0].body)
    return body


def refusal(**fields: Any) -> dict[str, Any]:
    with pytest.raises(Reply) as refused:
        structured({"model": "m", "messages": HI, **fields})
    assert refused.value.status == 400
    told: dict[str, Any] = json.loads(refused.value.body)["error"]
    return told


with_tools = msgspec.structs.replace(ROUTE, tools=True)


# -- requests ----------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": {"type": "text"}},
        {"response_format": None},
    ],
)
@pytest.mark.parametrize("route", [ROUTE, with_tools])
def test_other_chats_go_on_as_they_came(fields: Any, route: Route) -> None:
    assert structured({"model": "m", "messages": HI, **fields}, route) is None


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"tools": []}, ()),
        ({"tools": None, "tool_choice": "required"}, ("tool_choice",)),
        ({"tool_choice": "required"}, ("tool_choice",)),
        ({"tools": [LOOK], "tool_choice": "none", "logprobs": True}, ()),
    ],
)
@pytest.mark.parametrize("route", [ROUTE, with_tools])
def test_functions_of_which_none_may_be_called_are_left_out(
    fields: Any, ignored: tuple[str, ...], route: Route
) -> None:
    found = structured({"model": "m", "messages": HI, **fields}, route)
    assert found is not None
    rest = {"logprobs": True} if "logprobs" in fields else {}
    assert json.loads(found[0].body) == {"model": "m", "messages": HI, **rest}
    assert found[0].ignored == ignored


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
@pytest.mark.parametrize("route", [ROUTE, with_tools])
def test_calls_that_must_come_are_asked_for_by_a_grammar(choice: Any, route: Route) -> None:
    asked = made(
        route, tools=[LOOK, LISTEN], tool_choice=choice, parallel_tool_calls=True, n=2, seed=7
    )
    assert set(asked) == {"model", "messages", "n", "seed", "grammar"}
    system, *rest = asked["messages"]
    assert rest == HI
    assert system["role"] == "system"
    assert '"name": "look"' in system["content"]
    assert ("listen" in system["content"]) == (choice == "required")
    assert ("listen" in asked["grammar"]) == (choice == "required")


def test_an_engine_that_knows_functions_itself_chooses_among_all() -> None:
    fields = {"model": "m", "messages": HISTORY, "tools": [LOOK, LISTEN]}
    for choice in ({}, {"tool_choice": "auto"}, {"parallel_tool_calls": False}):
        assert structured({**fields, **choice}, with_tools) is None
    assert "grammar" in made(tools=[LOOK])


def test_some_of_the_functions_may_be_allowed() -> None:
    wish = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [LISTEN]}}
    asked = made(with_tools, tools=[LOOK, LISTEN], tool_choice=wish, seed=7)
    assert asked == {
        "model": "m",
        "messages": HI,
        "tools": [LISTEN],
        "tool_choice": "auto",
        "seed": 7,
    }
    assert "look" not in made(tools=[LOOK, LISTEN], tool_choice=wish)["grammar"]


@pytest.mark.parametrize("format_", [SCHEMA, {"type": "json_object"}])
@pytest.mark.parametrize("more", [{}, {"tools": [LOOK], "tool_choice": "none"}])
def test_json_is_asked_for_by_a_grammar(format_: Any, more: Any) -> None:
    asked = made(with_tools, response_format=format_, **more)
    assert set(asked) == {"model", "messages", "grammar"}
    assert asked["messages"] == HI
    assert ("city" in asked["grammar"]) == (format_ == SCHEMA)


def test_a_call_or_json_may_be_asked_for_together() -> None:
    for format_ in (SCHEMA, {"type": "json_object"}):
        for route in (ROUTE, with_tools):
            asked = made(route, tools=[LOOK], response_format=format_)
            assert "look" in asked["grammar"]
            assert "answer-object" in asked["grammar"]
            assert "look" in asked["messages"][0]["content"]


def test_calls_before_are_told_where_a_template_would_lose_them() -> None:
    asked = made(messages=HISTORY, seed=1)
    assert asked == {
        "model": "m",
        "seed": 1,
        "messages": [
            *HI,
            {"role": "assistant", "content": '{"name": "look", "arguments": {}}'},
            {"role": "user", "content": "Result of look:\nA tree."},
        ],
    }
    assert structured({"model": "m", "messages": HISTORY}, with_tools) is None
    kept = made(with_tools, messages=HISTORY, tools=[LOOK], tool_choice="required")
    assert kept["messages"][1:] == HISTORY


def test_what_would_cut_json_short_is_left_out_and_told() -> None:
    for fields in (
        {"tools": [LOOK], "tool_choice": "required"},
        {"response_format": SCHEMA},
        {"tools": [LOOK], "response_format": SCHEMA},
    ):
        found = structured({"model": "m", "messages": HI, "stop": ["}"], **fields})
        assert found is not None
        assert "stop" not in json.loads(found[0].body)
        assert found[0].ignored == ("stop",)
    assert made(tools=[LOOK], stop=["x"])["stop"] == ["x"]


def test_what_a_schema_says_in_vain_is_told() -> None:
    odd = {**SCHEMA, "json_schema": {"schema": {**CITY, "if": {}}}}
    found = structured({"model": "m", "messages": HI, "response_format": odd})
    assert found is not None
    assert found[0].ignored == ("if",)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": None}}},
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}},
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": False}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": SCHEMA, "grammar": "root ::= 'a'"}, "grammar"),
        ({"tools": [LOOK], "json_schema": {}}, "json_schema"),
        ({"tools": [LOOK], "messages": "hi"}, "messages"),
        ({"tools": [LOOK], "messages": ["hi"]}, "messages"),
        ({"tools": [LOOK], "tool_choice": "some"}, "tool_choice"),
        ({"tools": 1}, "tools"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(fields: Any, param: str) -> None:
    assert refusal(**fields)["param"] == param


def test_messages_have_to_be_there() -> None:
    with pytest.raises(Reply):
        structured({"model": "m", "tools": [LOOK]})


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[],"tools":[{"function":{"name":"\\ud800"}}]}',
        b'{"model":"m","messages":[],"tools":[1e999]}',
        b'{"model":"m","messages":[],"response_format":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"model":"m","messages":[],"response_format":{"type":"json_schema","json_schema":'
        b'{"schema":' + b'{"items":' * 900 + b"{}" + b"}" * 900 + b"}}}",
        b'{"model":"m","messages":[],"response_format":{"type":"json_schema","json_schema":'
        b'{"schema":{"minimum":1' + b"0" * 4200 + b"}}}}",
    ],
)
def test_monstrous_requests_are_refused(body: bytes) -> None:
    with pytest.raises(Reply) as refused:
        structured(body)
    assert refused.value.status == 400


def test_a_thousand_optional_members_are_followed_or_refused() -> None:
    for count in (500, 5000):
        schema = {"properties": {f"p{at}": {"type": "string"} for at in range(count)}}
        wish = {"type": "json_schema", "json_schema": {"schema": schema}}
        route = msgspec.structs.replace(ROUTE, small=True, context_tokens=2048)
        if count == 500:
            assert "p499" in made(route, response_format=wish)["grammar"]
        else:
            assert "too large" in refusal(response_format=wish)["message"]


_NAMES = [
    *("tools", "tool_choice", "parallel_tool_calls", "response_format", "messages", "type"),
    *("function", "name", "parameters", "json_schema", "schema", "properties", "role", "content"),
    *("tool_calls", "tool_call_id", "stop", "grammar", "n", "max_tokens", "stream", "strict"),
    *("anyOf", "$ref", "items", "enum", "required", "allowed_tools", "mode", "arguments"),
]
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
    | st.sampled_from(
        [
            *("required", "auto", "function", "json_schema", "look", "object", "string", "#"),
            *("tool", "assistant", "system", "allowed_tools", "json_object", "text", "#/$defs/a"),
        ]
    )
)
_ANY = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=14,
)
_TOOLS = st.lists(
    st.fixed_dictionaries(
        {"type": st.just("function")},
        optional={
            "function": st.fixed_dictionaries(
                {"name": st.sampled_from(["look", "listen", "a b", ""])},
                optional={"parameters": _ANY, "description": _ANY, "strict": st.booleans()},
            )
        },
    ),
    max_size=3,
)
_BODIES = st.fixed_dictionaries(
    {"messages": st.lists(_ANY, max_size=3) | st.just(HISTORY)},
    optional={
        "tools": _TOOLS | _ANY,
        "tool_choice": _ANY,
        "parallel_tool_calls": _ANY,
        "response_format": _ANY
        | st.builds(
            lambda schema, strict: {
                "type": "json_schema",
                "json_schema": {"schema": schema, "strict": strict},
            },
            _ANY,
            st.booleans(),
        ),
        "max_tokens": _ANY,
        "max_completion_tokens": _ANY,
        "n": _ANY,
        "stream": _ANY,
        "stop": _ANY,
    },
)


@settings(max_examples=600, deadline=None)
@given(
    _BODIES,
    st.builds(
        lambda tools, small, context, most: msgspec.structs.replace(
            ROUTE, tools=tools, small=small, context_tokens=context, max_tokens=most
        ),
        st.booleans(),
        st.booleans(),
        st.none() | st.integers(1, 9000),
        st.none() | st.integers(1, 9000),
    ),
)
def test_any_body_is_followed_or_refused(fields: Any, route: Route) -> None:
    found = None
    # Any other exception would be the gateway's fault.
    with suppress(Reply):
        found = structured({"model": "m", **fields}, route)
    if found is not None:
        body = json.loads(found[0].body)
        assert body["model"] == "m"
        assert isinstance(body["messages"], list)
        assert not {"tools", "response_format"} & set(body) or "grammar" not in body


def test_only_calls_are_read_back() -> None:
    calls = structured({"model": "m", "messages": HI, "tools": [LOOK]})
    json_alone = structured({"model": "m", "messages": HI, "response_format": SCHEMA})
    assert calls is not None
    assert json_alone is not None
    assert isinstance(calls[1], TranslatedAnswer)
    assert isinstance(json_alone[1], Caller)


@pytest.mark.parametrize("field", ["messages", "tools"])
def test_a_body_of_millions_of_values_is_refused_before_it_is_read(field: str) -> None:
    many = json.dumps({"model": "m", "response_format": SCHEMA, "messages": HI})[:-1].encode()
    many += f', "{field}": ['.encode() + b"{}," * 1_500_000 + b"{}]}"
    tracemalloc.start()
    try:
        with pytest.raises(Reply, match="400"):
            structured(many)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 4 * len(many)
