"""`modelry usage`: requests, tokens, images and speech, by service, key, user, hour or day."""

from collections.abc import Iterable, Mapping
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import AsJson, print_table, short, shown_errors, when
from modelry.client import Json

_GROUPS = {"from": "HOUR", "service": "SERVICE", "key": "KEY", "user": "USER"}
_SUMS = {
    "requests": "REQS",
    "errors": "ERR",
    "cancelled": "CANC",
    "prompt_tokens": "PROMPT",
    "cached_tokens": "CACHED",
    "completion_tokens": "ANSWER",
    "total_tokens": "ALL",
}
_UNITS = {"images": "IMAGES", "pixels": "PIXELS", "audio_s": "AUDIO S", "characters": "CHARS"}
"""Columns only where anything of it was used."""


def register(app: typer.Typer) -> None:
    app.command("usage")(usage)


def usage(
    since: Annotated[
        str | None,
        typer.Option("--from", help="A date in UTC, or a time with its zone. 30 days ago if not."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Up to this date's start, or this time. Now if not.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Any of service, key, user, and hour or day, a comma between.")
    ] = "service",
    json_flag: AsJson = False,
) -> None:
    """Show requests and tokens, and images and speech where there are any, summed up."""
    with shown_errors(), open_client() as client:
        sums = client.list("/usage", limit=1000, group_by=by, **{"from": since, "to": until})
        names = {key["id"]: key["name"] for key in client.list("/keys")} if "key" in by else {}
    # The API's days are UTC's: in another zone they would begin at odd times.
    heads = _GROUPS | ({"from": "DAY (UTC)"} if "day" in by else {})
    groups = [name for name in heads if sums and name in sums[0]]
    # A control plane of before such units were counted tells of none.
    total = {name: sum(row.get(name, 0) for row in sums) for name in _SUMS | _UNITS}
    shown = _SUMS | {name: head for name, head in _UNITS.items() if total[name]}
    rows = [
        [*(_group(row, name, by, names) for name in groups), *_counts(row, shown)] for row in sums
    ]
    if rows:
        rows.append(["total", *[""] * (len(groups) - 1), *_counts(total, shown)])
    print_table(
        [*(heads[name] for name in groups), *shown.values()],
        rows,
        "Nothing was used in that time.",
        as_json=sums,
        json_flag=json_flag,
        spare=["CACHED", "CANC", "ERR"],
    )


def _group(row: Json, group: str, by: str, names: Mapping[str, str]) -> str:
    """`names`: of the caller's keys; those of others, and of keys that are gone, go by their id."""
    value = str(row[group])
    if group == "from":
        return value[:10] if "day" in by else when(value)
    if group == "key" and value in names:
        return f"{escape(names[value])} [dim]{value}[/]"
    return escape(value)


def _counts(row: Mapping[str, float], shown: Iterable[str]) -> list[str]:
    return [_count(name, row[name]) for name in shown]


def _count(name: str, number: float) -> str:
    if name == "pixels":
        return short(int(number))
    return f"{number:,.1f}" if name == "audio_s" else f"{number:,}"
