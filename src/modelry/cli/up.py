"""`modelry up`: everything on this machine, in the foreground, until it is told to stop."""

import asyncio
import logging
import os
import shlex
import sys
import threading
from typing import Annotated

import typer
from rich.markup import escape

from modelry import __version__
from modelry.app.supervisor import Started, Supervisor
from modelry.cli.demo import run_demo
from modelry.cli.login import Login, write_login
from modelry.cli.output import err, out, print_error, shown_errors
from modelry.errors import ModelryError
from modelry.settings import Settings, load_settings, unknown_variables


def register(app: typer.Typer) -> None:
    app.command("up")(up)
    app.command("gateway", hidden=True)(gateway)
    app.command("control", hidden=True)(control)


def up(
    demo: Annotated[bool, typer.Option("--demo", help="Deploy the embedded chat model.")] = False,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [127.0.0.1]")] = None,
    port: Annotated[str | None, typer.Option(help="Port to listen on.  [8080]")] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where everything is kept.  [~/.modelry]")
    ] = None,
    keep_replicas: Annotated[
        bool, typer.Option("--keep-replicas", help="Leave replicas running at the end.")
    ] = False,
    gateway_workers: Annotated[
        str | None, typer.Option(help="Gateway processes, one a core.  [1]")
    ] = None,
) -> None:
    """Start Modelry on this machine. Every option is also a MODELRY_… variable."""
    with shown_errors():
        settings = load_settings(
            host=host,
            port=port,
            data_dir=data_dir,
            keep_replicas=keep_replicas or None,
            demo=demo or None,
            gateway_workers=gateway_workers,
        )
        for name, meant in unknown_variables().items():
            hint = "" if meant is None else f"; did you mean {meant}?"
            err.print(f"{escape(name)} is no setting, and does nothing{hint}", soft_wrap=True)
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        raise typer.Exit(asyncio.run(_up(settings)))


def gateway() -> None:
    """Run one gateway by hand, configured by MODELRY_… variables."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "modelry.app.gateway"])  # noqa: S606


def control() -> None:
    """Run the control plane by hand, configured by MODELRY_… variables."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "modelry.app.control"])  # noqa: S606


async def _up(settings: Settings) -> int:
    certificate = None if settings.tls_cert is None else str(settings.tls_cert)

    def control_started(started: Started) -> None:
        token = started.control.local_token
        if token is not None:
            write_login(settings.paths.local_login, Login(started.url, token, certificate))

    def stopping() -> None:
        err.print("\n[dim]Stopping: running requests may finish. ^C again cuts them off.[/]")

    supervisor = Supervisor(settings, control_started, stopping)
    started = await supervisor.start()
    if started is None:
        return 130
    _greet(settings, started)
    if settings.demo:
        # In a thread of its own: it speaks HTTP like any other client, and
        # dies with the process when that is told to stop.
        url, token = started.url, started.control.local_token or ""
        demo = threading.Thread(
            target=_demo, args=(supervisor, url, token, certificate), daemon=True
        )
        demo.start()
    return await supervisor.run()


def _demo(supervisor: Supervisor, url: str, token: str, certificate: str | None) -> None:
    try:
        run_demo(url, token, certificate)
    except ModelryError as error:
        # It ends the demonstration, not Modelry; at the end of both it is no news.
        if not supervisor.stopping:
            print_error(error)


def _greet(settings: Settings, started: Started) -> None:
    base = settings.public_url or started.url
    out.print(f"[bold]Modelry {__version__}[/]")
    out.print(f"  console  {base}/", soft_wrap=True)
    out.print(f"  API      {base}/v1", soft_wrap=True)
    out.print(f"  data     {escape(str(settings.paths.data))}", soft_wrap=True)
    if settings.paths != load_settings(data_dir="~/.modelry").paths:
        # The other commands look there for how to reach this one.
        data = shlex.quote(str(settings.paths.data))
        out.print(f"\nFor other commands:  export MODELRY_DATA_DIR={data}", soft_wrap=True)
    made = started.control
    if made.password or made.token:
        out.print("\nThe operator's credentials. They are shown this once; keep them now.")
        out.print("  user          admin")
        if made.password:
            out.print(f"  password      {escape(made.password)}", soft_wrap=True)
        if made.token:
            out.print(f"  access token  {escape(made.token)}", soft_wrap=True)
    err.print("\n[dim]^C stops it.[/]")
