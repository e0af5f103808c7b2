"""`modelry keys`: API keys, which call services."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import AsJson, err, out, print_json, print_table, shown_errors, when
from modelry.client import Client, Json, part
from modelry.errors import ModelryError

app = typer.Typer(help="API keys, which call services.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(help="An id of `modelry keys list`.", show_default=False)]
Services = Annotated[
    list[str] | None,
    typer.Option("--service", help="A service's name, an access path or a glob; repeat for more."),
]
Days = Annotated[int | None, typer.Option(min=0, max=36_500, help="0: it never expires.")]
RequestsPerMinute = Annotated[int | None, typer.Option(min=0, help="At most; 0: no limit.")]
TokensPerMinute = Annotated[
    int | None, typer.Option(min=0, help="Of prompt and answer together, at most; 0: no limit.")
]
Concurrency = Annotated[int | None, typer.Option(min=0, help="Requests at a time; 0: no limit.")]
TokensPerMonth = Annotated[
    int | None, typer.Option(min=0, help="In a calendar month, in UTC; 0: no limit.")
]

_LIMITS = {
    "requests_per_minute": "requests/min",
    "tokens_per_minute": "tokens/min",
    "concurrency": "at a time",
    "tokens_per_month": "tokens/month",
}


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    service: Services = None,
    expires_in_days: Days = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    concurrency: Concurrency = None,
    tokens_per_month: TokensPerMonth = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse calls of which something would be ignored.")
    ] = False,
    json_flag: AsJson = False,
) -> None:
    """Create an API key. It is shown this once."""
    limits = _limits(requests_per_minute, tokens_per_minute, concurrency, tokens_per_month)
    with shown_errors(), open_client() as client:
        made = client.post(
            "/keys",
            {
                "name": name,
                "services": _access_paths(client, service),
                "expires_at": expiry(expires_in_days),
                "limits": limits,
                "strict": strict,
            },
        )
    if json_flag:
        print_json(made)
    else:
        err.print("Keep it now, it is not shown again:")
        out.print(made["key"], soft_wrap=True)
        err.print(f"  [dim]its id, to change or revoke it:[/] {made['id']}", soft_wrap=True)


@app.command("update")
def update(
    key_id: KeyId,
    name: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    service: Services = None,
    all_services: Annotated[
        bool, typer.Option("--all-services", help="It may call all of yours again.")
    ] = False,
    expires_in_days: Days = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    concurrency: Concurrency = None,
    tokens_per_month: TokensPerMonth = None,
    strict: Annotated[
        bool | None,
        typer.Option("--strict/--lenient", help="Whether calls that ask for more are refused."),
    ] = None,
    json_flag: AsJson = False,
) -> None:
    """Change what an API key may do, at once; what is not given stays."""
    limits = _limits(requests_per_minute, tokens_per_minute, concurrency, tokens_per_month)
    changes: Json = {}
    if name is not None:
        changes["name"] = name
    if expires_in_days is not None:
        changes["expires_at"] = expiry(expires_in_days)
    if limits:
        changes["limits"] = limits
    if strict is not None:
        changes["strict"] = strict
    if all_services:
        changes["services"] = None
    with shown_errors(), open_client() as client:
        if service and all_services:
            raise ModelryError("give --service or --all-services, not both")
        if service:
            changes["services"] = _access_paths(client, service)
        if not changes:
            raise ModelryError(
                "nothing to change was given", hint="`modelry keys update --help` lists what can be"
            )
        key = client.patch(f"/keys/{part(key_id)}", changes)
        if json_flag:
            print_json(key)
        else:
            out.print(f"{escape(key_id)} is updated")


@app.command("list")
def list_keys(
    all_: Annotated[
        bool, typer.Option("--all", help="Those of playgrounds in browsers too.")
    ] = False,
    json_flag: AsJson = False,
) -> None:
    """List your API keys."""
    with shown_errors(), open_client() as client:
        keys = [key for key in client.list("/keys") if all_ or not key["for_session"]]
    rows = [
        [
            key["id"],
            escape(key["name"]),
            key["key"],
            escape(", ".join(key["services"]) if key["services"] is not None else "all of yours"),
            _shown_limits(key["limits"]),
            when(key["expires_at"]),
            when(key["last_used_at"]),
        ]
        for key in keys
    ]
    print_table(
        ["ID", "NAME", "KEY", "SERVICES", "LIMITS", "EXPIRES", "LAST USED"],
        rows,
        "You have no API keys yet. `modelry keys create NAME` makes one.",
        as_json=keys,
        json_flag=json_flag,
    )


@app.command("delete")
def delete(key_id: KeyId) -> None:
    """Revoke an API key, at once."""
    with shown_errors(), open_client() as client:
        client.delete(f"/keys/{part(key_id)}")
        out.print(f"{key_id} is revoked")


def _access_paths(client: Client, services: list[str] | None) -> list[str] | None:
    """Access paths and globs as they are; of services that are given by name, their paths."""
    if not services:
        return None
    return [
        each
        if "/" in each or "*" in each
        else str(client.get(f"/services/{part(each)}")["access_path"])
        for each in services
    ]


def expiry(days: int | None) -> str | None:
    """As the API takes it; None for never, which 0 stands for too."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat() if days else None


def _limits(*values: int | None) -> dict[str, int | None]:
    """Those that are given, in the order of `_LIMITS`; 0 stands for none."""
    given = zip(_LIMITS, values, strict=True)
    return {name: value or None for name, value in given if value is not None}


def _shown_limits(limits: Json | None) -> str:
    shown = [f"{limits[name]} {unit}" for name, unit in _LIMITS.items() if limits and limits[name]]
    return ", ".join(shown) or "-"
