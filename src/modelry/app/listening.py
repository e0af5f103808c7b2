"""The sockets that gateways serve on, opened by `up` and handed down.

Opened here also because an event loop would look the host up in threads, which stay,
and with threads the kernel takes longer over every read and write.

`up` keeps them open: while a gateway is started anew, its callers wait in the
socket's queue instead of being refused.
"""

import errno
import socket

from modelry.errors import SettingsError
from modelry.settings import Settings

_BACKLOG = 2048


def open_listeners(settings: Settings) -> list[list[socket.socket]]:
    """For each gateway its listening sockets, one an address of the host, all on one port.

    Raises `SettingsError`.
    """
    host, port, count = settings.host, settings.port, settings.gateway_workers
    try:
        first = _bound(host, port)
        if count == 1:
            return [_listening(first)]
        # Sockets that share a port would also share it with a stranger's:
        # bound alone, the first has shown that there is none.
        port = first[0].getsockname()[1]
        for bound in first:
            bound.close()
        return [_listening(_bound(host, port, shared=True)) for _ in range(count)]
    except OSError as error:
        raise cannot_listen(settings, error) from None


def open_listener(settings: Settings) -> list[socket.socket]:
    """The listening sockets of a gateway that is started by hand. Raises `OSError`."""
    return _listening(_bound(settings.host, settings.port))


def cannot_listen(settings: Settings, error: OSError) -> SettingsError:
    """Why the port cannot be had, for a person."""
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            f"port {settings.port} is taken: something else listens on {where}",
            hint="choose another with --port, or end what uses it",
            param="port",
        )
    if error.errno == errno.EACCES:
        return SettingsError(
            f"this account may not listen on port {settings.port}",
            hint="choose a port above 1023 with --port",
            param="port",
        )
    return SettingsError(
        f"cannot listen on {where}: {error.strerror or error}",
        hint="check --host and --port",
        param="host",
    )


def _bound(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """A socket for each address of the host; a name may have one of either kind."""
    sockets: list[socket.socket] = []
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, address in dict.fromkeys(found):
        bound = socket.socket(family)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((address[0], port, *address[2:]))
        except OSError as error:
            bound.close()
            if sockets and error.errno == errno.EADDRNOTAVAIL:
                # A name of an address that this machine does not have.
                continue
            for other in sockets:
                other.close()
            raise
        sockets.append(bound)
        port = bound.getsockname()[1]
    return sockets


def _listening(sockets: list[socket.socket]) -> list[socket.socket]:
    for each in sockets:
        each.listen(_BACKLOG)
        each.setblocking(False)
    return sockets
