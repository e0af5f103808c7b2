"""A gateway's process: `python -m modelry.app.gateway`."""

import errno
import os
import sys

import uvloop

from modelry.app.lifeline import (
    ATTACHED,
    Report,
    read_boot,
    report,
    report_failure,
    watch_lifeline,
)
from modelry.errors import ModelryError, SettingsError
from modelry.gateway.gateway import Gateway
from modelry.settings import Settings, load_settings
from modelry.telemetry import configure_logging


async def run(settings: Settings, *, attached: bool) -> None:
    gateway = Gateway(settings)
    try:
        port = await gateway.start()
    except OSError as error:
        raise _cannot_listen(settings, error) from None
    lifeline = watch_lifeline(attached)
    report(Report(port=port))
    await lifeline.stop.wait()
    if not lifeline.orphaned:
        await gateway.stop()


def _cannot_listen(settings: Settings, error: OSError) -> SettingsError:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            f"port {settings.port} is taken: something else listens on {where}",
            hint="choose another with --port, or end what uses it",
            param="port",
        )
    if error.errno == errno.EACCES:
        return SettingsError(
            f"this account may not listen on port {settings.port}",
            hint="choose a port above 1023 with --port",
            param="port",
        )
    return SettingsError(
        f"cannot listen on {where}: {error.strerror or error}",
        hint="check --host and --port",
        param="host",
    )


def main() -> int:
    attached = ATTACHED in sys.argv[1:]
    os.umask(0o077)
    try:
        settings = load_settings()
        if attached and read_boot() is None:
            return 0
        settings.paths.prepare()
        configure_logging("gateway", settings.paths.logs, settings.log_level)
        uvloop.run(run(settings, attached=attached))
    except ModelryError as error:
        return report_failure(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
