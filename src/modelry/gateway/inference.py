"""`/v1`: who calls, which service, which replica.

Answers what needs no replica (`/v1/models`, every refusal) and plans the relay
of the rest. docs/guides/errors.md lists every refusal; a test keeps it true.
"""

import asyncio
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from modelry.gateway.collect import CollectingRelay, as_stream, asks_for_whole
from modelry.gateway.connection import ClientConnection
from modelry.gateway.relay import Relay
from modelry.gateway.replies import Reply, bad_request, engine_refusal, error, json_reply
from modelry.gateway.request import Request
from modelry.gateway.table import Replica, Service, Table, allows
from modelry.gateway.upstream import Upstream
from modelry.routing.messages import KeyGrant, ReplicaAddress, Route

# Endpoint → the task a service must do to answer there.
ENDPOINTS = {
    b"/v1/chat/completions": "chat",
    b"/v1/completions": "completion",
}
MODELS = b"/v1/models"

_COMING = frozenset({"pending", "fetching", "starting", "updating"})
_RETRY_AFTER_S = 2

# Headers of an engine's answer that mean something to the caller.
_PASSED_BACK = frozenset({b"content-type", b"content-length", b"cache-control"})


class _Head(msgspec.Struct):
    """The one field of a request's body that routing needs."""

    model: str | msgspec.UnsetType = msgspec.UNSET


# Deep nesting ends in a RecursionError.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_KEY = re.compile(r"sk-[A-Za-z0-9_-]+")
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_any = msgspec.json.Decoder(Any).decode


class Inference:
    """Holds a request for `start_wait_s` seconds at most while its service starts."""

    def __init__(self, table: Table, *, start_wait_s: float) -> None:
        self._table = table
        self._start_wait_s = start_wait_s
        self._upstreams: dict[ReplicaAddress, Upstream] = {}

    def check_head(self, request: Request) -> None:
        """Refuse a stranger before the body is read."""
        self._authenticate(request)

    def start(self, request: Request, client: ClientConnection) -> Relay | None:
        # Asked again: the key may have been revoked while the body came in.
        key = self._authenticate(request)
        path = request.path
        if path == MODELS or path.startswith(MODELS + b"/"):
            _require_method(request, b"GET")
            client.respond(self._models(path, key))
            return None
        task = ENDPOINTS.get(path)
        if task is None:
            shown = _shown(path.decode("ascii", "replace"))
            method = request.method.decode()
            raise error(404, "unknown_url", f"There is no {method} {shown} here.")
        _require_method(request, b"POST")
        service = self._service(_model(request.body), key)
        if task not in service.route.tasks:
            does = ", ".join(service.route.tasks)
            message = f"{service.route.access_path} does not do {task}; it does {does}."
            raise error(400, "unsupported_task", message, param="model")
        call = _Call(self, service, request)
        relay = CollectingRelay(client, call) if call.collects else Relay(client, call)
        relay.start()
        return relay

    def upstream(self, address: ReplicaAddress) -> Upstream:
        """The pooled connections to a replica."""
        found = self._upstreams.get(address)
        if found is None:
            self._forget_gone()
            found = self._upstreams[address] = Upstream(address.address)
        return found

    @property
    def live(self) -> bool:
        return self._table.live

    @property
    def start_wait_s(self) -> float:
        return self._start_wait_s

    def _forget_gone(self) -> None:
        current = self._table.replica_addresses()
        for address in [known for known in self._upstreams if known not in current]:
            self._upstreams.pop(address).close()

    def _authenticate(self, request: Request) -> KeyGrant:
        secret = _bearer(request) or request.header(b"x-api-key")
        if not secret:
            raise error(
                401,
                "missing_api_key",
                "No API key was sent. Send it as 'Authorization: Bearer sk-…'.",
            )
        if self._table.seq < 0:
            # Neither the feed nor a snapshot has told of any key yet.
            message = "Modelry is starting. Please try again in a moment."
            raise error(503, "service_starting", message, retry_after_s=_RETRY_AFTER_S)
        key = self._table.key(secret)
        if key is None:
            raise error(
                401,
                "invalid_api_key",
                "The API key is not valid: it is wrong, revoked or expired.",
            )
        return key

    def _service(self, model: str, key: KeyGrant) -> Service:
        service = self._table.service(model, key)
        if service is None:
            raise _model_not_found(model)
        if not allows(key, service.route):
            message = f"This API key is not allowed on {service.route.access_path}."
            raise error(403, "model_access_denied", message, param="model")
        return service

    def _models(self, path: bytes, key: KeyGrant) -> Reply:
        if path in (MODELS, MODELS + b"/"):
            data = [_model_object(route) for route in self._table.visible_to(key)]
            return json_reply({"object": "list", "data": data})
        name = unquote(path[len(MODELS) + 1 :].decode("ascii", "replace"))
        return json_reply(_model_object(self._service(name, key).route))


