"""What a web server answers when it is asked for a file, as its parser tells it.

Only the file itself may be long: a head, trailers and what frames chunks are bounded together.
"""

import httptools

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BESIDE_MAX = 64 * 1024
"""Bytes that are not of the file, beside what frames it."""
_BODY_TO_BESIDE = 8
"""As many bytes of a file allow one more that frames them: chunks have 48 bytes or more."""


class WebAnswer:
    """What the parser calls. It raises nothing itself: `problem` says what is wrong."""

    def __init__(self, size_most: int) -> None:
        self._size_most = size_most
        self._headers: dict[bytes, bytes] = {}
        self._size = 0
        self._came = 0
        self._pieces: list[bytes] = []
        self.parser: httptools.HttpResponseParser | None = None
        self.status = 0
        self.done = False
        self.problem: str | None = None

    # -- the parser's --------------------------------------------------------

    def on_message_begin(self) -> None:
        if not self.done:
            self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            # A trailer, of which there may be any number, or another answer.
            return
        self._headers.setdefault(name.lower(), value.strip())

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        if self.done:
            return
        status = self.parser.get_status_code()
        if status == 101:
            self.problem = "comes from a server that speaks no plain HTTP"
        if status < 200:
            return
        self.status = status
        length = self._headers.get(b"content-length", b"")
        coding = self._headers.get(b"content-encoding", b"identity").lower()
        if status in REDIRECTS:
            return
        if status != 200:
            self.problem = f"did not come: its server answered {status}"
        elif coding not in (b"", b"identity"):
            self.problem = "comes compressed, though that was not asked for"
        elif length.isdigit() and (len(length) > 15 or int(length) > self._size_most):
            self.problem = self._too_large

    def on_body(self, body: bytes) -> None:
        if self.done:
            return
        self._size += len(body)
        if self._size > self._size_most:
            self.problem = self.problem or self._too_large
        elif self.problem is None:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        self.done = self.done or self.status >= 200

    # ------------------------------------------------------------------------

    def came(self, size: int) -> None:
        """So many bytes more were parsed, whatever they were."""
        self._came += size
        beside = self._came - self._size
        if not self.done and beside > _BESIDE_MAX + self._size // _BODY_TO_BESIDE:
            self.problem = self.problem or "comes with too much beside it: headers, or tiny chunks"

    def taken(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def ended(self) -> None:
        """The connection did: which is the end of a file without a length, and of no other."""
        framed = b"content-length" in self._headers or b"transfer-encoding" in self._headers
        if self.status != 200 or framed:
            self.problem = "did not come whole: its server hung up"

    @property
    def _too_large(self) -> str:
        return f"is larger than {self._size_most >> 20} MiB"

    @property
    def content_type(self) -> str:
        kind = self._headers.get(b"content-type", b"").partition(b";")[0]
        return kind.strip().lower().decode("ascii", "replace")

    @property
    def location(self) -> str:
        """What is no UTF-8 in it stands for its bytes, as surrogates."""
        return self._headers.get(b"location", b"").decode("utf-8", "surrogateescape")
