"""Chats with images through a real gateway: what its engine gets, and what it never sees."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modelry.gateway.pictures import BYTES_MOST
from modelry.routing.messages import Limits
from tests.support.data_plane import Plane, Replica
from tests.support.picture_server import PictureServer, answer, redirect
from tests.support.pictures import GIF, JPEG, WEBP, asks, data_url, image, png
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Wire, post

CHAT = "/v1/chat/completions"
MakePlane = Callable[..., Plane]


@pytest.fixture(scope="module")
def server() -> Iterator[PictureServer]:
    with PictureServer() as made:
        made.put("/a.png", answer(png()))
        yield made


@pytest.fixture(scope="module")
def reading() -> Iterator[Plane]:
    """A gateway that reads from this machine."""
    plane = Plane(image_networks="127.0.0.0/8")
    yield plane
    plane.close()


@pytest.fixture
def plane(reading: Plane) -> Iterator[Plane]:
    yield reading
    reading.end_replicas()


def chat(model: str, *urls: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": asks(*urls), **fields}


def ask(plane: Plane, body: dict[str, Any], path: str = CHAT, key: str | None = None) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(path, key or plane.owner_key, body))


def arrived(replica: Replica) -> list[dict[str, Any]]:
    """The bodies that the engine got."""
    return [json.loads(request["body"]) for request in replica.requests]


# -- what arrives ----------------------------------------------------------------------


def test_an_image_arrives_as_it_was_sent(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True)
    sent = chat(path, data_url(JPEG, "jpeg"), temperature=0.5, seed=7)
    sent["messages"].insert(0, {"role": "system", "content": "Be brief.", "name": "me"})
    sent["messages"][1]["content"][1]["image_url"]["detail"] = "low"
    assert ask(plane, sent).status == 200
    assert arrived(replica) == [sent]


def test_an_address_arrives_as_the_image(plane: Plane, server: PictureServer) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True)
    moved = server.put("/moved", redirect("/a.png"))
    # A server that is wrong about its picture.
    wrong = server.put("/wrong", answer(GIF, "image/jpeg"))
    assert ask(plane, chat(path, server.url("/a.png"), moved, wrong)).status == 200
    (body,) = arrived(replica)
    content = body["messages"][0]["content"]
    png_url, gif_url = data_url(png()), data_url(GIF, "gif")
    assert content[1:] == [image(png_url), image(png_url), image(gif_url)]


@pytest.mark.parametrize("size", [1, 2, 3, 65535, 65536, 300_001])
def test_a_file_arrives_whole_whatever_its_length(
    plane: Plane, server: PictureServer, size: int
) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True)
    data = png() + bytes(index % 251 for index in range(size))
    url = server.put(f"/{size}", answer(data))
    assert ask(plane, chat(path, url)).status == 200
    assert arrived(replica)[0]["messages"][0]["content"][1] == image(data_url(data))


def test_a_whole_answer_is_collected_from_a_stream_as_ever(plane: Plane) -> None:
    frames = [
        'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"x","choices":'
        '[{"index":0,"delta":{"role":"assistant","content":"Red."},"finish_reason":"stop"}]}\n\n',
        'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"x","choices":[],'
        '"usage":{"prompt_tokens":90,"completion_tokens":2,"total_tokens":92}}\n\n',
        "data: [DONE]\n\n",
    ]
    replica = plane.replica(do="stream", frames=frames)
    path = plane.service(replica, images=True, collect=True)
    answered = ask(plane, chat(path, data_url(png())))
    assert answered.json()["choices"][0]["message"]["content"] == "Red."
    assert plane.event(answered).prompt_tokens == 90
    (body,) = arrived(replica)
    assert body["stream"] is True
    assert body["messages"] == asks(data_url(png()))


def test_endpoints_elsewhere_get_what_the_caller_sent(plane: Plane) -> None:
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, model="theirs"),))
    messages = asks("http://10.0.0.1/a.png", "data:image/heic;base64,AAAA")
    messages[0]["content"].append({"type": "input_audio", "input_audio": {"data": "AAAA"}})
    assert ask(plane, {"model": path, "messages": messages}).status == 200
    assert arrived(replica) == [{"model": "theirs", "messages": messages}]


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize(
    "content", ["Look at image_url", [{"type": "text", "text": "hi"}], [], None, 7, [7]]
)
def test_what_brings_no_media_arrives_to_the_byte(plane: Plane, images: bool, content: Any) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=images)
    body = {"model": path, "messages": [{"role": "user", "content": content}], "more": [1.50, "é"]}
    assert ask(plane, body).status == 200
    assert replica.requests[0]["body"] == json.dumps(body)


def test_another_replica_gets_the_same_image(plane: Plane, server: PictureServer) -> None:
    dying, well = plane.replica(die_after=0), plane.replica()
    path = plane.service(dying, well, images=True)
    before = len(server.requests)
    for _ in range(4):
        assert ask(plane, chat(path, server.url("/a.png"))).status == 200
    assert len(server.requests) == before + 4
    content = arrived(well)[-1]["messages"][0]["content"]
    assert content[1] == image(data_url(png()))


# -- what does not ---------------------------------------------------------------------


def refused(plane: Plane, body: dict[str, Any], status: int = 400) -> tuple[str, str]:
    """Code and message of a refusal that no engine had to do with."""
    answered = ask(plane, body)
    assert answered.status == status
    error = answered.json()["error"]
    assert error["param"] == ("messages" if status == 400 else None)
    return error["code"], error["message"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": "https://example.com/a"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"video_url": {"url": "https://example.com/a"}},
        {"type": "text", "text": "hi", "input_audio": {"data": "AAAA"}},
    ],
)
def test_what_no_engine_takes_reaches_none(plane: Plane, part: dict[str, Any]) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True)
    body = {"model": path, "messages": [{"role": "user", "content": [part]}]}
    assert refused(plane, body)[0] == "unsupported_content"
    assert replica.requests == []


@pytest.mark.parametrize("role", ["user", "system", "assistant", "tool"])
def test_a_service_of_text_says_that_it_is_one(plane: Plane, role: str) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    part = image(data_url(png()))
    body = {"model": path, "messages": [{"role": role, "content": [part]}]}
    code, message = refused(plane, body)
    assert (code, path in message) == ("unsupported_content", True)
    assert replica.requests == []


def test_names_that_are_spelled_otherwise_are_the_same(plane: Plane) -> None:
    """JSON has many ways to write a name."""
    replica = plane.replica()
    path = plane.service(replica)
    part = '{"type":"imag\\u0065_url","\\u0069mage_url":{"url":"data:image/png;base64,AAAA"}}'
    text = f'{{"model":"{path}","messag\\u0065s":[{{"role":"user","cont\\u0065nt":[{part}]}}]}}'
    with plane.wire() as wire:
        wire.send(raw(plane.owner_key, text.encode()))
        answered = wire.answer()
    assert (answered.status, answered.code) == (400, "unsupported_content")
    assert replica.requests == []


def test_of_names_that_come_twice_the_engine_gets_what_was_looked_at(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True)
    bad, good = json.dumps(asks("file:///etc/passwd")), json.dumps(asks(data_url(png())))
    text = f'{{"model":"{path}","messages":{bad},"messages":{good}}}'
    with plane.wire() as wire:
        wire.send(raw(plane.owner_key, text.encode()))
        assert wire.answer().status == 200
    assert "passwd" not in replica.requests[0]["body"]


def raw(key: str, body: bytes) -> bytes:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "begins with https:"),
        ("AAAA", "begins with https:"),
        ("ftp://example.com/a.png", "begins with https:"),
        ("data:image/png,AAAA", "form data:image/png"),
        ("data:image/svg+xml;base64,AAAA", "form data:image/png"),
        ("data:text/html;base64,AAAA", "form data:image/png"),
        ("data:;base64,AAAA", "form data:image/png"),
        ("data:image/png;base64,", "neither PNG"),
        ("data:image/png;base64,AAA", "no valid base64"),
        ("data:image/png;base64,A=AA", "no valid base64"),
        ("data:image/png;base64,AA\nAA", "no valid base64"),
        ("data:image/png;base64,AAAÄ", "no valid base64"),
        (data_url(GIF), "is image/gif, and not image/png"),
        (data_url(WEBP, "webp"), "this service takes image/png, image/gif"),
        (data_url(png(claims=(16385, 1))), "16385 x 1 pixels"),
        (data_url(png(claims=(16384, 16384))), "16384 x 16384 pixels"),
        (data_url(png(claims=(0, 1))), "no size"),
        ("https://user:secret@example.com/a.png", "a user in it"),
        ("http://example.com:25/a.png", "port 25"),
        ("http://[::1]/a.png", "not public"),
        ("http://10.0.0.1/a.png", "not public"),
        ("https://example.com/" + "a" * 9000, "over 8192 characters"),
    ],
)
def test_what_is_no_image_reaches_no_engine(plane: Plane, url: str, told: str) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True, image_types=("image/png", "image/gif"))
    code, message = refused(plane, chat(path, url))
    assert code == "invalid_image_url"
    assert told in message
    assert "secret" not in message
    assert replica.requests == []


@pytest.mark.parametrize("part", [{}, {"image_url": None}, {"image_url": {"url": 7}}])
def test_an_image_without_an_address_is_told(plane: Plane, part: dict[str, Any]) -> None:
    path = plane.service(plane.replica(), images=True)
    content = [{"type": "image_url", **part}]
    body = {"model": path, "messages": [{"role": "user", "content": content}]}
    assert "is missing" in refused(plane, body)[1]


def test_an_image_that_is_too_large_is_told(plane: Plane, server: PictureServer) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True)
    large = png() + bytes(BYTES_MOST)
    assert "larger than 20 MiB" in refused(plane, chat(path, data_url(large)))[1]
    url = server.put("/large", b"HTTP/1.1 200 OK\r\n\r\n" + large)
    assert "larger than 20 MiB" in refused(plane, chat(path, url))[1]
    assert replica.requests == []


def test_one_address_that_fails_gives_up_the_others(plane: Plane, server: PictureServer) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True)
    slow = server.put("/slow", b"HTTP/1.1 200 OK\r\n\r\n\x89PNG", hangs=True)
    missing = server.url("/missing")
    code, message = refused(plane, chat(path, slow, missing))
    assert (code, "messages[0].content[2]" in message) == ("invalid_image_url", True)
    server.await_waiting(0)
    assert replica.requests == []


@pytest.mark.parametrize(
    "prompt", [{"prompt_string": "a", "multimodal_data": ["AAAA"]}, [{"prompt_string": "a"}]]
)
def test_a_completions_prompt_brings_no_files(plane: Plane, prompt: Any) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True)
    answered = ask(plane, {"model": path, "prompt": prompt}, "/v1/completions")
    assert (answered.status, answered.code) == (400, "unsupported_content")
    assert replica.requests == []
    assert ask(plane, {"model": path, "prompt": ["a", "b"]}, "/v1/completions").status == 200


# -- settings --------------------------------------------------------------------------


def test_this_machine_is_not_read_from_unless_allowed(
    make_plane: MakePlane, server: PictureServer
) -> None:
    plane = make_plane()
    path = plane.service(plane.replica(), images=True)
    before = len(server.requests)
    assert "not public" in refused(plane, chat(path, server.url("/a.png")))[1]
    assert len(server.requests) == before


def test_addresses_are_not_followed_where_that_is_switched_off(
    make_plane: MakePlane, server: PictureServer
) -> None:
    plane = make_plane(image_urls="false", image_networks="127.0.0.0/8")
    replica = plane.replica()
    path = plane.service(replica, images=True)
    before = len(server.requests)
    code, message = refused(plane, chat(path, server.url("/a.png")))
    assert (code, "send it as a data URL" in message) == ("invalid_image_url", True)
    assert len(server.requests) == before
    assert ask(plane, chat(path, data_url(png()))).status == 200


# -- slots, limits, memory, callers that leave -----------------------------------------


def test_no_slot_is_held_while_an_image_comes(plane: Plane, server: PictureServer) -> None:
    replica = plane.replica(slots=1)
    path = plane.service(replica, images=True)
    slow = server.put("/slow", b"HTTP/1.1 200 OK\r\n\r\n\x89PNG", hangs=True)
    with plane.wire() as waiting:
        waiting.send(post(CHAT, plane.owner_key, chat(path, slow)))
        server.await_waiting(1)
        assert ask(plane, chat(path, data_url(png()))).status == 200
    server.await_waiting(0)


def test_a_caller_that_leaves_ends_the_fetch_and_is_accounted_for(
    plane: Plane, server: PictureServer
) -> None:
    replica = plane.replica()
    path = plane.service(replica, images=True)
    slow = server.put("/slow", b"HTTP/1.1 200 OK\r\n\r\n\x89PNG", hangs=True)
    key = plane.key(limits=Limits(concurrency=1))
    with plane.wire() as leaving:
        leaving.send(post(CHAT, key, chat(path, slow)))
        server.await_waiting(1)
    server.await_waiting(0)
    # Its place under the key's limit is free again.
    wait_for(
        lambda: ask(plane, chat(path, data_url(png())), key=key).status == 200,
        "the call to be over",
    )

    def left() -> dict[str, Any] | None:
        lines = [line for line in plane.logged() if line.get("access_path") == path]
        return next((line for line in lines if line["status"] == 499), None)

    line = wait_for(left, "the line of the call that was left")
    assert line["cancelled"] is True
    assert line.get("prompt_tokens", 0) == 0


def test_a_connection_goes_on_after_an_image_that_did_not_come(
    plane: Plane, server: PictureServer
) -> None:
    path = plane.service(plane.replica(), images=True)
    with plane.wire() as wire:
        for _ in range(3):
            body = chat(path, server.url("/missing"))
            assert wire.ask(post(CHAT, plane.owner_key, body)).status == 400
            body = chat(path, server.url("/a.png"))
            assert wire.ask(post(CHAT, plane.owner_key, body)).status == 200


def test_few_images_of_a_call_come_at_a_time(plane: Plane, server: PictureServer) -> None:
    path = plane.service(plane.replica(), images=True)
    slow = server.put("/slow", b"HTTP/1.1 200 OK\r\n\r\n\x89PNG", hangs=True)
    server.most = 0
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, *[slow] * 16)))
        server.await_waiting(4)
    server.await_waiting(0)
    assert server.most == 4


def test_images_count_as_memory_that_callers_take(
    make_plane: MakePlane, server: PictureServer
) -> None:
    plane = make_plane(
        image_networks="127.0.0.0/8", max_buffered_bytes="1000000", max_body_bytes="1000000"
    )
    path = plane.service(plane.replica(), images=True)
    url = server.put("/half", answer(png() + bytes(400_000)))
    busy = plane.replica(do="hang")
    other = plane.service(busy, images=True)
    with plane.wire() as held:
        held.send(post(CHAT, plane.owner_key, chat(other, url)))
        wait_for(lambda: len(busy.requests) == 1, "the first image to be held")
        assert refused(plane, chat(path, url), 503)[0] == "overloaded"
    # What was taken is given back.
    wait_for(lambda: ask(plane, chat(path, url)).status == 200, "the memory to be free")
    for _ in range(5):
        assert ask(plane, chat(path, url)).status == 200


def test_a_request_and_its_images_are_no_larger_than_a_body(
    make_plane: MakePlane, server: PictureServer
) -> None:
    plane = make_plane(image_networks="127.0.0.0/8", max_body_bytes="1000000")
    replica = plane.replica()
    path = plane.service(replica, images=True)
    url = server.put("/half", answer(png() + bytes(400_000)))
    code, message = refused(plane, chat(path, url, url))
    assert (code, "may have 1000000 bytes" in message) == ("invalid_image_url", True)
    # What the body itself brings counts too.
    code, _ = refused(plane, chat(path, url, data_url(png() + bytes(400_000))))
    assert code == "invalid_image_url"
    assert replica.requests == []
    assert ask(plane, chat(path, url)).status == 200


def test_an_image_is_estimated_as_an_image_and_not_by_its_bytes(plane: Plane) -> None:
    path = plane.service(plane.replica(), images=True)
    key = plane.key(limits=Limits(tokens_per_minute=4000))
    large = data_url(png() + bytes(300_000))
    answered = ask(plane, chat(path, large, large, max_tokens=10), key=key)
    assert answered.status == 200
    assert 2000 < plane.event(answered).prompt_tokens < 2200


def test_images_by_address_count_for_the_limits_of_their_key(
    plane: Plane, server: PictureServer
) -> None:
    path = plane.service(plane.replica(), images=True)
    slow = server.put("/slow", b"HTTP/1.1 200 OK\r\n\r\n\x89PNG", hangs=True)
    key = plane.key(limits=Limits(tokens_per_minute=4000))
    with plane.wire() as waiting:
        waiting.send(post(CHAT, key, chat(path, slow, slow, max_tokens=10)))
        server.await_waiting(2)
        answered = ask(plane, chat(path, slow, slow, max_tokens=10), key=key)
        assert (answered.status, answered.code) == (429, "rate_limit_exceeded")
    server.await_waiting(0)


def test_what_a_key_may_use_is_asked_before_a_large_chat_is_looked_at(plane: Plane) -> None:
    path = plane.service(plane.replica(), images=True)
    key = plane.key(limits=Limits(requests_per_minute=1))
    assert ask(plane, chat(path, data_url(png())), key=key).status == 200
    content = [{"type": "input_audio", "input_audio": {"data": "A" * 20_000}}]
    body = {"model": path, "messages": [{"role": "user", "content": content}]}
    answered = ask(plane, body, key=key)
    assert (answered.status, answered.code) == (429, "rate_limit_exceeded")
    assert plane.event(answered).status == 429


# -- services whose weights are not here yet -------------------------------------------


def waits(plane: Plane, service_id: str) -> bool:
    """Whether a call does, by the gateway's word."""
    loads = list(plane.control.loads.items())
    return any(load.waiting for (_, id_), load in loads if id_ == service_id)


