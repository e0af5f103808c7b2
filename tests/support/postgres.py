"""A real PostgreSQL server of the tests' own, on a free port of loopback."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_for

_USER = "modelry"
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB")


@dataclass(frozen=True)
class Postgres:
    binaries: Path
    port: int
    password: str = field(repr=False)

    def make_database(self, name: str) -> str:
        """An empty database; returns its URL as an operator would write it."""
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", _USER)
        subprocess.run(
            [self.binaries / "createdb", *address, name],
            env={**os.environ, "PGPASSWORD": self.password},
            check=True,
            capture_output=True,
            timeout=30,
        )
        return f"postgresql://{_USER}:{self.password}@127.0.0.1:{self.port}/{name}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """The newest installed version, on an empty cluster, until the end of the block."""
    binaries = max(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name)
    )
    # The server refuses to run as root, so it needs a folder that its account reaches.
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = {"user": "postgres", "group": "postgres", "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="modelry-postgres-"))
    cluster, password_file = folder / "cluster", folder / "password"
    password = secrets.token_hex(16)
    try:
        password_file.write_text(password)
        if account:
            shutil.chown(folder, "postgres", "postgres")
            shutil.chown(password_file, "postgres", "postgres")
        initdb = str(binaries / "initdb")
        options = ["-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        make_cluster = [initdb, "-D", str(cluster), "-U", _USER, *options]
        make_cluster += ["--pwfile", str(password_file)]
        subprocess.run(
            make_cluster,
            check=True,
            capture_output=True,
            timeout=60,
            cwd=folder,
            **account,
        )
        with socket.socket() as chooser:
            chooser.bind(("127.0.0.1", 0))
            port: int = chooser.getsockname()[1]
        settings = (
            *_FAST,
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            f"port={port}",
        )
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", cluster, *(f"--{each}" for each in settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                **account,
            )
        try:
            check = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]

            def ready() -> bool:
                assert server.poll() is None, (folder / "log").read_text()
                return subprocess.run(check, timeout=10).returncode == 0

            wait_for(ready, "PostgreSQL to be ready")
            yield Postgres(binaries, port, password)
        finally:
            # Its fast shutdown: connections end, nothing is lost.
            server.send_signal(signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(folder)
