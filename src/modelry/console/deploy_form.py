"""The deploy form: what somebody typed, and the service that it asks for."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, QueryParams

from modelry.catalog.choice import Wanted
from modelry.errors import InvalidRequest
from modelry.services.requests import NewService

FIELDS = (
    "name", "model", "variant", "engine", "quantisation", "adapter", "replicas",
    "slots", "context_tokens", "idle_after_s", "gpus", "engine_args", "engine_env",
)  # fmt: skip
ENDPOINT_FIELDS = ("url", "api_key", "model", "weight")
PLACES = {"runtime": "engine", "replicas.min": "replicas", "replicas.max": "replicas"}
"""Parameters that another field of the form stands for."""
IDLE_CHOICES = (60, 300, 900, 3600, 14400, 86400)
NEVER = "never"
ENDPOINTS_MOST = 16
_LONGEST = 20_000


@dataclass(frozen=True)
class Typed:
    """As it was typed, spaces at the ends left out. `endpoints`: the fields of each; the keys
    are told on, and never shown again.
    """

    fields: Mapping[str, str]
    tasks: Sequence[str] = ()
    endpoints: Sequence[Mapping[str, str]] = ()

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")

    def number(self, name: str, low: int, high: int) -> int | None:
        """What is typed there, where it is such a number."""
        text = self[name]
        number = int(text) if text.isdecimal() and len(text) < 12 else None
        return number if number is not None and low <= number <= high else None

    @property
    def wanted(self) -> Wanted:
        """The engine, and the runtime behind a slash where one of several was chosen."""
        engine, _, runtime = self["engine"].partition("/")
        return Wanted(engine or None, runtime or None)


def typed(given: FormData | QueryParams) -> Typed:
    fields = {name: str(given.get(name) or "").strip()[:_LONGEST] for name in FIELDS}
    columns = [
        [str(value).strip() for value in given.getlist(f"endpoint_{name}")]
        for name in ENDPOINT_FIELDS
    ]
    rows = [dict(zip(ENDPOINT_FIELDS, row, strict=True)) for row in zip(*columns, strict=False)]
    # A row in which nothing is typed is none.
    rows = [row for row in rows if row["url"] or row["api_key"] or row["model"]]
    tasks = [str(task) for task in given.getlist("tasks")]
    return Typed(fields, tasks, rows[: ENDPOINTS_MOST + 1])


def of_model(form: Typed) -> NewService:
    """A service of a model. Raises `ValidationError` or `InvalidRequest`."""
    given: dict[str, Any] = {
        name: form[name]
        for name in ("model", "variant", "quantisation", "adapter", "slots", "context_tokens")
        if form[name]
    }
    given["name"] = form["name"]
    if form["gpus"]:
        given["gpus"] = form["gpus"]
    if form.wanted.engine:
        given["engine"] = form.wanted.engine
    if form.wanted.runtime:
        given["runtime"] = form.wanted.runtime
    if form["replicas"]:
        given["replicas"] = {"min": form["replicas"]}
    if form["idle_after_s"]:
        given["idle_after_s"] = idle_of(form["idle_after_s"])
    given["engine_args"] = arguments_of(form["engine_args"])
    given["engine_env"] = environment_of(form["engine_env"])
    return NewService.model_validate(given)


def of_endpoints(form: Typed) -> NewService:
    """A service on endpoints elsewhere. Raises `ValidationError`."""
    given: dict[str, Any] = {
        "name": form["name"],
        "endpoint": [
            {name: value for name, value in row.items() if value} for row in form.endpoints
        ]
        or [{"url": ""}],
    }
    if form.tasks:
        given["tasks"] = list(form.tasks)
    if form["slots"]:
        given["slots"] = form["slots"]
    return NewService.model_validate(given)


def idle_of(text: str) -> float | str | None:
    """Seconds, None for never, or what is no number, for the field's rule to refuse."""
    if text == NEVER:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def arguments_of(text: str) -> list[str]:
    """As a shell takes them apart. Raises `InvalidRequest`."""
    try:
        return shlex.split(text)
    except ValueError:
        raise InvalidRequest(
            "engine_args: a quotation mark has no other", param="engine_args"
        ) from None


def environment_of(text: str) -> dict[str, str]:
    """A variable a line. Raises `InvalidRequest`."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, given, value = line.strip().partition("=")
        if not name and not given:
            continue
        if not given or not name:
            raise InvalidRequest(
                f"engine_env: {name or line!r} has no value",
                hint="write NAME=value, a variable on each line",
                param="engine_env",
            )
        found[name] = value
    return found
