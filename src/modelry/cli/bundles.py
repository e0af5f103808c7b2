"""`modelry bundle`: models with their weights as one file, for where no network leads."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress, TaskID

from modelry.cli.login import open_client
from modelry.cli.output import AsJson, err, out, print_json, shown_errors, size
from modelry.cli.progress import bytes_bar
from modelry.client import Client, Json
from modelry.errors import ModelryError

app = typer.Typer(no_args_is_help=True, help="Models with their weights, as one file.")

_BLOCK = 256 * 1024


@app.command("export")
def export_bundle(
    models: Annotated[list[str], typer.Argument(help="Names or ids.", show_default=False)],
    file: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)
    ],
) -> None:
    """Write models, whose weights are fetched, into one file."""
    with shown_errors(), open_client() as client:
        if file.exists():
            raise ModelryError(
                f"there is a file {file} already", hint="delete it, or choose another name"
            )
        draft = file.with_name(file.name + ".part")
        try:
            with draft.open("xb") as target:
                length = _download(client, models, target)
            draft.rename(file)
        except FileExistsError:
            raise ModelryError(
                f"{draft} is there: another export may be writing it",
                hint="delete it if none is",
            ) from None
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise ModelryError(f"{file} cannot be written: {error.strerror}") from None
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    out.print(escape(str(file)), soft_wrap=True)
    told = f"{size(length)}; elsewhere: modelry bundle import {file.name}"
    err.print(f"  [dim]{escape(told)}[/]", soft_wrap=True)


@app.command("import")
def import_bundle(
    file: Annotated[Path, typer.Argument(help="What `bundle export` wrote.", show_default=False)],
    json_flag: AsJson = False,
) -> None:
    """Bring a bundle's models in, with their weights; what is here already is passed over."""
    with shown_errors(), open_client() as client:
        try:
            with file.open("rb") as source, bytes_bar() as bar:
                length = os.fstat(source.fileno()).st_size
                task = bar.add_task("importing", total=length)
                blocks = _counted(source, bar, task)
                found: list[Json] = client.send("POST", "/bundles", blocks, length)["data"]
        except OSError as error:
            raise ModelryError(f"{file} cannot be read: {error.strerror}") from None
    if json_flag:
        print_json(found)
        return
    for model in found:
        out.print(escape(model["name"] if model["owner"] else model["id"]), soft_wrap=True)


def _download(client: Client, models: list[str], target: IO[bytes]) -> int:
    """Returns the length. Raises where the answer ends before it."""
    with client.bytes("/bundles", model=models) as (length, blocks), bytes_bar() as bar:
        task = bar.add_task("exporting", total=length)
        for block in blocks:
            target.write(block)
            bar.advance(task, len(block))
        target.flush()
        os.fsync(target.fileno())
    return length


def _counted(source: IO[bytes], bar: Progress, task: TaskID) -> Iterator[bytes]:
    while block := source.read(_BLOCK):
        yield block
        bar.advance(task, len(block))
