"""A gateway's process: `python -m modelry.app.gateway`."""

import asyncio
import contextlib
import errno
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
from modelry.app.listening import cannot_listen, open_listener
from modelry.errors import ModelryError
from modelry.gateway.gateway import Gateway
from modelry.settings import Settings, load_settings
from modelry.telemetry import configure_logging

_PORT_WAIT_S = 1.5


async def run(settings: Settings, boot: Boot, *, attached: bool) -> None:
    gateway = Gateway(settings)
    if boot.listeners:
        listeners = [socket.socket(fileno=each) for each in boot.listeners]
    else:
        listeners = await _own_listeners(settings)
    await gateway.start(listeners)
    lifeline = watch_lifeline(attached)
    report(Report(port=listeners[0].getsockname()[1]))
    await lifeline.stop.wait()
    if not lifeline.orphaned:
        await gateway.stop()


async def _own_listeners(settings: Settings) -> list[socket.socket]:
    """One that is just ending on the same port gets a moment to go."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PORT_WAIT_S
    while True:
        try:
            return open_listener(settings)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or loop.time() > deadline:
                raise cannot_listen(settings, error) from None
        await asyncio.sleep(0.05)


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
