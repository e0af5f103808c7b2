"""What calling through Modelry costs of each task's throughput, beside its engine called directly.

Both call the same replica: one through the gateway, the other at the replica's own socket with
the replica's own secret. They take turns, a round each, and the ratio within a round is what
counts; its median is told. Weights and runtimes stay in `.bench/tasks` for the next run.
"""

import argparse
import asyncio
import json
import re
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from bench.instance import printed, up
from modelry.client import ApiError, Client, Json
from modelry.settings import Paths

HOME = Path(__file__).parent.parent / ".bench" / "tasks"
ROUNDS = 5
_TOKEN = "pat-of-the-bench-0123456789abcdefgh"
_WAIT_S = 1800.0
_POLL_S = 0.2
_TEXT = (
    "A gull glides above the harbour while the ferry leaves. Somebody on the pier waves, "
    "and somebody on deck waves back until the houses are small."
)
_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_SECONDS = re.compile(rb'"seconds":\s*([0-9.]+)|"duration":\s*([0-9.]+)')

Ask = Callable[[httpx2.AsyncClient, str, int], Awaitable[float]]
"""Makes a call of a model, the so-manieth; returns how much was done, in its task's unit."""


class Skipped(Exception):
    """Why a task cannot be measured here."""


@dataclass(frozen=True)
class Work:
    """A task of a card. `engine`: what must be installed for it, None for an embedded one;
    `callers`: how many call at a time, each so often a round.
    """

    card: str
    engine: str | None
    unit: str
    ask: Ask
    callers: tuple[int, ...]
    calls: int
    spec: Json = field(default_factory=dict)


async def _post(http: httpx2.AsyncClient, path: str, **request: Any) -> bytes:
    try:
        answer = await http.post(path, **request)
    except httpx2.RemoteProtocolError:
        # Engines close a connection that was kept long enough; the gateway knows.
        answer = await http.post(path, **request)
    if answer.status_code != 200:
        raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text[:300]}")
    return answer.content


