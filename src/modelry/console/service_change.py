"""A service's settings as a form: what it has now, and the change that somebody typed asks for."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.datastructures import FormData

from modelry.console.deploy_form import (
    ENDPOINT_FIELDS,
    NEVER,
    Typed,
    arguments_of,
    environment_of,
    idle_of,
)
from modelry.services.requests import ServiceUpdate
from modelry.services.spec import ServiceSpec
from modelry.services.views import EndpointsView

TOLD = ("variant", "engine", "replicas", "slots", "context_tokens")
"""Fields that decide what is told of the memory it takes."""
_PLAIN = ("variant", "quantisation", "adapter", "gpus", "slots", "context_tokens")


def present(spec: ServiceSpec, engines: Sequence[tuple[str, str]]) -> Typed:
    """The form of a service as it is. `engines`: what the form offers, each with its value."""
    pinned = f"{spec.engine}/{spec.runtime}"
    offered = {value for value, _ in engines}
    fields = {
        "model": spec.model_name,
        "variant": spec.variant,
        "engine": pinned if pinned in offered else spec.engine,
        "quantisation": spec.quantisation or "",
        "adapter": spec.adapter_name or "",
        "replicas": str(spec.replicas.min),
        "slots": str(spec.slots),
        "context_tokens": str(spec.context_tokens),
        "idle_after_s": NEVER if spec.idle_after_s is None else f"{spec.idle_after_s:.12g}",
        "gpus": str(spec.gpus or ""),
        "engine_args": shlex.join(spec.engine_args),
        "engine_env": "\n".join(f"{name}={value}" for name, value in spec.engine_env.items()),
    }
    return Typed(fields)


def overlaid(before: Typed, given: Typed, names: Sequence[str]) -> Typed:
    """The form with these fields as they are typed now."""
    return replace(before, fields={**before.fields, **{name: given[name] for name in names}})


def of_replicas(before: Typed, form: Typed) -> ServiceUpdate:
    """What is typed otherwise than it was. A field that was emptied gives the choice back.

    Raises `ValidationError` or `InvalidRequest`.
    """
    changed = {name for name in before.fields if form[name] != before[name]}
    given: dict[str, Any] = {name: form[name] or None for name in _PLAIN if name in changed}
    if "engine" in changed:
        given["engine"], given["runtime"] = form.wanted.engine, form.wanted.runtime
    if "replicas" in changed:
        given["replicas"] = {"min": form["replicas"]} if form["replicas"] else None
    if "idle_after_s" in changed:
        given["idle_after_s"] = idle_of(form["idle_after_s"]) if form["idle_after_s"] else None
    if "engine_args" in changed:
        given["engine_args"] = arguments_of(form["engine_args"])
    if "engine_env" in changed:
        given["engine_env"] = environment_of(form["engine_env"])
    return ServiceUpdate.model_validate(given)


def present_endpoints(spec: EndpointsView, tasks: Sequence[str]) -> Typed:
    rows = [
        {
            "id": endpoint.id,
            "url": endpoint.url,
            "model": endpoint.model or "",
            "api_key": "",
            "weight": str(endpoint.weight),
            "kept_key": endpoint.api_key or "",
        }
        for endpoint in spec.endpoints
    ]
    return Typed({"slots": str(spec.slots)}, tasks=tasks, endpoints=rows)


def typed_endpoints(given: FormData, before: Typed) -> Typed:
    """The rows of the form, each with the id of the endpoint that it was, where it was one."""
    names = ("id", *ENDPOINT_FIELDS)
    columns = [[str(text).strip() for text in given.getlist(f"endpoint_{name}")] for name in names]
    kept = {row["id"]: row["kept_key"] for row in before.endpoints}
    rows = [
        {**row, "kept_key": kept.get(row["id"], "")}
        for values in zip(*columns, strict=False)
        if any((row := dict(zip(names, values, strict=True)))[name] for name in ENDPOINT_FIELDS)
    ]
    tasks = [str(task) for task in given.getlist("tasks")]
    return Typed({"slots": str(given.get("slots") or "").strip()}, tasks=tasks, endpoints=rows)


def of_endpoints(before: Typed, form: Typed) -> ServiceUpdate:
    """The same of a service on endpoints elsewhere: all that it is to stand on.

    Raises `ValidationError`.
    """
    given: dict[str, Any] = {
        "endpoint": [_endpoint(row) for row in form.endpoints] or [{"url": ""}],
        "tasks": list(form.tasks),
    }
    if form["slots"] != before["slots"]:
        given["slots"] = form["slots"] or None
    return ServiceUpdate.model_validate(given)


def _endpoint(row: Mapping[str, str]) -> dict[str, Any]:
    """A key that is left empty stays; every other field is as it is typed."""
    given: dict[str, Any] = {"url": row["url"], "model": row["model"] or None}
    given["weight"] = row["weight"] or 1
    if row["id"]:
        given["id"] = row["id"]
    if row["api_key"]:
        given["api_key"] = row["api_key"]
    return given
