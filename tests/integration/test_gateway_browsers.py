"""Calls from pages of other origins: which may, and what their browsers are told."""

from collections.abc import Iterator

import pytest

from modelry.routing.messages import Limits
from tests.support.data_plane import GatewayProcess, Plane, chat
from tests.support.wire import Answer, Wire, get, post

CHAT = "/v1/chat/completions"
PAGE = "https://app.example.com"
STRANGE = "https://evil.example.com"


@pytest.fixture(scope="module")
def open_to_pages() -> Iterator[Plane]:
    plane = Plane(cors_origins=f"{PAGE}, http://localhost:3000")
    yield plane
    plane.close()


@pytest.fixture(scope="module")
def open_to_all(open_to_pages: Plane) -> GatewayProcess:
    return open_to_pages.another_gateway(cors_origins="*")


def preflight(path: str = CHAT, origin: str = PAGE) -> bytes:
    asked = (
        f"origin: {origin}",
        "access-control-request-method: POST",
        "access-control-request-headers: authorization, content-type, x-stainless-os",
    )
    return get(path, None, asked).replace(b"GET", b"OPTIONS", 1)


def ask(plane: Plane, request: bytes) -> Answer:
    with plane.wire() as wire:
        return wire.ask(request)


def words(answer: Answer, name: str) -> set[str]:
    return {word.strip().lower() for word in answer.headers.get(name, "").split(",")}


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/nothing"])
@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
def test_a_browser_that_asks_beforehand_is_told_what_it_may_without_a_key(
    open_to_pages: Plane, path: str, origin: str
) -> None:
    with open_to_pages.wire() as wire:
        answer = wire.ask(preflight(path, origin))
        assert answer.status in (200, 204)
        assert answer.headers["access-control-allow-origin"] == origin
        assert {"get", "post"} <= words(answer, "access-control-allow-methods")
        asked = {"authorization", "content-type", "x-stainless-os"}
        assert asked <= words(answer, "access-control-allow-headers")
        assert int(answer.headers["access-control-max-age"]) > 0
        assert "origin" in words(answer, "vary")
        # Keys travel in a header, never in a cookie.
        assert "access-control-allow-credentials" not in answer.headers
        assert wire.ask(get("/healthz")).status == 200


def test_a_page_may_read_answers_streams_and_errors(open_to_pages: Plane) -> None:
    plane = open_to_pages
    path = plane.service(plane.replica())
    limited = plane.key(limits=Limits(requests_per_minute=1))
    origin = (f"origin: {PAGE}",)
    asked = [
        (200, post(CHAT, limited, chat(path), origin)),
        (429, post(CHAT, limited, chat(path), origin)),
        (200, post(CHAT, plane.owner_key, chat(path, do="stream", chunks=1), origin)),
        (200, get("/v1/models", plane.owner_key, origin)),
        (400, post(CHAT, plane.owner_key, b"{", origin)),
        (404, post(CHAT, plane.owner_key, chat("missing"), origin)),
        (401, post(CHAT, "sk-wrong", chat(path), origin)),
        (401, get("/v1/models", None, origin)),
        (413, post(CHAT, plane.owner_key, b"", origin).replace(b"h: 0", b"h: 99999999999")),
    ]
    for status, request in asked:
        answer = ask(plane, request)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert {"x-request-id", "retry-after", "x-ratelimit-remaining-tokens"} <= words(
            answer, "access-control-expose-headers"
        )
        assert "origin" in words(answer, "vary")


@pytest.mark.parametrize(
    "origin",
    [STRANGE, "null", "https://app.example.com.evil.com", "http://app.example.com", f"{PAGE}:8443"],
)
def test_other_pages_get_no_leave(open_to_pages: Plane, origin: str) -> None:
    plane = open_to_pages
    path = plane.service(plane.replica())
    for request in (
        preflight(origin=origin),
        post(CHAT, plane.owner_key, chat(path), (f"origin: {origin}",)),
    ):
        answer = ask(plane, request)
        assert "access-control-allow-origin" not in answer.headers
        # A cache must not hand this answer to a page that may.
        assert "origin" in words(answer, "vary")


def test_who_is_no_page_notices_nothing(open_to_pages: Plane) -> None:
    path = open_to_pages.service(open_to_pages.replica())
    answer = ask(open_to_pages, post(CHAT, open_to_pages.owner_key, chat(path)))
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


def test_every_page_may_where_the_operator_says_so(
    open_to_pages: Plane, open_to_all: GatewayProcess
) -> None:
    key = open_to_pages.owner_key
    with Wire(open_to_all.port) as wire:
        for request in (preflight(origin=STRANGE), get("/v1/models", key, (f"origin: {STRANGE}",))):
            answer = wire.ask(request)
            assert answer.status in (200, 204)
            assert answer.headers["access-control-allow-origin"] == "*"


def test_what_is_not_v1_is_for_no_other_page(open_to_pages: Plane) -> None:
    """The management API takes a session's cookie."""
    for request in (
        preflight("/api/v1/services"),
        get("/api/v1/services", None, (f"origin: {PAGE}",)),
        get("/healthz", None, (f"origin: {PAGE}",)),
    ):
        assert "access-control-allow-origin" not in ask(open_to_pages, request).headers


def test_a_question_that_is_no_preflight_needs_a_key(open_to_pages: Plane) -> None:
    plain = get(CHAT, None, (f"origin: {PAGE}",)).replace(b"GET", b"OPTIONS", 1)
    assert ask(open_to_pages, plain).status == 401


def test_where_no_origin_was_set_nobody_is_given_leave(plane: Plane) -> None:
    assert ask(plane, preflight()).status == 401
    with_key = get(CHAT, plane.owner_key).replace(b"GET", b"OPTIONS", 1)
    answer = ask(plane, with_key)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    answer = ask(plane, get("/v1/models", plane.owner_key, (f"origin: {PAGE}",)))
    assert not [name for name in answer.headers if name.startswith("access-control")]
