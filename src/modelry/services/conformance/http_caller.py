"""The checks' port over HTTP: through the gateway, as any caller's program asks."""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx2
import msgspec

from modelry.services.conformance.caller import (
    Answer,
    Busy,
    File,
    Interrupted,
    Json,
    Skipped,
    told,
)

_TIMEOUT_S = 20.0
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
                response = await self._http.post(path, content=content, headers=_JSON)
            else:
                form = {"file": (file.name, file.data, file.type)}
                response = await self._http.post(path, data=body, files=form)
        return self._answer(response)

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
        with self._told():
            await response.aread()
        return self._answer(response)

    async def lines(self, response: httpx2.Response) -> AsyncGenerator[str, None]:
        with self._told():
            async for line in response.aiter_lines():
                yield line

    def _answer(self, response: httpx2.Response) -> Answer:
        answer = _read(response)
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


def _read(response: httpx2.Response) -> Answer:
    value = None
    if _type(response) == "application/json":
        try:
            value = msgspec.json.decode(response.content)
        except (msgspec.DecodeError, UnicodeError):
            value = None
    ignored = response.headers.get("x-modelry-ignored", "")
    return Answer(response.status_code, _type(response), response.content[:400], value, ignored)
