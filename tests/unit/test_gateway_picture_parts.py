"""What is read of a chat that brings more than text, and how much of it."""

import json
from typing import Any

import msgspec
import pytest

from modelry.gateway import body as bodies
from modelry.gateway.picture_parts import MESSAGES_MOST, PARTS_MOST, Pictures, shape
from modelry.gateway.replies import Reply
from modelry.gateway.request import Request
from modelry.routing.messages import Route
from tests.support.pictures import asks, data_url, image, png

ROUTE = Route("svc_1", "u-1/eyes", "u-1", ("chat",), "running", "", 0, images=True)


def shaped(text: str) -> Pictures | None:
    request = Request("127.0.0.1", 0.0)
    request.body = text.encode()
    return shape(request, bodies.read(request.body), ROUTE)


def chat(messages: str) -> str:
    return f'{{"model":"u-1/eyes","messages":{messages}}}'


def contents(*contents: str) -> str:
    return chat("[" + ",".join(f'{{"role":"user","content":{each}}}' for each in contents) + "]")


def items(item: str, count: int) -> str:
    return "[" + ",".join([item] * count) + "]"


def refusal(text: str) -> str:
    with pytest.raises(Reply) as caught:
        shaped(text)
    assert caught.value.status == 400
    assert caught.value.problem is not None
    return caught.value.problem[1]


def sent(text: str) -> dict[str, Any]:
    """What an engine gets."""
    pictures = shaped(text)
    assert pictures is not None
    found: dict[str, Any] = json.loads(bytes(pictures.request(text.encode())))
    return found


# Short ones are counted after they were read, long ones before.
@pytest.mark.parametrize("item", ["{}", '{"type":"text","text":"What is on this picture?"}'])
def test_parts_of_messages_are_few(item: str) -> None:
    assert shaped(contents(items(item, PARTS_MOST))) is None
    assert "too many parts" in refusal(contents(items(item, PARTS_MOST + 1)))
    half = items(item, PARTS_MOST // 2)
    assert shaped(contents(half, half)) is None
    assert "too many parts" in refusal(contents(half, half, "[{}]"))


@pytest.mark.parametrize("item", ["{}", '{"role":"user","content":"Hello"}'])
def test_messages_are_few(item: str) -> None:
    assert shaped(chat(items(item, MESSAGES_MOST))) is None
    assert "too many messages" in refusal(chat(items(item, MESSAGES_MOST + 1)))


def test_a_million_parts_are_refused_before_anything_is_made_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(found: msgspec.Raw) -> list[msgspec.Raw]:
        raise AssertionError("all of them were read")

    monkeypatch.setattr("modelry.gateway.picture_parts._decode_list", never)
    assert "too many parts" in refusal(contents(items("{}", 1_000_000)))


@pytest.mark.parametrize("messages", ["7", '"text"', "[7]", "{}", "[[]]", "null", "[{}, 7]"])
@pytest.mark.parametrize("padding", ["", " " * 300_000])
def test_what_is_no_list_of_messages_is_told(messages: str, padding: str) -> None:
    text = messages if messages[-1] not in "]}" else messages[:-1] + padding + messages[-1]
    assert "list of objects" in refusal(chat(text))


def test_the_rest_of_a_chat_goes_on_as_it_came() -> None:
    messages = [
        {"role": "system", "content": "Be brief.", "more": {"a": [1, None]}},
        *asks(data_url(png())),
        {
            "role": "user",
            "content": [7, "x", None, [{}], {"type": 7}, {"type": "text", "text": "é"}],
        },
    ]
    text = json.dumps({"model": "u-1/eyes", "messages": messages, "seed": 7})
    assert sent(text) == json.loads(text)


def test_names_that_come_twice_are_what_was_looked_at() -> None:
    """At every level, whichever of them an engine would read."""
    good, bad = json.dumps(data_url(png())), '"file:///etc/passwd"'
    found = f'{{"url":{bad},"url":{good}}}'
    part = f'{{"type":"image_url","image_url":{{"url":{bad}}},"image_url":{found}}}'
    other = f'[{{"type":"image_url","image_url":{{"url":{bad}}}}}]'
    message = f'{{"role":"user","content":{other},"content":[{part}]}}'
    told = sent(chat(f'[{message},{{"content":{other},"content":"hi"}}]'))
    assert "passwd" not in json.dumps(told)
    assert told["messages"][0]["content"] == [image(data_url(png()))]


def test_the_image_that_came_stands_in_place_of_its_address() -> None:
    address = "https://example.com/a.png"
    text = json.dumps({"model": "u-1/eyes", "messages": asks(address, data_url(png()))})
    pictures = shaped(text)
    assert pictures is not None
    (linked,) = pictures.links
    assert linked.link == address
    linked.bring("image/png", msgspec.Raw(b'"data:image/png;base64,AAAA"'))
    told = json.loads(bytes(pictures.request(text.encode())))
    assert told["messages"] == asks("data:image/png;base64,AAAA", data_url(png()))
    assert address not in json.dumps(told)
