"""`modelry connect`: a service that stands on OpenAI-compatible endpoints elsewhere."""

import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import AsJson, err, out, print_json, shown_errors
from modelry.client import Json
from modelry.errors import ModelryError


def register(app: typer.Typer) -> None:
    app.command("connect")(connect)


def connect(
    name: Annotated[str, typer.Argument(help="The service's name.", show_default=False)],
    url: Annotated[
        list[str],
        typer.Option(
            help="The base under which chat/completions lies, like https://api.example.com/v1; "
            "repeat it for more.",
            show_default=False,
        ),
    ],
    model: Annotated[str | None, typer.Option(help="What the endpoints call the model.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="What they do; chat by default; repeat it for more.")
    ] = None,
    weight: Annotated[
        list[int] | None,
        typer.Option(min=1, max=100, help="An endpoint's share of the calls; one for each --url."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Requests that each gets at a time.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="The variable that holds the endpoints' own API key.")
    ] = None,
    api_key_stdin: Annotated[
        bool, typer.Option("--api-key-stdin", help="Read that key from standard input.")
    ] = False,
    json_flag: AsJson = False,
) -> None:
    """Make an endpoint elsewhere callable as a service, under a name and keys of yours."""
    with shown_errors(), open_client() as client:
        if weight and len(weight) != len(url):
            raise ModelryError("give a --weight for each --url, in the same order, or none")
        key = _api_key(api_key_env, from_stdin=api_key_stdin)
        shared: Json = {"model": model, "api_key": key}
        endpoints = [
            {"url": each, "weight": share, **shared}
            for each, share in zip(url, weight or [1] * len(url), strict=True)
        ]
        service = client.post(
            "/services", {"name": name, "endpoint": endpoints, "tasks": task, "slots": slots}
        )
        if json_flag:
            print_json(service)
        else:
            out.print(f"[bold]{escape(service['access_path'])}[/]", soft_wrap=True)
            if "chat" in service["tasks"]:
                err.print(f"  try it: modelry chat {service['name']}", soft_wrap=True)


def _api_key(variable: str | None, *, from_stdin: bool) -> str | None:
    """Never from the arguments, which every account of the machine can read."""
    if variable is None and not from_stdin:
        return None
    if variable is not None and from_stdin:
        raise ModelryError("the API key comes from --api-key-env or --api-key-stdin, not both")
    key = os.environ.get(variable, "") if variable is not None else _typed_key()
    if not key.strip():
        where = f"the variable {variable}" if variable is not None else "standard input"
        raise ModelryError(f"there is no API key in {where}")
    return key.strip()


def _typed_key() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("The endpoints' API key", hide_input=True, err=True))
    return sys.stdin.readline()
