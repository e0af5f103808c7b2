"""Checks of embeddings, rerank, images, speech and transcription: as cheap as they can be."""

import base64
import struct

from modelry.services.conformance.asking import shaped, whole
from modelry.services.conformance.caller import (
    Caller,
    File,
    Json,
    Skipped,
    Subject,
    Wrong,
    accepted,
    refused,
)
from modelry.services.conformance.fault_checks import refusal
from modelry.services.conformance.shapes import EMBEDDINGS

EMBED = "/v1/embeddings"
RERANK = "/v1/rerank"
_CUT_TO = 8
_CLOSE = 1e-3
_RATE = 16_000


async def embedding(caller: Caller, subject: Subject) -> str:
    told, vectors = await _vectors(caller, subject, ["A cat sleeps.", "Shares fell."])
    if len(vectors) != 2 or len(vectors[0]) != len(vectors[1]):
        raise Wrong(f"{len(vectors)} embeddings came for 2 texts, or of several lengths")
    return f"{len(vectors[0])} numbers; {told}"


async def embedding_base64(caller: Caller, subject: Subject) -> str:
    _, (plain,) = await _vectors(caller, subject, ["A cat sleeps."])
    _, (coded,) = await _vectors(caller, subject, ["A cat sleeps."], encoding_format="base64")
    if len(plain) != len(coded):
        raise Wrong(f"{len(coded)} numbers came in base64, and {len(plain)} as they are")
    if max(abs(one - other) for one, other in zip(plain, coded, strict=True)) > _CLOSE:
        raise Wrong("base64 holds other numbers")
    return "the same numbers"


async def embedding_dimensions(caller: Caller, subject: Subject) -> str:
    _, (vector,) = await _vectors(caller, subject, ["A cat sleeps."], dimensions=_CUT_TO)
    if len(vector) != _CUT_TO:
        raise Wrong(f"{_CUT_TO} dimensions were asked for, and {len(vector)} came")
    return f"cut to {_CUT_TO}"


async def embedding_errors(caller: Caller, subject: Subject) -> str:
    await refusal(caller, EMBED, {"model": subject.access_path, "input": 7}, "a number as input")
    return "400 in OpenAI's shape"


async def _vectors(
    caller: Caller, subject: Subject, texts: list[str], **fields: object
) -> tuple[str, list[list[float]]]:
    body = {"model": subject.access_path, "input": texts, **fields}
    found = await whole(caller, EMBED, body)
    told = shaped(EMBEDDINGS, found)
    if found["usage"]["total_tokens"] < len(texts):
        raise Wrong(f"usage says {found['usage']['total_tokens']} tokens for {len(texts)} texts")
    wants_text = "encoding_format" in fields
    vectors = []
    for item in sorted(found["data"], key=lambda item: int(item["index"])):
        given = item["embedding"]
        if isinstance(given, str) != wants_text:
            raise Wrong("encoding_format was passed over in silence")
        vectors.append(_numbers(given) if isinstance(given, str) else given)
    return told, vectors


def _numbers(text: str) -> list[float]:
    data = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


async def rerank(caller: Caller, subject: Subject) -> str:
    documents = [
        "Shares of the bank fell by three per cent.",
        "A cat is a small animal that people keep at home.",
        "The train leaves at noon.",
    ]
    body = {"model": subject.access_path, "query": "What is a cat?", "documents": documents}
    found = await whole(caller, RERANK, {**body, "top_n": 2})
    results = found.get("results")
    if not isinstance(results, list) or len(results) != 2:
        raise Wrong("top_n was 2, and not so many results came")
    scores = [float(result["relevance_score"]) for result in results]
    if scores != sorted(scores, reverse=True):
        raise Wrong("the results are not in order of their scores")
    if results[0]["index"] != 1:
        raise Wrong("the document that answers the query does not come first")
    if not isinstance(found.get("usage"), dict) or not found["usage"].get("total_tokens"):
        raise Wrong("the answer has no usage")
    return "the best first, with usage"


async def rerank_errors(caller: Caller, subject: Subject) -> str:
    body = {"model": subject.access_path, "query": "What is a cat?", "documents": "none"}
    await refusal(caller, RERANK, body, "documents that are no list")
    return "400 in OpenAI's shape"


async def image(caller: Caller, subject: Subject) -> str:
    raise Skipped("a picture may take minutes; the service's page tries it")


async def image_errors(caller: Caller, subject: Subject) -> str:
    body = {"model": subject.access_path, "prompt": "a cat", "n": "many"}
    await refusal(caller, "/v1/images/generations", body, "a number of pictures that is a text")
    return "400 in OpenAI's shape"


async def speech(caller: Caller, subject: Subject) -> str:
    body = {"model": subject.access_path, "input": "Hi.", "voice": "alloy"}
    answer = await caller.ask("/v1/audio/speech", {**body, "response_format": "wav"})
    if answer.status != 200:
        raise refused(answer)
    if answer.raw[:4] != b"RIFF" or answer.raw[8:12] != b"WAVE":
        raise Wrong(f"wav was asked for, and {answer.type or 'something untyped'} came")
    return "wav"


async def speech_errors(caller: Caller, subject: Subject) -> str:
    body = {"model": subject.access_path, "input": 7, "voice": "alloy"}
    await refusal(caller, "/v1/audio/speech", body, "a number as input")
    return "400 in OpenAI's shape"


async def transcription(caller: Caller, subject: Subject) -> str:
    """A second of silence: that it is heard as nothing, or as something, is the model's matter."""
    form: Json = {"model": subject.access_path, "response_format": "json"}
    answer = await caller.ask("/v1/audio/transcriptions", form, _silence())
    if not isinstance(accepted(answer).get("text"), str):
        raise Wrong("the answer has no text")
    return "json"


async def transcription_errors(caller: Caller, subject: Subject) -> str:
    form: Json = {"model": subject.access_path}
    broken = File("sound.wav", "audio/wav", b"no sound at all")
    answer = await caller.ask("/v1/audio/transcriptions", form, broken)
    if answer.status not in (400, 422):
        raise Wrong(f"a file that is no sound: it answers {answer.status}, not 400")
    return "400 for a file that is no sound"


def _silence() -> File:
    data = bytes(2 * _RATE)
    head = struct.pack(
        *("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16),
        *(1, 1, _RATE, 2 * _RATE, 2, 16, b"data", len(data)),
    )
    return File("silence.wav", "audio/wav", head + data)
