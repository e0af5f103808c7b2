"""What a call of `/v1/responses` asks of a chat, and what it is refused for."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelry.gateway.dialects.responses.wishes import Wishes
from modelry.gateway.replies import Reply
from tests.unit.responses import PATH, Api, Json

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}
CLOCK = {"type": "function", "name": "clock", "description": "The time."}
WEATHER_OF_CHAT = {
    "type": "function",
    "function": {"name": "weather", "parameters": CITY, "strict": True},
}
CLOCK_OF_CHAT = {"type": "function", "function": {"name": "clock", "description": "The time."}}
PIXEL, WEB = "data:image/png;base64,AAAA", "https://e.x/a.png"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def user(text: Any) -> Json:
    return {"role": "user", "content": text}


def text(text: str, kind: str = "input_text") -> Json:
    return {"type": kind, "text": text}


def call(id_: str, name: str = "weather") -> Json:
    return {"type": "function_call", "call_id": id_, "name": name, "arguments": "{}"}


def output(id_: str, said: Any = "sunny") -> Json:
    return {"type": "function_call_output", "call_id": id_, "output": said}


def of_chat(id_: str, name: str = "weather") -> Json:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": "{}"}}


MESSAGES: dict[str, tuple[Any, list[Json]]] = {
    "a text": ("hi", [user("hi")]),
    "nothing said": ("", [user("")]),
    "a message without a type": ([user("hi")], [user("hi")]),
    "one part": ([user([{"type": "input_text", "text": "hi"}])], [user("hi")]),
    "parts": (
        [
            user(
                [
                    {"type": "input_text", "text": "what is this?"},
                    {"type": "input_image", "image_url": PIXEL},
                    {"type": "input_image", "image_url": WEB, "detail": "low"},
                ]
            )
        ],
        [
            user(
                [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": PIXEL}},
                    {"type": "image_url", "image_url": {"url": WEB, "detail": "low"}},
                ]
            )
        ],
    ),
    "developers and systems first": (
        [
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "system", "content": [text("Be kind.")]},
            user("hi"),
            {"role": "developer", "content": "Now be long."},
        ],
        [
            {"role": "system", "content": "Be brief.\n\nBe kind."},
            user("hi"),
            {"role": "system", "content": "Now be long."},
        ],
    ),
    "what a model said": (
        [
            user("hi"),
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {"type": "output_text", "text": "Hel", "annotations": []},
                    {"type": "output_text", "text": "lo.", "annotations": []},
                ],
            },
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ],
        [user("hi"), {"role": "assistant", "content": "Hello.\n\nNo."}],
    ),
    "a turn of text and tools is one message": (
        [
            user("weather?"),
            {"type": "reasoning", "summary": [], "content": [text("Hm.", "reasoning_text")]},
            {"role": "assistant", "content": "I look."},
            call("a"),
            call("b", "clock"),
            output("a"),
            output("b", [text("12"), text("pm")]),
            {"role": "assistant", "content": "Sunny."},
        ],
        [
            user("weather?"),
            {
                "role": "assistant",
                "content": "I look.",
                "reasoning_content": "Hm.",
                "tool_calls": [of_chat("a"), of_chat("b", "clock")],
            },
            {"role": "tool", "tool_call_id": "a", "content": "sunny"},
            {"role": "tool", "tool_call_id": "b", "content": "12\npm"},
            {"role": "assistant", "content": "Sunny."},
        ],
    ),
    "tools without a text": (
        [user("weather?"), call("a"), output("a", "")],
        [
            user("weather?"),
            {"role": "assistant", "content": None, "tool_calls": [of_chat("a")]},
            {"role": "tool", "tool_call_id": "a", "content": ""},
        ],
    ),
    "thoughts that led nowhere": (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, user("hi")],
        [user("hi")],
    ),
    "thoughts of which a summary is left": (
        [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"role": "assistant", "content": "Hi."},
        ],
        [{"role": "assistant", "content": "Hi.", "reasoning_content": "Hm."}],
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_items_become_messages(api: Api, name: str) -> None:
    given, messages = MESSAGES[name]
    assert api.chat(input=given)["messages"] == messages


def test_instructions_come_first_and_are_of_one_system_message(api: Api) -> None:
    items = [{"role": "developer", "content": "Be kind."}, user("hi")]
    messages = api.chat(input=items, instructions="Be brief.")["messages"]
    assert messages[0] == {"role": "system", "content": "Be brief.\n\nBe kind."}


FIELDS: dict[str, tuple[Json, Json]] = {
    "nothing": ({}, {}),
    "nulls": (dict.fromkeys({*Wishes.__struct_fields__} - {"model", "input"}), {}),
    "sampling": (
        {"max_output_tokens": 5, "temperature": 0, "top_p": 0.5},
        {"max_completion_tokens": 5, "temperature": 0.0, "top_p": 0.5},
    ),
    "a stream": (
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"stream": True, "stream_options": {"include_usage": True}},
    ),
    "tools": (
        {"tools": [WEATHER, CLOCK], "parallel_tool_calls": False, "tool_choice": "auto"},
        {"tools": [WEATHER_OF_CHAT, CLOCK_OF_CHAT], "parallel_tool_calls": False},
    ),
    "no tools": ({"tools": [], "parallel_tool_calls": True, "tool_choice": "none"}, {}),
    "no tool at all": (
        {"tools": [CLOCK], "tool_choice": "none"},
        {"tools": [CLOCK_OF_CHAT], "tool_choice": "none"},
    ),
    "any tool": (
        {"tools": [CLOCK], "tool_choice": "required"},
        {"tools": [CLOCK_OF_CHAT], "tool_choice": "required"},
    ),
    "one tool": (
        {"tools": [CLOCK], "tool_choice": {"type": "function", "name": "clock"}},
        {
            "tools": [CLOCK_OF_CHAT],
            "tool_choice": {"type": "function", "function": {"name": "clock"}},
        },
    ),
    "some tools": (
        {
            "tools": [WEATHER, CLOCK],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "clock"}],
            },
        },
        {"tools": [CLOCK_OF_CHAT], "tool_choice": "required"},
    ),
    "text": ({"text": {"format": {"type": "text"}}}, {}),
    "json": (
        {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
        {"response_format": {"type": "json_object"}, "verbosity": "low"},
    ),
    "a schema": (
        {"text": {"format": {"type": "json_schema", "name": "c", "schema": CITY, "strict": True}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "c", "schema": CITY, "strict": True},
            }
        },
    ),
    "reasoning": ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
    "logprobs": (
        {"include": ["message.output_text.logprobs"]},
        {"logprobs": True, "top_logprobs": 1},
    ),
    "more logprobs": ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_become_a_chats(api: Api, name: str) -> None:
    given, wanted = FIELDS[name]
    assert api.chat(input="hi", **given) == {"model": PATH, "messages": [user("hi")], **wanted}


IGNORED: list[tuple[Json, tuple[str, ...]]] = [
    ({}, ()),
    ({"include": [], "tools": [], "service_tier": "auto", "temperature": 1, "seed": None}, ()),
    ({"seed": 1, "top_k": 4}, ("seed", "top_k")),
    ({"user": "a", "prompt_cache_key": "b", "moderation": {}}, ("moderation",)),
    ({"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]},
     ("include", "reasoning.summary")),
    ({"service_tier": "flex", "max_tool_calls": 3}, ("max_tool_calls", "service_tier")),
    ({"stream_options": {"include_obfuscation": True}}, ("stream_options.include_obfuscation",)),
]  # fmt: skip


@pytest.mark.parametrize(("given", "ignored"), IGNORED)
def test_what_has_no_effect_is_named_and_goes_nowhere(
    api: Api, given: Json, ignored: tuple[str, ...]
) -> None:
    derived, _ = api.call({"model": PATH, "input": "hi", **given})
    assert derived.ignored == ignored
    assert not {*json.loads(derived.body)} & {*ignored}


REFUSED: list[tuple[Json, str]] = [
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": ["hi"]}, "input[0]"),
    ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
    ({"input": [{"type": 5}]}, "input[0].type"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
    ({"input": [{"role": "robot", "content": "hi"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0]"),
    ({"input": [user([{"type": "input_file", "file_id": "f"}])]}, "input[0].content[0].type"),
    ({"input": [user([{"type": "input_image", "file_id": "f"}])]}, "input[0].content[0].file_id"),
    ({"input": [user([{"type": "input_image"}])]}, "input[0].content[0].image_url"),
    ({"input": [user([{"type": "input_text"}])]}, "input[0].content[0].text"),
    ({"input": [user([{"type": "input_text", "text": 5}])]}, "input[0].content[0].text"),
    (
        {"input": [{"role": "system", "content": [{"type": "input_image", "image_url": PIXEL}]}]},
        "input[0].content[0]",
    ),
    (
        {"input": [{"role": "assistant", "content": [{"type": "input_image"}]}]},
        "input[0].content[0].type",
    ),
    ({"input": [user("hi"), output("a")]}, "input[1].call_id"),
    ({"input": [call("a"), output("a", [{"type": "input_image"}])]}, "input[1].output[0].type"),
    ({"input": [{**call("a"), "arguments": {}}]}, "input[0].arguments"),
    ({"instructions": ["be brief"]}, "instructions"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "warm"}, "temperature"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "custom", "name": "a"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0]"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1]"),
    ({"tools": [{**WEATHER, "parameters": "none"}]}, "tools[0].parameters"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "clock"}}, "tool_choice.name"),
    ({"tools": [CLOCK], "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
    ({"tools": [CLOCK], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools"),
    (
        {"tools": [CLOCK], "tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]}},
        "tool_choice.tools[0].name",
    ),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "schema": CITY}}}, "text.format.name"),
    ({"text": {"verbosity": "some"}}, "text.verbosity"),
    ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"metadata": {"a": 1}}, "metadata[...]"),
    ({"metadata": {"a" * 65: "b"}}, "metadata"),
    ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    ({"truncation": "auto"}, "truncation"),
    ({"background": True}, "background"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"stream": "yes"}, "stream"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"previous_response_id": "../../secret.key"}, "previous_response_id"),
]


@pytest.mark.parametrize(("given", "param"), REFUSED)
def test_what_cannot_be_done_is_refused_by_its_name(api: Api, given: Json, param: str) -> None:
    with pytest.raises(Reply) as refused:
        api.call({"model": PATH, "input": "hi", **given})
    assert refused.value.status == 400
    assert json.loads(refused.value.body)["error"]["param"] == param


def test_a_tool_that_is_not_run_here_is_named(api: Api) -> None:
    with pytest.raises(Reply) as refused:
        api.call({"model": PATH, "input": "hi", "tools": [{"type": "web_search_preview"}]})
    assert b"web_search_preview" in refused.value.body


BODIES = [
    b"",
    b"[]",
    b'"x"',
    b"{",
    b'{"model": 5}',
    b'{"input": "hi"}',
    b'{"model":"a","input":"\xff"}',
    b'{"model":"a","input":"\\ud800"}',
    b"[" * 100_000,
    b'{"model":"a","input":' + b"[" * 100_000,
]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_none_is_a_400(api: Api, body: bytes) -> None:
    with pytest.raises(Reply) as refused:
        api.call(body)
    assert refused.value.status == 400


def test_a_body_of_millions_of_values_is_not_even_read(api: Api) -> None:
    begun = b'{"model":"demo","input":'
    for hostile in (b"[" + b"{}," * 1_500_000 + b"{}]", b"[" * 10 + b"1," * 3_000_000 + b"1]"):
        with pytest.raises(Reply) as refused:
            api.call(begun + hostile + b"}")
        assert refused.value.status == 400
    # A long text may have many commas, and an image is long without any.
    api.responses._body_bytes = 1 << 26
    content = [text("one, two, " * 150_000), {"type": "input_image", "image_url": PIXEL * 300_000}]
    assert api.chat(input=[user(content)])["messages"]


# Values that are near to what is taken: of its words, in its shapes.
_WORDS = (
    "message user assistant system developer function function_call function_call_output "
    "reasoning item_reference input_text output_text refusal input_image text auto none "
    "required allowed_tools json_schema json_object low resp_1 weather"
)
_NAMES = (
    "type role content text refusal image_url detail file_id id call_id name arguments output "
    "summary format schema strict description verbosity effort parameters tools mode"
)
_WORD, _NAME = st.sampled_from(_WORDS.split()), st.sampled_from(_NAMES.split())
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), _WORD, st.text(max_size=5)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_NAME | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
_GOOD: list[Json] = [
    user([text("hi"), {"type": "input_image", "image_url": PIXEL}]),
    {"role": "developer", "content": "Be brief."},
    {"role": "assistant", "content": [text("Hi.", "output_text")]},
    {"type": "reasoning", "summary": [], "content": [text("Hm.", "reasoning_text")]},
    call("a"),
    output("a", [text("12")]),
]
_NEARLY = st.tuples(st.sampled_from(_GOOD), st.dictionaries(_NAME, _VALUES, max_size=1)).map(
    lambda pair: pair[0] | pair[1]
)
_ITEMS = st.lists(_NEARLY | st.dictionaries(_NAME, _VALUES, max_size=5), min_size=1, max_size=6)
_BODIES = st.fixed_dictionaries(
    {"model": st.just(PATH), "input": st.one_of(st.just("hi"), _ITEMS, _VALUES)},
    optional=dict.fromkeys([*Wishes.__struct_fields__[2:], "other"], _VALUES),
)
_ROLES = {"system", "user", "assistant", "tool"}


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_BODIES | st.fixed_dictionaries({"model": st.just(PATH), "input": _ITEMS}))
def test_any_object_becomes_a_chat_or_a_refusal(api: Api, body: Json) -> None:
    status, chat = 0, None
    try:
        chat = json.loads(api.call(body)[0].body)
    except Reply as refused:
        status = refused.status
    if chat is None:
        assert status == 400
    else:
        assert chat["model"] == PATH
        assert {message["role"] for message in chat["messages"]} <= _ROLES


def test_a_caller_s_own_words_are_said_again_in_part_alone(api: Api) -> None:
    with pytest.raises(Reply) as refused:
        api.chat(input=[{"role": "sk-secret" + "x" * 100_000, "content": "a"}])
    assert len(refused.value.body) < 400
    assert b"sk-secret" not in refused.value.body
