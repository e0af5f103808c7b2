"""The control plane's process: `python -m modelry.app.control`.

What replicas need comes first: the database, the executor and one pass of the
reconciler. The management API follows while the engines load.
"""

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Coroutine

from modelry.access.bootstrap import MadeCredentials, ensure_operator, renew_local_token
from modelry.access.keys import Keys, publish_keys
from modelry.api.feed_server import FeedServer
from modelry.app.lifeline import (
    ATTACHED,
    Boot,
    Lifeline,
    Report,
    boot_of,
    read_boot,
    report,
    report_failure,
    watch_lifeline,
)
from modelry.app.parts import Parts
from modelry.app.reports import Reports
from modelry.catalog.card_folder import Cards
from modelry.catalog.catalog import Catalog
from modelry.catalog.choice import Machine
from modelry.catalog.conversions import Conversions
from modelry.catalog.fetch import Origins
from modelry.catalog.fetches import Fetches, machine_index_settings
from modelry.catalog.hubs import HF_ENDPOINT, MODELSCOPE_ENDPOINT, HubSettings
from modelry.catalog.offers import Offers
from modelry.catalog.package_index import uv_variables
from modelry.catalog.uploads import Uploads
from modelry.catalog.weights import WeightsStore
from modelry.client import pinned
from modelry.db import Database
from modelry.engines.base import Engine
from modelry.engines.diffusers import Diffusers
from modelry.engines.faster_whisper import FasterWhisper
from modelry.engines.installer import PackageSources, Runtimes
from modelry.engines.llama_cpp import LlamaCpp
from modelry.engines.runtimes import shipped_runtimes
from modelry.engines.speech import Hibari, Kokoro
from modelry.engines.vllm import Vllm
from modelry.errors import ModelryError, SettingsError
from modelry.executors.inventory import read_inventory
from modelry.executors.local import LocalExecutor
from modelry.routing.feed import Feed
from modelry.sealing import Sealer
from modelry.services.activity import Activity
from modelry.services.conformance.http_caller import HttpCaller
from modelry.services.conformance.probing import Call, Conformance
from modelry.services.hosting import Hosting
from modelry.services.lifecycle import Lifecycle
from modelry.services.reconciler import Reconciler
from modelry.services.sampling import Sampling
from modelry.services.supplies import Supplies
from modelry.settings import Paths, Secret, Settings, load_settings
from modelry.telemetry import configure_logging
from modelry.usage.intake import Intake
from modelry.usage.metrics import Metrics
from modelry.usage.series.peaks import Peaks

_LOCK_WAIT_S = 10.0
_ASK_TIMEOUT_S = 5.0
_ON = ("1", "true", "yes", "on")


async def run(settings: Settings, boot: Boot, *, attached: bool) -> None:
    paths = settings.paths
    # From here on the end of this process is orderly: replicas are not left behind.
    lifeline = watch_lifeline(attached)
    # Parsed before anything starts: a bad card ends the start.
    cards = Cards(settings.models_dir)
    db = Database(boot.database_url, paths.database)
    try:
        if not await _unless_stopped(_open(paths, db), lifeline):
            return
        parts = _assemble(settings, db, Catalog(cards), _hubs(settings, boot))
        made, local_token = await _sign_in(parts, boot)
        await parts.executor.adopt(parts.engines)
        # One pass before the first gateway asks, so that it hears the whole truth.
        await parts.reconciler.reconcile()
        if parts.hosting.asking:
            # What adapters the replicas have that were adopted, they say themselves.
            await parts.hosting.settled(_ASK_TIMEOUT_S)
            await parts.reconciler.reconcile()
        await parts.feed_server.start(paths.feed_socket)
        reconciling = asyncio.create_task(parts.reconciler.run())
        expiring = asyncio.create_task(parts.uploads.run())
        probing = asyncio.create_task(parts.conformance.run())
        sampling = asyncio.create_task(parts.sampling.run())

        # FastAPI takes longer to import than an engine to load: by now the
        # engines are at it.
        from modelry.app.management import serving  # noqa: PLC0415

        async with serving(parts, _listen(paths)):
            report(
                Report(
                    password=made.password if made else None,
                    token=made.token if made else None,
                    local_token=local_token,
                )
            )
            await lifeline.stop.wait()
        expiring.cancel()
        probing.cancel()
        sampling.cancel()
        await asyncio.gather(probing, sampling, return_exceptions=True)
        await parts.reconciler.end()
        await reconciling
        await _end(parts, lifeline)
    finally:
        await db.close()


def _hubs(settings: Settings, boot: Boot) -> HubSettings:
    """Where Modelry is told nothing, hubs are asked as their own clients would ask them."""
    hf_token = boot.hf_token or os.environ.get("HF_TOKEN")
    modelscope_token = boot.modelscope_token or os.environ.get("MODELSCOPE_API_TOKEN")
    return HubSettings(
        hf_endpoint=settings.hf_endpoint or os.environ.get("HF_ENDPOINT") or HF_ENDPOINT,
        hf_token=Secret(hf_token) if hf_token else None,
        modelscope_endpoint=settings.modelscope_endpoint or MODELSCOPE_ENDPOINT,
        modelscope_token=Secret(modelscope_token) if modelscope_token else None,
        offline=settings.offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in _ON,
    )


