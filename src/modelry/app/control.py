"""The control plane's process: `python -m modelry.app.control`."""

import asyncio
import contextlib
import fcntl
import os
import socket
import sys

import uvicorn

from modelry.access import endpoints as access_endpoints
from modelry.access.authenticator import Authenticator
from modelry.access.bootstrap import ensure_operator, renew_local_token
from modelry.access.keys import Keys, publish_keys
from modelry.api.application import create_application, public_base
from modelry.api.feed_server import FeedServer
from modelry.app.lifeline import (
    ATTACHED,
    Boot,
    Report,
    read_boot,
    report,
    report_failure,
    watch_lifeline,
)
from modelry.catalog import endpoints as catalog_endpoints
from modelry.catalog.cards import load_cards
from modelry.catalog.catalog import Catalog
from modelry.catalog.fetches import Fetches
from modelry.catalog.weights import WeightsStore
from modelry.db import Database
from modelry.engines.llama_cpp import LlamaCpp
from modelry.errors import ModelryError, SettingsError
from modelry.executors.local import LocalExecutor
from modelry.routing.feed import Feed
from modelry.services import endpoints as services_endpoints
from modelry.services.lifecycle import Lifecycle
from modelry.services.reconciler import Reconciler
from modelry.settings import Paths, Settings, load_settings
from modelry.telemetry import configure_logging

_LOCK_WAIT_S = 10.0


class _Server(uvicorn.Server):
    """Uvicorn without its signal handling: the lifeline decides when this process ends."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


async def run(settings: Settings, boot: Boot, *, attached: bool) -> None:
    paths = settings.paths
    await _lock(paths)
    engines = {engine.name: engine for engine in (LlamaCpp(),)}
    cards = load_cards(settings.models_dir)
    feed = Feed()
    db = Database(settings.database_url, paths.database)
    try:
        await db.migrate()
        async with db.begin() as session:
            operator, made = await ensure_operator(session, boot.admin_password, boot.admin_token)
            local_token = await renew_local_token(session, operator)
            await publish_keys(session, feed)

        authenticator = Authenticator(db)
        keys = Keys(db, feed)
        catalog = Catalog(cards)
        fetches = Fetches(WeightsStore(paths.weights))
        executor = LocalExecutor(paths.replicas, paths.sockets)
        await executor.adopt(engines)
        feed_server = FeedServer(feed, keys.note_use)
        reconciler = Reconciler(
            db,
            catalog,
            fetches,
            executor,
            engines,
            feed,
            feed_server.published,
            settings.drain_timeout_s,
        )
        executor.on_change = fetches.on_change = reconciler.nudge
        lifecycle = Lifecycle(db, catalog, fetches, engines, reconciler.nudge)
        base = public_base(settings)
        app = create_application(
            [
                access_endpoints.router(db, authenticator, keys, feed_server.published),
                catalog_endpoints.router(db, authenticator, catalog, fetches),
                services_endpoints.router(
                    db,
                    authenticator,
                    lifecycle,
                    reconciler,
                    executor,
                    feed_server.published,
                    base,
                ),
            ],
            ready=db.ping,
        )

        # One pass before the first gateway asks, so that it hears the whole truth.
        await reconciler.reconcile()
        await feed_server.start(paths.feed_socket)
        lifeline = watch_lifeline(attached)
        reconciling = asyncio.create_task(reconciler.run())
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=5,
            )
        )
        listener = _listen(paths)
        serving = asyncio.create_task(server.serve([listener]))
        report(
            Report(
                password=made.password if made else None,
                token=made.token if made else None,
                local_token=local_token,
            )
        )
        await lifeline.stop.wait()

        server.should_exit = True
        reconciling.cancel()
        await asyncio.gather(reconciling, serving, return_exceptions=True)
        await fetches.close()
        if not (settings.keep_replicas or lifeline.orphaned):
            await reconciler.stop_all()
        await executor.close()
        await feed_server.close()
    finally:
        await db.close()


async def _lock(paths: Paths) -> None:
    """Be the only control plane of the data directory; an orphaned one gets time to go."""
    descriptor = os.open(paths.control_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if loop.time() > deadline:
                raise SettingsError(
                    f"another control plane works on {paths.data}",
                    hint="end it first, or choose another data directory with --data-dir",
                    param="data_dir",
                ) from None
        await asyncio.sleep(0.05)


def _listen(paths: Paths) -> socket.socket:
    paths.control_socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(paths.control_socket))
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def _boot_of(settings: Settings) -> Boot:
    password, token = settings.admin_password, settings.admin_token
    return Boot(
        admin_password=password.get_secret_value() if password else None,
        admin_token=token.get_secret_value() if token else None,
    )


def main() -> int:
    attached = ATTACHED in sys.argv[1:]
    os.umask(0o077)
    try:
        settings = load_settings()
        boot = read_boot() if attached else _boot_of(settings)
        settings.paths.prepare()
        configure_logging("control", settings.paths.logs, settings.log_level)
        asyncio.run(run(settings, boot, attached=attached))
    except ModelryError as error:
        return report_failure(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
