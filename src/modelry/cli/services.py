"""Commands on services: list, show, logs, start, stop, delete, chat."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import (
    AsJson,
    err,
    out,
    print_json,
    print_table,
    shown_errors,
    size,
    state_text,
    when,
)
from modelry.cli.progress import await_running
from modelry.client import Client, Json, part
from modelry.errors import ModelryError

Name = Annotated[str, typer.Argument(help="The service's name, or its id.", show_default=False)]
_CHAT_KEY_LIFE = timedelta(hours=12)

_TOKENLESS = frozenset({"image", "speech", "transcription"})
"""Tasks of models that have no context of tokens to speak of."""


def register(app: typer.Typer) -> None:
    for command in (list_services, show, logs, start, stop, delete, chat):
        name = "list" if command is list_services else command.__name__
        app.command(name)(command)


def list_services(json_flag: AsJson = False) -> None:
    """List your services."""
    with shown_errors(), open_client() as client:
        services = client.list("/services")
    rows = [
        [
            escape(service["name"]),
            state_text(service["status"]["state"]),
            escape(service["access_path"]),
            escape(service["model"] or "elsewhere"),
            _replicas(service),
        ]
        for service in services
    ]
    print_table(
        ["NAME", "STATE", "ACCESS PATH", "MODEL", "REPLICAS"],
        rows,
        "You have no services yet. `modelry deploy MODEL` makes one.",
        as_json=services,
        json_flag=json_flag,
        spare=["REPLICAS", "MODEL"],
    )


def show(name: Name, json_flag: AsJson = False) -> None:
    """Show a service: its state and why, its replicas and latest events."""
    with shown_errors(), open_client() as client:
        service = client.get(f"/services/{part(name)}")
        events = client.list(f"/services/{part(name)}/events")[-10:]
    if json_flag:
        print_json(service)
        return
    status = service["status"]
    out.print(f"[bold]{escape(service['name'])}[/]  {state_text(status['state'])}")
    out.print(f"  {escape(status['message'])}", soft_wrap=True)
    facts = {
        "access path": service["access_path"],
        "id": service["id"],
        "tasks": ", ".join(service["tasks"]),
        **(_elsewhere(service) if "endpoints" in service["spec"] else _ours(service)),
        "revision": str(service["revision"]),
        "created": when(service["created_at"]),
    }
    for label, value in facts.items():
        out.print(f"  [dim]{label:<12}[/] {escape(value)}", soft_wrap=True)
    for part_ in service["weights"]:
        commit = f"commit {part_['revision']}, " if part_["revision"] else ""
        told = f"{commit}SHA-256 {part_['sha256']}, {size(part_['size_bytes'])}"
        out.print(f"  [dim]{escape(part_['what']):<12}[/] {escape(told)}", soft_wrap=True)
    for replica in status["replicas"]:
        memory = size(replica["memory_bytes"])
        where = replica["node"] or "-"
        line = f"  {replica['id']}  {state_text(replica['state'])}  {escape(where)}  {memory}"
        out.print(line, soft_wrap=True)
    out.print()
    for event in events:
        who = f" {event['replica']}" if event["replica"] else ""
        line = f"  [dim]{when(event['at'])}[/]{who} {state_text(event['state'])} "
        out.print(line + escape(event["message"]), soft_wrap=True)


def _ours(service: Json) -> dict[str, str]:
    spec = service["spec"]
    idle_after_s = spec["idle_after_s"]
    reads = not _TOKENLESS.issuperset(service["tasks"])
    converted = spec["quantisation"] or "as precise as they are"
    more = {
        "adapter": spec["adapter_name"],
        "runs on": spec["host"] and f"the replicas of {spec['host']}",
        "weights": spec["gguf_converter"] and f"converted to GGUF, {converted}",
        "GPUs": spec["gpus"] and str(spec["gpus"]),
    }
    return {
        "model": service["model"],
        **{label: value for label, value in more.items() if value},
        "engine": spec["runtime"] or spec["engine"],
        "slots": f"{spec['slots']} of {spec['context_tokens']} tokens"
        if reads
        else str(spec["slots"]),
        "idle after": "never" if idle_after_s is None else f"{idle_after_s:.12g} s without a call",
    }


def _elsewhere(service: Json) -> dict[str, str]:
    spec = service["spec"]
    facts = {"slots": f"{spec['slots']} an endpoint"}
    for number, endpoint in enumerate(spec["endpoints"], start=1):
        model = endpoint["model"] or "(the access path)"
        key = f", key {endpoint['api_key']}" if endpoint["api_key"] is not None else ""
        facts[f"endpoint {number}"] = (
            f"{endpoint['url']}, model {model}, weight {endpoint['weight']}{key}"
        )
    return facts


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    replica: Annotated[str | None, typer.Option(help="One replica's; else the newest's.")] = None,
    tail: Annotated[int, typer.Option(min=0, max=10_000, help="How many lines back.")] = 200,
    json_flag: AsJson = False,
) -> None:
    """Print a service's log."""
    with shown_errors(), open_client() as client:
        path = f"/services/{part(name)}/logs"
        for line in client.lines(path, follow=follow, replica=replica, tail=tail):
            text = json.dumps({"line": line}, ensure_ascii=False) if json_flag else line
            print(text, flush=True)


