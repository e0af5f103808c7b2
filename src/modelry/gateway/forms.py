"""Bodies that come as forms with files in them (multipart/form-data, RFC 7578).

Only the fields that matter to the gateway are read, where they lie; files are never copied.
"""

import re
from collections.abc import Iterator

from modelry.gateway.body import Head
from modelry.gateway.replies import bad_request
from modelry.gateway.request import Request

AUDIO = frozenset({b"/v1/audio/transcriptions", b"/v1/audio/translations"})
ENDPOINTS = AUDIO | {b"/v1/images/edits"}
"""Those that take a form. Images may be edited by JSON too."""

JSON = b"application/json"
COST = 256
"""Stands for the tokens of a call that has none."""

_PARTS_MOST = 256
_PART_HEAD_MAX = 8 * 1024
_VALUE_MAX = 64 * 1024
_BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name="((?:[^"\\\r\n]|\\.)*)"|;\s*name=([^\s;"]+)', re.IGNORECASE)
_FILE = re.compile(rb";\s*filename\*?=", re.IGNORECASE)


class Part:
    """A field of a form; its content is `body[start:end]`."""

    __slots__ = ("end", "is_file", "name", "start")

    def __init__(self, name: str, is_file: bool, start: int, end: int) -> None:
        self.name, self.is_file, self.start, self.end = name, is_file, start, end


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


def read(body: bytes | bytearray, boundary: bytes) -> Head:
    """What the gateway reads of any call. Raises a 400 that says what is wrong."""
    head = Head()
    for part in parts(body, boundary):
        if part.is_file or part.name not in ("model", "stream", "n"):
            continue
        value = text_of(body, part).strip()
        if part.name == "model":
            head.model = value
        elif part.name == "stream":
            head.stream = value.lower() in ("true", "1")
        elif value.isdecimal() and len(value) < 10:
            head.n = int(value)
    if not head.model:
        raise bad_request("The form lacks 'model': name a service, like 'u-…/name'.", "model")
    return head


def parts(body: bytes | bytearray, boundary: bytes) -> Iterator[Part]:
    """The form's fields in their order. Raises a 400 where it is none."""
    mark = b"--" + boundary
    at = body.find(mark)
    if at < 0 or (at > 0 and body[at - 2 : at] != b"\r\n"):
        raise bad_request("The body is no form: the boundary of its Content-Type is not in it.")
    for _ in range(_PARTS_MOST):
        at += len(mark)
        if body[at : at + 2] == b"--":
            return
        head_end = body.find(b"\r\n\r\n", at, at + _PART_HEAD_MAX)
        next_at = body.find(b"\r\n" + mark, max(at, head_end + 2))
        if head_end < 0 or next_at < 0:
            raise bad_request("The body is no complete form: it is cut off, or a field has no end.")
        head = bytes(body[at:head_end])
        match = _NAME.search(head)
        if match is not None:
            name = (match[1] or match[2] or b"").decode("utf-8", "replace")
            yield Part(name, _FILE.search(head) is not None, head_end + 4, next_at)
        at = next_at + 2
    raise bad_request(f"The form has more than {_PARTS_MOST} fields.")


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
