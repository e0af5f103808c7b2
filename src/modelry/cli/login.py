"""Which Modelry the command line talks to, and as whom.

In this order: `MODELRY_URL` and `MODELRY_TOKEN`; what `modelry login` stored;
the instance that `modelry up` started on this machine, for this account.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from modelry.client import Client
from modelry.errors import ModelryError
from modelry.settings import load_settings


class NotSignedIn(ModelryError):
    """There is no address or no token to use."""

    status, code = 401, "not_signed_in"


@dataclass(frozen=True)
class Login:
    """`certificate`: the PEM file that the instance on this machine shows."""

    url: str
    token: str
    certificate: str | None = None


def stored_login_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "modelry" / "login.json"


def write_login(file: Path, login: Login) -> None:
    """Store it for this account alone."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(file.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(asdict(login), out)
    draft.replace(file)


def read_login(file: Path) -> Login | None:
    try:
        data = json.loads(file.read_text())
        return Login(str(data["url"]), str(data["token"]), data.get("certificate"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def current_login() -> Login:
    """Raises `NotSignedIn`."""
    url, token = os.environ.get("MODELRY_URL"), os.environ.get("MODELRY_TOKEN")
    if url and token:
        return Login(url, token)
    data = load_settings().paths
    found = read_login(stored_login_file()) or read_login(data.local_login)
    if found is None:
        raise NotSignedIn(
            f"you are not signed in, and no Modelry runs on {data.data}",
            hint="start one with `modelry up`, set MODELRY_DATA_DIR where it runs on another "
            "data directory, or sign in with `modelry login URL`",
        )
    # A token is for the address it was stored with, and for no other.
    if url and url.rstrip("/") != found.url:
        raise NotSignedIn(
            f"MODELRY_URL is {url}, and there is no token for it", hint="set MODELRY_TOKEN"
        )
    return Login(found.url, token or found.token, found.certificate)


def open_client() -> Client:
    login = current_login()
    return Client(login.url, login.token, login.certificate)
