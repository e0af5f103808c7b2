"""All that is not `/v1`: relayed to the control plane on the same port."""

import json
from collections.abc import Iterator

import pytest

from tests.support.control_stand_in import ControlStandIn
from tests.support.data_plane import Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import get, post


@pytest.fixture
def control(plane: Plane) -> Iterator[ControlStandIn]:
    stand_in = ControlStandIn(plane.paths.control_socket)
    yield stand_in
    stand_in.close()
    plane.paths.control_socket.unlink()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_method_query_and_body_arrive_as_they_were(
    plane: Plane, control: ControlStandIn, method: str
) -> None:
    body = bytes(range(256)) * 100
    target = "/api/v1/things/a%2Fb?x=1&x=2&y=%20+"
    request = post(target, "pat-token", body, ("cookie: s=1; t=2", "accept: text/html"))
    with plane.wire() as wire:
        answer = wire.ask(request.replace(b"POST", method.encode(), 1))
    (seen,) = control.seen
    assert (seen.method, seen.target, seen.body) == (method, target, body)
    assert seen.values("authorization") == ["Bearer pat-token"]
    assert seen.values("cookie") == ["s=1; t=2"]
    assert seen.values("accept") == ["text/html"]
    assert seen.values("host") == ["gateway"]
    assert seen.values("x-request-id") == [answer.headers["x-request-id"]]
    assert answer.body == b"echo:" + body
    assert answer.headers["content-type"] == "text/html"


def test_who_calls_cannot_be_forged(plane: Plane, control: ControlStandIn) -> None:
    forged = (
        "x-forwarded-for: 6.6.6.6",
        "X-Forwarded-For: 7.7.7.7",
        "x-forwarded-host: evil",
        "x-forwarded-proto: https",
        "forwarded: for=6.6.6.6",
        "x-request-id: forged",
    )
    with plane.wire() as wire:
        wire.ask(get("/page", None, forged))
    (seen,) = control.seen
    assert seen.values("x-forwarded-for") == ["127.0.0.1"]
    assert seen.values("x-forwarded-proto") == ["http"]
    for name in ("x-forwarded-host", "forwarded"):
        assert seen.values(name) == []
    assert "forged" not in seen.values("x-request-id")


def test_headers_of_one_hop_stay_on_it(plane: Plane, control: ControlStandIn) -> None:
    headers = (
        "connection: keep-alive, x-private",
        "keep-alive: timeout=1",
        "te: trailers",
        "proxy-authorization: Basic x",
        "x-private: for the gateway alone",
        "x-public: for all",
    )
    with plane.wire() as wire:
        answer = wire.ask(get("/away", None, headers))
    (seen,) = control.seen
    assert seen.values("x-public") == ["for all"]
    for name in ("keep-alive", "te", "proxy-authorization", "connection"):
        assert seen.values(name) == []
    assert seen.values("x-private") == []
    assert "keep-alive" not in answer.headers
    assert "proxy-authenticate" not in answer.headers


def test_trailers_do_not_become_headers(plane: Plane, control: ControlStandIn) -> None:
    head = b"POST /page HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    trailer = b"authorization: Bearer late\r\ncookie: late=1\r\n\r\n"
    with plane.wire() as wire:
        answer = wire.ask(head + b"2\r\nhi\r\n0\r\n" + trailer)
    assert answer.body == b"echo:hi"
    assert control.seen[0].values("authorization") == []
    assert control.seen[0].values("cookie") == []


def test_status_and_headers_come_back(plane: Plane, control: ControlStandIn) -> None:
    with plane.wire() as wire:
        wire.send(get("/away"))
        text = wire.until(b"\r\n\r\n").decode().lower()
        for status in (201, 202, 400, 404, 409, 418, 422, 500):
            answer = wire.ask(get(f"/status/{status}"))
            assert (answer.status, answer.json()) == (status, {"status": True})
        assert wire.ask(get("/empty")).status == 204
        assert wire.ask(get("/page")).status == 200
    assert text.startswith("http/1.1 307 ")
    assert "location: /elsewhere" in text
    assert "set-cookie: a=1; path=/" in text
    assert "set-cookie: b=2" in text
    assert text.count("x-request-id") == 1
    assert "not-the-gateways" not in text


