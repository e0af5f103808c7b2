"""`modelry models upload`: weights of this machine, brought to a Modelry wherever it is."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress, TaskID

from modelry.cli.login import open_client
from modelry.cli.models import models_app, name_of
from modelry.cli.output import AsJson, err, out, print_json, shown_errors, size
from modelry.cli.progress import bytes_bar
from modelry.client import ApiError, Client, Json, Unreachable, part
from modelry.errors import ModelryError

_PIECE = 32 * 1024 * 1024
_BLOCK = 256 * 1024
_TRIES = 8
_PAUSE_S = 0.5
_PAUSE_MAX_S = 10.0
_PASSING = frozenset({"upload_offset", "upload_busy", "upload_stalled", "unavailable"})
"""Refusals after which it goes on from where the server is."""


@dataclass(frozen=True)
class _Picked:
    """A file of this machine under the name it is to have."""

    name: str
    path: Path
    size_bytes: int
    sha256: str = ""

    def told(self) -> Json:
        told: Json = {"name": self.name, "size_bytes": self.size_bytes}
        return {**told, "sha256": self.sha256} if self.sha256 else told


def register() -> None:
    models_app.command("upload")(upload_model)


def upload_model(
    path: Annotated[Path, typer.Argument(help="A file, or a model's folder.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="By default made from the path.")] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", help="What it does; repeat for more.")
    ] = None,
    json_flag: AsJson = False,
) -> None:
    """Upload a model's weights from this machine; run again, it goes on where it was stopped."""
    with shown_errors(), open_client() as client:
        try:
            model = upload(client, path, name or name_of(f"file:///{path.resolve().name}"), task)
        except KeyboardInterrupt:
            err.print("  stopped; the same command goes on from here", soft_wrap=True)
            raise
        except Unreachable as error:
            raise ModelryError(
                error.message,
                hint=error.hint or "the same command goes on from here",
                code=error.code,
            ) from None
    if json_flag:
        print_json(model)
        return
    (variant,) = model["variants"]
    out.print(escape(model["name"]), soft_wrap=True)
    told = f"{variant['format']}, {size(variant['size_bytes'])}, SHA-256 {variant['sha256']}"
    err.print(f"  [dim]{escape(told)}[/]", soft_wrap=True)
    err.print(f"  deploy it: modelry deploy {model['name']}", soft_wrap=True)


def upload(client: Client, path: Path, name: str, tasks: Sequence[str] | None) -> Json:
    """The model of what lies at `path`."""
    found = _files_of(path)
    offer = [file.told() for file in found]
    wanted = set(client.post("/uploads/choice", {"files": offer})["files"])
    files = [file for file in found if file.name in wanted]
    total = sum(file.size_bytes for file in files)
    with bytes_bar() as bar:
        reading = bar.add_task("reading", total=total)
        files = [_hashed(file, bar, reading) for file in files]
        bar.remove_task(reading)
        state = _under_way(client, name, files) or client.post(
            "/uploads", {"name": name, "tasks": tasks or None, "files": [f.told() for f in files]}
        )
        sending = bar.add_task("uploading", total=total)
        for file in files:
            state = _send(client, state, file, bar, sending)
        bar.update(sending, description="checking")
        return _complete(client, state)


def _files_of(path: Path) -> list[_Picked]:
    try:
        if path.is_file():
            return [_Picked(path.name, path, path.stat().st_size)]
        found = []
        for place in sorted(path.rglob("*")):
            if place.is_file():
                _require_inside(path, place)
                name = place.relative_to(path).as_posix()
                found.append(_Picked(name, place, place.stat().st_size))
    except OSError as error:
        raise ModelryError(f"{error.filename} cannot be read: {error.strerror}") from None
    # `.git` and its like are no part of a model.
    found = [file for file in found if not file.name.startswith(".") and "/." not in file.name]
    if not found:
        raise ModelryError(
            f"there are no files at {path}", hint="name a model's file, or the folder it is in"
        )
    return found


