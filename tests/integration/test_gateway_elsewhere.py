"""Services on endpoints elsewhere: what they are sent, what comes back, what they may not be."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelry.routing.messages import EndpointAddress
from modelry.sealing import Sealer
from tests.support.certificates import Authority
from tests.support.data_plane import Plane, Replica, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, post

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 11, "completion_tokens": 3}


def ask(plane: Plane, path: str, **fake: Any) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(CHAT, plane.owner_key, chat(path, **fake)))


def header(replica: Replica, name: str) -> list[str]:
    lines = replica.requests[-1]["head"].split("\r\n")[1:]
    pairs = [line.partition(":") for line in lines]
    return [value.strip() for found, _, value in pairs if found.lower() == name]


def answer_of(model: str, **fields: Any) -> str:
    return json.dumps({"id": "c1", "model": model, "choices": [], "usage": USAGE, **fields})


# -- what an endpoint is sent ------------------------------------------------


@pytest.mark.parametrize("base", ["/v1", "", "/openai/deployments/x/v1", "/v1beta/openai"])
def test_the_call_s_path_is_put_behind_the_url_and_nothing_else(plane: Plane, base: str) -> None:
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, base=base),))
    assert ask(plane, path).status == 200
    assert replica.requests[0]["head"].startswith(f"POST {base}/chat/completions HTTP/1.1\r\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_endpoint_gets_its_own_host_and_key_and_nothing_of_the_caller_s(
    plane: Plane, host: str
) -> None:
    replica = plane.replica(tcp=True)
    endpoint = plane.endpoint(replica, host=host)
    path = plane.service(endpoints=(endpoint,))
    own = ("x-secret: hidden", "cookie: a=b", "openai-organization: org", "x-request-id: mine")
    with plane.wire() as wire:
        answer = wire.ask(post(f"{CHAT}?a=b", plane.owner_key, chat(path), own))
    assert answer.status == 200
    port = replica.address.address.rpartition(":")[2]
    assert header(replica, "host") == [f"{host}:{port}"]
    assert header(replica, "authorization") == [f"Bearer {replica.secret}"]
    assert header(replica, "x-request-id") == [answer.headers["x-request-id"]]
    # What it answers is looked into.
    assert header(replica, "accept-encoding") == ["identity"]
    head = replica.requests[0]["head"]
    for mine in ("hidden", "cookie", "organization", "mine", "a=b", plane.owner_key):
        assert mine not in head


@pytest.mark.parametrize("model", ["theirs", None])
def test_an_endpoint_is_told_of_one_model_however_it_reads_names(
    plane: Plane, model: str | None
) -> None:
    """Some take `Model` for it, or the first of two: that would be one the key may not be allowed
    on, by the key that Modelry holds.
    """
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, model=model),))
    body = f'{{"model": "a", "MODEL": "b", "model": "{path}", "Model": "c", "messages": []}}'
    with plane.wire() as wire:
        assert wire.ask(post(CHAT, plane.owner_key, body.encode())).status == 200
    told = json.loads(replica.requests[0]["body"], object_pairs_hook=list)
    assert sorted(told) == [("messages", []), ("model", model or path)]


def test_an_endpoint_without_a_key_is_sent_none(plane: Plane) -> None:
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, secret=None),))
    ask(plane, path)
    assert header(replica, "authorization") == []


def test_a_key_that_cannot_be_opened_is_never_sent_and_the_call_fails(plane: Plane) -> None:
    """One that was sealed for another endpoint, and one that is no seal at all."""
    replica = plane.replica(tcp=True)
    sealed = Sealer(plane.paths.secret_key).seal(replica.secret, "ep_another")
    for wrong in (sealed, "nonsense"):
        path = plane.service(endpoints=(plane.endpoint(replica, sealed_key=wrong),))
        answer = ask(plane, path)
        assert (answer.status, answer.code) == (503, "service_unavailable")
        assert replica.secret not in answer.body.decode()
    assert replica.requests == []


# -- the model's name --------------------------------------------------------


def test_each_side_hears_the_name_that_it_knows(plane: Plane) -> None:
    replica = plane.replica(tcp=True, text=answer_of("their-model", extra=[1.50, "ü"]))
    path = plane.service(endpoints=(plane.endpoint(replica, model="their-model"),))
    body = chat(path) | {"temperature": 0.5, "note": "ü \u2028", "n": 12345678901234567890}
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, body))
    asked = json.loads(replica.requests[0]["body"].encode("latin-1"))
    assert asked == {**body, "model": "their-model"}
    assert answer.json() == {
        **json.loads(answer_of("their-model", extra=[1.5, "ü"])),
        "model": path,
    }
    assert b"1.5" in answer.body
    assert plane.event(answer).prompt_tokens == 11


def test_without_a_name_of_its_own_an_endpoint_gets_the_access_path(plane: Plane) -> None:
    text = answer_of("whatever-0711")
    replica = plane.replica(tcp=True, text=text)
    path = plane.service(endpoints=(plane.endpoint(replica),))
    answer = ask(plane, path)
    assert json.loads(replica.requests[0]["body"])["model"] == path
    assert answer.json()["model"] == path


@pytest.mark.parametrize(
    "text",
    [
        '{"model" : "PATH",  "choices":[], "n": 1e3}',
        '{ "choices" : [] , "usage":null}',
        '["model"]',
        "no json",
        "",
    ],
)
def test_an_answer_that_needs_no_other_name_comes_byte_for_byte(plane: Plane, text: str) -> None:
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, model="theirs"),))
    text = text.replace("PATH", path)
    assert ask(plane, path, text=text).body == text.encode()


def frame(model: str, text: str, **fields: Any) -> str:
    chunk = {"id": "c1", "model": model, "choices": [{"index": 0, "delta": {"content": text}}]}
    return f"data: {json.dumps({**chunk, **fields}, ensure_ascii=False)}\n\n"


def streamed(plane: Plane, path: str, *frames: str, **fake: Any) -> Answer:
    body = chat(path, do="stream", frames=frames, **fake) | {"stream": True}
    with plane.wire() as wire:
        return wire.ask(post(CHAT, plane.owner_key, body))


def events(body: bytes) -> list[Any]:
    frames = [each.removeprefix("data: ") for each in body.decode().split("\n\n") if each]
    return [json.loads(each) for each in frames if each.startswith("{")]


def test_a_stream_names_our_model_in_every_chunk_and_is_otherwise_as_it_was(plane: Plane) -> None:
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, model="theirs"),))
    tricky = ['"model": "theirs"', "theirs", "ü\u2028 \\", '{"model": "theirs"}']
    sent = [frame("theirs", text) for text in tricky]
    answer = streamed(
        plane, path, *sent, 'data: {"model":"theirs","choices":[]}\n\n', "data: [DONE]\n\n"
    )
    assert answer.body.endswith(b"data: [DONE]\n\n")
    shown = events(answer.body)
    assert [each["model"] for each in shown] == [path] * 5
    assert [each["choices"][0]["delta"]["content"] for each in shown[:4]] == tricky


@pytest.mark.parametrize(
    ("first", "then"),
    [("theirs", "theirs-2026-02-01"), ("", "theirs"), ("PATH", "theirs")],
    ids=["another-version", "first-without", "first-ours"],
)
def test_a_model_that_is_named_otherwise_later_is_named_ours_too(
    plane: Plane, first: str, then: str
) -> None:
    """As Azure does: its first chunk has an empty name."""
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, model="theirs"),))
    sent = [frame(first.replace("PATH", path), "a"), frame(then, "b"), frame(then, "c")]
    answer = streamed(plane, path, *sent, "data: [DONE]\n\n", pace_s=0.01)
    assert [each["model"] for each in events(answer.body)] == [path] * 3


def test_a_model_within_the_chunk_is_not_the_chunk_s(plane: Plane) -> None:
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, model="theirs"),))
    inner = {"routed": {"model": "inner"}}
    first = json.dumps({**inner, "model": "theirs", "choices": [{"delta": {"content": "a"}}]})
    sent = [f"data: {first}\n\n", frame("theirs", "b", **inner)]
    shown = events(streamed(plane, path, *sent, "data: [DONE]\n\n").body)
    assert [each["model"] for each in shown] == [path] * 2
    assert [each["routed"]["model"] for each in shown] == ["inner"] * 2


def test_a_stream_of_an_endpoint_tells_what_it_used(plane: Plane) -> None:
    replica = plane.replica(tcp=True)
    endpoint = plane.endpoint(replica, model="theirs")
    path = plane.service(endpoints=(endpoint,))
    told = f"data: {json.dumps({'model': 'theirs', 'choices': [], 'usage': USAGE})}\n\n"
    answer = streamed(plane, path, frame("theirs", "a"), told, "data: [DONE]\n\n")
    assert len(events(answer.body)) == 1
    event = plane.event(answer)
    assert (event.replica_id, event.prompt_tokens, event.completion_tokens) == (endpoint.id, 11, 3)
    assert (event.stream, event.estimated) == (True, False)


# -- endpoints that fail -----------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 504, 529])
def test_where_one_endpoint_does_not_serve_another_does(plane: Plane, status: int) -> None:
    """Whatever is wrong there: its key, its quota, or itself."""
    failing = plane.replica(tcp=True, status=status, text='{"error": {"message": "no"}}')
    well = plane.replica(tcp=True, text=answer_of("m"))
    path = plane.service(endpoints=(plane.endpoint(failing, weight=100), plane.endpoint(well)))
    answers = [ask(plane, path) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 6
    # It is left alone for a while.
    assert len(failing.requests) == 1
    assert {plane.event(answer).status for answer in answers} == {200}


def test_where_one_endpoint_is_gone_another_serves(plane: Plane) -> None:
    gone, well = plane.replica(tcp=True), plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(gone, weight=100), plane.endpoint(well)))
    gone.kill()
    assert [ask(plane, path).status for _ in range(6)] == [200] * 6


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_an_endpoint_says_of_the_request_goes_to_the_caller(plane: Plane, status: int) -> None:
    text = '{"error": {"message": "no such thing", "type": "invalid_request_error"}}'
    replicas = [plane.replica(tcp=True, status=status, text=text) for _ in range(2)]
    path = plane.service(endpoints=tuple(plane.endpoint(replica) for replica in replicas))
    answer = ask(plane, path)
    assert (answer.status, answer.json()["error"]["message"]) == (status, "no such thing")
    assert sum(len(replica.requests) for replica in replicas) == 1


def test_that_an_endpoint_refuses_our_key_is_not_the_caller_s_mistake(plane: Plane) -> None:
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, secret="wrong"),))
    answer = ask(plane, path)
    assert (answer.status, answer.code) == (502, "bad_gateway")
    assert "wrong" not in answer.body.decode()
    # Nor is it charged.
    assert plane.event(answer).prompt_tokens == 0


def test_an_endpoint_s_quota_is_told_where_there_is_no_other(plane: Plane) -> None:
    text = '{"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}'
    replica = plane.replica(tcp=True, status=429, text=text)
    answer = ask(plane, plane.service(endpoints=(plane.endpoint(replica),)))
    assert (answer.status, answer.code) == (429, "rate_limit_exceeded")


def test_an_endpoint_that_dies_within_its_answer_costs_the_caller_nothing(plane: Plane) -> None:
    dying = plane.replica(tcp=True, text=answer_of("m"), die_after=20)
    well = plane.replica(tcp=True, text=answer_of("m"))
    path = plane.service(endpoints=(plane.endpoint(dying, weight=100), plane.endpoint(well)))
    assert ask(plane, path).status == 200
    assert len(well.requests) == 1


# -- addresses ---------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "2130706433"])
def test_who_may_name_public_addresses_alone_reaches_nothing_of_ours(
    plane: Plane, host: str
) -> None:
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, host=host, public_only=True),))
    start = time.monotonic()
    answer = ask(plane, path)
    assert (answer.status, answer.code) == (502, "bad_gateway")
    assert time.monotonic() - start < 5
    assert (replica.seen()["connections"], replica.requests) == (0, [])


def test_a_host_that_nobody_knows_is_a_502(plane: Plane) -> None:
    replica = plane.replica(tcp=True)
    path = plane.service(endpoints=(plane.endpoint(replica, host="nowhere.invalid"),))
    answer = ask(plane, path)
    assert (answer.status, answer.code) == (502, "bad_gateway")


def test_a_service_that_stands_on_itself_ends_in_a_refusal(plane: Plane) -> None:
    """And not in calls that call each other until nothing is left."""
    path = plane.service(name="ouroboros")
    endpoint = plane.endpoint(plane.replica(tcp=True), secret=plane.owner_key)
    itself = msgspec.structs.replace(endpoint, url=f"{plane.gateway.url}/v1", model=path)
    plane.service(name="ouroboros", endpoints=(itself,))
    answer = ask(plane, path)
    assert (answer.status, answer.code) == (508, "loop_detected")


# -- TLS ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> Iterator[Plane]:
    """A gateway that trusts the authority."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority.file))
        plane = Plane()
    yield plane
    plane.close()


