"""What pages share: numbers, places to go on to, notices."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote

import pytest
from fastapi import Request
from fastapi.responses import Response

from modelry.console import formats
from modelry.console.frame import Frame, go, own_path


def failure_page(**headers: str) -> Response:
    """A page that needs nobody and nothing."""
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request(
        {"type": "http", "method": "GET", "path": "/", "headers": sent, "query_string": b""}
    )
    frame = Frame(cast(Any, None))
    return frame.page(
        request, "failure.html", None, section=None, failure=404, message="gone", hint=None
    )


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (98_300_000, "98.3 MB"),
        (999_960, "1 MB"),
        (5.06e9, "5.06 GB"),
        (1.234e13, "12.3 TB"),
        (2.5e16, "25,000 TB"),
    ],
)
def test_sizes(count: float, shown: str) -> None:
    assert formats.size(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (0.4, "0.4"), (12, "12"), (999.6, "1 k"), (135e6, "135 M"), (7.24e9, "7.24 G")],
)
def test_short_numbers(count: float, shown: str) -> None:
    assert formats.short(count) == shown


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        (0, "0 ms"),
        (0.0854, "85 ms"),
        (2.4, "2.4 s"),
        (59, "59 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (3600 * 24 * 4 + 3 * 3600, "4 d 3 h"),
        (3600 * 24 + 30, "1 d"),
    ],
)
def test_durations(duration: float, shown: str) -> None:
    assert formats.seconds(duration) == shown


@pytest.mark.parametrize(
    ("duration", "shown"), [(0.0, "1 s"), (0.951, "1 s"), (12.3, "13 s"), (184.2, "3 min 5 s")]
)
def test_time_left_is_told_in_whole_seconds(duration: float, shown: str) -> None:
    assert formats.left(duration) == shown


def test_a_moment_is_readable_without_scripts() -> None:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert formats.when(at, "ago") == (
        '<local-time datetime="2026-01-02T03:04:00+00:00" data-style="ago">'
        "2026-01-02 03:04 UTC</local-time>"
    )


@pytest.mark.parametrize("path", ["/", "/services/x?y=1", "/models/u-0123456789ab/x"])
def test_a_form_goes_on_to_a_page_of_ours(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "//evil.example", "/\\evil.example", "https://evil.example", "javascript:x", "/a\r\nb"],
)
def test_a_form_never_goes_elsewhere(path: str) -> None:
    assert own_path(path) == "/"


def test_a_notice_is_no_header_of_its_own() -> None:
    answer = go("/", "shell.copy", 'a"; Path=/evil\r\nSet-Cookie: b')
    assert len(answer.headers.getlist("set-cookie")) == 1
    assert "\n" not in answer.headers["set-cookie"]
    assert "evil\r" not in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "value",
    ["", "{", "5", "null", "[[], 1]", '["shell.copy"]', '["no.thing", ""]', '["models.found", ""]'],
)
def test_a_cookie_that_is_no_notice_is_passed_over(value: str) -> None:
    page = failure_page(cookie=f"modelry_notice={quote(value)}")
    assert page.status_code == 200
    assert b"data-toast" not in page.body


def test_what_a_notice_is_about_is_text() -> None:
    notice = quote(json.dumps(["service.was_deleted", "<b>"]))
    page = bytes(failure_page(cookie=f"modelry_notice={notice}").body)
    assert b"&lt;b&gt; is being deleted" in page
    assert b"<b>" not in page


def test_the_size_of_a_page_does_not_tell_what_is_in_it() -> None:
    pages = [bytes(failure_page(**{"accept-encoding": "gzip"}).body) for _ in range(20)]
    assert len({gzip.decompress(page) for page in pages}) == 1
    assert len({len(page) for page in pages}) > 1
