"""`up --demo`: the embedded chat model as service `demo`, a key, and a line to paste."""

import json
import shlex

from rich.markup import escape

from modelry.cli.output import err, out
from modelry.cli.progress import await_running
from modelry.client import ApiError, Client, Json

MODEL = "smollm2-135m-instruct"
NAME = "demo"
PICTURES = "emoji-diffusion-64"
"""The embedded model that makes images."""


def run_demo(url: str, token: str, certificate: str | None = None) -> None:
    """Bring the demo service to run and print how to call it. Raises `ModelryError`."""
    with Client(url, token, certificate) as client:
        err.print(f"\nDeploying {MODEL} as [bold]{NAME}[/]:")
        service = _ensure_service(client)
        service = await_running(client, service)
        key = _fresh_key(client)
        curl = _example(client)
    out.print(f"\n  access path  [bold]{escape(service['access_path'])}[/]", soft_wrap=True)
    out.print(f"  API key      {escape(key)}", soft_wrap=True)
    out.print(f"  images       modelry deploy {PICTURES}", soft_wrap=True)
    out.print("\nTry it:\n")
    # Printed plainly: it is there to be pasted.
    print(_one_line(curl, key), flush=True)


def _ensure_service(client: Client) -> Json:
    """The service `demo`: as it is if it runs or is on its way, started or made otherwise."""
    try:
        service = client.get(f"/services/{NAME}")
    except ApiError as error:
        if error.status != 404:
            raise
        return client.post("/services", {"name": NAME, "model": MODEL})
    if service["status"]["state"] in ("stopped", "failed"):
        return client.post(f"/services/{NAME}/start")
    return service


def _fresh_key(client: Client) -> str:
    """A new key: that of an earlier start is stored as a hash only, and stays valid."""
    return str(client.post("/keys", {"name": NAME})["key"])


def _example(client: Client) -> str:
    found = client.list(f"/services/{NAME}/examples")
    chosen = [each for each in found if each["language"] == "curl" and not each["streaming"]]
    return str(chosen[0]["code"])


def _one_line(curl: str, key: str) -> str:
    """The example on a single line, with the key itself in it."""
    words = shlex.split(curl.replace("\\\n", " "))
    words[-1] = json.dumps(json.loads(words[-1]))
    return shlex.join(words).replace("$MODELRY_API_KEY", key)
