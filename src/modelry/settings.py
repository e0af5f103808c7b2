"""What the operator can set, each as an option of `up` or an environment variable.

`Settings` parses and checks; it opens nothing. `Paths` says where each part
keeps its files under the data directory.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from modelry.errors import SettingsError

ENV_PREFIX = "MODELRY_"

# sun_path holds 108 bytes on Linux and 104 on macOS, the final NUL included.
_SOCKET_PATH_MAX = 100
_LONGEST_SOCKET_NAME = len("/rep_0123456789abcdef.sock")


def _expanded(path: Path) -> Path:
    return path.expanduser().absolute()


def _access_token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.startswith("pat-") or len(text) < 32 or not text.isascii() or " " in text:
        raise ValueError("must start with pat- and have at least 32 characters")
    return value


def _password(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 8:
        raise ValueError("must have at least 8 characters")
    return value


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value.rstrip("/")


class Settings(BaseSettings):
    """Every setting, with its default. docs/guides/settings.md explains each."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    data_dir: Annotated[Path, AfterValidator(_expanded)] = Path("~/.modelry")
    database_url: str | None = None
    public_url: Annotated[str, AfterValidator(_http_url)] | None = None
    admin_password: Annotated[SecretStr, AfterValidator(_password)] | None = None
    admin_token: Annotated[SecretStr, AfterValidator(_access_token)] | None = None
    models_dir: Annotated[Path, AfterValidator(_expanded)] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    start_wait_s: float = Field(20.0, ge=0)
    drain_timeout_s: float = Field(60.0, ge=0)
    keep_replicas: bool = False

    @property
    def paths(self) -> "Paths":
        return Paths(_expanded(self.data_dir))


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with every override that is not None on top.

    Raises `SettingsError`, one line that names the setting, if one cannot be parsed.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        shown = f"--{name.replace('_', '-')}" if name in given else f"{ENV_PREFIX}{name.upper()}"
        reason = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{shown}: {reason}", param=name) from None


@dataclass(frozen=True)
class Paths:
    """Where things live under the data directory. Creates nothing by itself."""

    data: Path

    @property
    def database(self) -> Path:
        return self.data / "modelry.db"

    @property
    def weights(self) -> Path:
        return self.data / "weights"

    @property
    def replicas(self) -> Path:
        return self.data / "replicas"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def lock(self) -> Path:
        """Held by `up`, so that a data directory has one instance at a time."""
        return self.data / "up.lock"

    @property
    def control_lock(self) -> Path:
        """Held by the control plane: an orphaned one must go before the next starts."""
        return self.data / "control.lock"

    @property
    def local_login(self) -> Path:
        """Address and access token by which the command line on this machine signs in."""
        return self.data / "local.json"

    @property
    def feed_snapshot(self) -> Path:
        return self.data / "gateway-snapshot.json"

    @property
    def sockets(self) -> Path:
        """Directory of the Unix sockets.

        Inside the data directory where the kernel's limit on socket paths
        allows it, otherwise a directory of this account's in the temporary
        directory, named by the data directory's digest.
        """
        inside = self.data / "run"
        if len(os.fsencode(inside)) + _LONGEST_SOCKET_NAME <= _SOCKET_PATH_MAX:
            return inside
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"modelry-{os.getuid()}-{digest}"

    @property
    def control_socket(self) -> Path:
        return self.sockets / "control.sock"

    @property
    def feed_socket(self) -> Path:
        return self.sockets / "feed.sock"

    def prepare(self) -> None:
        """Create the directories, readable by this account alone.

        Raises `SettingsError` where that cannot be done.
        """
        try:
            for folder in (
                self.data,
                self.weights,
                self.replicas,
                self.logs,
                self.sockets,
            ):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            owner = self.sockets.stat()
            probe = self.data / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise SettingsError(
                f"data directory {self.data} cannot be used: {error.strerror}",
                hint="choose another with --data-dir or MODELRY_DATA_DIR, or mend its permissions",
                param="data_dir",
            ) from None
        if owner.st_uid != os.getuid():
            # A stranger's directory in /tmp could hand us a stranger's sockets.
            raise SettingsError(
                f"socket directory {self.sockets} belongs to another account",
                hint="choose a shorter data directory with --data-dir",
                param="data_dir",
            )
        self.sockets.chmod(0o700)
