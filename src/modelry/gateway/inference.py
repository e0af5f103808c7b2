"""`/v1`: who calls, which service, within which limits.

Answers what needs no replica (`/v1/models`, every refusal) and starts a `Call`
for the rest. docs/guides/errors.md lists every refusal; a test keeps it true.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote, urlsplit

from modelry import __version__
from modelry.gateway import body as bodies
from modelry.gateway import forms, parameters
from modelry.gateway.call import Call
from modelry.gateway.connection import ClientConnection
from modelry.gateway.dialects.responses import kept
from modelry.gateway.dialects.responses.kept import KeptResponses
from modelry.gateway.limits import Limiter
from modelry.gateway.memory import Memory
from modelry.gateway.picture_fetch import PictureFetch
from modelry.gateway.picture_parts import Pictures
from modelry.gateway.replica import Replica
from modelry.gateway.replies import JSON_TYPE, Reply, error, json_reply, model_not_found, shown
from modelry.gateway.request import DerivedRequest, Request
from modelry.gateway.service import Service
from modelry.gateway.structured import chats
from modelry.gateway.structured.known_forms import KnownForms
from modelry.gateway.table import Table, allows
from modelry.gateway.tasks import ANY_TASK, ENDPOINTS, Shape, tokens_expected
from modelry.gateway.translating import Answering, Translate
from modelry.routing.messages import EndpointAddress, KeyGrant, Route

MODELS = b"/v1/models"

_RETRY_AFTER_S = 2
_THREADS = 2
HOPS_MOST = 3
_LOOKED_AT_BYTES = 16 * 1024
"""Of a larger body, what a key may still use is asked before its content is looked at."""
_AGENT = f"modelry/{__version__}".encode()


log = logging.getLogger(__name__)


class Inference:
    """Also the desk of its calls. `record` keeps the line of a call that ended; `unseal` opens
    the key of an endpoint elsewhere; `shapes`: what is done to calls of an endpoint;
    `translates`: which calls are made calls of another endpoint, and how; `responses`: what of
    them is kept.
    """

    def __init__(
        self,
        table: Table,
        limiter: Limiter,
        *,
        record: Callable[[bytes], None],
        unseal: Callable[[EndpointAddress], str],
        shapes: Mapping[bytes, Shape],
        translates: Mapping[bytes, Translate],
        responses: KeptResponses,
        answer_timeout_s: float,
        memory: Memory,
        pictures: PictureFetch,
    ) -> None:
        self._table = table
        self._limiter = limiter
        self.record = record
        self._unseal = unseal
        self._shapes = shapes
        self._translates = translates
        self._responses = responses
        self.answer_timeout_s = answer_timeout_s
        self.memory = memory
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="answers")
        self._picture_fetch = pictures
        self._forms = KnownForms()
        # The loop's own clock, which stands still within an iteration, counts milliseconds.
        self.clock = time.monotonic

    # -- requests ------------------------------------------------------------

    def check_head(self, request: Request) -> None:
        """Refuse a stranger before the body is read."""
        self._authenticate(request)

    def start(self, request: Request, client: ClientConnection) -> Call | None:
        # Asked again: the key may have been revoked while the body came in.
        key = request.key
        table = self._table
        if key is None or request.key_version != table.version or key.expires_at is not None:
            key = self._authenticate(request)
        elif not key.probe:
            table.last_used_at[key.id] = time.time()
        if key.probe:
            # Nobody's call stands in no log.
            request.accounted = True
        path = request.path
        task = ENDPOINTS.get(path)
        if task is None:
            if path == MODELS or path.startswith(MODELS + b"/"):
                if request.method != b"HEAD":
                    _require_method(request, b"GET")
                client.respond(self._models(path, key))
                return None
            if path.startswith(kept.PREFIX):
                client.respond(self._responses.answer(request, key))
                return None
            told = shown(path.decode("ascii", "replace"))
            raise error(404, "unknown_url", f"There is no {request.method.decode()} {told} here.")
        if request.method != b"POST":
            _require_method(request, b"POST")
        translate = self._translates.get(path)
        if translate is None:
            return self._admit(request, client, key, task)
        if key.limits is not None and len(request.body) > _LOOKED_AT_BYTES:
            head = bodies.read(request.body)
            if self._is_refused(request, client, head, self._granted(key, head.model, task), key):
                return None
        derived, answering = self._translated(translate, request, client)
        try:
            return self._admit(derived, answering, key, task)
        except Reply as reply:
            answering.respond(reply)
            return None

    def _admit(
        self, request: Request, answering: Answering, key: KeyGrant, task: str
    ) -> Call | None:
        """Raises a `Reply` that refuses it."""
        path, body = request.path, request.body
        form = forms.boundary_of(request) if path in forms.ENDPOINTS else None
        head = forms.read(body, form) if form else bodies.read(body)
        service = self._granted(key, head.model, task)
        limits = key.limits
        is_long = limits is not None and len(body) > _LOOKED_AT_BYTES
        if is_long and self._is_refused(request, answering, head, service, key):
            return None
        if path in chats.PATHS and service.route.grammars:
            changed = chats.structured(request, answering, head, service.route, self._forms)
            if changed is not None:
                request, answering = self._held(*changed)
                head, body = bodies.read(request.body), request.body
        ignored = tuple(name for name in request.ignored if name not in parameters.LABELS)
        if service.route.dialect:
            ignored += parameters.ignored(service.route.dialect, path, body)
        if ignored and key.strict:
            raise parameters.refusal(ignored)
        shape = self._shapes.get(path)
        shaping = None if shape is None else shape(request, head, service.route)
        tokens = tokens_expected(path, head, body, request.unread_bytes)
        pictures = shaping if isinstance(shaping, Pictures) and shaping.links else None
        if pictures is not None:
            tokens += bodies.IMAGE_TOKENS * len(pictures.links)
        cost = tokens or forms.COST
        if b"x-modelry-hops" in request.fields:
            _refuse_loop(request)
        try:
            admitted = None if limits is None else self._limiter.admit(key, limits, tokens)
        except Reply as reply:
            # Of no replica's doing, but of this key's and this service's all the same.
            Call(self, service, key, request, head, answering, None, cost, shaping).refused(reply)
            return None
        call = Call(self, service, key, request, head, answering, admitted, cost, shaping)
        if ignored:
            call.lines = parameters.header_line(ignored)
        if pictures is not None:
            call.preparing = asyncio.ensure_future(self._prepare(call, pictures, service, request))
            return call
        try:
            service.enter(call)
        except BaseException:
            call.client_gone()
            raise
        return call

    def _is_refused(
        self,
        request: Request,
        answering: Answering,
        head: bodies.Head,
        service: Service,
        key: KeyGrant,
    ) -> bool:
        """Whether its key may use nothing more now; then its caller has been told."""
        refusal = None if key.limits is None else self._limiter.refusal(key, key.limits)
        if refusal is None:
            return False
        Call(self, service, key, request, head, answering, None, 0).refused(refusal)
        return True

    async def _prepare(
        self, call: Call, pictures: Pictures, service: Service, request: Request
    ) -> None:
        """Bring what the call names by its address; then let it enter."""
        begun_at = self.clock()

        def hold(size: int) -> bool:
            # Not once its caller is gone: nobody would give it back.
            return not call.is_over and self.memory.hold(request.root, size)

        reply: Reply | None = None
        try:
            await self._picture_fetch.bring(
                pictures.links, hold, key_id=call.key_id, body_bytes=len(request.body)
            )
            if not call.is_over:
                call.preparing, call.prepared_s = None, self.clock() - begun_at
                pictures.routed(service.route)
                service.enter(call)
        except Reply as refusal:
            reply = refusal
        except Exception:
            log.exception("%s could not be prepared", request.id.decode())
            reply = error(500, "internal_error", "Something went wrong in the gateway.")
        # Who has left hears nothing, whatever went wrong after that.
        if reply is not None and not call.is_over:
            call.refused(reply)

    # -- the desk of calls ---------------------------------------------------

    def request_head(self, replica: Replica, path: bytes) -> bytes:
        """The start of a request's head, up to the request id; kept in the replica's `heads`."""
        head = replica.heads[path] = self._new_head(replica, path)
        return head

    def replica_failed(self, service: Service, replica: Replica, why: str) -> None:
        """Leave it out until a connection to it can be made again."""
        if replica.out or service.replicas.get(replica.id) is not replica:
            return
        log.warning("%s of %s is left out: %s", replica.id, service.route.access_path, why)
        loop = asyncio.get_running_loop()

        def probe() -> None:
            if service.replicas.get(replica.id) is replica:
                replica.upstream.probe(heard)

        def heard(well: bool) -> None:
            if well:
                replica.out = False
                service.let_in()
            else:
                loop.call_later(replica.failed(), probe)

        loop.call_later(replica.failed(), probe)

    # -- now and then --------------------------------------------------------

    def sweep(self) -> None:
        """Drop what nobody needs any more."""
        self._limiter.sweep(self._table.has_key)

    # ------------------------------------------------------------------------

    def _new_head(self, replica: Replica, path: bytes) -> bytes:
        # Built anew, never copied: what a caller puts into headers stops here.
        address = replica.address
        if not isinstance(address, EndpointAddress):
            return (
                b"POST %b HTTP/1.1\r\nhost: replica\r\nauthorization: Bearer %b\r\n%bx-request-id: "
            ) % (path, address.secret.encode(), _type_line(path))
        url = urlsplit(address.url)
        key = b""
        if address.sealed_key is not None:
            key = b"authorization: Bearer %b\r\n" % self._unseal(address).encode()
        return (
            b"POST %b HTTP/1.1\r\nhost: %b\r\n%baccept: */*\r\naccept-encoding: identity\r\n"
            b"user-agent: %b\r\n%bx-request-id: "
        ) % (url.path.encode() + path[3:], url.netloc.encode(), key, _AGENT, _type_line(path))

    def _translated(
        self, translate: Translate, request: Request, client: Answering
    ) -> tuple[DerivedRequest, Answering]:
        """The call as what it is to replicas. Raises a `Reply` for what cannot be made one."""
        return self._held(*translate(request, client))

    def _held(
        self, derived: DerivedRequest, answering: Answering
    ) -> tuple[DerivedRequest, Answering]:
        """The same, with its body counted. Raises a `Reply` where there is no room for it."""
        if not self.memory.hold(derived.root, len(derived.body) + derived.kept_bytes):
            message = "The requests under way are too large together. Please try again."
            raise error(503, "overloaded", message, retry_after_s=1)
        return derived, answering

    def _authenticate(self, request: Request) -> KeyGrant:
        secret = request.fields.get(b"authorization")
        if secret is not None and secret[:7].lower() == b"bearer ":
            secret = secret[7:].strip()
        else:
            secret = request.fields.get(b"x-api-key")
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
        request.key, request.key_version = key, self._table.version
        return key

    def _service(self, model: str, key: KeyGrant) -> Service:
        service = self._table.service(model, key)
        if service is None:
            raise model_not_found(model)
        if not allows(key, service.route):
            message = f"This API key is not allowed on {service.route.access_path}."
            raise error(403, "model_access_denied", message, param="model")
        return service

    def _granted(self, key: KeyGrant, model: str, task: str) -> Service:
        return self._table.granted.get((key.id, model, task)) or self._grant(key, model, task)

    def _grant(self, key: KeyGrant, model: str, task: str) -> Service:
        service = self._service(model, key)
        if task != ANY_TASK and task not in service.route.tasks:
            does = ", ".join(service.route.tasks)
            message = f"{service.route.access_path} does not do {task}; it does {does}."
            raise error(400, "unsupported_task", message, param="model")
        self._table.granted[key.id, model, task] = service
        return service

    def _models(self, path: bytes, key: KeyGrant) -> Reply:
        if path in (MODELS, MODELS + b"/"):
            data = [_model_object(route) for route in self._table.visible_to(key)]
            return json_reply({"object": "list", "data": data})
        name = unquote(path[len(MODELS) + 1 :].decode("ascii", "replace"))
        return json_reply(_model_object(self._service(name, key).route))


def _type_line(path: bytes) -> bytes:
    """Of a form, each request tells its own."""
    return b"" if path in forms.ENDPOINTS else JSON_TYPE


def _refuse_loop(request: Request) -> None:
    """Raises where a call has come through too many Modelrys: they stand on one another."""
    hops = request.fields[b"x-modelry-hops"]
    if not hops.isdigit() or len(hops) > 2 or int(hops) >= HOPS_MOST:
        message = "This service stands on an endpoint that leads back to it."
        raise error(508, "loop_detected", message)


def _require_method(request: Request, method: bytes) -> None:
    if request.method != method:
        message = f"Use {method.decode()} here, not {request.method.decode()}."
        raise error(405, "method_not_allowed", message, allow=method.decode())


def _model_object(route: Route) -> dict[str, object]:
    return {
        "id": route.access_path,
        "object": "model",
        "created": route.created_at,
        "owned_by": route.owner_id,
    }
