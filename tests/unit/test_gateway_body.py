"""What the gateway reads of a body, and that it changes nothing else in it."""

import json
import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelry.gateway import body as bodies
from modelry.gateway.call import Call
from modelry.gateway.picture_parts import refuse_media
from modelry.gateway.replies import Reply
from modelry.gateway.request import Request
from modelry.gateway.tasks import tokens_expected

ODD = '{"model":"x","temperature":0.70,"big":12345678901234567890,"text":"\\u00fc ü"}'


def test_an_edited_body_keeps_every_other_field_as_it_came() -> None:
    asked = bodies.edited(ODD.encode(), stream=True).decode()
    assert '"temperature":0.70' in asked
    assert '"big":12345678901234567890' in asked
    assert '"text":"\\u00fc ü"' in asked
    assert json.loads(asked) == {**json.loads(ODD), "stream": True}


@pytest.mark.parametrize("before", ["", " ", "\r\n\t "])
def test_a_stream_is_asked_for_its_usage(before: str) -> None:
    body = f"{before}{ODD}".encode()
    asked = bodies.with_usage(bodies.read(body), body)
    assert json.loads(asked) == {**json.loads(ODD), "stream_options": {"include_usage": True}}
    assert b'"big":12345678901234567890' in asked


@pytest.mark.parametrize("options", ["null", "{}", '{"include_usage":false,"other":1}', "7", '"x"'])
def test_options_that_do_not_ask_for_usage_are_changed_to_do(options: str) -> None:
    body = f'{{"model":"x","stream_options":{options}}}'.encode()
    asked = json.loads(bodies.with_usage(bodies.read(body), body))
    assert asked["stream_options"]["include_usage"] is True
    said = json.loads(options)
    kept = {**said, "include_usage": True} if isinstance(said, dict) else {"include_usage": True}
    assert asked["stream_options"] == kept


@pytest.mark.parametrize(
    "body",
    ["", "[]", "7", "null", "{", '{"model":7}', '{"model":null}', '{"model":""}', "{}", "[" * 5000],
)
def test_a_body_that_names_no_model_is_refused_in_words(body: str) -> None:
    with pytest.raises(Reply) as refused:
        bodies.read(body.encode())
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("text", "is_half"),
    [
        (rb"\ud800", True),
        (rb"\udc00", True),
        (rb"\uD83D\uD83D", True),
        (rb"\uD83D\uDE42", False),
        (rb"\x", False),
    ],
)
def test_half_a_surrogate_pair_is_told_as_what_it_is(text: bytes, is_half: bool) -> None:
    with pytest.raises(Reply) as raised:
        bodies.read(b'{"model":"x","text":"%s","more":]}' % text)
    assert raised.value.problem is not None
    assert ("surrogate" in raised.value.problem[1]) is is_half


def test_a_body_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(Reply):
        bodies.read(b'{"model":"\xff"}')


@pytest.mark.parametrize(
    ("field", "tokens"),
    [({}, 256), ({"max_tokens": 5}, 5), ({"max_tokens": 9, "max_completion_tokens": 7}, 7)],
)
def test_the_tokens_expected_are_prompt_and_answer(field: dict[str, int], tokens: int) -> None:
    body = json.dumps({"model": "x", "prompt": "y" * 400, **field}).encode()
    expected = bodies.expected_tokens(bodies.read(body), body)
    assert expected == len(body) // 4 + tokens


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (b"/v1/chat/completions", 256),
        (b"/v1/completions", 256),
        (b"/v1/embeddings", 0),
        (b"/v1/rerank", 0),
    ],
)
def test_an_answer_is_expected_only_of_engines_that_write_one(path: bytes, answer: int) -> None:
    body = json.dumps({"model": "x", "input": "y" * 400}).encode()
    expected = tokens_expected(path, bodies.read(body), body)
    assert expected == len(body) // 4 + answer
    assert tokens_expected(b"/v1/audio/speech", bodies.read(body), body) == 0


@pytest.mark.parametrize("value", ["-1", "0", "1e9", '"many"', "[]", "true"])
def test_a_length_that_is_none_is_taken_for_unknown(value: str) -> None:
    body = f'{{"model":"x","max_tokens":{value}}}'.encode()
    assert bodies.expected_tokens(bodies.read(body), body) == len(body) // 4 + 256


