"""The access log, who a proxy says is calling, Anthropic's shapes, and what HEAD gets."""

import json
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modelry.routing.messages import Limits
from tests.support.control_stand_in import ControlStandIn
from tests.support.data_plane import GatewayProcess, Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Wire, get, post

CHAT = "/v1/chat/completions"


def line_of(plane: Plane, answer: Answer) -> dict[str, Any]:
    """The access log's line of an answer."""
    id_ = answer.headers["x-request-id"]

    def found() -> dict[str, Any] | None:
        return next((line for line in plane.logged() if line["request_id"] == id_), None)

    return wait_for(found, "a line of the log", 5)


# -- the access log ----------------------------------------------------------


def test_every_answer_has_a_line_of_its_own(plane: Plane) -> None:
    path = plane.service(plane.replica())
    limited = plane.key(limits=Limits(requests_per_minute=1))
    asked = [
        (200, "GET", "/healthz", get("/healthz")),
        (200, "GET", "/v1/models", get("/v1/models", plane.owner_key)),
        (404, "GET", "/v1/nothing", get("/v1/nothing", plane.owner_key)),
        (503, "GET", "/api/v1/services", get("/api/v1/services")),
        (
            405,
            "DELETE",
            "/v1/models",
            get("/v1/models", plane.owner_key).replace(b"GET", b"DELETE"),
        ),
        (404, "POST", CHAT, post(CHAT, plane.owner_key, chat("missing"))),
        (200, "", "", post(CHAT, limited, chat(path))),
        (429, "", "", post(CHAT, limited, chat(path))),
        (401, "POST", CHAT, post(CHAT, "sk-wrong", chat(path))),
    ]
    answers = []
    for status, _, _, request in asked:
        with plane.wire() as wire:
            answers.append(wire.ask(request))
        assert answers[-1].status == status
    for (status, method, target, _), answer in zip(asked, answers, strict=True):
        line = line_of(plane, answer)
        assert line["status"] == status
        assert 0 <= line["duration_s"] < 5
        if method:
            assert (line["method"], line["path"]) == (method, target)
            assert line["peer"] == "127.0.0.1"
        else:
            # A call's line is its usage event.
            assert (line["endpoint"], line["access_path"]) == ("chat/completions", path)


def test_a_request_that_is_none_has_a_line_too(plane: Plane) -> None:
    with plane.wire() as wire:
        answer = wire.ask(b"garbage\r\n\r\n")
    assert line_of(plane, answer)["status"] == 400


def test_no_secret_gets_into_the_log(make_plane: Callable[..., Plane]) -> None:
    """No key, of ours or theirs, no query, nothing of a body, wherever a caller puts it."""
    plane = make_plane()
    replica = plane.replica(tcp=True, text='{"choices": [{"text": "private-answer"}]}')
    path = plane.service(endpoints=(plane.endpoint(replica),))
    key = plane.owner_key
    requests = [
        post(f"{CHAT}?api_key={key}&token=private-query", key, chat(path) | {"x": "private-body"}),
        get(f"/api/v1/x?token={key}", None, (f"cookie: session={key}",)),
        get("/page?password=private-query", "pat-private-token"),
        get(f"/v1/models/{key}", key),
        get(f"/v1/{key}", key),
        post(CHAT, key, chat(key)),
        post(CHAT, f"{key}x", chat(path)),
    ]
    last = None
    for request in requests:
        with plane.wire() as wire:
            last = wire.ask(request)
    assert last is not None
    line_of(plane, last)
    text = plane.paths.access_log.read_text()
    for private in ("private", "api_key", replica.secret, "?"):
        assert private not in text
    assert key not in text


def test_lines_are_json_whatever_the_path_holds(plane: Plane) -> None:
    for target in ('/a"b', "/a%0Ab", "/a\\b", "/a%FF%FE", "/a" * 5000):
        with plane.wire() as wire:
            answer = wire.ask(get(target))
        line = line_of(plane, answer)
        assert line["path"].startswith("/a")
        assert len(line["path"]) < 500


def test_the_log_is_for_this_account_alone(plane: Plane) -> None:
    with plane.wire() as wire:
        line_of(plane, wire.ask(get("/healthz")))
    assert stat.S_IMODE(plane.paths.access_log.stat().st_mode) == 0o600


