"""`modelry login` and `logout`: which Modelry the other commands talk to."""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import Login, stored_login_file, write_login
from modelry.cli.output import AsJson, out, print_json, shown_errors
from modelry.client import Client
from modelry.errors import ModelryError


def register(app: typer.Typer) -> None:
    app.command("login")(login)
    app.command("logout")(logout)


def login(
    url: Annotated[str, typer.Argument(help="Its address, like http://localhost:8080.")],
    json_flag: AsJson = False,
) -> None:
    """Sign in with an access token, asked for or read from standard input."""
    with shown_errors():
        if sys.stdin.isatty():
            token = typer.prompt("Access token (pat-…)", hide_input=True, err=True)
        else:
            token = sys.stdin.readline()
        token = token.strip()
        if not token:
            raise ModelryError(
                "no access token was given", hint="type it, or pipe it to standard input"
            )
        if not url.startswith(("http://", "https://")):
            url = f"http://{url}"
        with Client(url, token) as client:
            me = client.get("/me")
        write_login(stored_login_file(), Login(client.url, token))
        if json_flag:
            print_json({"url": client.url, **me})
        else:
            out.print(f"Signed in to {escape(client.url)} as {escape(me['name'])}.")


def logout() -> None:
    """Forget what `login` stored on this machine."""
    with shown_errors():
        stored_login_file().unlink(missing_ok=True)
        out.print("Signed out. The access token itself stays valid.")
