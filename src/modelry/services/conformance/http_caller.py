"""The checks' port over HTTP: through the gateway, as any caller's program asks."""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager

import httpx2
import msgspec

from modelry.services.conformance.caller import (
    Answer,
    Busy,
    File,
    Interrupted,
    Json,
    Skipped,
    Wrong,
    told,
)

_TIMEOUT_S = 20.0
_ANSWER_MOST = 32 * 1024 * 1024
"""Bytes of one answer: more than any that is asked for, and what an endpoint elsewhere sends is its
owner's to choose.
"""
_JSON = {"content-type": "application/json"}


class HttpCaller:
    """`url`: the instance's own; `certificate`: trusted there. `is_there` says whether the service
    still runs. Use it as a context manager.
    """

    def __init__(
        self, url: str, key: str, certificate: ssl.SSLContext | None, is_there: Callable[[], bool]
    ) -> None:
        self._is_there = is_there
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
            # Without TLS, no certificates of the world need be read.
            verify=False if certificate is None else certificate,
            trust_env=False,
        )

    async def __aenter__(self) -> "HttpCaller":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, path: str, body: Json, file: File | None = None) -> Answer:
        with self._told():
            if file is None:
                content = msgspec.json.encode(body)
                request = self._http.build_request("POST", path, content=content, headers=_JSON)
            else:
                form = {"file": (file.name, file.data, file.type)}
                request = self._http.build_request("POST", path, data=body, files=form)
            response = await self._http.send(request, stream=True)
        try:
            return await self.read(response)
        finally:
            await response.aclose()

    @asynccontextmanager
    async def stream(self, path: str, body: Json) -> AsyncIterator["HttpStream"]:
        with self._told():
            request = self._http.build_request(
                "POST", path, content=msgspec.json.encode(body), headers=_JSON
            )
            response = await self._http.send(request, stream=True)
        try:
            yield HttpStream(response, self)
        finally:
            await response.aclose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What breaks off, in the words of the port."""
        if not self._is_there():
            raise Interrupted("the service stopped meanwhile")
        try:
            yield
        except httpx2.TimeoutException:
            raise Skipped(f"no answer came within {_TIMEOUT_S:g} s") from None
        except httpx2.ConnectError:
            raise Interrupted("the gateway cannot be reached") from None
        except httpx2.HTTPError:
            # Of a replica that fails, the gateway tells; this is the gateway, which goes itself.
            raise Interrupted("the gateway broke off") from None

    async def read(self, response: httpx2.Response) -> Answer:
        body = bytearray()
        async with aclosing(self._pieces(response)) as pieces:
            async for data in pieces:
                body += data
        return self._answer(response, bytes(body))

    async def lines(self, response: httpx2.Response) -> AsyncGenerator[str, None]:
        rest = bytearray()
        async with aclosing(self._pieces(response)) as pieces:
            async for data in pieces:
                rest += data
                if b"\n" in data:
                    *lines, rest = rest.split(b"\n")
                    for line in lines:
                        yield line.removesuffix(b"\r").decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    async def _pieces(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        size = 0
        with self._told():
            async for data in response.aiter_bytes():
                size += len(data)
                if size > _ANSWER_MOST:
                    raise Wrong(f"its answer is longer than {_ANSWER_MOST} bytes")
                yield data

    def _answer(self, response: httpx2.Response, body: bytes) -> Answer:
        answer = _read(response, body)
        error = answer.value.get("error") if isinstance(answer.value, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        if answer.status in (503, 529) and code in (None, "overloaded"):
            raise Busy(f"it is busy: {told(answer)}")
        if answer.status in (401, 429, 503) or code == "model_not_found":
            # Not what a check is about: it goes, or whoever it stands on has had enough.
            raise Interrupted(told(answer))
        return answer


class HttpStream:
    def __init__(self, response: httpx2.Response, caller: HttpCaller) -> None:
        self._response = response
        self._caller = caller

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def type(self) -> str:
        return _type(self._response)

    def lines(self) -> AsyncGenerator[str, None]:
        return self._caller.lines(self._response)

    async def whole(self) -> Answer:
        return await self._caller.read(self._response)


def _type(response: httpx2.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip()


def _read(response: httpx2.Response, body: bytes) -> Answer:
    value = None
    if _type(response) == "application/json":
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeError):
            value = None
    ignored = response.headers.get("x-modelry-ignored", "")
    return Answer(response.status_code, _type(response), body[:400], value, ignored)