async def chat(http: httpx2.AsyncClient, model: str, number: int) -> float:
    """A stream of 64 tokens."""
    body = {
        "model": model,
        # No two alike, or the engine would remember the one before.
        "messages": [{"role": "user", "content": f"{number}: tell me a story. {_TEXT}"}],
        "max_tokens": 64,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    found = _TOKENS.findall(await _post(http, "/v1/chat/completions", json=body))
    if not found:
        raise RuntimeError("a stream told no usage")
    return float(found[-1])


async def embedding(http: httpx2.AsyncClient, model: str, number: int) -> float:
    """Eight texts at once."""
    inputs = [f"{number}, {each}: {_TEXT}" for each in range(8)]
    answer = await _post(http, "/v1/embeddings", json={"model": model, "input": inputs})
    return float(len(json.loads(answer)["data"]))


async def image(http: httpx2.AsyncClient, model: str, number: int) -> float:
    body = {"model": model, "prompt": "a gull above the sea", "seed": number}
    body["response_format"] = "b64_json"
    return float(len(json.loads(await _post(http, "/v1/images/generations", json=body))["data"]))


async def speech(http: httpx2.AsyncClient, model: str, number: int) -> float:
    text = f"Number {number}. {_TEXT}"
    await _post(http, "/v1/audio/speech", json=_spoken(model, text))
    return float(len(text))


def transcription(sound: bytes) -> Ask:
    async def ask(http: httpx2.AsyncClient, model: str, _number: int) -> float:
        """Seconds of speech that were heard."""
        form = {"model": model, "response_format": "verbose_json"}
        file = {"file": ("speech.wav", sound, "audio/wav")}
        path = "/v1/audio/transcriptions"
        match = _SECONDS.search(await _post(http, path, data=form, files=file))
        if match is None:
            raise RuntimeError("a transcription did not tell how long it was")
        return float(match[1] or match[2])

    return ask


def _spoken(model: str, text: str) -> Json:
    return {"model": model, "input": text, "voice": "alloy", "response_format": "wav"}


WORKS = {
    "chat": Work(
        "smollm2-135m-instruct",
        None,
        "tokens/s",
        chat,
        callers=(1, 8, 32),
        calls=2,
        spec={"slots": 32, "context_tokens": 512},
    ),
    "embedding": Work("all-minilm-l6-v2", None, "texts/s", embedding, callers=(1, 8), calls=8),
    "image": Work("emoji-diffusion-64", "diffusers", "images/s", image, callers=(1, 4), calls=1),
    "speech": Work("hibari-en", "hibari", "characters/s", speech, callers=(1, 4), calls=2),
    # Its calls are made once there is something to hear.
    "transcription": Work(
        "whisper-tiny.en",
        "faster-whisper",
        "seconds heard/s",
        transcription(b""),
        callers=(1, 4),
        calls=2,
    ),
}


class Bench:
    """A running Modelry, and what calls its services."""

    def __init__(self, client: Client, url: str, *, install: bool) -> None:
        self._client = client
        self._url = url
        self._install = install
        self._key = str(client.post("/keys", {"name": "bench"})["key"])

    def deployed(self, name: str, work: Work) -> str:
        """The access path of a service that runs. Raises `Skipped`."""
        try:
            self._client.get(f"/models/{work.card}")
        except ApiError as error:
            raise Skipped(f"there is no card {work.card}") from error
        if work.engine is not None:
            self._need(work.engine)
        try:
            self._client.get(f"/services/{name}")
        except ApiError:
            try:
                self._client.post("/services", {"name": name, "model": work.card, **work.spec})
            except ApiError as error:
                raise Skipped(f"no service of {work.card} can be made: {error.message}") from error
        else:
            self._client.post(f"/services/{name}/start")
        until = time.monotonic() + _WAIT_S
        while (service := self._client.get(f"/services/{name}"))["status"]["state"] != "running":
            status = service["status"]
            if status["state"] == "failed" or time.monotonic() > until:
                raise Skipped(f"its service is {status['state']}: {status['message']}")
            time.sleep(_POLL_S)
        return str(service["access_path"])

    def through(self) -> httpx2.AsyncClient:
        """Calls by way of Modelry."""
        return _caller(base_url=self._url, headers={"authorization": f"Bearer {self._key}"})

    def directly(self, name: str) -> httpx2.AsyncClient:
        """Calls the service's replica itself."""
        (replica,) = self._client.get(f"/services/{name}")["status"]["replicas"]
        record = json.loads(
            (Paths(HOME).replicas / replica["id"] / "record.json").read_text(encoding="utf-8")
        )
        transport = httpx2.AsyncHTTPTransport(uds=record["address"].removeprefix("unix:"))
        headers = {"authorization": f"Bearer {record['secret']}"}
        return _caller(base_url="http://replica", headers=headers, transport=transport)

    def done(self, name: str) -> None:
        """Nothing else shall run while the next is measured."""
        self._client.post(f"/services/{name}/stop")

    def _need(self, engine: str) -> None:
        """Raises `Skipped` where its runtime is not here, and not to be installed."""
        until = time.monotonic() + _WAIT_S
        while True:
            rows = self._client.list("/engines")
            found = [row for row in rows if row["engine"] == engine and row["default"]]
            if not found:
                raise Skipped(f"there is no engine {engine} for this machine")
            (row,) = found
            if row["state"] in ("installed", "embedded"):
                return
            if row["state"] == "failed" or time.monotonic() > until:
                raise Skipped(f"{row['id']} is {row['state']}: {row['message']}")
            if row["state"] == "absent":
                if not self._install:
                    raise Skipped(f"{row['id']} is not installed: --install does, once for all")
                self._client.post(f"/engines/{row['id']}/install")
            time.sleep(_POLL_S)


def _caller(**options: Any) -> httpx2.AsyncClient:
    # An engine closes what was idle in the other side's turn.
    limits = httpx2.Limits(
        max_connections=None, max_keepalive_connections=None, keepalive_expiry=1.0
    )
    return httpx2.AsyncClient(timeout=600, trust_env=False, limits=limits, **options)


async def a_round(work: Work, http: httpx2.AsyncClient, model: str, callers: int, at: int) -> float:
    """How much is done a second by so many callers at a time. `at`: numbers of its calls."""

    async def call_on(caller: int) -> float:
        numbers = range(at + caller * work.calls, at + (caller + 1) * work.calls)
        return sum([await work.ask(http, model, number) for number in numbers])

    begun = time.perf_counter()
    done = await asyncio.gather(*(call_on(caller) for caller in range(callers)))
    return sum(done) / (time.perf_counter() - begun)


async def measure(bench: Bench, name: str, work: Work, model: str, rounds: int) -> None:
    """Print a line for each number of callers."""
    async with AsyncExitStack() as stack:
        sides = {
            "directly": await stack.enter_async_context(bench.directly(name)),
            "through": await stack.enter_async_context(bench.through()),
        }
        for http in sides.values():
            await a_round(work, http, model, 1, 0)
        number = work.calls
        for callers in work.callers:
            found: dict[str, list[float]] = {side: [] for side in sides}
            for turn in range(rounds):
                # Whoever is first in one round is second in the next.
                for side in list(sides)[:: 1 if turn % 2 else -1]:
                    speed = await a_round(work, sides[side], model, callers, number)
                    found[side].append(speed)
                    number += callers * work.calls
            _tell(name, work.unit, callers, found["directly"], found["through"])


def _tell(
    name: str, unit: str, callers: int, directly: Sequence[float], through: Sequence[float]
) -> None:
    ratios = [ours / theirs for ours, theirs in zip(through, directly, strict=True)]
    print(
        f"  {name:14} {callers:3} at a time   {statistics.median(directly):9.2f} directly   "
        f"{statistics.median(through):9.2f} through Modelry   {unit:16} "
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )
    if name == "transcription":
        factors = [1 / statistics.median(speeds) for speeds in (directly, through)]
        print(f"  {'':14} real-time factor {factors[0]:.4f} directly, {factors[1]:.4f} through")


async def sound_of(bench: Bench, model: str) -> bytes:
    """Something to hear: what the speech service says."""
    async with bench.through() as http:
        return await _post(http, "/v1/audio/speech", json=_spoken(model, f"{_TEXT} {_TEXT}"))


def run(bench: Bench, tasks: Sequence[str], rounds: int, audio: Path | None) -> None:
    sound = None if audio is None else audio.read_bytes()
    for name in tasks:
        work = WORKS[name]
        try:
            if name == "transcription":
                if sound is None:
                    spoken = bench.deployed("speech", WORKS["speech"])
                    sound = asyncio.run(sound_of(bench, spoken))
                    bench.done("speech")
                work = Work(**{**vars(work), "ask": transcription(sound)})
            model = bench.deployed(name, work)
        except Skipped as why:
            print(f"  {name:14} skipped: {why}")
            continue
        asyncio.run(measure(bench, name, work, model, rounds))
        bench.done(name)


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="just bench tasks")
    parser.add_argument("--only", metavar="TASK,…", help=f"of {', '.join(WORKS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--install", action="store_true", help="install runtimes that are absent")
    parser.add_argument("--runtimes", type=Path, help="a folder of runtimes that are installed")
    parser.add_argument("--audio", type=Path, help="a WAV file of speech to write down")
    options = parser.parse_args(arguments)
    tasks = options.only.split(",") if options.only else list(WORKS)
    unknown = [name for name in tasks if name not in WORKS]
    if unknown:
        parser.error(f"{unknown[0]!r} is none of {', '.join(WORKS)}")
    HOME.mkdir(parents=True, exist_ok=True)
    runtimes = Paths(HOME).runtimes
    if options.runtimes is not None and not runtimes.exists():
        runtimes.symlink_to(options.runtimes.resolve())
    with up(HOME, MODELRY_ADMIN_TOKEN=_TOKEN) as process:
        url = printed(process, "  API ").split()[1].removesuffix("/v1")
        with Client(url, _TOKEN) as client:
            print(f"tasks, {options.rounds} rounds in turns; median, and ratio within a round")
            run(Bench(client, url, install=options.install), tasks, options.rounds, options.audio)
    return 0
