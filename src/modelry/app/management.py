"""The management API's server inside the control plane's process."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

from modelry.access import endpoints as access_endpoints
from modelry.access import token_endpoints
from modelry.access.authenticator import Authenticator
from modelry.access.sessions import Sessions
from modelry.access.tokens import Tokens
from modelry.api.application import create_application, public_base
from modelry.app.parts import Parts
from modelry.catalog import bundle_endpoints, upkeep_endpoints, upload_endpoints
from modelry.catalog import endpoints as catalog_endpoints
from modelry.catalog.checks import Checks
from modelry.console import pages
from modelry.console.frame import Frame
from modelry.console.live import Live
from modelry.console.site import Site
from modelry.executors.nodes import LocalNodes
from modelry.services import endpoints as services_endpoints
from modelry.services import engine_endpoints, metrics_endpoints, node_endpoints
from modelry.services.conformance import endpoints as conformance_endpoints
from modelry.services.engine_upkeep import EngineUpkeep
from modelry.services.uses import uses_of
from modelry.usage import endpoints as usage_endpoints

_END_TIMEOUT_S = 5


class _Server(uvicorn.Server):
    """Uvicorn without its signal handling: the lifeline decides when this process ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(parts: Parts, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the management API on `listener` until the block ends."""
    live = Live(parts.db, parts.reconciler)
    config = uvicorn.Config(
        application(parts, live),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_END_TIMEOUT_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        await live.close()
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


def application(parts: Parts, live: Live) -> FastAPI:
    """Every package's endpoints over the parts they work on, and the console."""
    sessions = Sessions(parts.db)
    authenticator = Authenticator(parts.db, sessions)
    base = public_base(parts.settings)
    published = parts.feed_server.published
    tokens = Tokens(parts.db)
    nodes = LocalNodes(parts.machine.inventory, parts.settings.paths.data)
    engines = EngineUpkeep(parts.db, parts.machine, parts.runtimes)
    site = Site(
        db=parts.db,
        sessions=sessions,
        keys=parts.keys,
        tokens=tokens,
        catalog=parts.catalog,
        fetches=parts.fetches,
        offers=parts.offers,
        uploads=parts.uploads,
        machine=parts.machine,
        runtimes=parts.runtimes,
        engines=engines,
        executor=parts.executor,
        nodes=nodes,
        reconciler=parts.reconciler,
        lifecycle=parts.lifecycle,
        conformance=parts.conformance,
        published=published,
        public_base=base,
    )
    frame = Frame(site)
    app = create_application(
        [
            access_endpoints.router(parts.db, authenticator, sessions, parts.keys, published),
            token_endpoints.router(parts.db, authenticator, tokens),
            catalog_endpoints.router(
                parts.db, authenticator, parts.catalog, parts.fetches, parts.offers
            ),
            upkeep_endpoints.router(
                parts.db,
                authenticator,
                parts.catalog,
                parts.fetches,
                parts.offers,
                Checks(parts.fetches),
                uses_of,
                parts.reconciler.nudge,
            ),
            upload_endpoints.router(
                parts.db,
                authenticator,
                parts.catalog,
                parts.fetches,
                parts.offers,
                parts.uploads,
            ),
            bundle_endpoints.router(
                parts.db,
                authenticator,
                parts.catalog,
                parts.fetches,
                parts.offers,
                parts.weights,
            ),
            services_endpoints.router(
                parts.db,
                authenticator,
                parts.lifecycle,
                parts.reconciler,
                parts.executor,
                published,
                base,
            ),
            conformance_endpoints.router(
                parts.db, authenticator, parts.lifecycle, parts.conformance
            ),
            metrics_endpoints.router(parts.db, authenticator, parts.lifecycle),
            engine_endpoints.router(authenticator, engines),
            node_endpoints.router(parts.db, authenticator, parts.executor, nodes),
            usage_endpoints.router(parts.db, authenticator),
        ],
        [
            *pages.routers(site, frame, live),
            usage_endpoints.metrics_router(authenticator, parts.metrics),
        ],
        ready=parts.db.ping,
    )
    frame.install(app)
    return app
