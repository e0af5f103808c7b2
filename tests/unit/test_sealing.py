"""Secrets that must be read again: what opens them, and what does not."""

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.errors import ModelryError
from modelry.sealing import Sealer, SecretUnreadable

SECRET = "sk-of-somebody-else"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "secret.key"


@pytest.fixture(scope="module")
def sealer(tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    return Sealer(tmp_path_factory.mktemp("key") / "secret.key")


@given(st.text(), st.text())
def test_what_was_sealed_opens_in_its_context(sealer: Sealer, text: str, context: str) -> None:
    sealed = sealer.seal(text, context)
    assert sealer.open(sealed, context) == text
    assert sealed.isascii()
    assert sealed != sealer.seal(text, context)


@given(st.text(), st.text())
def test_it_opens_in_no_other(sealer: Sealer, context: str, other: str) -> None:
    if context != other:
        with pytest.raises(SecretUnreadable):
            sealer.open(sealer.seal(SECRET, context), other)


@given(st.data())
def test_a_text_that_was_changed_does_not_open(sealer: Sealer, data: st.DataObject) -> None:
    sealed = bytearray(base64.urlsafe_b64decode(sealer.seal(SECRET, "ep")))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SecretUnreadable):
        sealer.open(base64.urlsafe_b64encode(sealed).decode(), "ep")


@pytest.mark.parametrize("sealed", ["", "x", "é", "not base64!", "AAAA", "A" * 200])
def test_what_was_never_sealed_does_not_open(sealer: Sealer, sealed: str) -> None:
    sealer.seal(SECRET, "ep")
    with pytest.raises(SecretUnreadable):
        sealer.open(sealed, "ep")


def test_the_key_is_made_at_first_use_for_this_account_alone(key_file: Path) -> None:
    sealer = Sealer(key_file)
    assert not key_file.exists()
    sealed = sealer.seal(SECRET, "ep")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert len(base64.b64decode(key_file.read_bytes())) == 32
    assert [file.name for file in key_file.parent.iterdir()] == [key_file.name]
    # Another process finds it.
    assert Sealer(key_file).open(sealed, "ep") == SECRET
    assert Sealer(key_file).open(Sealer(key_file).seal("more", "ep"), "ep") == "more"


def test_a_key_that_is_there_is_never_replaced(key_file: Path) -> None:
    first, second = Sealer(key_file), Sealer(key_file)
    sealed = first.seal(SECRET, "ep")
    second._make_key()
    assert second.open(sealed, "ep") == SECRET


def test_a_missing_key_is_named_and_not_made_by_opening(key_file: Path) -> None:
    sealed = Sealer(key_file).seal(SECRET, "ep")
    key_file.unlink()
    with pytest.raises(SecretUnreadable, match=str(key_file)) as raised:
        Sealer(key_file).open(sealed, "ep")
    assert "backup" in str(raised.value.hint)
    assert not key_file.exists()


@pytest.mark.parametrize("content", [b"", b"garbled", b"\xff\xfe", base64.b64encode(b"short")])
def test_a_garbled_key_is_named(key_file: Path, content: bytes) -> None:
    key_file.write_bytes(content)
    for attempt in (Sealer(key_file).open, Sealer(key_file).seal):
        with pytest.raises(SecretUnreadable, match=str(key_file)):
            attempt("AAAA", "ep")
    assert key_file.read_bytes() == content


def test_another_installations_key_opens_nothing_and_says_so(tmp_path: Path) -> None:
    sealed = Sealer(tmp_path / "a").seal(SECRET, "ep")
    Sealer(tmp_path / "b").seal(SECRET, "ep")
    with pytest.raises(SecretUnreadable, match=str(tmp_path / "b")) as raised:
        Sealer(tmp_path / "b").open(sealed, "ep")
    assert SECRET not in f"{raised.value.message}{raised.value.hint}"


def test_a_key_that_cannot_be_made_is_told_with_its_place(tmp_path: Path) -> None:
    nowhere = tmp_path / "missing" / "secret.key"
    with pytest.raises(ModelryError, match=str(nowhere)):
        Sealer(nowhere).seal(SECRET, "ep")
