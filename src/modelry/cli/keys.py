"""`modelry keys`: API keys, which call services."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import AsJson, err, out, print_json, print_table, shown_errors, when
from modelry.client import Client, part

app = typer.Typer(help="API keys, which call services.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    service: Annotated[
        list[str] | None,
        typer.Option(help="A service's name, an access path or a glob; repeat for more."),
    ] = None,
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=36_500)] = None,
    json_flag: AsJson = False,
) -> None:
    """Create an API key. It is shown this once."""
    until = None
    if expires_in_days is not None:
        until = (datetime.now(UTC) + timedelta(days=expires_in_days)).isoformat()
    with shown_errors(), open_client() as client:
        paths = [_access_path(client, each) for each in service or ()]
        made = client.post("/keys", {"name": name, "services": paths or None, "expires_at": until})
    if json_flag:
        print_json(made)
    else:
        err.print("Keep it now, it is not shown again:")
        out.print(made["key"], soft_wrap=True)


@app.command("list")
def list_keys(json_flag: AsJson = False) -> None:
    """List your API keys."""
    with shown_errors(), open_client() as client:
        keys = client.list("/keys")
    rows = [
        [
            key["id"],
            escape(key["name"]),
            key["key"],
            escape(", ".join(key["services"]) if key["services"] is not None else "all of yours"),
            when(key["expires_at"]),
            when(key["last_used_at"]),
        ]
        for key in keys
    ]
    print_table(
        ["ID", "NAME", "KEY", "SERVICES", "EXPIRES", "LAST USED"],
        rows,
        "You have no API keys yet. `modelry keys create NAME` makes one.",
        as_json=keys,
        json_flag=json_flag,
    )


@app.command("delete")
def delete(
    key_id: Annotated[str, typer.Argument(help="An id of `modelry keys list`.")],
) -> None:
    """Revoke an API key, at once."""
    with shown_errors(), open_client() as client:
        client.delete(f"/keys/{part(key_id)}")
        out.print(f"{key_id} is revoked")


def _access_path(client: Client, service: str) -> str:
    """An access path or glob as it is; the path of a service that was given by its name."""
    if "/" in service or "*" in service:
        return service
    return str(client.get(f"/services/{part(service)}")["access_path"])
