"""What the gateway reads of forms with files, and the one field it changes in them."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway import forms
from modelry.gateway.replies import Reply
from modelry.gateway.request import Request

BOUNDARY = b"----part"


def form(*fields: tuple[str, bytes], boundary: bytes = BOUNDARY) -> bytes:
    """Fields by name; a name that begins with @ is a file's."""
    pieces = []
    for name, value in fields:
        kind = b'; filename="a.wav"\r\nContent-Type: audio/wav' if name.startswith("@") else b""
        head = b'Content-Disposition: form-data; name="%b"%b' % (name.lstrip("@").encode(), kind)
        pieces.append(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, value))
    return b"".join(pieces) + b"--" + boundary + b"--\r\n"


def request(kind: bytes, path: bytes = b"/v1/audio/transcriptions") -> Request:
    made = Request("", 0.0)
    made.target = path
    made.headers = [(b"content-type", kind)]
    made.complete_head()
    return made


def refusal(reply: Reply) -> str:
    return reply.body.decode()


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data; charset=utf-8; Boundary="a b"', b"a b"),
        (b"multipart/form-data;boundary=abc;x=y", b"abc"),
        (b'multipart/form-data; boundary="=_(a)/b:c"', b"=_(a)/b:c"),
    ],
)
def test_the_boundary_stands_in_the_content_type(kind: bytes, boundary: bytes) -> None:
    assert forms.boundary_of(request(kind)) == boundary


def test_audio_comes_as_a_form_and_images_may_come_as_json() -> None:
    with pytest.raises(Reply) as refused:
        forms.boundary_of(request(b"application/json"))
    assert "multipart/form-data" in refusal(refused.value)
    assert forms.boundary_of(request(b"application/json", b"/v1/images/edits")) is None
    with pytest.raises(Reply) as refused:
        forms.boundary_of(request(b"multipart/form-data"))
    assert "boundary" in refusal(refused.value)


def test_what_matters_of_a_form_is_read() -> None:
    body = form(
        ("@file", b"RIFF\x00\xff--not a boundary\r\n--"),
        ("model", b" u-1/x "),
        ("stream", b"true"),
        ("n", b"3"),
        ("@model", b"a file may be called anything"),
    )
    head = forms.read(body, BOUNDARY)
    assert (head.model, head.stream, head.n) == ("u-1/x", True, 3)
    head = forms.read(form(("model", b"m"), ("stream", b"False"), ("n", b"-1")), BOUNDARY)
    assert (head.stream, head.n) == (False, None)
    head = forms.read(
        form(("model", b"m"), ("size", b"64x64 "), ("response_format", b"url"), ("@size", b"8x8")),
        BOUNDARY,
    )
    assert (head.size, head.format) == ("64x64", "url")


@pytest.mark.parametrize("name", ["model", "stream", "n", "size", "response_format"])
def test_a_text_that_two_could_read_differently_is_refused_by_name(name: str) -> None:
    body = form(("model", b"m"), (name, b"1"), (name, b"2"))
    with pytest.raises(Reply) as refused:
        forms.read(body, BOUNDARY)
    assert refused.value.status == 400
    assert json.loads(refused.value.body)["error"]["param"] == name


@pytest.mark.parametrize("second", ["", "@"])
@pytest.mark.parametrize("name", ["file", "mask"])
def test_a_file_that_is_to_be_one_is_refused_by_name_where_there_are_two(
    name: str, second: str
) -> None:
    one = (("model", b"m"), (f"@{name}", b"RIFF"))
    assert forms.read(form(*one), BOUNDARY).model == "m"
    with pytest.raises(Reply) as refused:
        forms.read(form(*one, (second + name, b"RIFF")), BOUNDARY)
    assert refused.value.status == 400
    assert json.loads(refused.value.body)["error"]["param"] == name
    assert f"several fields '{name}'" in refusal(refused.value)


def test_pictures_to_edit_may_be_several() -> None:
    for name in ("@image", "@image[]"):
        assert forms.read(form(("model", b"m"), (name, b"1"), (name, b"2")), BOUNDARY).model == "m"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no form"),
        (b'{"model": "x"}', "no form"),
        (form(("file", b"x")), "lacks 'model'"),
        (form(("model", b"x"))[:-30], "cut off"),
        (form(("model", b"\xff")), "no UTF-8"),
        (form(("model", b"x" * 100_000)), "too long"),
        (form(*[("a", b"")] * 300), "more than"),
        (b"x" + form(("model", b"x")), "no form"),
        (form(("model", b"x"), ("Model", b"y")), "write it 'model'"),
    ],
)
def test_what_is_no_form_is_refused_with_a_reason(body: bytes, told: str) -> None:
    with pytest.raises(Reply) as refused:
        forms.read(body, BOUNDARY)
    assert refused.value.status == 400
    assert told in refusal(refused.value)


def part(*lines: bytes) -> bytes:
    head = b"\r\n".join(lines)
    return b"--%b\r\n%b\r\n\r\nvalue\r\n--%b--\r\n" % (BOUNDARY, head, BOUNDARY)


