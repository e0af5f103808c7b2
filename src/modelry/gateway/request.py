"""One parsed request of a caller: head and whole body."""

ANTHROPIC = b"/v1/messages"


class Request:
    """One request. `headers` names are in lower case; `path` excludes the query.

    `id` is empty until the head is complete; `fields` has the first header of
    each name from then on. `chunks`: the caller understands a chunked answer,
    as HTTP/1.0 does not. `arrived_at` is of the loop's clock, in seconds.
    `accounted`: whoever answers it keeps the record of it.
    """

    __slots__ = (
        "accounted",
        "arrived_at",
        "body",
        "chunks",
        "fields",
        "headers",
        "id",
        "is_inference",
        "keep_alive",
        "method",
        "path",
        "peer",
        "target",
    )

    def __init__(self, peer: str, arrived_at: float) -> None:
        self.id = b""
        self.method = b""
        self.target = b""
        self.path = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.fields: dict[bytes, bytes] = {}
        self.body: bytes | bytearray = b""
        self.keep_alive = True
        self.chunks = True
        self.is_inference = False
        self.accounted = False
        self.peer = peer
        self.arrived_at = arrived_at

    def complete_head(self) -> None:
        """Work out what follows from target and headers."""
        target = self.target
        if not target.startswith(b"/"):
            target = self.target = origin_form(target)
        path = self.path = target.partition(b"?")[0]
        # For the inference API, and not relayed to the control plane.
        self.is_inference = path.startswith(b"/v1/") or path == b"/v1"
        self.fields = dict(self.headers[::-1])

    def bare(self) -> "Request":
        """The same without its body."""
        return self.again(b"", self.arrived_at)

    def again(self, body: bytes, arrived_at: float) -> "Request":
        """The same head with another body; it has no id yet."""
        request = Request(self.peer, arrived_at)
        request.method = self.method
        request.target = self.target
        request.path = self.path
        request.headers = self.headers
        request.fields = self.fields
        request.chunks = self.chunks
        request.is_inference = self.is_inference
        request.body = body
        return request

    @property
    def is_anthropic(self) -> bool:
        """Whether its caller expects Anthropic's shapes."""
        return self.path.startswith(ANTHROPIC)

    @property
    def head_size(self) -> int:
        """Bytes of target, names and values."""
        return len(self.target) + sum(len(name) + len(value) for name, value in self.headers)


def origin_form(target: bytes) -> bytes:
    """`http://host/path?query` as `/path?query` (RFC 9112, 3.2.2)."""
    if not target.lower().startswith((b"http://", b"https://")):
        return target
    return b"/" + target.partition(b"://")[2].partition(b"/")[2]