@pytest.mark.parametrize(
    ("then", "code", "told"),
    [
        ({"images": False}, "unsupported_content", "takes no images"),
        ({"images": True, "image_types": ("image/png",)}, "invalid_image_url", "is image/gif"),
    ],
)
@pytest.mark.parametrize("linked", [True, False])
def test_what_a_service_takes_counts_once_it_can_be_known(
    plane: Plane, server: PictureServer, then: dict[str, Any], code: str, told: str, linked: bool
) -> None:
    replica = plane.replica()
    path = plane.service(state="fetching", images=True)
    name = path.partition("/")[2]
    url = server.put("/gif", answer(GIF, "image/gif")) if linked else data_url(GIF, "gif")
    with plane.wire() as waiting:
        waiting.send(post(CHAT, plane.owner_key, chat(path, url)))
        wait_for(lambda: waits(plane, f"svc_{name}"), "the call to wait")
        plane.service(replica, name=name, **then)
        answered = waiting.answer()
    assert (answered.status, answered.code) == (400, code)
    assert told in answered.json()["error"]["message"]
    assert replica.requests == []
    # Its slots are free.
    plane.service(replica, name=name, images=True)
    for _ in range(5):
        assert ask(plane, chat(path, data_url(GIF, "gif"))).status == 200


def test_many_callers_at_once_each_get_their_own(plane: Plane, server: PictureServer) -> None:
    replica = plane.replica(slots=4)
    path = plane.service(replica, images=True)
    files = {server.put(f"/{n}", answer(png() + bytes([n]) * 5000)): n for n in range(16)}

    def one(url: str) -> int:
        with Wire(plane.gateway.port) as wire:
            return wire.ask(post(CHAT, plane.owner_key, chat(path, url))).status

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, files)) == [200] * 16
    got = {body["messages"][0]["content"][1]["image_url"]["url"] for body in arrived(replica)}
    assert got == {data_url(png() + bytes([n]) * 5000) for n in files.values()}