def test_an_answer_without_a_length_arrives_whole(plane: Plane, control: ControlStandIn) -> None:
    with plane.wire() as wire:
        assert wire.ask(get("/until-the-end")).body == b"no length"
        assert wire.ask(get("/page")).status == 200


def test_head_is_answered_without_a_body(plane: Plane, control: ControlStandIn) -> None:
    with plane.wire() as wire:
        answer = wire.ask(get("/page").replace(b"GET", b"HEAD"), head_only=True)
        assert (answer.status, answer.headers["content-length"]) == (200, "5")
        assert wire.ask(get("/page")).body == b"echo:"


def test_a_stream_arrives_line_by_line_and_ends_with_its_reader(
    plane: Plane, control: ControlStandIn
) -> None:
    with plane.wire() as wire:
        wire.send(get("/stream"))
        for number in range(3):
            control.go.release()
            if number == 0:
                assert wire.head().headers["content-type"] == "text/plain"
            assert wire.chunk() == b"line %d\n" % number

    def written_on() -> bool:
        control.go.release()
        return control.hung_up.wait(0.05)

    wait_for(written_on, "the control plane to be hung up on", 5)


def test_a_large_upload_arrives_whole(plane: Plane, control: ControlStandIn) -> None:
    body = b"0123456789" * 190_000
    with plane.http() as http:
        answer = http.post("/upload", content=body)
    assert answer.content == b"echo:" + body


def test_an_upload_over_the_limit_is_a_413(plane: Plane, control: ControlStandIn) -> None:
    with plane.wire() as wire:
        head = post("/upload", None, b"").replace(b"length: 0", b"length: 2000001")
        assert wire.ask(head).status == 413
    assert control.seen == []


def test_while_the_control_plane_is_away_its_paths_are_503_and_calls_are_served(
    plane: Plane,
) -> None:
    path = plane.service(plane.replica())
    with plane.wire() as wire:
        answer = wire.ask(get("/api/v1/services"))
        error = json.loads(answer.body)["error"]
        assert answer.status == 503
        assert set(error) == {"code", "message", "hint", "param"}
        assert int(answer.headers["retry-after"]) > 0
        assert wire.ask(post("/v1/chat/completions", plane.owner_key, chat(path))).status == 200
        assert wire.ask(get("/healthz")).status == 200
        assert wire.ask(get("/readyz")).status == 503


@pytest.mark.parametrize(
    ("header", "title"),
    [
        ("accept-language: en", "Modelry is starting again"),
        ("accept-language: zh-CN,en", "Modelry 正在重新启动"),
        ("cookie: a=b; modelry_language=zh-CN", "Modelry 正在重新启动"),
    ],
)
def test_a_browser_is_given_a_page_meanwhile_that_asks_again(
    plane: Plane, header: str, title: str
) -> None:
    with plane.wire() as wire:
        answer = wire.ask(get("/services", None, ("accept: text/html,*/*;q=0.8", header)))
    assert answer.status == 503
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = answer.body.decode()
    assert f"<h1>{title}</h1>" in page
    assert '<meta http-equiv="refresh"' in page


def test_a_control_plane_that_came_back_is_found_at_once(plane: Plane) -> None:
    with plane.wire() as wire:
        for _ in range(3):
            stand_in = ControlStandIn(plane.paths.control_socket)
            try:
                assert wire.ask(get("/page")).status == 200
                assert wire.ask(get("/readyz")).status == 200
            finally:
                stand_in.close()
            plane.paths.control_socket.unlink()
            assert wire.ask(get("/readyz")).status == 503


def test_readiness_is_what_the_control_plane_says(plane: Plane, control: ControlStandIn) -> None:
    with plane.wire() as wire:
        assert wire.ask(get("/readyz")).status == 200
        control.ready = 503
        assert wire.ask(get("/readyz")).status == 503
        assert wire.ask(get("/healthz")).status == 200
