"""Commands that make a service of a model, and that change one: deploy, update."""

from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.models import models_for, warn_of_size
from modelry.cli.output import AsJson, err, out, print_json, shown_errors
from modelry.cli.progress import await_change, await_running
from modelry.client import Client, Json, part
from modelry.errors import ModelryError

Variant = Annotated[
    str | None,
    typer.Option(help="Of the model's, as `modelry models show` names them; else the best."),
]
Adapter = Annotated[
    str | None,
    typer.Option(help="LoRA weights for it: a model of yours, or a source to register."),
]
Engine = Annotated[str | None, typer.Option(help="An engine of `modelry engines list`.")]
Runtime = Annotated[str | None, typer.Option(help="A version of the engine.")]
Quantisation = Annotated[
    str | None, typer.Option(help="F32, F16, BF16 or Q8_0, where weights are converted.")
]
Gpus = Annotated[int | None, typer.Option(min=0, help="GPUs of each replica.")]
EngineArg = Annotated[
    list[str] | None,
    typer.Option(help="An argument for the engine, like --seed=1; repeat for more."),
]
EngineEnv = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE for the engine; repeat for more.")
]
Replicas = Annotated[int | None, typer.Option(min=1, help="How many replicas run.")]
Slots = Annotated[int | None, typer.Option(min=1, help="Requests a replica works on at a time.")]
ContextTokens = Annotated[int | None, typer.Option(min=64, help="Tokens one request may use.")]
IdleAfter = Annotated[
    float | None,
    typer.Option(min=1, help="End its replicas after so many seconds without a call."),
]

_RESETTABLE = (
    *("variant", "adapter", "engine", "runtime", "quantisation", "gpus", "engine-args"),
    *("engine-env", "replicas", "slots", "context-tokens", "idle-after-s"),
)


def register(app: typer.Typer) -> None:
    app.command()(deploy)
    app.command()(update)


def deploy(
    model: Annotated[
        str, typer.Argument(help="A model of `modelry models`, or a source such as hf://org/repo.")
    ],
    name: Annotated[
        str | None, typer.Option(help="The service's name; by default made from the model's.")
    ] = None,
    variant: Variant = None,
    adapter: Adapter = None,
    engine: Engine = None,
    runtime: Runtime = None,
    quantisation: Quantisation = None,
    gpus: Gpus = None,
    engine_arg: EngineArg = None,
    engine_env: EngineEnv = None,
    replicas: Replicas = None,
    slots: Slots = None,
    context_tokens: ContextTokens = None,
    idle_after_s: IdleAfter = None,
    wait: Annotated[bool, typer.Option(help="Wait until it runs.")] = True,
    json_flag: AsJson = False,
) -> None:
    """Make a model callable: create a service and wait until it runs."""
    with shown_errors(), open_client() as client:
        wish = {
            **_sizes(gpus, replicas, slots, context_tokens, idle_after_s),
            "variant": variant,
            "engine": engine,
            "runtime": runtime,
            "quantisation": quantisation,
            "engine_args": engine_arg or None,
            "engine_env": _variables(engine_env) or None,
        }
        with models_for(client, model, adapter) as (base, tuned):
            named = name or _name_from(tuned or base or model)
            body = {"name": named, "model": base, "adapter": tuned, **wish}
            service = client.post("/services", body)
        warn_of_size(client, service["spec"])
        if wait:
            service = await_running(client, service)
        if json_flag:
            print_json(service)
        else:
            out.print(f"[bold]{escape(service['access_path'])}[/]", soft_wrap=True)
            _tell_how_to_call(client, service)


def _tell_how_to_call(client: Client, service: Json) -> None:
    if "chat" in service["tasks"]:
        err.print(f"  try it: modelry chat {service['name']}", soft_wrap=True)
        return
    found = client.list(f"/services/{service['name']}/examples", language="curl")
    if found:
        err.print("  try it, with an API key in MODELRY_API_KEY:\n")
        err.print(escape(str(found[0]["code"])), soft_wrap=True)


def _variables(given: list[str] | None) -> dict[str, str]:
    for each in given or ():
        if "=" not in each:
            raise ModelryError(f"--engine-env {each!r} has no value", hint="write NAME=VALUE")
    return dict(each.split("=", 1) for each in given or ())


def update(
    name: Annotated[str, typer.Argument(help="The service's name, or its id.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="Another model, or a source such as hf://org/repo.")
    ] = None,
    variant: Variant = None,
    adapter: Adapter = None,
    engine: Engine = None,
    runtime: Runtime = None,
    quantisation: Quantisation = None,
    gpus: Gpus = None,
    engine_arg: EngineArg = None,
    engine_env: EngineEnv = None,
    replicas: Replicas = None,
    slots: Slots = None,
    context_tokens: ContextTokens = None,
    idle_after_s: IdleAfter = None,
    reset: Annotated[
        list[str] | None,
        typer.Option(help="An option above to take back, like idle-after-s; repeat for more."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until the change has taken over.")] = True,
    json_flag: AsJson = False,
) -> None:
    """Change a service: what is not named stays, and no request is dropped."""
    with shown_errors(), open_client() as client:
        changes: Json = {
            **_sizes(gpus, replicas, slots, context_tokens, idle_after_s),
            "variant": variant,
            "engine": engine,
            "runtime": runtime,
            "quantisation": quantisation,
            "engine_args": engine_arg or None,
            "engine_env": _variables(engine_env) or None,
        }
        path = f"/services/{part(name)}"
        with models_for(client, model, adapter) as (base, tuned):
            changes = {**changes, "model": base, "adapter": tuned}
            changes = {field: value for field, value in changes.items() if value is not None}
            taken_back = _resets(reset, changes)
            if not changes and not taken_back:
                raise ModelryError(
                    "nothing to change", hint="modelry update --help lists what can be changed"
                )
            before = client.get(path)["revision"]
            service = client.patch(path, {**changes, **taken_back})
        if "model" in service["spec"]:
            warn_of_size(client, service["spec"])
        if wait:
            service = await_change(client, service)
        if json_flag:
            print_json(service)
        elif service["revision"] == before:
            out.print(f"{escape(service['name'])} is as it was")
        else:
            what = "runs" if service["status"]["state"] == "running" else "is at"
            out.print(f"{escape(service['name'])} {what} revision {service['revision']}")


def _resets(reset: list[str] | None, changes: Json) -> Json:
    """The fields that are taken back."""
    for each in reset or ():
        if each not in _RESETTABLE:
            raise ModelryError(
                f"--reset {each!r} is none of its options",
                hint="there are: " + ", ".join(_RESETTABLE),
            )
        if each.replace("-", "_") in changes:
            raise ModelryError(f"--reset {each} and a value for it do not go together")
    return {each.replace("-", "_"): None for each in reset or ()}


def _sizes(
    gpus: int | None,
    replicas: int | None,
    slots: int | None,
    context_tokens: int | None,
    idle_after_s: float | None,
) -> Json:
    return {
        "gpus": gpus,
        "replicas": {"min": replicas, "max": replicas} if replicas else None,
        "slots": slots,
        "context_tokens": context_tokens,
        "idle_after_s": idle_after_s,
    }


def _name_from(model: str) -> str:
    """A service name that a model's id suggests: `smollm2-135m-instruct` as it is."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in model.lower())
    return kept.strip("-")[:64]
