"""Sessions with web servers for the files of models.

What somebody who is no operator names is fetched from public addresses only, looked up
anew for each connection: a redirect, or a name that changes its mind, leads nowhere else.
"""

import socket
import ssl
from collections.abc import Iterable

import httpcore2
import httpx2
import truststore

from modelry.errors import FetchError
from modelry.routing.addresses import is_public

_CONNECT_TIMEOUT_S = 20.0
_READ_TIMEOUT_S = 60.0


class _PublicOnly(httpcore2.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from None
        addresses = [str(address[0]) for *_, address in found]
        public = [address for address in addresses if is_public(address)]
        if not public:
            raise httpcore2.ConnectError(f"{host} has no public address")
        return super().connect_tcp(public[0], port, timeout, local_address, socket_options)


def web_session(*, public_only: bool) -> httpx2.Client:
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    timeout = httpx2.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
    if not public_only:
        return httpx2.Client(verify=context, timeout=timeout, follow_redirects=True)
    transport = httpx2.HTTPTransport(verify=context, trust_env=False)
    transport._pool = httpcore2.ConnectionPool(ssl_context=context, network_backend=_PublicOnly())
    return httpx2.Client(
        transport=transport, timeout=timeout, follow_redirects=True, trust_env=False
    )


def unreachable(error: httpx2.HTTPError) -> FetchError:
    host = ""
    try:
        host = error.request.url.host
    except RuntimeError:
        pass
    reason = str(error) or type(error).__name__
    return FetchError(
        f"{host or 'the server'} cannot be reached: {reason}",
        retryable=True,
        hint="check the network, the proxy, and the model's source",
    )
