"""What the operator can set, each as an option of `up` or an environment variable.

`Settings` parses and checks; it opens nothing. `Paths` says where each part
keeps its files under the data directory.
"""

import difflib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from modelry.errors import SettingsError

ENV_PREFIX = "MODELRY_"

# sun_path holds 108 bytes on Linux and 104 on macOS, the final NUL included.
_SOCKET_PATH_MAX = 100
_LONGEST_SOCKET_NAME = len("/rep_0123456789abcdef.sock")


class Secret:
    """A text that does not show itself in logs, errors or representations."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret('…')"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, with its default. docs/guides/settings.md explains each."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    data_dir: Path = Path("~/.modelry")
    database_url: Secret | None = None
    public_url: str | None = None
    admin_password: Secret | None = None
    admin_token: Secret | None = None
    models_dir: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 64 * 1024 * 1024
    max_buffered_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 1024 * 1024 * 1024
    start_wait_s: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    drain_timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    keep_replicas: bool = False
    demo: bool = False
    gateway_workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    queue_max: Annotated[int, msgspec.Meta(ge=0)] = 1000
    queue_wait_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    answer_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    access_log: bool = True
    usage_keep_days: Annotated[int, msgspec.Meta(ge=1)] = 90
    cors_origins: str | None = None
    trusted_proxies: str | None = None
    image_urls: bool = True
    image_networks: str | None = None
    hf_endpoint: str | None = None
    hf_token: Secret | None = None
    modelscope_endpoint: str | None = None
    modelscope_token: Secret | None = None
    offline: bool = False
    image_url_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=30 * 24 * 3600)] = 3600
    image_store_bytes: Annotated[int, msgspec.Meta(ge=1024 * 1024)] = 1024 * 1024 * 1024
    response_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=366 * 24 * 3600)] = 30 * 24 * 3600
    response_store_bytes: Annotated[int, msgspec.Meta(ge=1024 * 1024)] = 1024 * 1024 * 1024
    tls_cert: Path | None = None
    tls_key: Path | None = None
    conformance: Literal["deploy", "asked"] = "deploy"

    def own_url(self, port: int) -> str:
        """How this machine reaches what listens as set, on `port`."""
        # Where it listens everywhere, that is over loopback.
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        scheme = "http" if self.tls_cert is None else "https"
        return f"{scheme}://{host}:{port}"

    @property
    def paths(self) -> "Paths":
        return Paths(_expanded(self.data_dir))

    def environment(self) -> dict[str, str]:
        """The variables by which a child process gets these settings; no secret is among them."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return {
            f"{ENV_PREFIX}{name.upper()}": str(value)
            for name, value in given.items()
            if value is not None and not isinstance(value, Secret)
        }


def secret_settings() -> list[str]:
    """The names of settings that must not stand in a child's environment."""
    return [
        field.name for field in msgspec.structs.fields(Settings) if field.type == (Secret | None)
    ]


def _expanded(path: Path) -> Path:
    return path.expanduser().absolute()


def _access_token(value: Secret) -> Secret:
    text = value.reveal()
    if not text.startswith("pat-") or len(text) < 32 or not text.isascii() or " " in text:
        raise ValueError("must start with pat- and have at least 32 characters")
    return value


def _password(value: Secret) -> Secret:
    if len(value.reveal()) < 8:
        raise ValueError("must have at least 8 characters")
    return value


def _http_url(value: str) -> str:
    split = urlsplit(value)
    if split.scheme not in ("http", "https") or not split.netloc:
        raise ValueError("must look like https://models.example.com")
    return value.rstrip("/")


def _origins(value: str) -> str:
    origins = [origin.strip() for origin in value.split(",")]
    for origin in origins:
        split = urlsplit(origin)
        plain = split.scheme in ("http", "https") and split.netloc and not split.path.strip("/")
        if origin != "*" and not plain:
            raise ValueError("must be * or origins like https://app.example.com, comma between")
    return ",".join(origin.rstrip("/").lower() for origin in origins)


def _networks(value: str) -> str:
    try:
        return ",".join(str(ip_network(each.strip())) for each in value.split(","))
    except ValueError:
        raise ValueError("must be addresses or networks like 10.0.0.0/8, comma between") from None


# What a type alone does not say of a setting.
_CHECKS: dict[str, Callable[[Any], Any]] = {
    "data_dir": _expanded,
    "models_dir": _expanded,
    "public_url": _http_url,
    "hf_endpoint": _http_url,
    "modelscope_endpoint": _http_url,
    "admin_password": _password,
    "admin_token": _access_token,
    "cors_origins": _origins,
    "trusted_proxies": _networks,
    "image_networks": _networks,
    "tls_cert": _expanded,
    "tls_key": _expanded,
}


