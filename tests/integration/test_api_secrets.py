"""Secrets on disk: hashed in the database, in no log, and where they must stand, private."""

import json
import stat
from pathlib import Path

from tests.support.instance import ADMIN_TOKEN, Instance


def files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]


def test_no_secret_lies_on_the_disk_in_plain_text(api: Instance) -> None:
    key = api.key("on-disk")
    with api.openai(key) as client:
        client.models.list()
    # Secrets in places where they do not belong must not reach a log either.
    api.api("GET", f"/services/{key}?token={ADMIN_TOKEN}")
    api.api("POST", "/keys", json={"name": 7, "key": key})
    endpoint = {"url": "http://127.0.0.1:9", "api_key": "key-of-an-endpoint-elsewhere"}
    body = {"name": "elsewhere", "endpoint": endpoint}
    assert api.api("POST", "/services", json=body).status_code == 201
    api.api("POST", "/services", json=body | {"surprise": 1})
    made = api.api("POST", "/tokens", json={"name": "on-disk"}).json()["token"]
    api.api("GET", f"/tokens?cursor={made}", token=made)
    api.api("POST", "/tokens", json={"name": 7, "token": made})
    change = {"password": "a-new-password", "current_password": "preset-password"}
    api.api("PATCH", "/me", json=change | {"current_password": "a-wrong-password"})
    assert api.api("PATCH", "/me", json=change).status_code == 200
    back = {"password": "preset-password", "current_password": "a-new-password"}
    assert api.api("PATCH", "/me", json=back).status_code == 200
    api.api("PATCH", "/me", json={"password": "preset-password", "current_password": 7})
    login = json.loads(api.paths.local_login.read_text())
    passwords = [*change.values(), "a-wrong-password"]
    secrets = [key, made, ADMIN_TOKEN, *passwords, login["token"], endpoint["api_key"]]
    assert all(len(secret) > 10 for secret in secrets)
    found = files(api.paths.data)
    assert api.paths.database in found
    assert api.paths.logs / "control.log" in found
    assert api.paths.secret_key in found
    for file in found:
        data = file.read_bytes()
        shown = [secret for secret in secrets if secret.encode() in data]
        allowed = [login["token"]] if file == api.paths.local_login else []
        assert shown == allowed, file


def test_what_lies_on_the_disk_is_for_this_account_alone(api: Instance) -> None:
    assert stat.S_IMODE(api.paths.local_login.stat().st_mode) == 0o600
    for file in files(api.paths.data):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    for folder in (api.paths.data, api.paths.sockets, api.paths.logs, api.paths.weights):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_secrets_stand_in_no_command_line_and_no_childs_environment(api: Instance) -> None:
    """Other accounts can read the first, and every child inherits the second."""
    for part in ("gateway", "control"):
        process = Path("/proc") / str(api.pid_of(part))
        if not process.exists():
            continue
        for name in ("cmdline", "environ"):
            data = (process / name).read_bytes()
            assert data
            assert ADMIN_TOKEN.encode() not in data, (part, name)
            assert b"preset-password" not in data, (part, name)