def over_tls(plane: Plane, pem: Path, host: str = "127.0.0.1") -> tuple[Replica, str]:
    replica = plane.replica(pem=pem, text=answer_of("m"))
    path = plane.service(endpoints=(plane.endpoint(replica, scheme="https", host=host),))
    return replica, path


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_endpoint_is_called_over_tls(trusting: Plane, authority: Authority, host: str) -> None:
    pem, _ = authority.issue("127.0.0.1", "localhost")
    replica, path = over_tls(trusting, pem, host)
    answer = ask(trusting, path)
    assert (answer.status, answer.json()["model"]) == (200, path)
    assert header(replica, "host") == [f"{host}:{replica.address.address.rpartition(':')[2]}"]
    for number in range(3):
        body = chat(path, do="stream", frames=[frame("m", "x" * 30_000)] * 5) | {"stream": True}
        with trusting.wire() as wire:
            streamed = wire.ask(post(CHAT, trusting.owner_key, body | {"number": number}))
        assert len(events(streamed.body)) == 5
    # The connection is kept: a handshake costs more than a call.
    assert replica.seen()["connections"] == 1


@pytest.mark.parametrize("wrong", ["stranger", "other-name", "expired"])
def test_an_endpoint_that_is_not_who_it_should_be_is_told_nothing(
    trusting: Plane, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    issued = {
        "stranger": lambda: Authority(tmp_path).issue("127.0.0.1"),
        "other-name": lambda: authority.issue("example.com", "127.0.0.2"),
        "expired": lambda: authority.issue("127.0.0.1", days=-1),
    }
    pem, _ = issued[wrong]()
    replica, path = over_tls(trusting, pem)
    start = time.monotonic()
    answer = ask(trusting, path)
    assert (answer.status, answer.code) == (502, "bad_gateway")
    assert time.monotonic() - start < 5
    assert replica.requests == []


def test_an_endpoint_that_speaks_no_tls_is_a_502(trusting: Plane) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain, ThreadPoolExecutor() as pool:
        url = f"https://127.0.0.1:{plain.getsockname()[1]}/v1"
        path = trusting.service(endpoints=(EndpointAddress("ep_plain", url, 4),))
        answer = pool.submit(ask, trusting, path)
        connection, _ = plain.accept()
        with connection:
            assert connection.recv(1) == b"\x16"
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            refused = answer.result(5)
    assert (refused.status, refused.code) == (502, "bad_gateway")


def test_a_caller_who_hangs_up_ends_the_call_of_an_endpoint_over_tls(
    trusting: Plane, authority: Authority
) -> None:
    replica, path = over_tls(trusting, authority.issue("127.0.0.1")[0])
    with trusting.wire() as wire:
        wire.send(post(CHAT, trusting.owner_key, chat(path, do="hang")))
        wait_for(lambda: replica.seen()["busy"], "the request to arrive")
    wait_for(lambda: replica.seen()["abandoned"] == 1, "the endpoint to be hung up on", 5)
