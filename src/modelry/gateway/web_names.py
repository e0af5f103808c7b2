"""The addresses of names that strangers chose.

A name server may let us wait for half a minute, and nothing ends a lookup once it has begun. The
loop's own resolver has few threads for the whole process, so these lookups have threads of their
own; each counts for the key that wanted it until it has really ended, whoever still waits for it.
"""

import asyncio
import contextlib
import socket
import threading

from modelry.gateway.shares import Shares

_AT_ONCE = 32
_AT_ONCE_EACH = 4
"""Of one key."""


class Names:
    def __init__(self) -> None:
        self._places = Shares(_AT_ONCE, _AT_ONCE_EACH)

    async def addresses(self, host: str, key_id: str) -> list[str]:
        """All that a host has, each once. Raises `OSError`. Its caller bounds how long it may take.

        `host` is ASCII, a name or an address in any notation that the system knows.
        """
        try:
            return look_up(host, socket.AI_NUMERICHOST)
        except socket.gaierror:
            # No address, hence a name.
            leave = await self._places.take(key_id)
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def ended(addresses: list[str] | OSError) -> None:
            leave()
            if found.done():
                return
            if isinstance(addresses, OSError):
                found.set_exception(addresses)
            else:
                found.set_result(addresses)

        def run() -> None:
            addresses: list[str] | OSError
            try:
                addresses = look_up(host)
            except OSError as problem:
                addresses = problem
            with contextlib.suppress(RuntimeError):
                # Unless the loop is closed.
                loop.call_soon_threadsafe(ended, addresses)

        # No pool: the interpreter waits for a pool's threads before it ends.
        thread = threading.Thread(target=run, name="name lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            leave()
            raise OSError("there are no threads left") from None
        return await found


def look_up(host: str, flags: int = 0) -> list[str]:
    """The system's word. Takes as long as that takes; raises `OSError`."""
    # As bytes, which are not coded again: that would raise for what is no host name.
    found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
