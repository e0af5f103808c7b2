"""Waiting for weights, with a bar, and for a service to run, with every state shown."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from modelry.cli.output import err, size, state_text
from modelry.client import Client, Json
from modelry.errors import ModelryError

LOOK_S = 0.1
_WELL = ("running", "idle")
_OVER = (*_WELL, "failed", "stopped", "deleting")


class ChangeStuck(ModelryError):
    """The revision before serves on."""

    code = "change_stuck"


class ServiceFailed(ModelryError):
    """The service did not come to run."""

    code = "service_failed"


class Bar:
    """One bar, shown while there is progress. Speed and time left are the server's own."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._task = progress.add_task(label, visible=False, pace="")

    def show(self, progress: Json | None) -> None:
        """What the API says of a fetch; None where there is none."""
        if progress is None:
            self._progress.update(self._task, visible=False)
            return
        self._progress.update(
            self._task,
            visible=True,
            completed=progress["done_bytes"],
            total=progress["total_bytes"],
            pace=pace_text(progress),
        )


def bytes_bar() -> Progress:
    """A bar of bytes that this command itself moves; it leaves nothing behind."""
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


@contextmanager
def bar(label: str) -> Iterator[Bar]:
    """A bar of what the server moves."""
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        yield Bar(progress, escape(label))


def pace_text(progress: Json) -> str:
    """Like `12.3 MB/s, 1:05 left`, as far as that is known."""
    speed, left_s = progress.get("bytes_per_second"), progress.get("left_s")
    told = [] if speed is None else [f"{size(speed)}/s"]
    if left_s is not None:
        minutes, seconds = divmod(round(left_s), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        told.append(f"{clock} left")
    return ", ".join(told)


def await_change(client: Client, service: Json) -> Json:
    """The service once its present revision has taken over, or where it is not to run now.

    Raises `ChangeStuck` or `ServiceFailed` with the reason and log.
    """
    if service["status"]["state"] == "stopped":
        return service
    return await_running(client, service)


def await_running(client: Client, service: Json) -> Json:
    """The service once it runs, or is idle again already.

    Raises `ServiceFailed` with its reason and log, or `ChangeStuck`.
    """
    name = service["name"]
    last: tuple[str, str] | None = None
    with bar("weights") as shown:
        while True:
            service = client.get(f"/services/{service['id']}")
            status = service["status"]
            now = (status["state"], status["message"])
            if now != last:
                err.print(f"  {state_text(now[0])}  {escape(now[1])}", soft_wrap=True)
                last = now
            # What is installed tells of packages in its message, and is no matter of bytes.
            installs = now[1].startswith("installing")
            shown.show(None if installs else status["progress"])
            if now[0] in _OVER or status["stuck"]:
                break
            time.sleep(LOOK_S)
    if now[0] not in _WELL:
        for line in (status.get("log_tail") or [])[-15:]:
            err.print(f"  [dim]{escape(line)}[/]", soft_wrap=True)
        if status["stuck"]:
            raise ChangeStuck(
                f"service {name}: {now[1]}",
                hint=f"`modelry update {name}` changes it again; `modelry show {name}` shows more",
            )
        raise ServiceFailed(
            f"service {name} is {now[0]}: {now[1]}",
            hint=f"`modelry logs {name}` shows more; `modelry start {name}` tries again",
        )
    return service
