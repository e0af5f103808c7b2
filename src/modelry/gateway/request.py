"""One parsed request of a caller: head and whole body."""

from modelry.gateway.streams import BodyStream
from modelry.routing.messages import KeyGrant

ANTHROPIC = b"/v1/messages"
CHAT, COMPLETION = b"/v1/chat/completions", b"/v1/completions"


class Request:
    """One request. `headers` names are in lower case; `path` excludes the query.

    `id` is empty until the head is complete; `fields` has the first header of
    each name from then on. `chunks`: the caller understands a chunked answer,
    as HTTP/1.0 does not. `arrived_at` is of the loop's clock, in seconds.
    `held_bytes`, `held_of_stranger`: of its body, as `Memory` counts them. `accounted`: whoever
    answers it keeps the record of it. `key`: its key, as looked up when the
    table was at `key_version`. `stream`: its body, where that is passed on as it arrives.
    """

    __slots__ = (
        "accounted",
        "arrived_at",
        "body",
        "chunks",
        "fields",
        "headers",
        "held_bytes",
        "held_of_stranger",
        "id",
        "is_inference",
        "keep_alive",
        "key",
        "key_version",
        "method",
        "path",
        "peer",
        "stream",
        "target",
    )

    ignored: tuple[str, ...] = ()
    """Names of what was asked for and has no effect, as the caller wrote them."""
    unread_bytes: int = 0
    """Of its body, those that no model reads, such as a grammar: they are no tokens."""

    def __init__(self, peer: str, arrived_at: float) -> None:
        self.id = b""
        self.method = b""
        self.target = b""
        self.path = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.fields: dict[bytes, bytes] = {}
        self.body: bytes | bytearray = b""
        self.held_bytes = 0
        self.held_of_stranger = False
        self.keep_alive = True
        self.chunks = True
        self.is_inference = False
        self.accounted = False
        self.key: KeyGrant | None = None
        self.key_version = -1
        self.stream: BodyStream | None = None
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

    def renew(self, id: bytes, body: bytes, arrived_at: float) -> "Request":
        """The next request with this head. The one before it is over."""
        self.id = id
        self.body = body
        self.arrived_at = arrived_at
        self.accounted = False
        return self

    @property
    def asked_path(self) -> bytes:
        """What its caller called; `path` is what that was made of."""
        return self.path

    @property
    def root(self) -> "Request":
        """The one that came in over a connection, which holds what is held for it."""
        return self

    @property
    def of_stranger(self) -> bool:
        """Whether nobody has said yet whose it is: no key, or the control plane's to know."""
        return self.key is None

    @property
    def is_anthropic(self) -> bool:
        """Whether its caller expects Anthropic's shapes."""
        return self.path.startswith(ANTHROPIC)

    @property
    def head_size(self) -> int:
        """Bytes of target, names and values."""
        return len(self.target) + sum(len(name) + len(value) for name, value in self.headers)


class DerivedRequest(Request):
    """What a request of another API was made: `body` for `path`. Its caller is that of `origin`,
    whose connection knows nothing of this one. `ignored`: names of what was asked for and has no
    effect; `kept_bytes`: what is held besides for its answer.
    """

    __slots__ = ("ignored", "kept_bytes", "origin", "unread_bytes")

    def __init__(
        self, origin: Request, path: bytes, body: bytes, ignored: tuple[str, ...] = ()
    ) -> None:
        self.origin = origin
        self.ignored = ignored
        self.kept_bytes = self.unread_bytes = 0
        super().__init__(origin.peer, origin.arrived_at)
        self.path = path
        self.body = body
        self.id = origin.id
        self.method = origin.method
        self.fields = origin.fields
        self.is_inference = True
        self.key, self.key_version = origin.key, origin.key_version

    @property
    def asked_path(self) -> bytes:
        return self.origin.asked_path

    @property
    def root(self) -> Request:
        return self.origin.root

    @property
    def accounted(self) -> bool:
        return self.origin.accounted

    @accounted.setter
    def accounted(self, is_it: bool) -> None:
        self.origin.accounted = is_it


def origin_form(target: bytes) -> bytes:
    """`http://host/path?query` as `/path?query` (RFC 9112, 3.2.2)."""
    if not target.lower().startswith((b"http://", b"https://")):
        return target
    return b"/" + target.partition(b"://")[2].partition(b"/")[2]
