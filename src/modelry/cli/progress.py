"""Waiting for a service to run, with a bar while weights are fetched and every state shown."""

import time

from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from modelry.cli.output import err, state_text
from modelry.client import Client, Json
from modelry.errors import ModelryError

_LOOK_S = 0.1
_WELL = ("running", "idle")
_OVER = (*_WELL, "failed", "stopped", "deleting")


class ServiceFailed(ModelryError):
    """The service did not come to run."""

    code = "service_failed"


def bytes_bar() -> Progress:
    """A bar of bytes on their way, which leaves nothing behind."""
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def await_running(client: Client, service: Json) -> Json:
    """The service once it runs, or is idle again already.

    Raises `ServiceFailed` with its reason and log.
    """
    name = service["name"]
    last: tuple[str, str] | None = None
    with bytes_bar() as bar:
        task = None
        while True:
            service = client.get(f"/services/{service['id']}")
            status = service["status"]
            now = (status["state"], status["message"])
            if now != last:
                err.print(f"  {state_text(now[0])}  {escape(now[1])}", soft_wrap=True)
                last = now
            progress = status["progress"]
            if progress is not None:
                if task is None:
                    task = bar.add_task("weights", total=progress["total_bytes"])
                bar.update(task, completed=progress["done_bytes"], total=progress["total_bytes"])
            elif task is not None:
                bar.remove_task(task)
                task = None
            if now[0] in _OVER:
                break
            time.sleep(_LOOK_S)
    if now[0] not in _WELL:
        for line in (status.get("log_tail") or [])[-15:]:
            err.print(f"  [dim]{escape(line)}[/]", soft_wrap=True)
        raise ServiceFailed(
            f"service {name} is {now[0]}: {now[1]}",
            hint=f"`modelry logs {name}` shows more; `modelry start {name}` tries again",
        )
    return service
