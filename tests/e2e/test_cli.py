"""The command line against a running instance, as people and as scripts use it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.calls import ask
from tests.support.instance import ADMIN_TOKEN, MODEL, Instance
from tests.support.users import add_user
from tests.support.waiting import wait_for


def told(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that went well printed."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def parsed(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(told(done))


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line by which a command that failed said why."""
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_service_lives_and_ends_by_commands(shared: Instance) -> None:
    path = told(shared.cli("deploy", MODEL, "--name", "mine")).strip()
    assert path.endswith("/mine")
    (listed,) = [line for line in told(shared.cli("list")).splitlines() if path in line]
    assert listed.split()[:2] == ["mine", "running"]
    assert "1/1" in listed

    shown = told(shared.cli("show", "mine"))
    assert path in shown
    assert "ready" in shown
    assert "the engine answers" in shown
    assert "ready on" in told(shared.cli("logs", "mine"))

    assert told(shared.cli("chat", "mine", "Say hi", "--max-tokens", "8")).strip()
    assert "mine is stopped" in told(shared.cli("stop", "mine"))
    assert "stopped" in refusal(shared.cli("chat", "mine", "Say hi"))
    assert "mine runs" in told(shared.cli("start", "mine"))
    assert "mine is being deleted" in told(shared.cli("delete", "mine", "--yes"))
    # Its name is free again at once or after a moment: nothing of it serves here.
    assert "mine" not in [line.split()[0] for line in told(shared.cli("list")).splitlines()[1:]]


def test_every_step_prints_json_for_scripts(shared: Instance) -> None:
    made = parsed(shared.cli("deploy", MODEL, "--name", "scripted", "--slots", "2", "--json"))
    assert made["status"]["state"] == "running"
    assert made["spec"]["slots"] == 2
    id_ = made["id"]

    listed = parsed(shared.cli("list", "--json"))
    assert id_ in [service["id"] for service in listed]
    assert parsed(shared.cli("show", id_, "--json"))["name"] == "scripted"
    assert parsed(shared.cli("stop", "scripted", "--json"))["status"]["state"] == "stopped"
    assert parsed(shared.cli("start", "scripted", "--json"))["status"]["state"] == "running"
    assert parsed(shared.cli("delete", "scripted", "--json"))["status"]["state"] == "deleting"


def test_models_are_listed(shared: Instance) -> None:
    (line,) = [line for line in told(shared.cli("models")).splitlines() if MODEL in line]
    assert "chat" in line
    assert "98.4 MB" in line
    assert "yes" in line
    (model,) = [each for each in parsed(shared.cli("models", "--json")) if each["id"] == MODEL]
    assert model["variants"][0]["weights"] == "here"


def test_a_key_made_by_a_command_calls_the_service(shared: Instance) -> None:
    made = shared.cli("keys", "create", "printed", "--expires-in-days", "1")
    key = told(made).strip()
    assert key.startswith("sk-")
    assert "not shown again" in made.stderr
    chat = shared.cli(
        *("chat", "demo", "Say hi", "--max-tokens", "4"), env={"MODELRY_API_KEY": key}
    )
    assert told(chat).strip()

    listed = told(shared.cli("keys", "list"))
    assert key not in listed
    assert f"sk-…{key[-4:]}" in listed
    (row,) = [
        row for row in parsed(shared.cli("keys", "list", "--json")) if row["name"] == "printed"
    ]
    assert "is revoked" in told(shared.cli("keys", "delete", row["id"]))
    assert "not valid" in refusal(
        shared.cli("chat", "demo", "Say hi", env={"MODELRY_API_KEY": key})
    )
    assert "no key" in refusal(shared.cli("keys", "delete", row["id"]))


def test_a_key_for_one_service_is_made_as_json(shared: Instance, demo_path: str) -> None:
    made = parsed(shared.cli("keys", "create", "narrow", "--service", demo_path, "--json"))
    assert made["services"] == [demo_path]
    assert made["key"].startswith("sk-")
    assert told(shared.cli("keys", "delete", made["id"]))


def test_an_access_token_is_made_used_and_deleted(shared: Instance) -> None:
    made = shared.cli("tokens", "create", "of [b]a[/b] script", "--expires-in-days", "1")
    token = told(made).strip()
    assert token.startswith("pat-")
    assert "not shown again" in made.stderr
    as_it = {"MODELRY_TOKEN": token}
    (row,) = [
        row
        for row in parsed(shared.cli("tokens", "list", "--json", env=as_it))
        if row["name"] == "of [b]a[/b] script"
    ]
    listed = told(shared.cli("tokens", "list"))
    (line,) = [line for line in listed.splitlines() if row["id"] in line]
    assert f"pat-…{token[-4:]}" in line
    assert row["name"] in line
    assert "you" in line
    assert token not in listed
    assert "is deleted" in told(shared.cli("tokens", "delete", row["id"]))
    assert "not valid" in refusal(shared.cli("list", env=as_it))
    assert "no access token" in refusal(shared.cli("tokens", "delete", row["id"]))


