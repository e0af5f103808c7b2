"""Reading one file from the public web, at an address that a stranger chose.

The address is nobody's way into our network: a name is resolved once, every address it has must
be public, and the connection goes to such an address itself, so a name that changes its mind in
between changes nothing. The same holds for each redirect. No cookies, no credentials, no proxy.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias
from urllib.parse import quote, urljoin, urlsplit

import httptools

from modelry import __version__
from modelry.routing.addresses import is_public

Network: TypeAlias = IPv4Network | IPv6Network
Take: TypeAlias = Callable[[bytes], None]
"""Gets a file's bytes as they come. What it raises ends the fetch."""

_CONNECT_TIMEOUT_S = 5.0
_TIMEOUT_S = 15.0
_REDIRECTS_MOST = 3
_HEAD_MAX = 64 * 1024
_READ = 64 * 1024
_AT_ONCE = 64
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HOST = re.compile(r"[a-z0-9._-]{1,253}", re.ASCII)
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
# What a browser takes too. Other services below 1024 are not for us to speak to.
_LOW_PORTS = frozenset({80, 443})


class Unfetched(Exception):
    """Why a file did not come, to come after "the image "."""


class Web:
    """`networks` may be read from as if they were public. `size_most`: of a file, in bytes."""

    def __init__(self, networks: Sequence[Network] = (), *, size_most: int) -> None:
        self._networks = networks
        self._size_most = size_most
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def get(self, url: str, take: Take) -> str:
        """Read a file and return its Content-Type without parameters, in lower case; empty where
        it has none. Raises `Unfetched`, and what `take` raises.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._places:
                for _ in range(_REDIRECTS_MOST + 1):
                    answer = await self._ask(_parsed(url), take)
                    if answer.status not in _REDIRECTS:
                        return answer.content_type
                    url = _redirected(url, answer.location)
        except TimeoutError:
            raise Unfetched(f"did not come within {_TIMEOUT_S:.0f} seconds") from None
        raise Unfetched(f"is redirected more than {_REDIRECTS_MOST} times")

    # ------------------------------------------------------------------------

    async def _ask(self, target: "_Target", take: Take) -> "_Answer":
        reader, writer = await self._connect(target)
        try:
            writer.write(target.request())
            return await self._answer(reader, take)
        except (OSError, ssl.SSLError):
            raise Unfetched("did not come whole: its server hung up") from None
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, take: Take) -> "_Answer":
        answer = _Answer(self._size_most)
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
        answer: "_Answer",
        take: Take,
    ) -> "_Answer":
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
            if answer.status in _REDIRECTS:
                # Whatever else it says, it is not the file.
                return answer
            for piece in answer.taken():
                take(piece)
        if answer.problem is not None:
            raise Unfetched(answer.problem)
        return answer

    async def _connect(
        self, target: "_Target"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = _tls() if target.tls else None
        name = target.host if target.tls else None
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                failed: OSError | None = None
                for address in await self._addresses(target):
                    try:
                        return await asyncio.open_connection(
                            address, target.port, ssl=tls, server_hostname=name, limit=_READ
                        )
                    except ssl.SSLError:
                        raise
                    except OSError as problem:
                        failed = problem
                raise failed or OSError("it has no address")
        except TimeoutError:
            raise Unfetched("cannot be reached: its server does not answer") from None
        except ssl.SSLError:
            raise Unfetched("cannot be reached: its server has no valid certificate") from None
        except OSError:
            # Not why: that would tell what is there and what is not.
            raise Unfetched("cannot be reached") from None

    async def _addresses(self, target: "_Target") -> list[str]:
        """Those of its host, if all of them may be read from."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
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


class _Answer:
    """What the parser calls. It raises nothing itself: `problem` says what is wrong."""

    def __init__(self, size_most: int) -> None:
        self._size_most = size_most
        self._headers: dict[bytes, bytes] = {}
        self._size = 0
        self._head_size = 0
        self._pieces: list[bytes] = []
        self.parser: httptools.HttpResponseParser | None = None
        self.status = 0
        self.done = False
        self.problem: str | None = None

    # -- the parser's --------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.setdefault(name.lower(), value.strip())

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        status = self.parser.get_status_code()
        if status == 101:
            self.problem = "comes from a server that speaks no plain HTTP"
        if status < 200:
            return
        self.status = status
        length = self._headers.get(b"content-length", b"")
        coding = self._headers.get(b"content-encoding", b"identity").lower()
        if status in _REDIRECTS:
            return
        if status != 200:
            self.problem = f"did not come: its server answered {status}"
        elif coding not in (b"", b"identity"):
            self.problem = "comes compressed, though that was not asked for"
        elif length.isdigit() and (len(length) > 15 or int(length) > self._size_most):
            self.problem = self._too_large

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._size_most:
            self.problem = self.problem or self._too_large
        elif self.problem is None:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        self.done = self.status >= 200

    # ------------------------------------------------------------------------

    def came(self, size: int) -> None:
        """So many bytes of the answer, whatever they were."""
        if not self.status:
            self._head_size += size
            if self._head_size > _HEAD_MAX:
                self.problem = "comes with headers that are too long"

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
        return self._headers.get(b"location", b"").decode("latin-1")


def _parsed(url: str) -> _Target:
    """Raises `Unfetched` for what is no plain address of the web."""
    try:
        split = urlsplit(url)
        port, host = split.port, split.hostname or ""
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
    path = quote(split.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if split.query:
        path += "?" + quote(split.query, safe="/%:@!$&'()*+,;=~-._?")
    return _Target(tls, host, port, path)


def _redirected(url: str, location: str) -> str:
    if not location:
        raise Unfetched("is redirected to nowhere")
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
