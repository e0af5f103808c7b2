"""HTTP/1.1 requests read to the letter of RFC 9112, and refused wherever it lets one refuse.

The yardstick of the fuzz tests: what this reads as a request may reach a
replica, and nothing else. It is slow and plain on purpose.
"""

import re
from dataclasses import dataclass

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) +([\x21-\x7e]+) +HTTP/1\.([01])" % _TOKEN)
_FIELD = re.compile(rb"(%b):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*" % _TOKEN)
# What an extension says is nobody's business here; where its line ends is.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")


@dataclass(frozen=True)
class StrictRequest:
    method: bytes
    target: bytes
    body: bytes


@dataclass(frozen=True)
class Conversation:
    """The requests of a connection, in order, and how it goes on after them.

    `invalid`: what follows is no request, and nothing behind it may be believed.
    `ended`: by the last request, which says `connection: close`, or asks for a tunnel.
    """

    requests: list[StrictRequest]
    invalid: bool = False
    ended: bool = False


class _Invalid(Exception):
    pass


class _Incomplete(Exception):
    pass


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def line(self) -> bytes:
        """Up to the next line end, which is CR LF and nothing else."""
        end = self.data.find(b"\n", self.at)
        line = self.data[self.at :] if end < 0 else self.data[self.at : end]
        if end < 0:
            if b"\r" in line[:-1]:
                raise _Invalid
            raise _Incomplete
        if line[-1:] != b"\r" or b"\r" in line[:-1]:
            raise _Invalid
        self.at = end + 1
        return line[:-1]

    def exactly(self, size: int) -> bytes:
        if len(self.data) - self.at < size:
            raise _Incomplete
        self.at += size
        return self.data[self.at - size : self.at]


def conversation(data: bytes) -> Conversation:
    reader, requests = _Reader(data), []
    try:
        while reader.at < len(data):
            request, ends = _request(reader)
            requests.append(request)
            if ends:
                return Conversation(requests, ended=True)
    except _Incomplete:
        pass
    except _Invalid:
        return Conversation(requests, invalid=True)
    return Conversation(requests)


def _request(reader: _Reader) -> tuple[StrictRequest, bool]:
    """The next request, and whether it is the last."""
    while reader.data[reader.at : reader.at + 1] in (b"\r", b"\n"):
        # Empty lines before a request are to be overlooked; what ends them is nobody's body.
        reader.at += 1
    found = _REQUEST_LINE.fullmatch(reader.line())
    if found is None:
        raise _Invalid
    method, target, minor = found.groups()
    fields = _fields(reader)
    hosts = fields.get(b"host", [])
    if len(hosts) > 1 or (minor == b"1" and not hosts):
        raise _Invalid
    options = [
        option.strip(b" \t").lower()
        for value in fields.get(b"connection", [])
        for option in value.split(b",")
    ]
    kept = b"close" not in options if minor == b"1" else b"keep-alive" in options
    body = _body(reader, fields, minor)
    return StrictRequest(method, target, body), not kept or method == b"CONNECT"


def _fields(reader: _Reader) -> dict[bytes, list[bytes]]:
    fields: dict[bytes, list[bytes]] = {}
    while line := reader.line():
        found = _FIELD.fullmatch(line)
        if found is None:
            raise _Invalid
        name, value = found.groups()
        fields.setdefault(name.lower(), []).append(value)
    return fields


def _body(reader: _Reader, fields: dict[bytes, list[bytes]], minor: bytes) -> bytes:
    encodings, lengths = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if encodings is not None:
        if (
            lengths is not None
            or minor == b"0"
            or [each.lower() for each in encodings] != [b"chunked"]
        ):
            raise _Invalid
        return _chunks(reader)
    if lengths is None:
        return b""
    if len(lengths) > 1 or re.fullmatch(rb"[0-9]{1,18}", lengths[0]) is None:
        raise _Invalid
    return reader.exactly(int(lengths[0]))


def _chunks(reader: _Reader) -> bytes:
    body = b""
    while True:
        found = _CHUNK_SIZE.fullmatch(reader.line())
        if found is None:
            raise _Invalid
        size = int(found.group(1), 16)
        if size == 0:
            _fields(reader)
            return body
        body += reader.exactly(size)
        if reader.exactly(2) != b"\r\n":
            raise _Invalid