def test_the_command_line_does_not_saw_off_its_own_branch(shared: Instance) -> None:
    rows = parsed(shared.cli("tokens", "list", "--json"))
    (local,) = [row for row in rows if row["origin"] == "local"]
    refused = refusal(shared.cli("tokens", "delete", local["id"]))
    assert "command line" in refused
    assert "start" in refused


def test_nodes_are_shown_with_what_runs_there(shared: Instance, demo_path: str) -> None:
    (node,) = parsed(shared.cli("nodes", "--json"))
    (replica,) = [each for each in node["replicas"] if each["access_path"] == demo_path]
    assert replica["state"] == "ready"
    assert replica["memory_bytes"] > 1_000_000
    assert replica["service_id"] == shared.service("demo")["id"]
    lines = told(shared.cli("nodes")).splitlines()
    assert any(node["name"] in line and " of " in line and "%" in line for line in lines)
    (line,) = [line for line in lines if replica["id"] in line]
    assert demo_path in line
    assert "ready" in line
    # Somebody who is no operator sees the machine, and nothing of what others run.
    token = add_user(shared, "u-0b0b0b0b0b0b", "onlooker")
    (seen,) = parsed(shared.cli("nodes", "--json", env={"MODELRY_TOKEN": token}))
    assert seen["name"] == node["name"]
    assert seen["replicas"] == []


def test_a_keys_limits_are_set_changed_and_cleared(shared: Instance) -> None:
    made = parsed(
        shared.cli(
            *("keys", "create", "limited", "--requests-per-minute", "60"),
            *("--concurrency", "4", "--json"),
        )
    )
    assert (made["limits"]["requests_per_minute"], made["limits"]["concurrency"]) == (60, 4)
    assert "60 requests/min, 4 at a time" in told(shared.cli("keys", "list"))
    id_ = made["id"]
    changes = ("--name", "renamed", "--concurrency", "0", "--tokens-per-month", "5000")
    assert "is updated" in told(shared.cli("keys", "update", id_, *changes))
    listed = told(shared.cli("keys", "list"))
    (line,) = [line for line in listed.splitlines() if id_ in line]
    assert "renamed" in line
    assert "60 requests/min, 5000 tokens/month" in line
    days = ("--expires-in-days", "1", "--service", "demo", "--json")
    changed = parsed(shared.cli("keys", "update", id_, *days))
    assert changed["expires_at"]
    assert changed["services"] == [shared.service("demo")["access_path"]]
    assert "not both" in refusal(
        shared.cli("keys", "update", id_, "--service", "demo", "--all-services")
    )
    changed = parsed(shared.cli("keys", "update", id_, "--all-services", "--json"))
    assert changed["services"] is None
    assert (
        parsed(shared.cli("keys", "update", id_, "--expires-in-days", "0", "--json"))["expires_at"]
        is None
    )
    assert "nothing to change" in refusal(shared.cli("keys", "update", id_))
    assert "no key" in refusal(shared.cli("keys", "update", "key_none", "--concurrency", "1"))
    assert told(shared.cli("keys", "delete", id_))


def test_usage_goes_by_the_names_of_keys(shared: Instance, demo_path: str) -> None:
    made = parsed(shared.cli("keys", "create", "metered [key]", "--json"))
    assert ask(shared, made["key"], demo_path)

    def rows() -> list[str]:
        lines = told(shared.cli("usage", "--by", "service,key")).splitlines()
        return [line for line in lines if "metered [key]" in line]

    (row,) = wait_for(rows, "the usage to be told", 10)
    assert demo_path in row
    assert made["id"] in row
    # A key that is gone has no name any more.
    told(shared.cli("keys", "delete", made["id"]))
    assert not rows()
    assert made["id"] in told(shared.cli("usage", "--by", "key"))


