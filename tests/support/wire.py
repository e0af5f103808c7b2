"""HTTP as bytes on a socket, for what no HTTP library would send or show."""

import json
import socket
from types import TracebackType
from typing import Any


class Answer:
    """A response: `headers` by lower-case name; `chunks` as they were framed, if they were."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.chunks: list[bytes] = []
        self.body = b""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.json()["error"]["code"])


class Broken(Exception):
    """The connection ended within an answer. `data`: what came of its body."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__("the connection ended within an answer")
        self.data = data


class Wire:
    """One TCP connection to the gateway; use it as a context manager."""

    def __init__(self, port: int, timeout_s: float = 15.0, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(timeout_s)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes, *, head_only: bool = False) -> Answer:
        self.send(data)
        return self.answer(head_only=head_only)

    # -- reading -------------------------------------------------------------

    def ended(self) -> bool:
        """Whether the other side closes without another byte."""
        try:
            return self._buffer == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def head(self) -> Answer:
        text = self.until(b"\r\n\r\n").decode("latin-1")
        first, *lines = text.split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Answer(int(first.split()[1]), headers)

    def answer(self, *, head_only: bool = False) -> Answer:
        """A whole response. Raises `Broken` where it ends too early."""
        answer = self.head()
        if head_only or answer.status in (100, 204, 304):
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while (chunk := self.chunk(answer.body)) != b"":
                answer.chunks.append(chunk)
                answer.body += chunk
        elif "content-length" in answer.headers:
            answer.body = self._exactly(int(answer.headers["content-length"]))
        else:
            answer.body = self.rest()
        return answer

    def chunk(self, before: bytes = b"") -> bytes:
        """The next chunk of a chunked body, b"" for the last."""
        try:
            size = int(self.until(b"\r\n"), 16)
            data = self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        except Broken as broken:
            raise Broken(before + broken.data) from None
        return data

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        try:
            while self._more():
                pass
        except ConnectionResetError:
            pass
        data, self._buffer = self._buffer, b""
        return data

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            if not self._more():
                raise Broken(self._buffer)
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more():
                raise Broken(self._buffer)
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        self._buffer += data
        return data != b""


def post(
    path: str,
    key: str | None,
    body: Any,
    headers: tuple[str, ...] = (),
    version: str = "1.1",
) -> bytes:
    """A POST of `body`: bytes as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", "host: gateway"]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    lines += ["content-type: application/json", f"content-length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def get(path: str, key: str | None = None, headers: tuple[str, ...] = ()) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "host: gateway", *headers]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
