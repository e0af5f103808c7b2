"""`modelry engines`: the engines, and the versions of them that are installed."""

import time
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import (
    AsJson,
    err,
    out,
    print_json,
    print_table,
    shown_errors,
    size,
    state_text,
)
from modelry.client import Client, Json, part
from modelry.errors import ModelryError

app = typer.Typer(help="Engines, and their versions.", no_args_is_help=True)

RuntimeId = Annotated[str, typer.Argument(help="An id of `engines list`.", show_default=False)]
_LOOK_S = 0.2


class InstallFailed(ModelryError):
    """A runtime was not installed."""

    code = "runtime_install_failed"


@app.command("list")
def list_engines(json_flag: AsJson = False) -> None:
    """List the engines: those embedded, and the runtimes that are installed or can be."""
    with shown_errors(), open_client() as client:
        engines = client.list("/engines")
    rows = [
        [
            escape(engine["id"]),
            state_text(engine["state"]),
            "yes" if engine["default"] else "",
            size(engine["size_bytes"]),
            str(engine["services"]),
        ]
        for engine in engines
    ]
    print_table(
        ["ENGINE", "STATE", "DEFAULT", "SIZE", "SERVICES"],
        rows,
        "There are no engines.",
        as_json=engines,
        json_flag=json_flag,
    )


@app.command("install")
def install(
    runtime: RuntimeId,
    wait: Annotated[bool, typer.Option(help="Wait until it is installed.")] = True,
    json_flag: AsJson = False,
) -> None:
    """Install a runtime, which a first service of it would do as well."""
    with shown_errors(), open_client() as client:
        found = client.post(f"/engines/{part(runtime)}/install")
        if wait:
            found = _await(client, found)
    if json_flag:
        print_json(found)
    else:
        out.print(f"{escape(found['id'])}  {state_text(found['state'])}", soft_wrap=True)


@app.command("remove")
def remove(runtime: RuntimeId, json_flag: AsJson = False) -> None:
    """Remove a runtime that no service uses, or stop its installation."""
    with shown_errors(), open_client() as client:
        found = client.delete(f"/engines/{part(runtime)}")
    if json_flag:
        print_json(found)
    else:
        err.print(f"removed {escape(runtime)}", soft_wrap=True)


def _await(client: Client, engine: Json) -> Json:
    last = None
    while engine["state"] == "installing":
        if engine["message"] != last:
            last = engine["message"]
            err.print(f"  {escape(last or '')}", soft_wrap=True)
        time.sleep(_LOOK_S)
        engine = next(each for each in client.list("/engines") if each["id"] == engine["id"])
    if engine["state"] == "failed":
        raise InstallFailed(str(engine["message"]))
    return engine
