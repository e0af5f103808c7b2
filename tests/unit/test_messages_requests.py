"""Requests of Anthropic's Messages API, and the chats that they become."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway.dialects.messages.requests import Chat, chat_of, prompt_of
from modelry.gateway.replies import Reply

HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "look", "description": "Looks.", "input_schema": SCHEMA}
FUNCTION = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA},
}


def made(**fields: Any) -> Chat:
    body = {"model": "m", "max_tokens": 9, "messages": HI, **fields}
    return chat_of(json.dumps(body).encode())


def chat(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made(**fields).body)
    return found


def messages(*turns: Any, **fields: Any) -> Any:
    return chat(messages=turns, **fields)["messages"]


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "cache_control": {"type": "ephemeral"}}


def use(id: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "look", "input": {"city": "Oslo"}, **more}


def result(id: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, **more}


LINK = {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}
LINKED = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
DATA = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
INLINE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_a_plain_request_is_a_plain_chat() -> None:
    assert chat() == {"model": "m", "messages": HI, "max_tokens": 9}
    assert made().ignored == ()
    assert not made().streams


@pytest.mark.parametrize(
    ("asked", "becomes"),
    [
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"top_p": 0.9, "top_k": 40}, {"top_p": 0.9, "top_k": 40}),
        ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stop_sequences": []}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False}, {}),
        ({"tools": [TOOL]}, {"tools": [FUNCTION]}),
        ({"tools": [TOOL | {"type": "custom"}]}, {"tools": [FUNCTION]}),
        (
            {"tools": [{"name": "look", "input_schema": SCHEMA, "strict": True}]},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "look", "parameters": SCHEMA, "strict": True},
                    }
                ]
            },
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "auto"}},
            {"tools": [FUNCTION], "tool_choice": "auto"},
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
            {"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": False},
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "none"}},
            {"tools": [FUNCTION], "tool_choice": "none"},
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
            {
                "tools": [FUNCTION],
                "tool_choice": {"type": "function", "function": {"name": "look"}},
            },
        ),
        ({"tool_choice": {"type": "auto"}}, {}),
        (
            {"thinking": {"type": "adaptive"}},
            {"chat_template_kwargs": {"enable_thinking": True}},
        ),
        (
            {"thinking": {"type": "disabled"}},
            {"chat_template_kwargs": {"enable_thinking": False}},
        ),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "high"}),
        ({"cache_control": {"type": "ephemeral"}, "metadata": None, "system": None}, {}),
    ],
)
def test_what_is_asked_beside_messages(asked: dict[str, Any], becomes: dict[str, Any]) -> None:
    assert chat(**asked) == {"model": "m", "messages": HI, "max_tokens": 9} | becomes


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_form_of_the_answer_is_a_chat_s_response_format(field: str) -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    asked = chat(**{field: form if field == "output_format" else {"format": form}})
    told = {"name": "answer", "schema": SCHEMA, "strict": True}
    assert asked["response_format"] == {"type": "json_schema", "json_schema": told}


def test_what_has_no_effect_is_named() -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}
    asked = made(metadata={"user_id": "u"}, speed="fast", thinking=thinking, made_up=1)
    wanted = {"metadata", "speed", "made_up", "thinking.budget_tokens", "thinking.display"}
    assert set(asked.ignored) == wanted
    assert made(thinking={"type": "between_tools"}).ignored == ("thinking",)
    assert json.loads(asked.body)["chat_template_kwargs"] == {"enable_thinking": True}


@pytest.mark.parametrize("system", ["Be brief.\nBe kind.", [text("Be brief."), text("Be kind.")]])
def test_a_system_prompt_comes_first(system: Any) -> None:
    told = {"role": "system", "content": "Be brief.\nBe kind."}
    assert messages(*HI, system=system) == [told, *HI]
    assert messages(*HI, {"role": "system", "content": system})[1] == told


def test_texts_of_a_message_are_one_text() -> None:
    turns = messages(user(text("a"), text("b")), assistant(text("c"), text("d")), user(text("e")))
    assert [turn["content"] for turn in turns] == ["a\nb", "cd", "e"]


def test_messages_of_one_role_are_one_turn() -> None:
    turns = messages(*HI, *HI, {"role": "assistant", "content": "a"}, assistant(text("b")), *HI)
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("user", "hi\nhi"),
        ("assistant", "a\nb"),
        ("user", "hi"),
    ]


def test_images_stand_where_they_stood() -> None:
    (turn,) = messages(user(LINK, text("and"), DATA))
    assert turn["content"] == [LINKED, {"type": "text", "text": "and"}, INLINE]


def test_calls_of_tools_and_what_came_of_them() -> None:
    turns = messages(
        *HI,
        assistant(text("I look."), use("a"), use("b", input={"é": [1, None]})),
        user(
            result("a", content="sun"),
            result("b", content=[text("rain"), text("wind")], is_error=True),
            text("So?"),
        ),
    )
    called = turns[1]
    assert called["content"] == "I look."
    assert [call["id"] for call in called["tool_calls"]] == ["a", "b"]
    functions = [call["function"] for call in called["tool_calls"]]
    assert [json.loads(each["arguments"]) for each in functions] == [
        {"city": "Oslo"},
        {"é": [1, None]},
    ]
    assert turns[2:] == [
        {"role": "tool", "tool_call_id": "a", "content": "sun"},
        {"role": "tool", "tool_call_id": "b", "content": "Error: rain\nwind"},
        {"role": "user", "content": "So?"},
    ]


def test_a_result_alone_is_no_message_of_the_user() -> None:
    turns = messages(*HI, assistant(use("a")), user(result("a")))
    assert turns[2:] == [{"role": "tool", "tool_call_id": "a", "content": ""}]


def test_images_of_results_follow_in_the_user_s_message() -> None:
    turns = messages(*HI, assistant(use("a")), user(result("a", content=[text("see"), DATA])))
    assert turns[2:] == [
        {"role": "tool", "tool_call_id": "a", "content": "see"},
        {"role": "user", "content": [INLINE]},
    ]


def test_thoughts_go_back_as_reasoning() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    hidden = {"type": "redacted_thinking", "data": "?"}
    turns = messages(*HI, assistant(thought, hidden, text("ok")), *HI)
    assert turns[1] == {"role": "assistant", "content": "ok", "reasoning_content": "hm"}


def test_an_answer_s_beginning_is_continued() -> None:
    asked = chat(messages=[*HI, {"role": "assistant", "content": "Well"}])
    assert asked["messages"][-1] == {"role": "assistant", "content": "Well"}
    assert (asked["add_generation_prompt"], asked["continue_final_message"]) == (False, True)


def test_an_answer_without_a_beginning_is_new() -> None:
    asked = chat(messages=[*HI, {"role": "assistant", "content": ""}])
    assert asked["messages"] == HI
    assert "continue_final_message" not in asked


def test_what_is_counted_is_the_prompt_alone() -> None:
    body = {"model": "m", "messages": HI, "tools": [TOOL], "system": "Be brief."}
    counted = json.loads(prompt_of(json.dumps(body).encode()).body)
    whole = chat(tools=[TOOL], system="Be brief.")
    assert counted == {name: whole[name] for name in ("model", "messages", "tools")}


FORM = {"format": {"type": "json_schema", "schema": SCHEMA}}
DOCUMENT = {"type": "document", "source": {"type": "text", "data": "a"}}


@pytest.mark.parametrize(
    ("asked", "param", "says"),
    [
        ({"model": None}, "model", "model"),
        ({"max_tokens": None}, "max_tokens", "'max_tokens' is missing"),
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"max_tokens": "9"}, "max_tokens", "got `str`"),
        ({"temperature": 1.5}, "temperature", "<= 1.0"),
        ({"stop_sequences": [""]}, "stop_sequences", "'stop_sequences[0]'"),
        ({"stream": "yes"}, "stream", "'stream'"),
        ({"system": 5}, "system", "'system' must be a text or a list"),
        ({"system": [LINK]}, "system", "'system[0]' must be of type 'text'"),
        ({"messages": []}, "messages", "'messages' is empty"),
        ({"messages": "hi"}, "messages", "'messages': expected `array`"),
        ({"messages": ["hi"]}, "messages", "'messages[0]'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages", "'messages[0].role'"),
        ({"messages": [{"role": "user"}]}, "messages", "'messages[0].content' is missing"),
        ({"messages": [user({"text": "a"})]}, "messages", "'messages[0].content[0].type'"),
        ({"messages": [user(text("a"), DOCUMENT)]}, "messages", "messages[0].content[1]"),
        (
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "messages",
            "'messages[0].content[0].source': 'file' is not taken",
        ),
        ({"messages": [user(use("a"))]}, "messages", "no 'tool_use' stands in a message"),
        ({"messages": [*HI, assistant(LINK)]}, "messages", "'messages[1].content[0]'"),
        (
            {"messages": [user(result("a", content=[text("a"), use("b")]))]},
            "messages",
            "'messages[0].content[0].content[1]': no 'tool_use'",
        ),
        ({"messages": [*HI, assistant(use("a", input=[]))]}, "messages", "must be an object"),
        ({"messages": [*HI, assistant(use("a"))]}, "messages", "'tool_result'"),
        ({"messages": [assistant()]}, "messages", "'messages' says nothing"),
        (
            {"messages": [*HI, assistant(text("{"))], "output_config": FORM},
            "messages",
            "leave one of both out",
        ),
        ({"tools": {"a": 1}}, "tools", "'tools': expected `array`"),
        ({"tools": [{"input_schema": SCHEMA}]}, "tools", "'tools[0].name' is missing"),
        ({"tools": [{"name": "a"}]}, "tools", "'tools[0].input_schema' is missing"),
        ({"tools": [{"name": "a", "input_schema": 5}]}, "tools", "must be an object"),
        (
            {"tools": [{"name": "bash", "type": "bash_20250124"}]},
            "tools",
            "'bash_20250124' is a tool of Anthropic's own",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "there are no 'tools'"),
        ({"tools": [TOOL], "tool_choice": {"type": "x"}}, "tool_choice", "'tool_choice.type'"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}},
            "tool_choice",
            "no tool 'other'",
        ),
        ({"thinking": {"type": "much"}}, "thinking", "'thinking.type'"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config", "'output_config.format"),
        ({"output_format": {"type": "json_schema"}}, "output_format", "schema' is missing"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers", "MCP"),
        ({"container": "c"}, "container", "containers"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    asked: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(Reply) as raised:
        made(**asked)
    told = json.loads(raised.value.body)["error"]
    assert (raised.value.status, told["param"]) == (400, param)
    assert says in told["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": "m", "messages": [', b"\xff"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Reply) as raised:
        chat_of(body)
    assert raised.value.status == 400


def test_more_than_anybody_says_is_refused_before_it_is_read() -> None:
    with pytest.raises(Reply) as raised:
        made(messages=HI * 20000)
    assert "too many" in json.loads(raised.value.body)["error"]["message"]
    with pytest.raises(Reply) as raised:
        made(messages=[user(*[{"type": "text", "text": ""}] * 9000)] * 2)
    assert "too many" in json.loads(raised.value.body)["error"]["message"]


# -- whatever comes ----------------------------------------------------------

WORDS = st.sampled_from(
    ["", "hi", "user", "assistant", "system", "text", "auto", "any", "tool", "é\ud7ff\0", "look"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
SOURCES = st.sampled_from([LINK["source"], DATA["source"], {"type": "file"}]) | ANYTHING
BLOCKS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}),
    st.fixed_dictionaries({"type": st.just("image"), "source": SOURCES}),
    st.fixed_dictionaries({"type": st.just("tool_use"), "id": WORDS, "name": WORDS}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": WORDS}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking")}),
    st.fixed_dictionaries(
        {"type": st.just("tool_result"), "tool_use_id": WORDS}, optional={"content": ANYTHING}
    ),
    ANYTHING,
)
CONTENTS = WORDS | st.lists(BLOCKS, max_size=4) | ANYTHING
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": CONTENTS}
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.just("m") | ANYTHING,
        "max_tokens": st.just(5) | ANYTHING,
        "messages": st.lists(TURNS, max_size=5) | ANYTHING,
        "system": CONTENTS,
        "tools": st.lists(st.just(TOOL) | ANYTHING, max_size=2) | ANYTHING,
        "tool_choice": st.fixed_dictionaries({"type": WORDS}) | ANYTHING,
        "thinking": ANYTHING,
        "output_config": ANYTHING,
        "stream": ANYTHING,
        "container": ANYTHING,
        "mcp_servers": ANYTHING,
        "other": ANYTHING,
    },
)


LIKELY = st.fixed_dictionaries(
    {
        "model": st.just("m"),
        "max_tokens": st.just(5),
        "messages": st.lists(TURNS, min_size=1, max_size=5),
    }
)


def asked_or_refused(body: Any, read: Callable[[bytes], Chat]) -> Any:
    try:
        return json.loads(read(json.dumps(body).encode()).body)
    except Reply as reply:
        return reply


@given(LIKELY | REQUESTS | st.dictionaries(WORDS, ANYTHING, max_size=4))
def test_any_object_is_a_chat_or_a_refusal(body: dict[str, Any]) -> None:
    for read in (chat_of, prompt_of):
        asked = asked_or_refused(body, read)
        if isinstance(asked, Reply):
            assert asked.status == 400
            assert json.loads(asked.body)["error"]["message"]
        else:
            roles = {turn["role"] for turn in asked["messages"]}
            assert roles
            assert roles <= {"system", "user", "assistant", "tool"}
