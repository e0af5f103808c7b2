"""Starts that cannot be: one line that says why, and nothing left running."""

import asyncio
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modelry.db import Database
from modelry.settings import Paths
from tests.support.instance import Instance
from tests.support.starts import Refusal, processes_on, refused_start


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory on which nothing runs at the test's end."""
    folder = tmp_path / "data"
    yield folder
    assert processes_on(folder) == []


def assert_refused(refusal: Refusal, *words: str) -> None:
    line = refusal.line
    assert line.startswith("error: ")
    assert all(word in line for word in words), line
    assert refusal.status == 2


def test_a_taken_port_is_named(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        assert_refused(refused_start(data_dir, "--port", port), port, "taken", "--port")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODELRY_PORT", "many"),
        ("MODELRY_PORT", "70000"),
        ("MODELRY_LOG_LEVEL", "loud"),
        ("MODELRY_DRAIN_TIMEOUT_S", "-1"),
        ("MODELRY_ADMIN_TOKEN", "pat-short"),
        ("MODELRY_DATABASE_URL", "mysql://host/name"),
        ("MODELRY_MODELS_DIR", "/nowhere/at/all"),
    ],
)
def test_a_bad_setting_is_named(data_dir: Path, variable: str, value: str) -> None:
    refusal = refused_start(data_dir, environment={variable: value})
    assert_refused(refusal, variable)
    assert "pat-short" not in refusal.output


def test_a_bad_option_is_named(data_dir: Path) -> None:
    assert_refused(refused_start(data_dir, "--port", "many"), "--port")


def test_an_address_that_this_machine_has_not_is_named(data_dir: Path) -> None:
    assert_refused(refused_start(data_dir, "--host", "192.0.2.1"), "192.0.2.1", "--host")


def test_a_data_directory_that_is_a_file_is_named(data_dir: Path) -> None:
    data_dir.write_text("not a folder")
    assert_refused(refused_start(data_dir), str(data_dir), "cannot be used", "--data-dir")
    assert data_dir.read_text() == "not a folder"


def test_a_data_directory_that_cannot_be_written_is_named(data_dir: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root writes everywhere, and there is no setpriv to take that away")
    data_dir.mkdir(mode=0o555)
    refusal = refused_start(data_dir, ordinary_user=True)
    assert_refused(refusal, str(data_dir), "cannot be used", "permissions")
    assert list(data_dir.iterdir()) == []


def test_a_second_start_on_the_same_data_is_refused(shared: Instance) -> None:
    assert shared.process is not None
    parts = processes_on(shared.paths.data)
    refusal = refused_start(shared.paths.data)
    assert_refused(refusal, str(shared.paths.data), "already runs", str(shared.process.pid))
    # The first one never noticed.
    assert processes_on(shared.paths.data) == parts
    assert shared.service("demo")["status"]["state"] == "running"


def prepared_database(data_dir: Path) -> Path:
    paths = Paths(data_dir)
    paths.prepare()

    async def migrate() -> None:
        database = Database(None, paths.database)
        await database.migrate()
        await database.close()

    asyncio.run(migrate())
    return paths.database


def test_a_database_of_a_newer_version_is_left_alone(data_dir: Path) -> None:
    file = prepared_database(data_dir)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("update alembic_version set version_num = '9999'")
    assert_refused(refused_start(data_dir), "newer", "'9999'")
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("select count(*) from users").fetchone() == (0,)


def test_a_damaged_database_is_named(data_dir: Path) -> None:
    file = prepared_database(data_dir)
    for other in file.parent.glob(f"{file.name}-*"):
        other.unlink()
    file.write_bytes(b"SQLite it is not. " * 500)
    assert_refused(refused_start(data_dir), str(file), "not a database")


def test_a_half_damaged_database_is_named(data_dir: Path) -> None:
    file = prepared_database(data_dir)
    for other in file.parent.glob(f"{file.name}-*"):
        other.unlink()
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    assert_refused(refused_start(data_dir), str(file))


def test_a_database_server_that_does_not_answer_is_named_without_its_password(
    data_dir: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://modelry:hidden@127.0.0.1:{taken.getsockname()[1]}/modelry"
        refusal = refused_start(data_dir, environment={"MODELRY_DATABASE_URL": url})
    assert_refused(refusal, "127.0.0.1", "MODELRY_DATABASE_URL")
    assert "hidden" not in refusal.output


def test_a_model_card_that_cannot_be_read_is_named(data_dir: Path, tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    (cards / "broken.yaml").write_text("id: [unclosed")
    assert_refused(
        refused_start(data_dir, environment={"MODELRY_MODELS_DIR": str(cards)}),
        str(cards / "broken.yaml"),
    )