def test_without_the_log_none_is_written(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(access_log="false")
    path = plane.service(plane.replica())
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
    id_ = answer.headers["x-request-id"]
    events = plane.control.events
    wait_for(lambda: [each for each in events if each.request_id == id_], "the usage event", 5)
    assert not plane.paths.access_log.exists()


def test_two_gateways_write_one_log_without_breaking_a_line(
    two_gateways: tuple[Plane, GatewayProcess],
) -> None:
    plane, other = two_gateways
    before = len(plane.paths.access_log.read_bytes())

    def call(number: int) -> list[str]:
        with Wire((plane.gateway, other)[number % 2].port) as wire:
            answers = [wire.ask(get("/v1/models", plane.owner_key)) for _ in range(100)]
        return [answer.headers["x-request-id"] for answer in answers]

    with ThreadPoolExecutor(4) as pool:
        ids = {id_ for found in pool.map(call, range(4)) for id_ in found}

    def written() -> list[dict[str, Any]] | None:
        data = plane.paths.access_log.read_bytes()[before:]
        lines = [json.loads(line) for line in data.splitlines()] if data.endswith(b"\n") else []
        return lines if ids <= {line["request_id"] for line in lines} else None

    lines = wait_for(written, "every line", 5)
    assert len(lines) == len({line["request_id"] for line in lines})


def test_what_a_gateway_still_had_to_write_is_written_at_its_end(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane()
    path = plane.service(plane.replica())
    with plane.wire() as wire:
        ids = {
            wire.ask(request).headers["x-request-id"]
            for request in (get("/healthz"), post(CHAT, plane.owner_key, chat(path)))
        }
    plane.gateway.terminate()
    assert plane.gateway.wait() == 0
    assert ids <= {line["request_id"] for line in plane.logged()}


# -- behind a proxy ----------------------------------------------------------


@pytest.fixture(scope="module")
def behind_a_proxy() -> Iterator[Plane]:
    plane = Plane(trusted_proxies="127.0.0.1, 10.0.0.0/8, fd00::/8")
    yield plane
    plane.close()


def origin(plane: Plane, *headers: str) -> dict[str, list[str]]:
    """What the control plane is told of a request that a proxy on this machine sends on."""
    control = ControlStandIn(plane.paths.control_socket)
    try:
        with plane.wire() as wire:
            assert wire.ask(get("/page", None, headers)).status == 200
    finally:
        control.close()
        plane.paths.control_socket.unlink()
    (seen,) = control.seen
    names = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "host")
    return {name: seen.values(name) for name in names}


@pytest.mark.parametrize(
    ("chain", "caller"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7, 10.1.2.3, 127.0.0.1", "203.0.113.7"),
        ("2001:db8::7, fd00::1", "2001:db8::7"),
        ("203.0.113.7,10.1.2.3", "203.0.113.7"),
    ],
)
def test_the_nearest_address_that_is_no_proxy_of_ours_is_the_caller_s(
    behind_a_proxy: Plane, chain: str, caller: str
) -> None:
    told = origin(behind_a_proxy, f"x-forwarded-for: {chain}")
    assert told["x-forwarded-for"] == [caller]


def test_a_chain_in_several_lines_is_one(behind_a_proxy: Plane) -> None:
    """Some proxies add a line of their own behind what the caller had written."""
    told = origin(behind_a_proxy, "x-forwarded-for: 6.6.6.6", "x-forwarded-for: 203.0.113.7")
    assert told["x-forwarded-for"] == ["203.0.113.7"]


@pytest.mark.parametrize("chain", ["", "nonsense", "6.6.6.6, unknown", "10.1.2.3", "127.0.0.1"])
def test_a_caller_whom_the_proxy_does_not_name_is_not_taken_for_the_proxy(
    behind_a_proxy: Plane, chain: str
) -> None:
    """This machine's own callers may more than others."""
    (caller,) = origin(behind_a_proxy, f"x-forwarded-for: {chain}")["x-forwarded-for"]
    assert caller not in ("127.0.0.1", "6.6.6.6", "")
    assert not caller.startswith("10.")


def test_how_the_caller_reached_the_proxy_is_believed(behind_a_proxy: Plane) -> None:
    told = origin(
        behind_a_proxy,
        "x-forwarded-for: 203.0.113.7",
        "x-forwarded-proto: https",
        "x-forwarded-host: models.example.com",
    )
    assert told["x-forwarded-proto"] == ["https"]
    assert told["host"] == ["models.example.com"]
    assert origin(behind_a_proxy, "x-forwarded-proto: gopher")["x-forwarded-proto"] == ["http"]


def test_a_stranger_is_not_believed(plane: Plane) -> None:
    told = origin(plane, "x-forwarded-for: 6.6.6.6", "x-forwarded-host: evil")
    assert told["x-forwarded-for"] == ["127.0.0.1"]
    assert told["host"] == ["gateway"]


# -- Anthropic's shapes ------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        (post("/v1/messages", None, b"{}"), 401, "authentication_error"),
        (post("/v1/messages", "sk-wrong", b"{}"), 401, "authentication_error"),
        (post("/v1/messages/count_tokens", "sk-wrong", b"{}"), 401, "authentication_error"),
        (get("/v1/messages/none", None), 401, "authentication_error"),
        (
            post("/v1/messages", "KEY", b"").replace(b"h: 0", b"h: 99999999999"),
            413,
            "request_too_large",
        ),
        (get("/v1/messages/none", "KEY"), 404, "not_found_error"),
    ],
    ids=["no-key", "wrong-key", "count", "below", "too-large", "unknown"],
)
def test_refusals_of_messages_have_anthropics_shape(
    plane: Plane, request_: bytes, status: int, kind: str
) -> None:
    with plane.wire() as wire:
        answer = wire.ask(request_.replace(b"KEY", plane.owner_key.encode()))
    body = answer.json()
    assert answer.status == status
    assert set(body) == {"type", "error", "request_id"}
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["error"]["message"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"


# -- HEAD --------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/v1/models", "/v1/nothing", CHAT, "/healthz", "/api/v1/me"])
def test_head_gets_no_body_and_leaves_the_connection_usable(plane: Plane, target: str) -> None:
    with plane.wire() as wire:
        head = get(target, plane.owner_key).replace(b"GET", b"HEAD", 1)
        answer = wire.ask(head, head_only=True)
        assert answer.status in (200, 404, 405, 503)
        assert answer.headers["x-request-id"]
        # Had it a body, this answer would begin with it.
        assert wire.ask(get("/healthz")).json() == {"status": "ok"}
