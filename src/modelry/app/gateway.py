"""A gateway's process: `python -m modelry.app.gateway`."""

import contextlib
import gc
import os
import resource
import socket
import sys

import uvloop

from modelry.app.lifeline import (
    ATTACHED,
    Boot,
    Report,
    read_boot,
    report,
    report_failure,
    watch_lifeline,
)
from modelry.app.listening import cannot_listen
from modelry.errors import ModelryError
from modelry.gateway.gateway import Gateway
from modelry.settings import Settings, load_settings
from modelry.telemetry import configure_logging


async def run(settings: Settings, boot: Boot, *, attached: bool) -> None:
    gateway = Gateway(settings, [socket.socket(fileno=each) for each in boot.listeners])
    try:
        port = await gateway.start()
    except OSError as error:
        raise cannot_listen(settings, error) from None
    lifeline = watch_lifeline(attached)
    report(Report(port=port))
    await lifeline.stop.wait()
    if not lifeline.orphaned:
        await gateway.stop()


def _allow_many_connections() -> None:
    """A connection is a file: as many as this account may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    attached = ATTACHED in sys.argv[1:]
    os.umask(0o077)
    try:
        settings = load_settings()
        boot = read_boot() if attached else Boot()
        if boot is None:
            return 0
        settings.paths.prepare()
        name = f"gateway-{boot.worker}" if boot.worker else "gateway"
        configure_logging(name, settings.paths.logs, settings.log_level)
        _allow_many_connections()
        # What a call leaves behind is freed by reference counts; a walk over
        # 100,000 keys every few calls would find nothing.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        uvloop.run(run(settings, boot, attached=attached))
    except ModelryError as error:
        return report_failure(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
