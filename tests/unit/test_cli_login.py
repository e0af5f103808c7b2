"""Which Modelry the command line talks to, and with whose token."""

import stat
from pathlib import Path

import pytest

from modelry.cli.login import (
    Login,
    NotSignedIn,
    current_login,
    read_login,
    stored_login_file,
    write_login,
)
from modelry.client import part
from modelry.settings import load_settings

HERE = Login("http://127.0.0.1:8080", "pat-local")
THERE = Login("https://models.example.com", "pat-there")


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MODELRY_URL", "MODELRY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MODELRY_DATA_DIR", str(tmp_path / "data"))


def test_nowhere_to_sign_in_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(NotSignedIn, match=str(tmp_path / "data")) as raised:
        current_login()
    assert "MODELRY_DATA_DIR" in (raised.value.hint or "")


def test_the_instance_of_this_machine_is_found() -> None:
    write_login(load_settings().paths.local_login, HERE)
    assert current_login() == HERE


def test_what_login_stored_comes_before_the_instance_of_this_machine() -> None:
    write_login(load_settings().paths.local_login, HERE)
    write_login(stored_login_file(), THERE)
    assert current_login() == THERE


def test_a_stored_token_goes_to_its_own_address_only(monkeypatch: pytest.MonkeyPatch) -> None:
    write_login(load_settings().paths.local_login, HERE)
    monkeypatch.setenv("MODELRY_URL", "http://127.0.0.1:9999")
    with pytest.raises(NotSignedIn, match="no token"):
        current_login()
    monkeypatch.setenv("MODELRY_URL", HERE.url + "/")
    assert current_login() == HERE
    monkeypatch.setenv("MODELRY_TOKEN", "pat-given")
    monkeypatch.setenv("MODELRY_URL", "http://127.0.0.1:9999")
    assert current_login() == Login("http://127.0.0.1:9999", "pat-given")


def test_a_login_is_for_this_account_alone(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "login.json"
    write_login(file, HERE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_login(file) == HERE


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"url": 1}', b"\xff"])
def test_a_damaged_login_counts_as_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "login.json"
    file.write_bytes(content)
    assert read_login(file) is None


@pytest.mark.parametrize("name", ["../keys/key_1", "a?b", "a#b", "", "ä", "a/b", "a b"])
def test_a_name_stays_one_part_of_a_path(name: str) -> None:
    assert part(name)
    assert not set(part(name)) & set("/?# ")
