"""The programs of every task run as they stand: through a gateway, to an engine that is played."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelry.services.examples import Example, examples
from tests.support.data_plane import Plane
from tests.support.node import Node

TASKS = ("completion", "embedding", "rerank", "image", "speech", "transcription")
NAMES = [
    (each.title, each.language)
    for task in TASKS
    for each in examples("http://127.0.0.1/v1", "u-0123456789ab/x", (task,))
]
PICTURE = b"\x89PNG\r\n\x1a\n a picture"
SOUND = b"RIFF a sound"
B64 = base64.b64encode(PICTURE).decode()


def event(value: dict[str, Any]) -> str:
    name = f"event: {value['type']}\n" if "type" in value else ""
    return f"{name}data: {json.dumps(value)}\n\n"


def answer(value: dict[str, Any]) -> dict[str, Any]:
    return {"do": "answer", "text": json.dumps(value)}


def stream(*values: dict[str, Any], end: str = "") -> dict[str, Any]:
    return {"do": "stream", "frames": [*map(event, values), *([end] if end else [])]}


def sound() -> dict[str, Any]:
    head = "HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [f"{len(part):x}\r\n{part.decode()}\r\n" for part in (SOUND[:5], SOUND[5:])]
    return {"do": "raw", "pieces": [head, *chunks, "0\r\n\r\n"], "end": "next"}


def image(type_: str, **fields: Any) -> dict[str, Any]:
    looks = {"background": "opaque", "output_format": "png", "quality": "low", "size": "64x64"}
    return {"type": type_, "b64_json": B64, "created_at": 7, **looks, **fields}


MADE = answer({"created": 7, "data": [{"b64_json": B64}]})
# What an engine answers to a program: by its title.
ANSWERS = {
    "Completion": answer(
        {"object": "text_completion", "choices": [{"index": 0, "text": " lived a gull."}]}
    ),
    "Completion, streaming": stream(
        *(
            {"object": "text_completion", "choices": [{"index": 0, "text": text}]}
            for text in (" lived", " a gull.")
        ),
        end="data: [DONE]\n\n",
    ),
    "Embedding": answer(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": [0.25, -0.5, 0.75]}
                for index in (0, 1)
            ],
            "usage": {"prompt_tokens": 9, "total_tokens": 9},
        }
    ),
    "Rerank": answer(
        {
            "results": [
                {"index": 0, "relevance_score": 0.875},
                {"index": 1, "relevance_score": 0.125},
            ],
            "usage": {"prompt_tokens": 9, "total_tokens": 9},
        }
    ),
    "Image, into gull.png": MADE,
    "Image, into gull.png, streaming": stream(
        image("image_generation.partial_image", partial_image_index=0),
        image("image_generation.partial_image", partial_image_index=1),
        image("image_generation.completed"),
    ),
    "Image edit, of gull.png": MADE,
    "Speech, into speech.wav": sound(),
    "Speech, into speech.wav, streaming": sound(),
    "Transcription of speech.wav": answer({"text": "Say this is a test!"}),
    "Transcription of speech.wav, streaming": stream(
        {"type": "transcript.text.delta", "delta": "Say this "},
        {"type": "transcript.text.delta", "delta": "is a test!"},
        {"type": "transcript.text.done", "text": "Say this is a test!"},
    ),
}
# What it prints in Python and in Node.js.
PRINTED = {
    "Completion": "lived a gull.",
    "Completion, streaming": "lived a gull.",
    "Embedding": "0 3 [",
    "Rerank": "0.875 A gull glides.\n0.125 A car drives.",
    "Image, into gull.png": "gull.png",
    "Image, into gull.png, streaming": "gull-0.png\ngull-1.png\ngull.png",
    "Image edit, of gull.png": "gull-at-night.png",
    "Speech, into speech.wav": "speech.wav",
    "Speech, into speech.wav, streaming": "speech.wav",
    "Transcription of speech.wav": "Say this is a test!",
    "Transcription of speech.wav, streaming": "Say this is a test!",
}
# Program → the path that the engine is asked at, and what must be in the body.
ASKED = {
    "Completion": ("completions", ['"prompt"']),
    "Embedding": ("embeddings", ['"input"']),
    "Rerank": ("rerank", ['"query"', '"documents"']),
    "Image": ("images/generations", ['"prompt"']),
    "Image edit": ("images/edits", ['name="image"', 'name="prompt"', PICTURE.decode("latin-1")]),
    "Speech": ("audio/speech", ['"input"', '"voice"', '"wav"']),
    "Transcription of speech.wav": (
        "audio/transcriptions",
        ['name="file"; filename="speech.wav"', SOUND.decode()],
    ),
}
STREAMS = {
    "Completion": '"stream"',
    "Image, into gull.png": '"partial_images"',
    "Transcription of speech.wav": 'name="stream"\r\n\r\ntrue',
}
WRITTEN = {
    "Image, into gull.png": ("gull.png", PICTURE),
    "Image edit, of gull.png": ("gull-at-night.png", PICTURE),
    "Speech, into speech.wav": ("speech.wav", SOUND),
}
SAVED_BY_CURL = ("Image, into gull.png", "Speech, into speech.wav")
"""The others print what came."""


@pytest.fixture(scope="module")
def one_plane() -> Iterator[Plane]:
    plane = Plane()
    yield plane
    plane.close()


@pytest.fixture
def plane(one_plane: Plane) -> Iterator[Plane]:
    yield one_plane
    one_plane.end_replicas()


def run(example: Example, folder: Path, key: str, node: Node) -> str:
    """What the program prints. It runs in the folder, with the key in its environment."""
    if example.language == "node":
        done = node.run(folder, example.code, MODELRY_API_KEY=key)
    else:
        if example.language == "curl":
            # Strictly: an answer that is no success is a failure, and nothing else is said.
            program = ["bash", "-c", example.code.replace("curl ", "curl -fsS ", 1)]
        else:
            program = [sys.executable, "-W", "error", "-c", example.code]
        done = subprocess.run(
            program,
            env={**os.environ, "MODELRY_API_KEY": key},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("title", "language"), NAMES)
def test_the_program_runs(
    plane: Plane, node: Node, tmp_path: Path, title: str, language: str
) -> None:
    replica = plane.replica(**ANSWERS[title])
    path = plane.service(replica, tasks=TASKS)
    (example,) = [
        each
        for task in TASKS
        for each in examples(f"{plane.gateway.url}/v1", path, (task,))
        if (each.title, each.language) == (title, language)
    ]
    (tmp_path / "gull.png").write_bytes(PICTURE if "edit" in title else b"")
    (tmp_path / "speech.wav").write_bytes(SOUND if "Transcription" in title else b"")
    printed = run(example, tmp_path, plane.owner_key, node)

    (request,) = replica.requests
    task = title.removesuffix(", streaming")
    endpoint, contents = ASKED[task.partition(", ")[0]]
    assert request["head"].startswith(f"POST /v1/{endpoint} HTTP/1.1\r\n")
    for content in [path, *contents]:
        assert content in request["body"]
    if task in STREAMS:
        assert (STREAMS[task] in request["body"]) is example.streaming
    if language != "curl":
        assert printed.strip().startswith(PRINTED[title])
        if task in WRITTEN:
            file, written = WRITTEN[task]
            assert (tmp_path / file).read_bytes() == written
        return
    if task in SAVED_BY_CURL and not example.streaming:
        file, written = WRITTEN[task]
        assert (tmp_path / file).read_bytes() == written
    if "Speech" in task and not example.streaming:
        assert printed == ""
    elif ANSWERS[title]["do"] == "answer":
        assert json.loads(printed).keys() >= json.loads(ANSWERS[title]["text"]).keys()
    elif ANSWERS[title]["do"] == "stream":
        assert printed == "".join(ANSWERS[title]["frames"])
    else:
        assert printed == SOUND.decode()
