"""Bodies that come as forms with files in them (multipart/form-data, RFC 7578).

Only the fields that matter to the gateway are read, where they lie; files are never copied.
Whoever reads the form after us must find the same fields in it: a `model` that only they see is one
that the key may not be allowed on. What readers take differently is refused.
"""

import re
from collections.abc import Iterator

from modelry.gateway.body import Head
from modelry.gateway.replies import Reply, bad_request
from modelry.gateway.request import Request

AUDIO = frozenset({b"/v1/audio/transcriptions", b"/v1/audio/translations"})
ENDPOINTS = AUDIO | {b"/v1/images/edits"}
"""Those that take a form. Images may be edited by JSON too."""

JSON = b"application/json"
COST = 256
"""Stands for the tokens of a call that has none."""

_READ = frozenset({"model", "stream", "n", "size", "response_format"})
"""Texts that are read here."""
_ONCE = _READ | {"file", "mask"}
"""Of two of them, the gateway might go by one, and an engine by the other."""

_PARTS_MOST = 256
_PART_HEAD_MAX = 8 * 1024
_VALUE_MAX = 64 * 1024
# Those that need quotes or not (RFC 2046, 5.1.1), and more, but nothing that means an escape.
_BOUNDARY = re.compile(
    rb';\s*boundary=(?:"([ !#-\[\]-~]{0,69}[!#-\[\]-~])"|([!#-:<-\[\]-~]{1,70}))', re.IGNORECASE
)
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER = re.compile(rb"([A-Za-z-]{1,40}):[ \t]*([^\r\n]*)")
_DISPOSITION = re.compile(
    rb'form-data((?:[ \t]*;[ \t]*[A-Za-z*]{1,20}=(?:"(?:[^"\\]|\\.)*"|[^\s";,]+))*)[ \t]*',
    re.IGNORECASE,
)
_PARAMETER = re.compile(rb';[ \t]*([A-Za-z*]{1,20})=(?:"((?:[^"\\]|\\.)*)"|([^\s";,]+))')


class Part:
    """A field of a form; its content is `body[start:end]`."""

    __slots__ = ("end", "is_file", "name", "start")

    def __init__(self, name: str, is_file: bool, start: int, end: int) -> None:
        self.name, self.is_file, self.start, self.end = name, is_file, start, end


class FormHead(Head):
    """What is read of a form; `size` and `format` (`response_format`) are those of
    images."""

    size: str | None = None
    format: str | None = None


def boundary_of(request: Request) -> bytes | None:
    """What parts a form's fields; None for a body that says it is no form. Raises a `Reply`."""
    kind = request.fields.get(b"content-type", b"")
    if not kind.lower().startswith(b"multipart/form-data"):
        if request.path in AUDIO:
            raise bad_request(
                "Send the audio as a form, multipart/form-data, with the fields 'file' and 'model'."
            )
        return None
    match = _BOUNDARY.search(kind)
    if match is None:
        raise bad_request("The form's Content-Type names no boundary.")
    return match[1] or match[2]


def content_type(request: Request) -> bytes:
    """Of the body as it is sent on, in words of our own: the caller's may name two boundaries, or
    make a form of what was read as JSON. Raises a `Reply`.
    """
    boundary = boundary_of(request)
    if boundary is None:
        return JSON
    plain = _TOKEN.fullmatch(boundary) is not None
    return b"multipart/form-data; boundary=" + (boundary if plain else b'"%b"' % boundary)


def read(body: bytes | bytearray, boundary: bytes) -> FormHead:
    """What the gateway reads of any call. Raises a 400 that says what is wrong."""
    head = FormHead()
    seen = set()
    for part in parts(body, boundary):
        name = part.name
        if not part.is_file and name.lower() == "model" != name:
            raise bad_request(f"The form has a field {name!r}: write it 'model'.", "model")
        if name not in _ONCE or (part.is_file and name in _READ):
            continue
        if name in seen:
            raise bad_request(f"The form has several fields '{name}'.", name)
        seen.add(name)
        if name not in _READ:
            continue
        value = text_of(body, part).strip()
        if name == "model":
            head.model = value
        elif name == "stream":
            head.stream = value.lower() in ("true", "1")
        elif name == "size":
            head.size = value
        elif name == "response_format":
            head.format = value
        elif value.isdecimal() and len(value) < 10:
            head.n = int(value)
    if not head.model:
        raise bad_request("The form lacks 'model': name a service, like 'u-…/name'.", "model")
    return head