def start(
    name: Name,
    wait: Annotated[bool, typer.Option(help="Wait until it runs.")] = True,
    json_flag: AsJson = False,
) -> None:
    """Start a stopped, failed or idle service."""
    with shown_errors(), open_client() as client:
        service = client.post(f"/services/{part(name)}/start")
        if wait:
            service = await_running(client, service)
        _print_done(service, "runs" if wait else "is starting", json_flag)


def stop(name: Name, json_flag: AsJson = False) -> None:
    """Stop a service: its requests finish, its replicas end, its name and keys stay."""
    with shown_errors(), open_client() as client:
        _print_done(client.post(f"/services/{part(name)}/stop"), "is stopped", json_flag)


def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json_flag: AsJson = False,
) -> None:
    """Delete a service: its requests finish, then it is gone."""
    with shown_errors(), open_client() as client:
        # A script means what it says, as with other tools of this kind.
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Delete service {name}?", abort=True, err=True)
        _print_done(client.delete(f"/services/{part(name)}"), "is being deleted", json_flag)


def chat(
    name: Name,
    message: Annotated[
        str | None, typer.Argument(help="One message; without it, a conversation.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    json_flag: AsJson = False,
) -> None:
    """Chat with a service; its answer streams into the terminal. Piped text is one message."""
    with shown_errors(), open_client() as client:
        if json_flag and message is None:
            raise ModelryError("--json needs a message", hint="modelry chat NAME MESSAGE --json")
        service = client.get(f"/services/{part(name)}")
        options: Json = {"model": service["access_path"]}
        if temperature is not None:
            options["temperature"] = temperature
        if max_tokens is not None:
            options["max_tokens"] = max_tokens
        messages: list[Json] = [] if system is None else [{"role": "system", "content": system}]
        key_id, key = _chat_key(client, service)
        try:
            if message is not None:
                answer = _turn(client, key, options, messages, message, quiet=json_flag)
                if json_flag:
                    print_json(answer)
                return
            if not sys.stdin.isatty():
                _turn(client, key, options, messages, sys.stdin.read().strip())
                return
            err.print(f"[dim]{escape(service['access_path'])} - an empty line or ^D ends.[/]")
            while question := _ask():
                try:
                    _turn(client, key, options, messages, question)
                except KeyboardInterrupt:
                    # It stops the answer, not the conversation.
                    print()
        finally:
            if key_id is not None:
                client.delete(f"/keys/{key_id}")


def _ask() -> str:
    err.print("[bold]>[/] ", end="")
    return sys.stdin.readline().strip()


def _turn(
    client: Client,
    key: str,
    options: Json,
    messages: list[Json],
    question: str,
    *,
    quiet: bool = False,
) -> Json:
    """Ask, write the answer as it comes unless `quiet`, and return it."""
    # What the terminal could not decode must not break the request.
    question = question.encode(errors="replace").decode()
    messages.append({"role": "user", "content": question})
    answer: Json = {"model": options["model"], "content": "", "finish_reason": None}
    for chunk in client.chat(key, {**options, "messages": messages}):
        for choice in chunk.get("choices", ()):
            text = choice["delta"].get("content") or ""
            answer["content"] += text
            answer["finish_reason"] = choice.get("finish_reason") or answer["finish_reason"]
            if not quiet:
                sys.stdout.write(text)
                sys.stdout.flush()
    if not quiet:
        sys.stdout.write("\n")
    messages.append({"role": "assistant", "content": answer["content"]})
    return answer


def _chat_key(client: Client, service: Json) -> tuple[str | None, str]:
    """The caller's own key, or one made for this conversation, with its id."""
    own = os.environ.get("MODELRY_API_KEY")
    if own:
        return None, own
    until = datetime.now(UTC) + _CHAT_KEY_LIFE
    made = client.post(
        "/keys",
        {
            "name": f"modelry chat {service['name']}",
            "services": [service["access_path"]],
            "expires_at": until.isoformat(),
        },
    )
    return made["id"], made["key"]


def _replicas(service: Json) -> str:
    if "endpoints" in service["spec"]:
        return "-"
    if service["spec"]["host"]:
        return "its base's"
    states = [replica["state"] for replica in service["status"]["replicas"]]
    return f"{states.count('ready')}/{service['spec']['replicas']['min']}"


def _print_done(service: Json, what: str, json_flag: bool) -> None:
    if json_flag:
        print_json(service)
    else:
        out.print(f"{escape(service['name'])} {what}")
