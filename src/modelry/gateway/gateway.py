"""The gateway as a whole: its table, its feed, its listener, and how it ends."""

import asyncio
import contextlib
import itertools
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import ip_network

from modelry.errors import SettingsError
from modelry.gateway import image_files, pictures
from modelry.gateway.access_log import AccessLog
from modelry.gateway.answers import Job
from modelry.gateway.connection import ClientConnection
from modelry.gateway.cors import Cors
from modelry.gateway.counters import Counters
from modelry.gateway.dialects.messages.calls import TRANSLATES
from modelry.gateway.dialects.responses import calls
from modelry.gateway.dialects.responses.calls import Responses
from modelry.gateway.dialects.responses.kept import KeptResponses
from modelry.gateway.dialects.responses.store import ResponseStore
from modelry.gateway.feed import FeedClient
from modelry.gateway.image_answers import PATHS, ImageAnswers
from modelry.gateway.image_files import ImageFiles
from modelry.gateway.image_serving import ImageServing
from modelry.gateway.inference import Inference
from modelry.gateway.limits import Limiter
from modelry.gateway.management import Management
from modelry.gateway.memory import Memory
from modelry.gateway.origin import Origin
from modelry.gateway.picture_fetch import PictureFetch
from modelry.gateway.reporter import GatewayReporter
from modelry.gateway.request import Request
from modelry.gateway.server import Server
from modelry.gateway.service import Terms
from modelry.gateway.slots import SharedSlots
from modelry.gateway.spool import Spool
from modelry.gateway.table import Table
from modelry.gateway.tasks import SHAPES, Shape
from modelry.gateway.upstream import Upstream
from modelry.gateway.web import Web
from modelry.routing.messages import EndpointAddress
from modelry.sealing import Sealer
from modelry.settings import Paths, Settings

log = logging.getLogger(__name__)

_HEAR_S = 2.0
_MANAGEMENT_BODY_BYTES = 2 * 1024 * 1024
_PIECES = b"/api/v1/uploads/"
_BUNDLES = b"/api/v1/bundles"
"""What whole models are sent to; the control plane takes them as they come."""
_STREAMED_FROM_BYTES = 64 * 1024
_SWEEP_S = 1.0
_FLUSH_S = 0.25
_FILES_SWEEP_S = 30.0
_RECORD_BODIES = 4
"""A kept response has the bodies that led to it, their instructions, and an answer."""


class Front:
    """Sends each request where its path belongs."""

    def __init__(
        self,
        inference: Inference,
        management: Management,
        max_body_bytes: int,
        cors: Cors | None,
        images: ImageServing,
    ) -> None:
        self._images = images
        self._inference = inference
        self._management = management
        self._max_body_bytes = max_body_bytes
        self._management_body_bytes = min(max_body_bytes, _MANAGEMENT_BODY_BYTES)
        self._cors = cors

    def body_limit(self, request: Request) -> int:
        # The control plane authenticates its callers itself, and nobody who asks
        # what a browser may do, so anybody can make us hold such a body.
        return self._management_body_bytes if request.of_stranger else self._max_body_bytes

    def streams(self, request: Request, length: int) -> bool:
        # Nothing else: what the control plane parses it reads whole, before it knows the caller.
        return length > _STREAMED_FROM_BYTES and (
            (request.method == b"PUT" and request.path.startswith(_PIECES))
            or (request.method == b"POST" and request.path == _BUNDLES)
        )

    def check_head(self, request: Request) -> None:
        if (
            request.is_inference
            and not (request.method == b"OPTIONS" and self._cors)
            and not request.path.startswith(image_files.PREFIX)
        ):
            self._inference.check_head(request)

    def start(self, request: Request, client: ClientConnection) -> Job | None:
        if request.is_inference:
            if self._cors is not None and request.method == b"OPTIONS":
                preflight = self._cors.preflight(request)
                if preflight is not None:
                    client.respond(preflight)
                    return None
            if request.path.startswith(image_files.PREFIX):
                return self._images.start(request, client)
            return self._inference.start(request, client)
        if request.path == b"/healthz":
            self._management.healthy(client)
            return None
        return self._management.start(request, client)