@pytest.mark.parametrize(
    "lines",
    [
        (b'Content-Type: text/plain; name="zz"',),
        (b'Content-Disposition: form-data; name="a"; name="model"',),
        (b'Content-Disposition: form-data; name="a"', b'Content-Disposition: form-data; name="b"'),
        (b"Content-Disposition: form-data; name*=utf-8''model",),
        (b'Content-Disposition: form-data; name="model"; x',),
        (b'Content-Disposition: form-data; name="model" "x"',),
        (b'Content-Disposition: attachment; name="model"',),
        (b"Content-Disposition: form-data;", b' name="model"'),
        (b'Content-Disposition: form-data; name="model"\nX: y',),
        (b"",),
    ],
)
def test_a_field_has_one_name_that_nobody_can_read_otherwise(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(Reply) as refused:
        forms.read(part(*lines), BOUNDARY)
    assert refused.value.status == 400
    assert "field" in refusal(refused.value)


def test_a_name_is_that_of_the_disposition() -> None:
    body = part(
        b'Content-Type: text/plain; name="zz"', b'content-disposition: form-data; name="model"'
    )
    assert forms.read(body, BOUNDARY).model == "value"
    body = part(b'Content-Disposition: form-data; name="model"; x="; filename=a"')
    assert forms.read(body, BOUNDARY).model == "value"
    body = form(("@file", b"x--" + BOUNDARY + b"\r\n--" + BOUNDARY[:-1]), ("model", b"m"))
    assert forms.read(body, BOUNDARY).model == "m"


HIDDEN = b'Content-Disposition: form-data; name="model"\r\n\r\nhidden'


@pytest.mark.parametrize(
    "content",
    [
        b"x\r\n--%b \r\n" % BOUNDARY,
        b"x\r\n--%b\t\r\n" % BOUNDARY,
        b"x\r\n--%bx\r\n" % BOUNDARY,
        b"x\n--%b\r\n" % BOUNDARY,
        b"x\r\n--%b\n" % BOUNDARY,
        b"x\r--%b\r\n" % BOUNDARY,
        b"--%b\r\n" % BOUNDARY,
        b"\n--%b\r\n" % BOUNDARY,
    ],
)
def test_no_reader_finds_a_field_in_what_is_content_here(content: bytes) -> None:
    """Some take these for a boundary, python-multipart the first: they would find `model` twice,
    and the first is none that was ever checked.
    """
    with pytest.raises(Reply) as refused:
        forms.read(form(("a", content + HIDDEN), ("model", b"m")), BOUNDARY)
    assert refused.value.status == 400
    assert "boundary" in refusal(refused.value)


@pytest.mark.parametrize("after", [b" \r\n", b"xx", b"\n"])
def test_a_form_begins_with_a_plain_boundary(after: bytes) -> None:
    body = form(("model", b"m")).replace(b"\r\n", after, 1)
    with pytest.raises(Reply):
        forms.read(body, BOUNDARY)


def test_nothing_comes_after_the_end() -> None:
    whole = form(("model", b"m"))
    assert forms.read(whole + b"\r\nan epilogue", BOUNDARY).model == "m"
    with pytest.raises(Reply) as refused:
        forms.read(whole + form(("model", b"hidden")), BOUNDARY)
    assert "boundary" in refusal(refused.value)


@pytest.mark.parametrize("name", ["mod\\el", "\\model", "/model"])
def test_no_reader_makes_another_name_of_one(name: str) -> None:
    """Some take escapes out of it, aiohttp slashes before it too."""
    with pytest.raises(Reply) as refused:
        forms.read(form((name, b"hidden"), ("model", b"m")), BOUNDARY)
    assert "name" in refusal(refused.value)


def test_a_body_of_boundaries_takes_no_time() -> None:
    body = form(("a", b"a" + b"--x" * 1_000_000), ("model", b"m"), boundary=b"x")
    finds = CountingFinds(body)
    assert forms.read(finds, b"x").model == "m"
    assert finds.made < 20


class CountingFinds(bytearray):
    made = 0

    def find(self, *arguments: Any) -> int:
        self.made += 1
        return super().find(*arguments)


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        (b"multipart/form-data; boundary=abc", b"multipart/form-data; boundary=abc"),
        (b"Multipart/Form-Data; charset=x; Boundary=abc", b"multipart/form-data; boundary=abc"),
        (b'multipart/form-data; boundary="a b"', b'multipart/form-data; boundary="a b"'),
        (b"multipart/form-data; boundary=a; boundary=b", b"multipart/form-data; boundary=a"),
        (b'multipart/form-data; x="; boundary=a"; boundary=b', b"multipart/form-data; boundary=a"),
        (b"application/x-www-form-urlencoded", b"application/json"),
        (b"multipart/mixed; boundary=a", b"application/json"),
        (b"application/json; charset=utf-8", b"application/json"),
    ],
)
def test_who_reads_after_us_reads_the_same(told: bytes, sent: bytes) -> None:
    """Whoever takes the last of two boundaries, or a JSON body for a form, would find a model
    that was never checked.
    """
    assert forms.content_type(request(told, b"/v1/images/edits")) == sent


@given(st.lists(st.tuples(st.sampled_from(["a", "@file", "model"]), st.binary(max_size=60))))
def test_only_the_named_field_changes(fields: list[tuple[str, bytes]]) -> None:
    fields = [(name, value.replace(BOUNDARY, b"")) for name, value in fields]
    body = form(*fields)
    changed = forms.edited(bytearray(body), BOUNDARY, "model", b"another")
    wanted = [(name, b"another" if name == "model" else value) for name, value in fields]
    assert changed == form(*wanted)


@given(st.binary(max_size=300))
def test_no_bytes_break_it(body: bytes) -> None:
    for data in (body, b"--" + BOUNDARY + body, form(("model", body))):
        with suppress(Reply):
            assert forms.read(data, BOUNDARY).model
