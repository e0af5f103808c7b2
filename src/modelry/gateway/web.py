"""Reading one file from the public web, at an address that a stranger chose.

The address is nobody's way into our network: a name is resolved once, every address it has must
be public, and the connection goes to such an address itself, so a name that changes its mind in
between changes nothing. The same holds for each redirect. No cookies, no credentials, no proxy.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias
from urllib.parse import quote, urljoin, urlsplit

import httptools

from modelry import __version__
from modelry.gateway.shares import Shares
from modelry.gateway.web_answer import REDIRECTS, WebAnswer
from modelry.gateway.web_names import Names
from modelry.routing.addresses import is_public

Network: TypeAlias = IPv4Network | IPv6Network
Take: TypeAlias = Callable[[bytes], None]
"""Gets a file's bytes as they come. What it raises ends the fetch."""

_CONNECT_TIMEOUT_S = 5.0
"""For the name too."""
_TIMEOUT_S = 15.0
_REDIRECTS_MOST = 3
_LOCATION_MAX = 8192
"""Characters, as of an address that a chat brings."""
_READ = 64 * 1024
_AT_ONCE = 64
_AT_ONCE_EACH = 8
"""Of one key."""
_PLACE_WAIT_S = 10.0
# Labels of 63 characters at most, 253 in all, and maybe the root's dot (RFC 1035, 2.3.4).
_HOST_MOST = 254
_HOST = re.compile(r"(?=.{1,254}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
# What a browser takes too. Other services below 1024 are not for us to speak to.
_LOW_PORTS = frozenset({80, 443})


class Unfetched(Exception):
    """Why a file did not come, to come after "the image "."""


class Crowded(Exception):
    """So many files are read now that none more may be."""


class Web:
    """`networks` may be read from as if they were public. `size_most`: of a file, in bytes."""

    def __init__(self, networks: Sequence[Network] = (), *, size_most: int) -> None:
        self._networks = networks
        self._size_most = size_most
        self._places = Shares(_AT_ONCE, _AT_ONCE_EACH)
        self._names = Names()

    async def get(self, url: str, take: Take, key_id: str) -> str:
        """Read a file for a key and return its Content-Type without parameters, in lower case;
        empty where it has none. Raises `Unfetched`, `Crowded`, and what `take` raises.
        """
        try:
            async with asyncio.timeout(_PLACE_WAIT_S):
                leave = await self._places.take(key_id)
        except TimeoutError:
            raise Crowded from None
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                for _ in range(_REDIRECTS_MOST + 1):
                    answer = await self._ask(_parsed(url), take, key_id)
                    if answer.status not in REDIRECTS:
                        return answer.content_type
                    url = _redirected(url, answer.location)
        except TimeoutError:
            raise Unfetched(f"did not come within {_TIMEOUT_S:.0f} seconds") from None
        finally:
            leave()
        raise Unfetched(f"is redirected more than {_REDIRECTS_MOST} times")

    # ------------------------------------------------------------------------

    async def _ask(self, target: "_Target", take: Take, key_id: str) -> WebAnswer:
        reader, writer = await self._connect(target, key_id)
        try:
            writer.write(target.request())
            return await self._answer(reader, take)
        except OSError:
            raise Unfetched("did not come whole: its server hung up") from None
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, take: Take) -> WebAnswer:
        answer = WebAnswer(self._size_most)
        parser = httptools.HttpResponseParser(answer)
        answer.parser = parser
        try:
            return await self._fed(reader, parser, answer, take)
        finally:
            # They know each other, which would keep both for long.
            answer.parser = None

    async def _fed(
        self,
        reader: asyncio.StreamReader,
        parser: httptools.HttpResponseParser,
        answer: WebAnswer,
        take: Take,
    ) -> WebAnswer:
        while not answer.done:
            data = await reader.read(_READ)
            if not data:
                answer.ended()
                break
            try:
                parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                if answer.problem is None and not answer.done:
                    raise Unfetched("comes from a server that speaks no HTTP") from None
            answer.came(len(data))
            if answer.problem is not None:
                raise Unfetched(answer.problem)
            if answer.status in REDIRECTS:
                # Whatever else it says, it is not the file.
                return answer
            for piece in answer.taken():
                take(piece)
        if answer.problem is not None:
            raise Unfetched(answer.problem)
        return answer

    async def _connect(
        self, target: "_Target", key_id: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        until = asyncio.get_running_loop().time() + _CONNECT_TIMEOUT_S
        failed: OSError | None = None
        try:
            async with asyncio.timeout_at(until):
                left = _in_turn(await self._addresses(target, key_id))
                while left:
                    address = left.pop(0)
                    try:
                        return await _connected(address, target, until, is_last=not left)
                    except ssl.SSLError:
                        raise
                    except OSError as problem:
                        failed = problem
                raise failed or OSError("it has no address")
        except TimeoutError:
            raise Unfetched("cannot be reached: its server does not answer") from None
        except ssl.SSLError:
            raise Unfetched("cannot be reached: its server has no valid certificate") from None
        except (OSError, ValueError):
            # Not why: that would tell what is there and what is not.
            raise Unfetched("cannot be reached") from None

    async def _addresses(self, target: "_Target", key_id: str) -> list[str]:
        """Those of its host, if all of them may be read from."""
        addresses = await self._names.addresses(target.host, key_id)
        if not all(is_public(each) or self._is_allowed(each) for each in addresses):
            raise Unfetched("has an address that is not public")
        return addresses

    def _is_allowed(self, address: str) -> bool:
        if not self._networks:
            return False
        found = ip_address(address)
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)


