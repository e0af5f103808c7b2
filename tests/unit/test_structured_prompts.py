"""What a model is told in words of functions and calls."""

import json
import time
from typing import Any

import pytest

from modelry.gateway.replies import Reply
from modelry.gateway.structured.functions import Function, Offer
from modelry.gateway.structured.parsing import Arguments, Begun, CallReader
from modelry.gateway.structured.prompts import told, with_calls_told, with_instructions

LOOK = Function("look", "Looks around.", {"type": "object", "properties": {"größe": {}}})
BARE = Function("bare")
HI = {"role": "user", "content": "hi"}


def calling(*calls: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def call(name: str, arguments: Any, id: str = "call_1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_functions_are_told_with_their_schemas() -> None:
    text = told(Offer((LOOK, BARE), must=False, several=True))
    shown = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert shown == [
        {"name": "look", "description": "Looks around.", "parameters": LOOK.parameters},
        {"name": "bare", "parameters": BARE.parameters},
    ]
    assert "größe" in text
    assert "list" in text


@pytest.mark.parametrize(
    ("offer", "says"),
    [
        (Offer((LOOK, BARE), must=False, several=False), False),
        (Offer((LOOK, BARE), must=True, several=False), True),
        (Offer((LOOK,), must=True, several=False), True),
    ],
)
def test_a_call_is_asked_for_where_one_has_to_come(offer: Offer, says: bool) -> None:
    text = told(offer)
    assert (" now" in text) == says
    assert "list" not in text
    assert ("Call look now" in text) == (offer.named is not None)


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Be brief.", "Be brief.\n\nNEW"),
        ("", "NEW"),
        (None, "NEW"),
        (
            [{"type": "text", "text": "Be brief."}],
            [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "NEW"}],
        ),
    ],
)
def test_a_system_message_says_the_instructions_too(role: str, content: Any, expected: Any) -> None:
    first = {"role": role, "content": content, "name": "n"}
    messages = [first, HI]
    assert with_instructions(messages, "NEW") == [{**first, "content": expected}, HI]
    assert first["content"] == content


@pytest.mark.parametrize("messages", [[], [HI], [HI, {"role": "system", "content": "late"}]])
def test_where_there_is_no_system_message_one_comes_first(messages: list[Any]) -> None:
    assert with_instructions(messages, "NEW") == [{"role": "system", "content": "NEW"}, *messages]


def test_calls_before_and_what_came_of_them_are_told_in_words() -> None:
    messages = [
        HI,
        calling(call("look", '{"a": 1}'), content="Let me see."),
        {"role": "tool", "tool_call_id": "call_1", "content": "A tree."},
        calling(call("look", ""), call("bare", {"b": 2}, "call_2")),
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "None."}]},
        {"role": "tool", "tool_call_id": "lost", "content": None},
        {"role": "function", "name": "old", "content": "Old."},
    ]
    found = with_calls_told(messages)
    assert found == [
        HI,
        {
            "role": "assistant",
            "content": 'Let me see.\n{"name": "look", "arguments": {"a": 1}}',
        },
        {"role": "user", "content": "Result of look:\nA tree."},
        {
            "role": "assistant",
            "content": '[{"name": "look", "arguments": {}}, '
            '{"name": "bare", "arguments": {"b": 2}}]',
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Result of bare:"},
                {"type": "text", "text": "None."},
            ],
        },
        {"role": "user", "content": "Result of the function:\n"},
        {"role": "user", "content": "Result of old:\nOld."},
    ]


def test_results_of_one_function_called_twice_say_which() -> None:
    calls = [call("look", '{"a": 1}'), call("look", '{"a": 2}', "call_2")]
    results = [{"role": "tool", "tool_call_id": f"call_{at}", "content": "Yes."} for at in (2, 1)]
    _, second, first = with_calls_told([calling(*calls), *results])
    assert second["content"] == 'Result of look {"a": 2}:\nYes.'
    assert first["content"] == 'Result of look {"a": 1}:\nYes.'


def test_so_many_calls_at_once_are_told_in_no_more_time_each() -> None:
    calls = [call(f"f{at}", "", f"call_{at}") for at in range(50_000)]
    before = time.process_time()
    with_calls_told([calling(*calls)])
    # Compared with one another, they would take minutes.
    assert time.process_time() - before < 10


def test_calls_are_told_the_way_they_are_asked_for() -> None:
    (message,) = with_calls_told([calling(call("look", '{"a": 1}'), call("bare", "{}"))])
    reader = CallReader(Offer((LOOK, BARE), must=True, several=True))
    pieces = list(reader.feed(message["content"]))
    assert [each.name for each in pieces if isinstance(each, Begun)] == ["look", "bare"]
    assert [each.text for each in pieces if isinstance(each, Arguments)] == ['{"a": 1}', "{}"]


@pytest.mark.parametrize("nonsense", [None, 1, "x", [], {}, {"function": {}}, {"function": "x"}])
def test_calls_that_are_none_are_refused(nonsense: Any) -> None:
    with pytest.raises(Reply) as refused:
        with_calls_told([calling(nonsense)])
    assert b'"param":"messages"' in refused.value.body


@pytest.mark.parametrize("calls", [None, [], "x", {}])
def test_messages_without_calls_stay_as_they_are(calls: Any) -> None:
    message = {"role": "assistant", "content": "hi", "tool_calls": calls}
    assert with_calls_told([message]) == [message]
