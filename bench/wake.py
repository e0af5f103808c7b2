"""From a call of an idle service to its first token, beside what the engine needs by itself.

In turns: a call wakes the service, through the gateway; and the same engine, with the same
weights and configuration, is started by hand and called as soon as it answers. Bar: the
first takes at most 1.5 times as long as the second.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx2

from bench.instance import printed, up
from modelry.client import Client
from modelry.engines.base import Endpoint, ReplicaPlan
from modelry.engines.llama_cpp import LlamaCpp

RUNS = 5
BAR = 1.5
_MODEL = "smollm2-135m-instruct"
_TOKEN = "pat-of-the-bench-0123456789abcdefgh"
_WAIT_S = 180.0
_POLL_S = 0.01
_SLOTS = 4
_CONTEXT_TOKENS = 2048


def first_token(http: httpx2.Client, key: str, model: str) -> None:
    """Return with the first text of a streamed answer."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Say hi"}],
        "stream": True,
        "max_tokens": 4,
    }
    headers = {"authorization": f"Bearer {key}"}
    with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and choices[0]["delta"].get("content"):
                    return
    raise RuntimeError("the answer ended without a token")


def wait(client: Client, state: str) -> None:
    until = time.monotonic() + _WAIT_S
    while (now := client.get("/services/wake")["status"])["state"] != state:
        if time.monotonic() > until:
            raise RuntimeError(f"the service is {now['state']}, not {state}: {now['message']}")
        time.sleep(_POLL_S)


def by_itself(weights: Path, folder: Path) -> float:
    """Seconds from the start of the engine's process to its first token."""
    socket = folder / "engine.sock"
    plan = ReplicaPlan("bench", "wake", weights, ("chat",), _SLOTS, _CONTEXT_TOKENS)
    command = LlamaCpp().command(plan, Endpoint(f"unix:{socket}", "secret"))
    begun = time.monotonic()
    engine = subprocess.Popen(
        command.argv,
        env={**os.environ, **command.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert engine.stdin is not None
        engine.stdin.write(command.stdin)
        engine.stdin.close()
        transport = httpx2.HTTPTransport(uds=str(socket))
        with httpx2.Client(transport=transport, base_url="http://replica", timeout=60) as http:
            while not _answers(http):
                if engine.poll() is not None:
                    raise RuntimeError(f"the engine ended with status {engine.returncode}")
                time.sleep(_POLL_S)
            first_token(http, "secret", "wake")
        return time.monotonic() - begun
    finally:
        engine.kill()
        engine.wait()


def _answers(http: httpx2.Client) -> bool:
    try:
        return http.get("/health").status_code == 200
    except httpx2.HTTPError:
        return False


def main() -> int:
    woken, own = [], []
    with tempfile.TemporaryDirectory(prefix="mdl-") as scratch:
        data_dir = Path(scratch) / "data"
        with ExitStack() as stack:
            process = stack.enter_context(up(data_dir, MODELRY_ADMIN_TOKEN=_TOKEN))
            url = printed(process, "  API ").split()[1].removesuffix("/v1")
            client = stack.enter_context(Client(url, _TOKEN))
            spec = {"slots": _SLOTS, "context_tokens": _CONTEXT_TOKENS, "idle_after_s": 1}
            client.post("/services", {"name": "wake", "model": _MODEL, **spec})
            wait(client, "running")
            key = client.post("/keys", {"name": "bench"})["key"]
            (weights,) = (data_dir / "weights" / "blobs").iterdir()
            with httpx2.Client(base_url=url, timeout=60, trust_env=False) as http:
                first_token(http, key, "wake")
                for _ in range(RUNS):
                    wait(client, "idle")
                    begun = time.monotonic()
                    first_token(http, key, "wake")
                    woken.append(time.monotonic() - begun)
                    wait(client, "idle")
                    own.append(by_itself(weights, Path(scratch)))
    ratio = statistics.median(one / other for one, other in zip(woken, own, strict=True))
    print(f"wake, {RUNS} runs in turns, seconds to the first token")
    for what, seconds in (("from idle, through the gateway", woken), ("the engine by itself", own)):
        first, *_, last = sorted(seconds)
        median = statistics.median(seconds)
        print(f"  {what:32} min {first:.2f}   median {median:.2f}   max {last:.2f}")
    holds = ratio <= BAR
    print(f"  {ratio:.2f} times, of {BAR} at most: {'holds' if holds else 'FALLS SHORT'}")
    return 0 if holds else 1
