"""Modelry's own HTTP client: the management API and chat, for the command line.

It knows the contract and nothing of the parts behind it.
"""

import json
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import quote

import httpx2

from modelry.errors import ModelryError

Json: TypeAlias = dict[str, Any]

_TIMEOUT = httpx2.Timeout(30.0, connect=5.0)


class ApiError(ModelryError):
    """What the server refused, in its own words."""


class Unreachable(ModelryError):
    """Nothing answers at the address."""

    status, code = 503, "unreachable"


class Client:
    """Talks to one Modelry. `token` is an access token; use it as a context manager.

    `certificate`: a PEM file; only who holds its key is spoken to, under
    whatever name. For the instance on this machine.
    """

    def __init__(self, url: str, token: str | None = None, certificate: str | None = None) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise Unreachable(
                f"{url} is no address of a Modelry", hint="it looks like http://localhost:8080"
            )
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=_TIMEOUT,
            verify=True if certificate is None else pinned(certificate),
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Json:
        return self._call("GET", path, params=_given(params))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return self._call("POST", path, json=None if body is None else _given(body))

    def patch(self, path: str, changes: Mapping[str, Any]) -> Json:
        """What is left out of `changes` stays; None clears."""
        return self._call("PATCH", path, json=changes)

    def delete(self, path: str) -> Json:
        return self._call("DELETE", path)

    def list(self, path: str, **params: Any) -> list[Json]:
        """Every row of a list, page after page."""
        rows: list[Json] = []
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, **params)
            if not isinstance(page.get("data"), list):
                raise self._foreign()
            rows += page["data"]
            cursor = page.get("next")
            if cursor is None:
                return rows

    def send(
        self, method: str, path: str, blocks: Iterable[bytes], length: int, **params: Any
    ) -> Json:
        """A body of `length` bytes, sent as `blocks` gives it; the answer may take its time."""
        headers = {"content-length": str(length), "content-type": "application/octet-stream"}
        return self._call(
            method,
            path,
            params=_given(params),
            content=blocks,
            headers=headers,
            timeout=httpx2.Timeout(600.0, connect=5.0, write=120.0),
        )

    @contextmanager
    def bytes(self, path: str, **params: Any) -> Iterator[tuple[int, Iterator[bytes]]]:
        """An answer's length, and its body block by block as it comes."""
        with self._stream("GET", path, params=_given(params)) as response:
            length = int(response.headers.get("content-length", "0"))
            yield length, response.iter_raw()

    def lines(self, path: str, **params: Any) -> Iterator[str]:
        """A plain-text answer, line by line as it comes."""
        with self._stream("GET", path, params=_given(params), timeout=None) as response:
            yield from response.iter_lines()

    def chat(self, key: str, body: Mapping[str, Any]) -> Iterator[Json]:
        """The chunks of a streamed chat completion. Raises `ApiError`, also in mid-stream."""
        headers = {"authorization": f"Bearer {key}"}
        body = {**body, "stream": True}
        with self._stream(
            "POST", "/v1/chat/completions", json=body, headers=headers, timeout=None
        ) as response:
            for line in response.iter_lines():
                data = line.removeprefix("data: ")
                if data == line or data == "[DONE]":
                    continue
                chunk: Json = json.loads(data)
                if "error" in chunk:
                    raise _refusal(502, chunk)
                yield chunk

    @contextmanager
    def _stream(self, method: str, path: str, **options: Any) -> Iterator[httpx2.Response]:
        try:
            with self._http.stream(method, _full(path), **options) as response:
                if response.is_error:
                    response.read()
                    raise _refusal(response.status_code, _parsed(response))
                yield response
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None

    def _call(self, method: str, path: str, **options: Any) -> Json:
        try:
            response = self._http.request(method, _full(path), **options)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise _refusal(response.status_code, _parsed(response))
        parsed = _parsed(response)
        if response.content and not parsed:
            raise self._foreign()
        return parsed

    def _foreign(self) -> Unreachable:
        return Unreachable(
            f"{self.url} does not answer as a Modelry does", hint="check the address"
        )

    def _unreachable(self, error: httpx2.HTTPError) -> Unreachable:
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return Unreachable(
                f"nothing answers at {self.url}",
                hint="start Modelry with `modelry up`, or sign in elsewhere with `modelry login`",
            )
        reason = str(error) or type(error).__name__
        return Unreachable(f"the connection to {self.url} broke off: {reason}")


def _full(path: str) -> str:
    return path if path.startswith("/v1/") else f"/api/v1{path}"


def part(text: str) -> str:
    """A name as one part of a path, whatever is in it."""
    return quote(text, safe="") or "%20"


def _given(values: Mapping[str, Any]) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _parsed(response: httpx2.Response) -> Json:
    try:
        value = response.json()
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _refusal(status: int, body: Json) -> ApiError:
    error = body.get("error")
    if not isinstance(error, dict):
        return ApiError(f"the server answered {status} without a reason", status=status)
    return ApiError(
        str(error.get("message") or f"the server answered {status}"),
        hint=error.get("hint"),
        code=error.get("code"),
        status=status,
    )


def pinned(certificate: str) -> ssl.SSLContext:
    """Trusts whoever holds the key of that PEM file, and nobody else. Raises `Unreachable`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # It is trusted itself, whoever signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(
            f"the certificate {certificate} cannot be read: {error}",
            hint="it is what MODELRY_TLS_CERT named when `modelry up` started",
        ) from None
    return context