def parts(body: bytes | bytearray, boundary: bytes) -> Iterator[Part]:
    """The form's fields in their order. Raises a 400 where it is none."""
    mark = b"--" + boundary
    at = 2 if body[:2] == b"\r\n" else 0
    if body[at : at + len(mark)] != mark:
        raise bad_request("The body is no form: the boundary of its Content-Type is not in it.")
    for _ in range(_PARTS_MOST):
        at += len(mark)
        after = body[at : at + 2]
        if after == b"--":
            if body.find(mark, at) >= 0:
                raise _ambiguous()
            return
        head_end = body.find(b"\r\n\r\n", at, at + _PART_HEAD_MAX)
        start = head_end + 4
        end = -1 if head_end < 0 else _content_end(body, mark, start)
        if end < 0 or after != b"\r\n":
            raise bad_request("The body is no complete form: it is cut off, or a field has no end.")
        name, is_file = _described(bytes(body[at + 2 : head_end]))
        yield Part(name, is_file, start, end)
        at = end + 2
    raise bad_request(f"The form has more than {_PARTS_MOST} fields.")


def _content_end(body: bytes | bytearray, mark: bytes, start: int) -> int:
    """Where the content ends that begins at `start`; negative where it does not.

    Raises a 400 where a line begins like a boundary and is none: with spaces behind it, or after
    half a line end, it is one to some.
    """
    line = body.find(b"\n" + mark, start) + 1
    after = line + len(mark)
    if not line:
        return -1
    if (
        body[line - 2 : line] != b"\r\n"
        or body[after : after + 2] not in (b"\r\n", b"--")
        or body.startswith(mark, start)
        or body.find(b"\r" + mark, start, line) >= 0
    ):
        raise _ambiguous()
    return line - 2


def _ambiguous() -> Reply:
    return bad_request(
        "The form's boundary begins a line where it does not part its fields: choose another."
    )


def _described(head: bytes) -> tuple[str, bool]:
    """A part's name, and whether it is a file. It says so in one way only."""
    found = None
    for line in head.split(b"\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None:
            raise bad_request("The form has a field whose header lines cannot be read.")
        if header[1].lower() == b"content-disposition":
            if found is not None:
                raise bad_request("The form has a field with two Content-Disposition lines.")
            found = _DISPOSITION.fullmatch(header[2])
            if found is None:
                raise bad_request("The form has a field whose Content-Disposition is not plain.")
    if found is None:
        raise bad_request("The form has a field without a Content-Disposition.")
    told = [
        (each[1].lower(), each[2] if each[2] is not None else each[3])
        for each in _PARAMETER.finditer(found[1])
    ]
    given = dict(told)
    name = given.get(b"name")
    if len(given) < len(told) or name is None or b"name*" in given:
        raise bad_request("The form has a field that does not have one name.")
    # Some take escapes out of it, and slashes before it.
    if b"\\" in name or name.startswith(b"/"):
        raise bad_request("The form has a field whose name is not plain.")
    return name.decode("utf-8", "replace"), b"filename" in given or b"filename*" in given


def text_of(body: bytes | bytearray, part: Part) -> str:
    """Raises a 400 where it is no text, or too long for one."""
    if part.end - part.start > _VALUE_MAX:
        raise bad_request(f"The field {part.name!r} is too long.", part.name)
    try:
        return bytes(body[part.start : part.end]).decode()
    except UnicodeDecodeError:
        raise bad_request(f"The field {part.name!r} is no UTF-8 text.", part.name) from None


def edited(body: bytes | bytearray, boundary: bytes, name: str, value: bytes) -> bytes:
    """The same form with another value in the field `name`."""
    pieces, at = [], 0
    for part in parts(body, boundary):
        if part.name == name and not part.is_file:
            pieces += [body[at : part.start], value]
            at = part.end
    return b"".join((*pieces, body[at:]))
