"""What ties a child process to `up`: a pipe on standard input.

`up` writes one line of boot data, secrets included, and keeps its end open.
When `up` dies, however it dies, the pipe ends and the child goes too, so that
the next `up` finds the port and the data directory free.
"""

import asyncio
import os
import signal
from dataclasses import dataclass

import msgspec

from modelry.errors import ModelryError, SettingsError
from modelry.settings import Secret, Settings

ATTACHED = "--attached"
"""The argument by which a child knows that `up` holds the other end of its standard input."""


class Boot(msgspec.Struct):
    """The line an attached child reads first: what must not stand in its environment.

    A gateway gets the number of its `worker`, and the descriptors of the
    `listeners` it inherits.
    """

    admin_password: str | None = None
    admin_token: str | None = None
    database_url: str | None = None
    hf_token: str | None = None
    modelscope_token: str | None = None
    listeners: tuple[int, ...] = ()
    worker: int = 0


def boot_of(settings: Settings) -> Boot:
    def revealed(secret: Secret | None) -> str | None:
        return None if secret is None else secret.reveal()

    return Boot(
        admin_password=revealed(settings.admin_password),
        admin_token=revealed(settings.admin_token),
        database_url=revealed(settings.database_url),
        hf_token=revealed(settings.hf_token),
        modelscope_token=revealed(settings.modelscope_token),
    )


class Report(msgspec.Struct):
    """The line a child writes to standard output once it is ready, or could not be.

    `exit_code` other than 0: it ends, for the reason in `message` and `hint`.
    """

    exit_code: int = 0
    message: str = ""
    hint: str | None = None
    port: int = 0
    password: str | None = None
    token: str | None = None
    local_token: str | None = None


@dataclass
class Lifeline:
    """`stop` is set when the process should end: by a signal, or because `up` is gone."""

    stop: asyncio.Event
    orphaned: bool = False


def read_boot() -> Boot | None:
    """The boot line of an attached child, or None where `up` was gone before it sent one."""
    # One byte at a time: what follows the line belongs to the lifeline.
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return msgspec.json.decode(bytes(line), type=Boot) if line else None


def report(message: Report) -> None:
    """Tell `up`, or the person who started the process by hand."""
    os.write(1, msgspec.json.encode(message) + b"\n")


def report_failure(error: ModelryError) -> int:
    """Report why this process ends, and return its exit status."""
    code = 2 if isinstance(error, SettingsError) else 1
    report(Report(exit_code=code, message=error.message, hint=error.hint))
    return code


def watch_lifeline(attached: bool) -> Lifeline:
    """Signals, and where `attached` the end of standard input, set `stop`."""
    loop = asyncio.get_running_loop()
    lifeline = Lifeline(asyncio.Event())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lifeline.stop.set)
    if attached:

        def up_is_gone() -> None:
            if not os.read(0, 64):
                loop.remove_reader(0)
                lifeline.orphaned = True
                lifeline.stop.set()

        loop.add_reader(0, up_is_gone)
    return lifeline