def test_a_service_on_an_endpoint_elsewhere_is_made_by_a_command(shared: Instance) -> None:
    secret = "sk-of-the-endpoint-wxyz"
    urls = ("--url", "http://127.0.0.1:9/v1", "--url", "http://127.0.0.1:10/v1/")
    made = shared.cli(
        *("connect", "hosted", *urls, "--weight", "3", "--weight", "1", "--model", "big"),
        *("--task", "chat", "--task", "embedding", "--api-key-env", "ENDPOINT_KEY"),
        env={"ENDPOINT_KEY": secret},
    )
    assert told(made).strip().endswith("/hosted")
    shown = told(shared.cli("show", "hosted"))
    assert "running" in shown
    assert "http://127.0.0.1:9/v1, model big, weight 3, key …wxyz" in shown
    (line,) = [line for line in told(shared.cli("list")).splitlines() if "/hosted" in line]
    assert line.split()[-2:] == ["big", "-"]
    assert told(shared.cli("logs", "hosted")) == ""
    assert secret not in made.stdout + made.stderr + shown
    assert told(shared.cli("delete", "hosted", "--yes"))

    piped = shared.cli(
        *("connect", "hosted", "--url", "http://127.0.0.1:9", "--api-key-stdin", "--json"),
        input=f"{secret}\n",
    )
    assert parsed(piped)["spec"]["endpoints"][0]["api_key"] == "…wxyz"
    assert told(shared.cli("delete", "hosted", "--yes"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--url", "http://host?x"], "chat/completions"),
        (["--url", "http://host", "--weight", "1", "--weight", "2"], "--weight"),
        (["--url", "http://host", "--api-key-env", "NOT_SET"], "NOT_SET"),
        (["--url", "http://host", "--api-key-stdin"], "standard input"),
        (["--url", "http://host", "--api-key-stdin", "--api-key-env", "X"], "not both"),
        (["--url", "http://host", "--task", "poetry"], "tasks"),
        ([], "--url"),
    ],
)
def test_what_cannot_be_connected_is_said_in_a_line(
    shared: Instance, options: list[str], words: str
) -> None:
    assert words in refusal(shared.cli("connect", "never-made", *options, input=""))


def test_login_reads_the_token_and_the_commands_after_it_need_none(
    shared: Instance, tmp_path: Path
) -> None:
    own = {
        "MODELRY_URL": "",
        "MODELRY_TOKEN": "",
        "XDG_CONFIG_HOME": str(tmp_path),
        "MODELRY_DATA_DIR": str(tmp_path / "none"),
    }
    assert "modelry login" in refusal(shared.cli("list", env=own))

    signed = shared.cli("login", shared.url, input=ADMIN_TOKEN + "\n", env=own)
    assert "as admin" in told(signed)
    assert ADMIN_TOKEN not in signed.stdout + signed.stderr
    stored = tmp_path / "modelry" / "login.json"
    assert stored.stat().st_mode & 0o077 == 0
    assert "demo" in told(shared.cli("list", env=own))

    me = parsed(shared.cli("login", shared.url, "--json", input=ADMIN_TOKEN + "\n", env=own))
    assert me["operator"] is True
    assert me["url"] == shared.url

    assert "access token" in told(shared.cli("logout", env=own))
    assert refusal(shared.cli("list", env=own))


def test_login_refuses_what_does_not_work(shared: Instance, tmp_path: Path) -> None:
    own = {"XDG_CONFIG_HOME": str(tmp_path)}
    wrong = shared.cli("login", shared.url, input="pat-" + "0" * 40 + "\n", env=own)
    assert "0000" not in refusal(wrong)
    assert "no access token" in refusal(shared.cli("login", shared.url, input="", env=own))
    nowhere = shared.cli("login", "127.0.0.1:1", input=ADMIN_TOKEN + "\n", env=own)
    assert "nothing answers at http://127.0.0.1:1" in refusal(nowhere)
    assert not (tmp_path / "modelry").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["models", "--task", "poetry"], ["'poetry'", "chat, completion, embedding, image"]),
        (["deploy", "no-such-model", "--name", "x1"], ["no-such-model", "modelry models"]),
        (["deploy", MODEL, "--name", "Bad_Name"], ["name", "2-64 characters"]),
        (["deploy", MODEL, "--name", "demo"], ["'demo' already", "another name"]),
        (["show", "nothing"], ["'nothing'", "modelry list"]),
    ],
)
def test_a_refusal_is_one_line_with_the_next_step(
    shared: Instance, arguments: list[str], words: list[str]
) -> None:
    line = refusal(shared.cli(*arguments))
    assert all(word in line for word in words), line


@pytest.mark.parametrize("command", ["start", "stop", "logs", "delete", "chat"])
def test_a_command_on_no_service_says_so(shared: Instance, command: str) -> None:
    rest = ["hi"] if command == "chat" else []
    assert "there is no service 'nothing'" in refusal(shared.cli(command, "nothing", *rest))


def test_a_reader_that_goes_away_is_no_error(shared: Instance) -> None:
    environment = {**os.environ, "MODELRY_URL": shared.url, "MODELRY_TOKEN": ADMIN_TOKEN}
    # `true` is gone long before the first line is written.
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$0" -m modelry logs demo | true', sys.executable],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_strict_key_s_calls_are_refused_where_something_would_be_ignored(
    shared: Instance, demo_path: str
) -> None:
    made = json.loads(shared.cli("keys", "create", "strict", "--strict", "--json").stdout)
    assert made["strict"] is True
    body = {"model": demo_path, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}

    def status(**fields: Any) -> int:
        headers = {"authorization": f"Bearer {made['key']}"}
        url = f"{shared.url}/v1/chat/completions"
        return httpx2.post(url, json={**body, **fields}, headers=headers, timeout=60).status_code

    assert (status(), status(store=True)) == (200, 400)
    assert shared.cli("keys", "update", made["id"], "--lenient").returncode == 0
    assert status(store=True) == 200
    shared.cli("keys", "delete", made["id"])