def _assemble(settings: Settings, db: Database, catalog: Catalog, hubs: HubSettings) -> Parts:
    feed = Feed()
    keys = Keys(db, feed)
    intake = Intake(db, settings.usage_keep_days)
    metrics = Metrics(lambda: feed.snapshot().routes)
    peaks = Peaks()
    activity = Activity()
    feed_server = FeedServer(feed, Reports(keys, intake, metrics, peaks, activity))
    known: tuple[Engine, ...] = (
        LlamaCpp(),
        Vllm(),
        Diffusers(),
        FasterWhisper(),
        Hibari(),
        Kokoro(),
    )
    engines = {engine.name: engine for engine in known}
    weights = WeightsStore(settings.paths.weights)
    fetches = Fetches(weights, Origins(machine_index_settings, hubs))
    conversions = Conversions(weights)
    runtimes = Runtimes(
        settings.paths.runtimes,
        shipped_runtimes(),
        lambda: PackageSources(uv_variables(machine_index_settings()), offline=hubs.offline),
    )
    supplies = Supplies(fetches, conversions, runtimes)
    hosting = Hosting()
    machine = Machine(engines, runtimes.known, read_inventory())
    uploads = Uploads(settings.paths.weights / "uploads", weights)
    executor = LocalExecutor(settings.paths.replicas, settings.paths.sockets)
    reconciler = Reconciler(
        db,
        catalog,
        supplies,
        executor,
        machine,
        hosting,
        activity,
        feed,
        feed_server.published,
        settings.drain_timeout_s,
    )
    for changing in (executor, fetches, conversions, runtimes, supplies, hosting):
        changing.on_change = reconciler.nudge
    activity.on_wake = reconciler.nudge
    sealer = Sealer(settings.paths.secret_key)
    offers = Offers(machine, fetches)
    lifecycle = Lifecycle(db, catalog, supplies, hosting, machine, offers, sealer, reconciler.nudge)
    conformance = Conformance(
        db,
        feed,
        activity,
        engines,
        feed_server.published,
        _own_gateway(settings),
        on_deploy=settings.conformance == "deploy",
    )
    return Parts(
        settings=settings,
        db=db,
        feed=feed,
        feed_server=feed_server,
        keys=keys,
        metrics=metrics,
        catalog=catalog,
        fetches=fetches,
        conversions=conversions,
        hosting=hosting,
        offers=offers,
        uploads=uploads,
        weights=weights,
        engines=engines,
        executor=executor,
        runtimes=runtimes,
        machine=machine,
        reconciler=reconciler,
        lifecycle=lifecycle,
        conformance=conformance,
        sampling=Sampling(db, executor, peaks),
    )


def _own_gateway(settings: Settings) -> Call:
    """Calls it at the address that callers on this machine have."""
    url = settings.own_url(settings.port)
    certificate = settings.tls_cert

    def call(key: str, is_there: Callable[[], bool]) -> HttpCaller:
        # Read anew each time: certificates are renewed.
        trusted = None if certificate is None else pinned(str(certificate))
        return HttpCaller(url, key, trusted, is_there)

    return call


async def _sign_in(parts: Parts, boot: Boot) -> tuple[MadeCredentials | None, str]:
    """Credentials made just now, and the token of this machine's command line."""
    async with parts.db.begin() as session:
        operator, made = await ensure_operator(session, boot.admin_password, boot.admin_token)
        local_token = await renew_local_token(session, operator)
        await publish_keys(session, parts.feed)
    return made, local_token


async def _end(parts: Parts, lifeline: Lifeline) -> None:
    """Replicas stop too, unless they are to stay, or `up` was killed and the next adopts them."""
    await parts.fetches.close()
    await parts.conversions.close()
    await parts.runtimes.close()
    await parts.hosting.close()
    if not (parts.settings.keep_replicas or lifeline.orphaned):
        await parts.reconciler.stop_all()
    await parts.executor.close()
    await parts.feed_server.close()


async def _unless_stopped(work: Coroutine[None, None, None], lifeline: Lifeline) -> bool:
    """Whether the work was done before it was time to end. It may wait for others for long."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(lifeline.stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return False
    working.result()
    return True


async def _open(paths: Paths, db: Database) -> None:
    await _lock(paths)
    await db.migrate()


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


def main() -> int:
    attached = ATTACHED in sys.argv[1:]
    os.umask(0o077)
    try:
        settings = load_settings()
        boot = read_boot() if attached else boot_of(settings)
        if boot is None:
            return 0
        settings.paths.prepare()
        configure_logging("control", settings.paths.logs, settings.log_level)
        asyncio.run(run(settings, boot, attached=attached))
    except ModelryError as error:
        return report_failure(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