# What a person is told whose value has the wrong type or range.
_RULES = {
    "port": "must be a whole number from 0 to 65535",
    "log_level": "must be debug, info, warning or error",
    "max_body_bytes": "must be a whole number of at least 1024",
    "max_buffered_bytes": "must be a whole number of at least 1024",
    "start_wait_s": "must be a number of seconds",
    "drain_timeout_s": "must be a number of seconds",
    "keep_replicas": "must be true or false",
    "demo": "must be true or false",
    "offline": "must be true or false",
    "image_urls": "must be true or false",
    "gateway_workers": "must be a whole number from 1 to 64",
    "queue_max": "must be a whole number",
    "queue_wait_s": "must be a number of seconds",
    "answer_timeout_s": "must be a number of seconds above 0",
    "access_log": "must be true or false",
    "image_url_ttl_s": "must be a whole number of seconds from 1 to 2592000",
    "image_store_bytes": "must be a whole number of at least 1048576",
    "response_ttl_s": "must be a whole number of seconds from 1 to 31622400",
    "response_store_bytes": "must be a whole number of at least 1048576",
    "usage_keep_days": "must be a whole number of at least 1",
    "conformance": "must be deploy or asked",
}


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with every override that is not None on top.

    Raises `SettingsError`, one line that names the setting, if one cannot be parsed.
    """
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        variable = f"{ENV_PREFIX}{field.name.upper()}"
        override = overrides.get(field.name)
        value = os.environ.get(variable) if override is None else override
        if value is None or value == "":
            continue
        shown = variable if override is None else f"--{field.name.replace('_', '-')}"
        try:
            parsed = msgspec.convert(value, field.type, strict=False, dec_hook=_decode)
            given[field.name] = _CHECKS.get(field.name, _unchanged)(parsed)
        except (ValueError, RuntimeError) as error:
            rule = _RULES.get(field.name, str(error))
            # The value of a secret is not for a terminal.
            told = rule if field.type == (Secret | None) else f"{rule}, not {value!r}"
            raise SettingsError(f"{shown}: {told}", param=field.name) from None
    return Settings(**given)


# Read elsewhere: by the command line, and by nobody but people's own programs.
_OTHER_VARIABLES = ("URL", "TOKEN", "API_KEY", "DEBUG")


def unknown_variables() -> dict[str, str | None]:
    """Variables that look like settings and are none → the one that may have been meant."""
    known = [name.upper() for name in (*Settings.__struct_fields__, *_OTHER_VARIABLES)]
    names = [name.removeprefix(ENV_PREFIX) for name in os.environ if name.startswith(ENV_PREFIX)]
    unknown = {}
    for name in sorted({*names} - {*known}):
        meant = difflib.get_close_matches(name, known, 1)
        unknown[ENV_PREFIX + name] = ENV_PREFIX + meant[0] if meant else None
    return unknown


def _decode(kind: type, value: Any) -> Any:
    return value if isinstance(value, kind) else kind(value)


def _unchanged(value: Any) -> Any:
    return value


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
    def runtimes(self) -> Path:
        return self.data / "runtimes"

    @property
    def replicas(self) -> Path:
        return self.data / "replicas"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def access_log(self) -> Path:
        return self.logs / "access.log"

    @property
    def bytecode(self) -> Path:
        return self.data / "bytecode"

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
    def spools(self) -> Path:
        """A folder for each gateway process: usage that the control plane has not taken yet."""
        return self.data / "spools"

    @property
    def images(self) -> Path:
        """What image services made for callers who wanted addresses."""
        return self.data / "images"

    @property
    def responses(self) -> Path:
        """Responses that are kept, each with the conversation that led to it."""
        return self.data / "responses"

    @property
    def counters(self) -> Path:
        """What keys have used of their limits, shared by the gateways of this machine."""
        return self.data / "counters"

    @property
    def secret_key(self) -> Path:
        """Encrypts what must be kept in a form that can be read again."""
        return self.data / "secret.key"

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
                self.runtimes,
                self.replicas,
                self.logs,
                self.spools,
                self.counters,
                self.sockets,
            ):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Not through a link, which its owner could point elsewhere later.
            owner = self.sockets.lstat()
            probe = self.data / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise SettingsError(
                f"data directory {self.data} cannot be used: {error.strerror}",
                hint="choose another with --data-dir or MODELRY_DATA_DIR, or mend its permissions",
                param="data_dir",
            ) from None
        if owner.st_uid != os.getuid() or not stat.S_ISDIR(owner.st_mode):
            # A stranger's directory in /tmp could hand us a stranger's sockets.
            raise SettingsError(
                f"socket directory {self.sockets} is a link or belongs to another account",
                hint="choose a shorter data directory with --data-dir",
                param="data_dir",
            )
        self.sockets.chmod(0o700)
