"""Where a request came from and by which address: what proxies say, where they are believed."""

import re
from ipaddress import ip_address, ip_network

from modelry.gateway.request import Request

_HOST = re.compile(rb"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


class Origin:
    """Says where a request came from. `trusted`: networks of proxies that are believed, with a
    comma between; `secure`: this port speaks HTTPS.
    """

    def __init__(self, trusted: str | None, *, secure: bool) -> None:
        self._trusted = [ip_network(each) for each in (trusted or "").split(",") if each]
        self._scheme = b"https" if secure else b"http"

    def lines(self, request: Request) -> bytes:
        """The header lines that tell the control plane."""
        came = request.peer.encode()
        if self._trusts(request.peer):
            # Not the proxy's own address: whoever stands there is trusted with more.
            chain = [value for name, value in request.headers if name == b"x-forwarded-for"]
            came = self._caller(b",".join(chain)) or b"unknown"
        scheme, host = self._reached(request)
        return b"host: %b\r\nx-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n" % (
            host,
            came,
            scheme,
        )

    def base(self, request: Request) -> str:
        """The address by which the caller reached this port, such as `http://localhost:8080`."""
        scheme, host = self._reached(request)
        # It ends up in what callers store and show.
        if not _HOST.fullmatch(host):
            host = b"localhost"
        return f"{scheme.decode()}://{host.decode()}"

    def _reached(self, request: Request) -> tuple[bytes, bytes]:
        """Scheme and host, as the caller sees them."""
        fields = request.fields
        scheme, host = self._scheme, fields.get(b"host") or b"localhost"
        if self._trusts(request.peer):
            said = fields.get(b"x-forwarded-proto", b"").strip().lower()
            scheme = said if said in (b"http", b"https") else scheme
            host = fields.get(b"x-forwarded-host") or host
        return scheme, host

    def _caller(self, chain: bytes) -> bytes | None:
        """The nearest address of the chain that is no trusted proxy: what is before it anybody
        may have written.
        """
        for entry in reversed(chain.split(b",")):
            address = entry.strip()
            if not _is_address(address):
                return None
            if not self._trusts(address.decode()):
                return address
        return None

    def _trusts(self, peer: str) -> bool:
        if not self._trusted or not _is_address(peer.encode()):
            return False
        address = ip_address(peer)
        return any(address in network for network in self._trusted)


def _is_address(text: bytes) -> bool:
    try:
        ip_address(text.decode("ascii", "replace"))
    except ValueError:
        return False
    return True