class Gateway:
    """Needs a running loop. Opens no port: it serves on sockets that listen already."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        paths = settings.paths
        self._table = Table(self._terms())
        self._spool = Spool(paths.spools)
        self._log: AccessLog | None = None
        if settings.access_log:
            self._log = AccessLog(paths.access_log, self._spool.new_lines)
            self._spool.on_full = self._log.add
        self._limiter = Limiter(_counters(paths), crowded=settings.gateway_workers > 1)
        sealer = Sealer(paths.secret_key)
        tls = _tls(settings)
        origin = Origin(settings.trusted_proxies, secure=tls is not None)
        self._images = ImageFiles(
            paths.images,
            lambda *, make: sealer.signing_key("images", make=make),
            ttl_s=settings.image_url_ttl_s,
            most_bytes=settings.image_store_bytes,
        )
        memory = Memory(
            max(settings.max_buffered_bytes, settings.max_body_bytes),
            min(settings.max_body_bytes, _MANAGEMENT_BODY_BYTES),
        )
        self._responses = ResponseStore(
            paths.responses,
            ttl_s=settings.response_ttl_s,
            most_bytes=settings.response_store_bytes,
            record_bytes=_RECORD_BODIES * settings.max_body_bytes,
        )
        responses = Responses(self._responses, self._table, body_bytes=settings.max_body_bytes)
        self._inference = Inference(
            self._table,
            self._limiter,
            record=self._spool.write,
            unseal=lambda address: _unsealed(sealer, address),
            shapes=_shapes(self._images, origin, settings.public_url),
            translates={**TRANSLATES, calls.PATH: responses.translate},
            responses=KeptResponses(self._responses),
            answer_timeout_s=settings.answer_timeout_s,
            memory=memory,
            pictures=PictureFetch(_web(settings), settings.max_body_bytes),
        )
        reporter = GatewayReporter(lambda: self._table.services, self._spool)
        self._feed = FeedClient(self._table, paths.feed_socket, paths.feed_snapshot, reporter)
        cors = None if settings.cors_origins is None else Cors(settings.cors_origins)
        management = Management(Upstream(f"unix:{paths.control_socket}"), origin)
        self._server = Server(
            Front(
                self._inference,
                management,
                settings.max_body_bytes,
                cors,
                ImageServing(self._images),
            ),
            request_id=_request_ids(),
            memory=memory,
            cors=cors,
            tls=tls,
            log=self._log,
        )
        self._following: asyncio.Task[None] | None = None
        self._chores: list[asyncio.TimerHandle] = []
        self._sweeping: asyncio.Future[None] | None = None

    async def start(self, listeners: Sequence[socket.socket]) -> None:
        """Begin to serve on `listeners`."""
        self._feed.load()
        self._following = asyncio.create_task(self._feed.run())
        with contextlib.suppress(TimeoutError):
            # What changed since the snapshot is to be known before anybody calls.
            await asyncio.wait_for(self._feed.settled.wait(), _HEAR_S)
        await self._server.serve(listeners)
        self._every(_SWEEP_S, self._inference.sweep)
        self._every(_FLUSH_S, self._flush)
        self._every(_FILES_SWEEP_S, self._sweep_files)
        log.info("serving on %s", ", ".join(str(each.getsockname()[:2]) for each in listeners))

    async def stop(self) -> None:
        """Drain: no new requests; running ones finish within `drain_timeout_s`."""
        await self._server.drain(self._settings.drain_timeout_s)
        await self._feed.tell_last()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        self._flush()
        self._feed.save()

    def _terms(self) -> Terms:
        settings = self._settings
        return Terms(
            queue_max=settings.queue_max,
            queue_wait_s=settings.queue_wait_s,
            start_wait_s=settings.start_wait_s,
            wake=lambda service_id: self._feed.wake(service_id),
            live=lambda: self._table.live,
            slots=SharedSlots(settings.paths.counters),
            crowded=settings.gateway_workers > 1,
        )

    def _flush(self) -> None:
        self._limiter.flush()
        if self._log is not None:
            self._log.flush()

    def _sweep_files(self) -> None:
        """In a thread: with many files, it takes the better part of a second."""

        def sweep() -> None:
            self._images.sweep()
            self._responses.sweep()

        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().run_in_executor(None, sweep)

    def _every(self, seconds: float, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def run() -> None:
            loop.call_later(seconds, run)
            work()

        loop.call_later(seconds, run)


def _request_ids() -> Callable[[], bytes]:
    """Ids that no other process makes, and none twice: for people to look up, no secret."""
    process, count = b"req_" + secrets.token_hex(6).encode(), itertools.count(1)
    return lambda: b"%b%010x" % (process, next(count))


def _counters(paths: Paths) -> Counters | None:
    try:
        return Counters(paths.counters)
    except OSError as error:
        log.warning("limits of keys are not shared with other gateways: %s", error)
        return None


def _shapes(files: ImageFiles, origin: Origin, public_url: str | None) -> dict[bytes, Shape]:
    addressed = {
        path: ImageAnswers(files, origin, public_url, SHAPES.get(path)).shape for path in PATHS
    }
    return {**SHAPES, **addressed}


def _web(settings: Settings) -> Web | None:
    if not settings.image_urls:
        return None
    named = settings.image_networks
    networks = [ip_network(each) for each in named.split(",")] if named else []
    return Web(networks, size_most=pictures.BYTES_MOST)


def _unsealed(sealer: Sealer, address: EndpointAddress) -> str:
    assert address.sealed_key is not None
    return sealer.open(address.sealed_key, address.id)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Raises `SettingsError` where the certificate or its key cannot be used."""
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise SettingsError(
                "MODELRY_TLS_KEY: there is no certificate to this key",
                hint="set MODELRY_TLS_CERT to the PEM file with the certificate and its chain",
                param="tls_key",
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as problem:
        raise SettingsError(
            f"the TLS certificate {settings.tls_cert} cannot be used: {problem}",
            hint="MODELRY_TLS_CERT is a PEM file with the chain, MODELRY_TLS_KEY its private key",
            param="tls_cert",
        ) from None
    return context