def test_an_image_counts_as_an_image_and_not_by_its_bytes() -> None:
    text = b"word " * 2000
    image = b'{"url":"data:image/png;base64,%b"}'
    plain = b'{"model":"x","max_tokens":7,"messages":["%b"]}' % text
    head = bodies.read(plain)
    assert bodies.expected_tokens(head, plain) == len(plain) // 4 + 7
    for size in (4, 400_000):
        coded = image % (b"A" * size)
        body = plain[:-2] + b"," + coded + b"," + coded + b"]}"
        tokens = bodies.expected_tokens(head, body)
        assert tokens == pytest.approx(len(plain) // 4 + 7 + 2000, abs=30)


def test_a_body_that_ends_within_an_image_has_a_length() -> None:
    body = b'{"url":"data:image/png;base64,' + b"A" * 8000
    assert bodies.prompt_tokens(body) == len(body) // 4


def test_images_are_counted_up_to_what_any_request_may_have() -> None:
    """Millions of them would take seconds."""
    body = b'{"x":[' + b'";base64,",' * 5000 + b"0]}"
    assert bodies.prompt_tokens(body) < 2000 * bodies.IMAGE_TOKENS


def turns(*said: tuple[str, str], model: str = "x") -> bytes:
    messages = [{"role": role, "content": text} for role, text in said]
    return json.dumps({"model": model, "messages": messages}).encode()


def test_a_conversation_is_the_same_over_its_turns() -> None:
    first = turns(("system", "be kind"), ("user", "hi"))
    later = turns(("system", "be kind"), ("user", "hi"), ("assistant", "yes"), ("user", "and?"))
    assert bodies.conversation(first, "u/x") == bodies.conversation(later, "u/x") is not None


def test_conversations_that_begin_otherwise_differ() -> None:
    known = bodies.conversation(turns(("system", "a"), ("user", "hi")), "u/x")
    assert known != bodies.conversation(turns(("system", "b"), ("user", "hi")), "u/x")
    assert known != bodies.conversation(turns(("system", "a"), ("user", "ho")), "u/x")
    assert known != bodies.conversation(turns(("system", "a"), ("user", "hi")), "u/other")


@pytest.mark.parametrize(
    "body", [b"{}", b'{"messages":[]}', b'{"messages":7}', b'{"messages":[7]}']
)
def test_what_is_no_chat_is_no_conversation(body: bytes) -> None:
    assert bodies.conversation(body, "u/x") is None


@pytest.mark.parametrize(
    ("fields", "prompts", "answers"),
    [
        ("", 1, 1),
        (',"n":4', 1, 4),
        (',"n":null', 1, 1),
        (',"n":"4"', 1, 1),
        (',"n":-1', 1, 1),
        (',"n":true', 1, 1),
        (',"prompt":"a"', 1, 1),
        (',"prompt":[]', 1, 1),
        (',"prompt":["a","b"]', 2, 2),
        (',"prompt":[1,2,3]', 1, 1),
        (',"prompt":[[1],[2,3],[4]],"n":2', 3, 6),
        (',"prompt":["a"],"n":1000000000', 1, 1 << 20),
    ],
)
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_how_many_answers_are_asked_for(
    kind: type[bytes] | type[bytearray], fields: str, prompts: int, answers: int
) -> None:
    body = kind(b'{"model":"m","max_tokens":10%b}' % fields.encode())
    head = bodies.read(body)
    assert bodies.answers(head) == (prompts, answers)
    assert bodies.expected_tokens(head, body) == len(body) // 4 + 10 * answers


ROUTE = cast(Any, SimpleNamespace(endpoints=(), access_path="u/x"))
MIB = 1024 * 1024


def look(prompt: str) -> int:
    """What a completion's prompt leads to before a slot is taken; returns its answers."""
    body = f'{{"model":"m","prompt":{prompt}}}'.encode()
    request = Request("", 0.0)
    request.body, head = body, bodies.read(body)
    refuse_media(request, head, ROUTE)
    tokens_expected(b"/v1/completions", head, body)
    return bodies.answers(head)[1]


@pytest.mark.parametrize(
    ("item", "answers"), [("7", 1), ('"a"', None), ("[7]", None), ("{}", None), ("[]", None)]
)
def test_a_prompt_of_a_million_items_takes_no_memory(item: str, answers: int | None) -> None:
    """A list of tokens is one prompt; of others there are only so many."""
    prompt = "[" + ",".join([item] * 1_000_000) + "]"
    tracemalloc.start()
    try:
        if answers is None:
            with pytest.raises(Reply) as refused:
                look(prompt)
            assert refused.value.status == 400
        else:
            assert look(prompt) == answers
        assert tracemalloc.get_traced_memory()[1] < 5 * len(prompt) + MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "prompt", ["{}", '[{"prompt_string":"x"}]', '["a",{}]', "[1,{}]", "[1, 2, {}]"]
)
def test_a_prompt_brings_no_objects(prompt: str) -> None:
    with pytest.raises(Reply) as refused:
        look(prompt)
    assert b"unsupported_content" in refused.value.body


@pytest.mark.parametrize("prompt", ['"a {b}"', '["a {b}","{}"]', "[1,2]", '[1,"{"]'])
def test_braces_in_texts_are_no_objects(prompt: str) -> None:
    assert look(prompt) > 0


@pytest.mark.parametrize(
    ("path", "endpoints", "has"),
    [
        (b"/v1/chat/completions", (), True),
        (b"/v1/completions", (), False),
        (b"/v1/chat/completions", ("elsewhere",), False),
    ],
)
def test_only_chats_that_return_to_a_replica_are_read_for_it(
    path: bytes, endpoints: tuple[str, ...], has: bool
) -> None:
    """Those have been looked at; others may have millions of messages."""
    request = Request("", 0.0)
    request.path, request.body = path, turns(("user", "hi"))
    route = SimpleNamespace(endpoints=endpoints, access_path="u/x")
    service = SimpleNamespace(route=route)
    call = cast(Any, Call)(
        None, service, SimpleNamespace(id="k", probe=False), request, None, None, None, 0
    )
    assert (call.prefix is not None) is has
