"""`modelry models`: what can be deployed."""

from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import AsJson, print_table, shown_errors, size


def register(app: typer.Typer) -> None:
    app.command("models")(models)


def models(
    json_flag: AsJson = False,
    task: Annotated[str | None, typer.Option(help="Only models that do this.")] = None,
) -> None:
    """List the models that can be deployed."""
    with shown_errors(), open_client() as client:
        found = client.list("/models")
    if task is not None:
        found = [model for model in found if task in model["tasks"]]
    rows = [
        [
            escape(model["name"] if model["owner"] else model["id"]),
            escape(", ".join(model["tasks"])),
            size(model["variants"][0]["size_bytes"]),
            "yes" if model["variants"][0]["weights"] == "here" else "no",
            escape(model["licence"] or "-"),
        ]
        for model in found
    ]
    print_table(
        ["MODEL", "TASKS", "SIZE", "FETCHED", "LICENCE"],
        rows,
        "There are no such models.",
        as_json=found,
        json_flag=json_flag,
    )
