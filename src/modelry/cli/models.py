"""`modelry models`: what can be deployed, and `modelry register`, which adds to it."""

import re
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import AsJson, err, out, print_json, print_table, shown_errors, size
from modelry.client import Client, Json, part
from modelry.errors import ModelryError

models_app = typer.Typer(invoke_without_command=True)


def register(app: typer.Typer) -> None:
    app.add_typer(models_app, name="models")
    app.command("register")(register_model)


@models_app.callback()
def models(
    context: typer.Context,
    json_flag: AsJson = False,
    task: Annotated[str | None, typer.Option(help="Only models that do this.")] = None,
) -> None:
    """List the models that can be deployed; the commands below look after their weights."""
    if context.invoked_subcommand is not None:
        return
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


def register_model(
    source: Annotated[
        str,
        typer.Argument(
            help="hf://org/repo/file, modelscope://…, https://…, s3://…, pypi://… or file:///path.",
            show_default=False,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="By default made from the source.")] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", help="What it does; repeat for more.")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy a file:// source into the store.")
    ] = False,
    allow_pickles: Annotated[
        bool, typer.Option("--allow-pickles", help="Weights that can run a program; operators.")
    ] = False,
    allow_remote_code: Annotated[
        bool, typer.Option("--allow-remote-code", help="Programs of its own may run; operators.")
    ] = False,
    json_flag: AsJson = False,
) -> None:
    """Register a model of your own, from wherever its weights are."""
    with shown_errors(), open_client() as client:
        body: Json = {"name": name or name_of(source), "source": source}
        if task:
            body["tasks"] = task
        flags = {
            "copy": copy,
            "allow_pickles": allow_pickles,
            "allow_remote_code": allow_remote_code,
        }
        body.update({name: True for name, given in flags.items() if given})
        model = client.post("/models", body)
    if json_flag:
        print_json(model)
        return
    (variant,) = model["variants"]
    out.print(escape(model["name"]), soft_wrap=True)
    told = f"{variant['format']}, {size(variant['size_bytes'])}, {variant['source']}"
    err.print(f"  [dim]{escape(told)}[/]", soft_wrap=True)
    err.print(f"  deploy it: modelry deploy {model['name']}", soft_wrap=True)


def ensure_model(client: Client, source: str) -> str:
    """The name of the model of this source, registered where it was not yet."""
    name = name_of(source)
    try:
        client.post("/models", {"name": name, "source": source})
    except ModelryError as error:
        if error.code != "model_name_taken":
            raise
        known = client.get(f"/models/{part(name)}")["variants"][0]["source"]
        if _unpinned(known) != _unpinned(source):
            raise ModelryError(
                f"there is a model {name!r} already, from {known}",
                hint=f"register this one by another name: modelry register {source} --name NAME",
            ) from None
    return name


def name_of(source: str) -> str:
    """A model's name made from where it comes from: the file's, or the repository's."""
    path = source.partition("://")[2].partition("?")[0].rstrip("/")
    last = path.rpartition("/")[2].partition("@")[0]
    stem = re.sub(r"\.(gguf|safetensors|onnx|bin)$", "", last, flags=re.IGNORECASE)
    name = re.sub(r"[^a-z0-9.]+", "-", stem.lower()).strip("-.")[:64].strip("-.")
    return name or "model"


def _unpinned(source: str) -> str:
    """Of a hub's address, without the commit."""
    return re.sub(r"^((?:hf|modelscope)://[^/@]+/[^/@]+)@[0-9a-f]{40}(?=/|$)", r"\1", source)
