"""Commands below `modelry models` that look after weights."""

import sys
import time
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.models import ensure_model, models_app
from modelry.cli.output import AsJson, err, out, print_json, print_table, shown_errors, size
from modelry.cli.progress import LOOK_S, bar
from modelry.client import Client, Json, part
from modelry.errors import ModelryError

Model = Annotated[str, typer.Argument(help="The model's name or id.", show_default=False)]


def register() -> None:
    models_app.command("fetch")(fetch)
    models_app.command("verify")(verify)
    models_app.command("trust")(trust)
    models_app.command("delete")(delete)
    models_app.command("prune")(prune)
    models_app.command("disk")(disk)


def fetch(
    model: Annotated[
        str, typer.Argument(help="A model, or a source such as hf://org/repo.", show_default=False)
    ],
    variant: Annotated[str | None, typer.Option(help="Which one; the first without it.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is here.")] = True,
    json_flag: AsJson = False,
) -> None:
    """Fetch a model's weights before any service needs them. ^C stops what this began."""
    with shown_errors(), open_client() as client:
        if "://" in model:
            model = ensure_model(client, model)
        path = f"/models/{part(model)}"
        before = _variant(client.get(path), variant)
        try:
            found = client.post(f"{path}/fetch", {"variant": variant})
            if wait:
                found = _await_here(client, path, variant)
        except KeyboardInterrupt:
            if before["weights"] != "fetching":
                _stop(client, path, before["name"])
            raise
        if json_flag:
            print_json(found)
            return
        told = _variant(found, variant)
        if told["weights"] == "here":
            out.print(f"{escape(found['name'])} is here, {size(told['size_bytes'])}")
        else:
            out.print(f"{escape(found['name'])} is on its way")
            err.print(f"  see how far it is: modelry models fetch {escape(model)}")


def verify(
    model: Annotated[
        str | None, typer.Argument(help="By default all that you may.", show_default=False)
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Which one; the first without it.")] = None,
    json_flag: AsJson = False,
) -> None:
    """Read weights anew, against their digests: is every file what was fetched?"""
    with shown_errors(), open_client() as client:
        if model is not None:
            chosen = [(model, _variant(client.get(f"/models/{part(model)}"), variant)["name"])]
        else:
            operator = client.get("/me")["operator"]
            chosen = [
                (each["id"], found["name"])
                for each in client.list("/models")
                if operator or each["owner"]
                for found in each["variants"]
            ]
        checks = []
        for name, which in chosen:
            try:
                checks.append({"model": name, **_verified(client, name, which)})
            except ModelryError as error:
                # Of all models, those that are not here have nothing to be read.
                if model is not None or error.code != "weights_absent":
                    raise
    rows = [
        [escape(each["model"]), escape(each["variant"]), each["state"], escape(each["message"])]
        for each in checks
    ]
    columns = ["MODEL", "VARIANT", "FOUND", ""]
    print_table(columns, rows, "No weights are here.", as_json=checks, json_flag=json_flag)
    if any(each["state"] != "whole" for each in checks):
        raise typer.Exit(1)


def _verified(client: Client, model: str, variant: str) -> Json:
    """What a check found, once it is over."""
    path = f"/models/{part(model)}/verify"
    check = client.post(path, {"variant": variant})
    with bar(model) as shown:
        while check["state"] == "checking":
            time.sleep(LOOK_S)
            check = client.get(path, variant=variant)
            shown.show(check["progress"])
    # The names of the services that use it come with the look.
    return client.get(path, variant=variant)


def trust(
    model: Model,
    allow_pickles: Annotated[
        bool | None,
        typer.Option("--allow-pickles/--no-allow-pickles", help="Weights that can run a program."),
    ] = None,
    allow_remote_code: Annotated[
        bool | None,
        typer.Option(
            "--allow-remote-code/--no-allow-remote-code", help="Programs of the model's own."
        ),
    ] = None,
    json_flag: AsJson = False,
) -> None:
    """Allow an own model what can run programs, or no longer; for operators."""
    with shown_errors(), open_client() as client:
        changes = {"allow_pickles": allow_pickles, "allow_remote_code": allow_remote_code}
        given = {name: value for name, value in changes.items() if value is not None}
        if not given:
            raise ModelryError(
                "nothing was said of what it may do", hint="give --allow-pickles or the like"
            )
        found = client.patch(f"/models/{part(model)}/trust", given)
    if json_flag:
        print_json(found)
        return
    variant = found["variants"][0]
    for name in changes:
        out.print(f"{name}: {'yes' if variant[name] else 'no'}")


def delete(
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model of your own that no service uses. Its weights stay until `prune`."""
    with shown_errors(), open_client() as client:
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Delete model {model}?", abort=True, err=True)
        client.delete(f"/models/{part(model)}")
        out.print(f"{escape(model)} is deleted")


def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    json_flag: AsJson = False,
) -> None:
    """Remove weights that no model names any more, for operators."""
    with shown_errors(), open_client() as client:
        pruned = client.post("/weights/prune", {"dry_run": dry_run})
    if json_flag:
        print_json(pruned)
    elif dry_run:
        out.print(f"{size(pruned['freed_bytes'])} in {pruned['files']} files would go")
    else:
        out.print(f"{size(pruned['freed_bytes'])} freed, {pruned['files']} files removed")


def disk(json_flag: AsJson = False) -> None:
    """Show what weights take on disk, for operators."""
    with shown_errors(), open_client() as client:
        found = client.get("/weights")
    rows = [
        [
            escape(each["name"] if each["owner"] else each["model"]),
            escape(each["owner"] or "-"),
            escape(each["variant"]),
            size(each["disk_bytes"]),
        ]
        for each in sorted(found["models"], key=lambda each: -int(each["disk_bytes"]))
    ]
    columns = ["MODEL", "OWNER", "VARIANT", "ON DISK"]
    print_table(columns, rows, "No weights are here.", as_json=found, json_flag=json_flag)
    if not json_flag:
        err.print(
            f"  {size(found['total_bytes'])} in all, {size(found['partial_bytes'])} of it on its"
            f" way, {size(found['unused_bytes'])} to be pruned; {size(found['free_bytes'])} free",
            soft_wrap=True,
        )


def _await_here(client: Client, path: str, variant: str | None) -> Json:
    """The model once its weights are here. Raises `ModelryError` with the reason why not."""
    with bar("weights") as shown:
        while True:
            model = client.get(path)
            found = _variant(model, variant)
            shown.show(found["progress"])
            match found["weights"]:
                case "here":
                    return model
                case "failed":
                    raise ModelryError(f"its weights could not be fetched: {found['message']}")
                case "absent":
                    raise ModelryError(
                        "the fetch was stopped", hint="what it has so far is taken up next time"
                    )
            time.sleep(LOOK_S)


def _stop(client: Client, path: str, variant: str) -> None:
    try:
        client.delete(f"{path}/fetch?variant={part(variant)}")
        err.print("  stopped; what it has so far is taken up next time")
    except ModelryError as error:
        err.print(f"  it goes on: {escape(error.message)}", soft_wrap=True)


def _variant(model: Json, name: str | None) -> Json:
    for variant in model["variants"]:
        if name in (None, variant["name"]):
            return dict(variant)
    raise ModelryError(
        f"{model['name']} has no variant {name!r}",
        hint="it has " + ", ".join(variant["name"] for variant in model["variants"]),
    )
