"""`modelry models`: what can be deployed, and `modelry register`, which adds to it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import AsJson, err, out, print_json, print_table, shown_errors, size
from modelry.client import Client, Json, part
from modelry.errors import InvalidRequest, ModelryError

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
            found = _of_task(found, task)
        problems = _problems(client)
    for problem in problems:
        err.print(f"[yellow]warning:[/] {escape(problem['message'])}", soft_wrap=True)
    rows = [
        [
            escape(model["reference"]),
            escape(", ".join(model["tasks"])),
            _size_text(_chosen(model)),
            _fit_text(model),
            "yes" if _chosen(model)["weights"] == "here" else "no",
            escape(model["licence"] or "-"),
        ]
        for model in found
    ]
    print_table(
        ["MODEL", "TASKS", "SIZE", "FITS", "FETCHED", "LICENCE"],
        rows,
        "There are no such models.",
        as_json=found,
        json_flag=json_flag,
        spare=["LICENCE", "FETCHED", "TASKS"],
    )


Reference = Annotated[
    str, typer.Argument(help="A model of `modelry models`, or its id.", show_default=False)
]


@models_app.command("show")
def show_model(
    model: Reference,
    context_tokens: Annotated[
        int | None, typer.Option(min=64, help="Estimate for so many tokens a request.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="And for so many requests at a time.")
    ] = None,
    json_flag: AsJson = False,
) -> None:
    """Show a model: its licence and source, its variants, and which of them fit here."""
    with shown_errors(), open_client() as client:
        shown = client.get(_path(model), context_tokens=context_tokens, slots=slots)
    if json_flag:
        print_json(shown)
        return
    out.print(f"[bold]{escape(shown['name'])}[/]", soft_wrap=True)
    if shown["description"]:
        out.print(f"  {escape(shown['description'])}", soft_wrap=True)
    owner, seen = shown["owner"], "shared with everyone" if shown["shared"] else "not shared"
    facts = {
        "model": shown["reference"],
        "id": shown["id"],
        "tasks": ", ".join(shown["tasks"]),
        "tags": ", ".join(shown["tags"]),
        "provider": shown["provider"],
        "owner": owner and f"{owner}, {seen}",
        "licence": shown["licence"],
        "homepage": shown["homepage"],
        "parameters": shown["parameters"] and _count(shown["parameters"]),
        "context": shown["context_tokens"] and f"{shown['context_tokens']} tokens",
        "deployable": "yes" if shown["deployable"] else f"no: {shown['reason']}",
    }
    for label, value in facts.items():
        if value:
            out.print(f"  [dim]{label:<12}[/] {escape(value)}", soft_wrap=True)
    out.print()
    for variant in shown["variants"]:
        chosen = variant["default"] and shown["deployable"]
        mark = ", deployed unless another is named" if chosen else ""
        told = [variant["format"], _size_text(variant), f"weights {variant['weights']}"]
        out.print(f"  [bold]{escape(variant['name'])}[/]{mark}")
        out.print(f"    {escape(', '.join(told))}", soft_wrap=True)
        verdict = _VERDICTS[variant["fit"]["verdict"]]
        out.print(f"    {verdict}: {escape(variant['fit']['message'])}", soft_wrap=True)
        if variant["reason"]:
            out.print(f"    not here: {escape(variant['reason'])}", soft_wrap=True)
        out.print(f"    [dim]{escape(variant['source'])}[/]", soft_wrap=True)


@models_app.command("share")
def share(name: Reference, json_flag: AsJson = False) -> None:
    """Let everyone here use a model of your own."""
    _set_shared(name, shared=True, json_flag=json_flag)


@models_app.command("unshare")
def unshare(name: Reference, json_flag: AsJson = False) -> None:
    """Stop sharing a model; services that others made of it go on."""
    _set_shared(name, shared=False, json_flag=json_flag)


def _set_shared(name: str, *, shared: bool, json_flag: bool) -> None:
    with shown_errors(), open_client() as client:
        # Two kinds of reference lead to it; an id serves for the change.
        model = client.get(_path(name))
        model = client.patch(f"/models/{part(model['id'])}", {"shared": shared})
    if json_flag:
        print_json(model)
    elif shared:
        out.print(f"{escape(model['name'])} is shared with everyone here")
        err.print(f"  others call it {escape(model['owner'])}/{escape(model['name'])}")
    else:
        out.print(f"{escape(model['name'])} is no longer shared")


def warn_of_size(client: Client, spec: Json) -> None:
    """Say so where a service may be too large for where it runs; it is tried all the same."""
    model = client.get(
        f"/models/{part(spec['model'])}",
        context_tokens=spec["context_tokens"],
        slots=spec["slots"],
    )
    for variant in model["variants"]:
        if variant["name"] == spec["variant"] and variant["fit"]["verdict"] in _WARNED:
            told = f"{model['name']} ({variant['name']}) {variant['fit']['message']}"
            err.print(f"[yellow]warning:[/] {escape(told)}", soft_wrap=True)


_WARNED = ("tight", "too_large")
_VERDICTS = {
    "fits": "[green]fits[/]",
    "tight": "[yellow]tight[/]",
    "too_large": "[red]too large[/]",
    "unknown": "unknown",
}


def _of_task(models: list[Json], task: str) -> list[Json]:
    """Raises `InvalidRequest` where there are none."""
    found = [model for model in models if task in model["tasks"]]
    if models and not found:
        known = ", ".join(sorted({each for model in models for each in model["tasks"]}))
        raise InvalidRequest(f"no model does {task!r}", hint=f"models here do {known}")
    return found


def _chosen(model: Json) -> Json:
    return next(variant for variant in model["variants"] if variant["default"])


def _size_text(variant: Json) -> str:
    about = variant["estimated_bytes"]
    return size(variant["size_bytes"]) if about is None else f"~{size(about)}"


def _fit_text(model: Json) -> str:
    if not model["deployable"]:
        return "[dim]not here[/]"
    return _VERDICTS[_chosen(model)["fit"]["verdict"]]


def _path(reference: str) -> str:
    """Of a model: `owner/name` are two parts."""
    return "/models/" + "/".join(part(each) for each in reference.split("/"))


def _count(number: int) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)


def _problems(client: Client) -> list[Json]:
    """The faults of cards, which only operators may see."""
    try:
        return client.list("/catalog/problems")
    except ModelryError as error:
        if error.code != "permission_denied":
            raise
        return []


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


@contextmanager
def models_for(client: Client, *references: str | None) -> Iterator[list[str | None]]:
    """The models' names, of sources registered where they were not yet. Where the block fails,
    what it registered is taken back.
    """
    made: list[str] = []
    names: list[str | None] = []
    try:
        for reference in references:
            if reference is None or "://" not in reference:
                names.append(reference)
                continue
            name = ensure_model(client, reference, made)
            names.append(name)
        yield names
    except ModelryError:
        for name in made:
            with suppress(ModelryError):
                client.delete(f"/models/{part(name)}")
        raise


def ensure_model(client: Client, source: str, made: list[str] | None = None) -> str:
    """The name of the model of this source, registered where it was not yet: then it is added to
    `made`.
    """
    name = name_of(source)
    try:
        client.post("/models", {"name": name, "source": source})
        if made is not None:
            made.append(name)
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