def _require_inside(folder: Path, place: Path) -> None:
    """A folder that somebody else made may have links to any file of whoever uploads it. Those
    of the cache of Hugging Face's library, to `../../blobs`, are meant.
    """
    root, file = folder.resolve(), place.resolve()
    cached = root.parent.name == "snapshots" and file.parent == root.parent.parent / "blobs"
    if not (file.is_relative_to(root) or cached):
        raise ModelryError(
            f"{place} is a link that leads out of the folder, to {file}",
            hint="remove it, or put the file itself there",
        )


def _hashed(file: _Picked, bar: Progress, task: TaskID) -> _Picked:
    digest = hashlib.sha256()
    for block in _blocks(file, 0, file.size_bytes):
        digest.update(block)
        bar.advance(task, len(block))
    return _Picked(file.name, file.path, file.size_bytes, digest.hexdigest())


def _blocks(file: _Picked, start: int, end: int) -> Iterator[bytes]:
    try:
        with file.path.open("rb") as source:
            source.seek(start)
            while start < end:
                block = source.read(min(_BLOCK, end - start))
                if not block:
                    raise ModelryError(
                        f"{file.path} became shorter", hint="start again once it is complete"
                    )
                start += len(block)
                yield block
    except OSError as error:
        raise ModelryError(f"{file.path} cannot be read: {error.strerror}") from None


def _under_way(client: Client, name: str, files: Sequence[_Picked]) -> Json | None:
    """The upload of just these files under that name that an earlier run left."""
    content = {file.name: (file.size_bytes, file.sha256) for file in files}
    for upload in client.list("/uploads"):
        told = {file["name"]: (file["size_bytes"], file["sha256"]) for file in upload["files"]}
        if upload["name"] == name and told == content:
            return upload
    return None


def _send(client: Client, state: Json, file: _Picked, bar: Progress, task: TaskID) -> Json:
    """All of one file that is not there yet; the upload as it then is."""
    id_, failures, before = state["id"], 0, bar.tasks[-1].completed
    while (at := _received(state, file.name)) < file.size_bytes:
        bar.update(task, completed=before + at)
        end = min(at + _PIECE, file.size_bytes)
        try:
            client.send(
                "PUT",
                f"/uploads/{id_}/files/{part(file.name)}",
                _counted(file, at, end, bar, task),
                end - at,
                offset=at,
            )
        except (ApiError, Unreachable) as error:
            if not _passes(error):
                raise
            failures += 1
            if failures >= _TRIES:
                raise
            time.sleep(min(_PAUSE_MAX_S, _PAUSE_S * 2 ** (failures - 1)))
        state = _look(client, id_, state)
        if _received(state, file.name) > at:
            failures = 0
    bar.update(task, completed=before + file.size_bytes)
    return state


def _counted(file: _Picked, start: int, end: int, bar: Progress, task: TaskID) -> Iterator[bytes]:
    for block in _blocks(file, start, end):
        yield block
        bar.advance(task, len(block))


def _look(client: Client, id_: str, last: Json) -> Json:
    """How far the upload is; as far as is known where nobody answers just now."""
    try:
        return client.get(f"/uploads/{id_}")
    except (ApiError, Unreachable) as error:
        if not _passes(error):
            raise
        return last


def _received(state: Json, name: str) -> int:
    return next(int(each["received_bytes"]) for each in state["files"] if each["name"] == name)


def _passes(error: ModelryError) -> bool:
    return isinstance(error, Unreachable) or error.code in _PASSING


def _complete(client: Client, state: Json) -> Json:
    """The model, also where the answer that said so was lost on its way."""
    for number in range(_TRIES):
        try:
            return client.send("POST", f"/uploads/{state['id']}/complete", (), 0)
        except (ApiError, Unreachable) as error:
            if error.code == "upload_not_found" and number:
                return client.get(f"/models/{part(state['name'])}")
            if error.code in ("damaged_weights", "wrong_checksum"):
                # Sending the same bytes again would not help.
                client.delete(f"/uploads/{state['id']}")
            if not _passes(error) or number == _TRIES - 1:
                raise
            time.sleep(min(_PAUSE_MAX_S, _PAUSE_S * 2**number))
    raise AssertionError("the last try raises")