def _in_turn(addresses: list[str]) -> list[str]:
    """As the system orders them, but after the first those of the other family: all of one may
    lead nowhere.
    """
    first = [":" in each for each in addresses[:1]]
    return addresses[:1] + sorted(addresses[1:], key=lambda each: (":" in each) in first)


async def _connected(
    address: str, target: "_Target", until: float, *, is_last: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises `OSError`, of which TLS errors are. If others are left, half of the time is theirs."""
    now = asyncio.get_running_loop().time()
    tls, name = (_tls(), target.host) if target.tls else (None, None)
    async with asyncio.timeout_at(until if is_last else (now + until) / 2):
        return await asyncio.open_connection(
            address, target.port, ssl=tls, server_hostname=name, limit=_READ
        )


class _Target:
    def __init__(self, tls: bool, host: str, port: int, path: str) -> None:
        self.tls, self.host, self.port, self.path = tls, host, port, path

    def request(self) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port != (443 if self.tls else 80):
            host += f":{self.port}"
        return (
            f"GET {self.path} HTTP/1.1\r\nhost: {host}\r\naccept: image/*\r\n"
            f"accept-encoding: identity\r\nuser-agent: modelry/{__version__}\r\n"
            "connection: close\r\n\r\n"
        ).encode("ascii")


def _parsed(url: str) -> _Target:
    """Raises `Unfetched` for what is no plain address of the web."""
    try:
        split = urlsplit(url)
        port, host = split.port, split.hostname or ""
        if len(host) > _HOST_MOST:
            # Coding thousands of letters beyond ASCII would stop the gateway for a second.
            raise ValueError
        if not host.isascii():
            host = host.encode("idna").decode("ascii").lower()
        if ":" in host:
            host = str(IPv6Address(host))
        elif not _HOST.fullmatch(host):
            raise ValueError
    except ValueError:
        raise Unfetched("has no valid address") from None
    if _UNSAFE.search(url) or split.scheme not in ("http", "https"):
        raise Unfetched("has no valid address")
    if "@" in split.netloc:
        raise Unfetched("has an address with a user in it; such are not followed")
    tls = split.scheme == "https"
    if port is None:
        port = 443 if tls else 80
    if port < 1024 and port not in _LOW_PORTS:
        raise Unfetched(f"has an address with port {port}; 80, 443 and those from 1024 are read")
    # What is percent-encoded already stays as it is.
    path = quote(split.path or "/", safe="/%:@!$&'()*+,;=~-._", errors="surrogateescape")
    if split.query:
        path += "?" + quote(split.query, safe="/%:@!$&'()*+,;=~-._?", errors="surrogateescape")
    return _Target(tls, host, port, path)


def _redirected(url: str, location: str) -> str:
    if not location:
        raise Unfetched("is redirected to nowhere")
    if len(location) > _LOCATION_MAX:
        raise Unfetched("is redirected to no valid address")
    try:
        found = urljoin(url, location)
        downgraded = urlsplit(url).scheme == "https" and urlsplit(found).scheme != "https"
    except ValueError:
        raise Unfetched("is redirected to no valid address") from None
    if downgraded:
        raise Unfetched("is redirected to an address without TLS")
    return found


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
