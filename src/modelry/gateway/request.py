"""One parsed request of a caller: head and whole body."""

import time


class Request:
    """One request. `headers` names are in lower case; `path` excludes the query.

    `id` is empty until the head is complete. `chunks`: the caller understands
    a chunked answer, as HTTP/1.0 does not.
    """

    __slots__ = (
        "arrived_at",
        "body",
        "chunks",
        "headers",
        "id",
        "keep_alive",
        "method",
        "peer",
        "target",
    )

    def __init__(self, peer: str) -> None:
        self.id = ""
        self.method = b""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.keep_alive = True
        self.chunks = True
        self.peer = peer
        self.arrived_at = time.monotonic()

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None

    @property
    def is_inference(self) -> bool:
        """Whether it is for the inference API, and not relayed to the control plane."""
        return self.path.startswith(b"/v1/") or self.path == b"/v1"

    @property
    def head_size(self) -> int:
        """Bytes of target, names and values."""
        return len(self.target) + sum(len(name) + len(value) for name, value in self.headers)


def origin_form(target: bytes) -> bytes:
    """`http://host/path?query` as `/path?query` (RFC 9112, 3.2.2)."""
    if not target.lower().startswith((b"http://", b"https://")):
        return target
    return b"/" + target.partition(b"://")[2].partition(b"/")[2]