class _Call:
    """The plan of one inference request: replicas of its service, the least loaded first."""

    def __init__(self, inference: Inference, service: Service, request: Request) -> None:
        self._inference = inference
        self._service = service
        self._request = request
        self._replica: Replica | None = None
        self._tried: list[str] = []
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._resume: Callable[[], None] | None = None
        self.collects = service.route.collect and asks_for_whole(request.body)
        self._body = as_stream(request.body) if self.collects else request.body

    def next_upstream(self, resume: Callable[[], None]) -> Upstream | None:
        replica = self._service.least_loaded(without=self._tried)
        if replica is None:
            if self._tried and not self._inference.live:
                # The snapshot on disk names replicas that are gone: the feed
                # will say which there are now.
                self._tried.clear()
                self._wait(resume)
                return None
            if self._tried:
                raise error(
                    502,
                    "bad_gateway",
                    "The replica stopped before answering. Please try again.",
                )
            self._wait(resume)
            return None
        self._tried.append(replica.address.id)
        replica.inflight += 1
        self._replica = replica
        return self._inference.upstream(replica.address)

    def request_bytes(self) -> bytes:
        assert self._replica is not None
        request = self._request
        # Built anew, never copied: what a caller puts into headers stops here.
        return (
            b"POST " + request.path + b" HTTP/1.1\r\n"
            b"host: replica\r\n"
            b"authorization: Bearer " + self._replica.address.secret.encode() + b"\r\n"
            b"content-type: application/json\r\n"
            b"x-request-id: " + request.id.encode() + b"\r\n"
            b"content-length: " + str(len(self._body)).encode() + b"\r\n\r\n" + self._body
        )

    def response_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return [pair for pair in headers if pair[0] in _PASSED_BACK]

    def refusal(self, status: int, body: bytes) -> Reply | None:
        told: Any
        try:
            told = _decode_any(body)
        except _UNREADABLE:
            told = body.decode("utf-8", "replace")
        return engine_refusal(status, told)

    def can_be_cut(self) -> bool:
        return False

    def accepts(self, status: int) -> bool:
        # It concerns the gateway's secret; the caller's key has been checked.
        return status != 401

    def released(self) -> None:
        if self._replica is not None:
            self._replica.inflight -= 1
            self._replica = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._service.waiters.discard(self._woken)
        self._resume = None

    def _wait(self, resume: Callable[[], None]) -> None:
        """Come back when the route changes or the deadline passes. Raises where it is hopeless."""
        route = self._service.route
        if self._service.gone:
            raise _model_not_found(route.access_path)
        if route.state not in _COMING and route.state != "running":
            reason = route.message or f"it is {route.state}"
            message = f"{route.access_path} does not serve now: {reason}"
            raise error(503, "service_unavailable", message)
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._inference.start_wait_s
        if now >= self._deadline:
            message = f"{route.access_path} is not ready yet: {route.message or route.state}"
            raise error(503, "service_starting", message, retry_after_s=_RETRY_AFTER_S)
        self._resume = resume
        self._service.waiters.add(self._woken)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(math.nextafter(self._deadline, math.inf), self._woken)

    def _woken(self) -> None:
        resume = self._resume
        self.released()
        if resume is not None:
            resume()


def _bearer(request: Request) -> bytes | None:
    value = request.header(b"authorization")
    if value is None:
        return None
    scheme, _, secret = value.partition(b" ")
    return secret.strip() if scheme.lower() == b"bearer" else None


def _require_method(request: Request, method: bytes) -> None:
    if request.method != method:
        message = f"Use {method.decode()} here, not {request.method.decode()}."
        raise error(405, "method_not_allowed", message, allow=method.decode())


def _model(body: bytearray) -> str:
    """The body's `model`. Raises a 400 that says what is wrong with the body."""
    try:
        head = _decode_head(body)
    except _UNREADABLE:
        raise _explained(body) from None
    if isinstance(head.model, msgspec.UnsetType) or not head.model:
        raise bad_request("The body lacks 'model': name a service, like 'u-…/name'.", "model")
    return head.model


def _explained(body: bytearray) -> Reply:
    try:
        value = _decode_any(body)
    except _UNREADABLE as problem:
        return bad_request(f"The body is not valid JSON: {problem}.")
    if not isinstance(value, dict):
        return bad_request("The body must be a JSON object.")
    return bad_request("'model' must be a string: a service's access path.", "model")


def _model_not_found(model: str) -> Reply:
    message = f"The model '{_shown(model)}' does not exist, or you do not have access to it."
    return error(404, "model_not_found", message, param="model")


def _shown(text: str) -> str:
    """The caller's own words, short and without a key that got into them."""
    masked = _KEY.sub("sk-…", text)
    return masked if len(masked) <= 100 else masked[:100] + "…"


def _model_object(route: Route) -> dict[str, object]:
    return {
        "id": route.access_path,
        "object": "model",
        "created": route.created_at,
        "owned_by": route.owner_id,
    }
