"""Cross-origin calls: which pages of other origins a browser lets call `/v1`.

Keys travel in a header, never in a cookie, so no credentials are allowed for.
See the Fetch standard, "CORS protocol".
"""

from modelry.gateway.replies import Reply
from modelry.gateway.request import Request

_METHODS = b"GET, POST, DELETE, OPTIONS"
_EXPOSED = (
    b"x-request-id, x-modelry-ignored, retry-after, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    b"x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
    b"x-ratelimit-reset-tokens"
)
_MAX_AGE_S = 600


class Cors:
    """`origins`: a comma-separated list of origins, or `*`."""

    def __init__(self, origins: str) -> None:
        self._origins = frozenset(origins.encode().split(b","))

    def lines(self, request: Request) -> bytes:
        """The header lines of an answer to `request`."""
        origin = request.fields.get(b"origin")
        if b"*" in self._origins:
            allowed = b"access-control-allow-origin: *\r\n"
        elif origin is None or origin.lower() not in self._origins:
            return b"vary: origin\r\n"
        else:
            allowed = b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin
        return allowed + b"access-control-expose-headers: %b\r\n" % _EXPOSED

    def preflight(self, request: Request) -> Reply | None:
        """The answer to a browser that asks beforehand; None for any other request."""
        wanted = request.fields.get(b"access-control-request-method")
        if request.method != b"OPTIONS" or wanted is None:
            return None
        headers = request.fields.get(b"access-control-request-headers", b"*")
        lines = b"access-control-allow-methods: %b\r\naccess-control-max-age: %d\r\n" % (
            _METHODS,
            _MAX_AGE_S,
        )
        return Reply(204, b"", lines=lines + b"access-control-allow-headers: %b\r\n" % headers)
