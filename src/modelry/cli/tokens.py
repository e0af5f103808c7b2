"""`modelry tokens`: access tokens, which call the management API."""

from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.keys import Days, expiry
from modelry.cli.login import open_client
from modelry.cli.output import AsJson, err, out, print_json, print_table, shown_errors, when
from modelry.client import part

app = typer.Typer(
    help="Access tokens, which call the management API, as these commands do.",
    no_args_is_help=True,
)

TokenId = Annotated[str, typer.Argument(help="An id of `tokens list`.", show_default=False)]

_ORIGINS = {
    "user": "you",
    "start": "start of Modelry",
    "local": "this command line",
}


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the access token is for.")],
    expires_in_days: Days = None,
    json_flag: AsJson = False,
) -> None:
    """Create an access token. It is shown this once."""
    with shown_errors(), open_client() as client:
        made = client.post("/tokens", {"name": name, "expires_at": expiry(expires_in_days)})
    if json_flag:
        print_json(made)
    else:
        err.print("Keep it now, it is not shown again:")
        out.print(made["token"], soft_wrap=True)
        err.print(f"  [dim]its id, to delete it:[/] {made['id']}", soft_wrap=True)


@app.command("list")
def list_tokens(json_flag: AsJson = False) -> None:
    """List your access tokens."""
    with shown_errors(), open_client() as client:
        tokens = client.list("/tokens")
    rows = [
        [
            token["id"],
            escape(token["name"]),
            token["token"],
            _ORIGINS.get(token["origin"], escape(token["origin"])),
            when(token["created_at"]),
            when(token["expires_at"]),
            when(token["last_used_at"]),
        ]
        for token in tokens
    ]
    print_table(
        ["ID", "NAME", "TOKEN", "MADE BY", "CREATED", "EXPIRES", "LAST USED"],
        rows,
        "You have no access tokens yet. `modelry tokens create NAME` makes one.",
        as_json=tokens,
        json_flag=json_flag,
        spare=["CREATED", "MADE BY"],
    )


@app.command("delete")
def delete(token_id: TokenId) -> None:
    """Delete an access token: nobody signs in with it any more."""
    with shown_errors(), open_client() as client:
        client.delete(f"/tokens/{part(token_id)}")
        out.print(f"{escape(token_id)} is deleted")
