"""`modelry conformance`: what a service does of the inference API, and what it does not."""

import os
import time
from textwrap import wrap
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import (
    AsJson,
    err,
    out,
    print_json,
    shown_errors,
    state_text,
    when,
)
from modelry.cli.services import Name
from modelry.client import Client, Json, part
from modelry.errors import ModelryError

_NAME, _RESULT = 24, 13
_DETAIL_AT = _NAME + _RESULT
_LOOK_S = 0.5
_LONGEST_S = 180.0
_OPEN = frozenset({"pending", "running"})


def register(app: typer.Typer) -> None:
    app.command()(conformance)


def conformance(
    name: Name,
    run: Annotated[bool, typer.Option("--run", help="Have a new report made, and wait.")] = False,
    json_flag: AsJson = False,
) -> None:
    """Show what a service does of the API, as was found out by calling it."""
    with shown_errors(), open_client() as client:
        path = f"/services/{part(name)}/conformance"
        report = client.post(path) if run else client.get(path)
        if run:
            report = _await_report(client, name, path, report)
    if json_flag:
        print_json(report)
        return
    out.print(f"[bold]{escape(name)}[/]  {state_text(report['state'])}")
    out.print(f"  {escape(report['summary'])}", soft_wrap=True)
    if report["finished_at"]:
        told = f"revision {report['revision']} on {report['engine']}, Modelry {report['modelry']}"
        out.print(f"  [dim]{escape(told)}, {when(report['finished_at'])}[/]", soft_wrap=True)
    if report["checks"]:
        out.print()
    for check in report["checks"]:
        _print_check(check)


def _print_check(check: Json) -> None:
    """On a terminal, what was seen goes on below itself; elsewhere a check stays a line."""
    name, result, detail = check["name"], check["result"], check["detail"]
    narrow = out.is_terminal or "COLUMNS" in os.environ
    room = max(20, out.width - _DETAIL_AT) if narrow else len(detail) + 1
    first, *more = wrap(detail, room) or [""]
    told = state_text(result) + " " * (_RESULT - len(result))
    out.print(f"{escape(name):<{_NAME}}{told}{escape(first)}", soft_wrap=True)
    for line in more:
        out.print(" " * _DETAIL_AT + escape(line), soft_wrap=True)


def _await_report(client: Client, name: str, path: str, report: Json) -> Json:
    """The new report; as it stands where the service does not run and so makes none."""
    until = time.monotonic() + _LONGEST_S
    with err.status("calling it"):
        while report["state"] in _OPEN:
            state = client.get(f"/services/{part(name)}")["status"]["state"]
            if report["state"] == "pending" and state != "running":
                return report
            if time.monotonic() > until:
                raise ModelryError(
                    "there is no new report yet",
                    hint=f"`modelry conformance {name}` shows it later",
                )
            time.sleep(_LOOK_S)
            report = client.get(path)
    return report
