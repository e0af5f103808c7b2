"""What pages show beside an example is what OpenAI's and Anthropic's types say an answer is."""

import json
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types import (
    Completion,
    CreateEmbeddingResponse,
    ImageGenStreamEvent,
    ImagesResponse,
)
from openai.types.audio import Transcription, TranscriptionStreamEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from modelry.console.call_parameters import PARAMETERS
from modelry.services.example_answers import EVENTS, JSON, Answer, example_answer
from modelry.services.examples import examples
from modelry.services.examples_libraries import library_examples
from tests.support.strict import strict

BASE = "http://127.0.0.1:8080/v1"
PATH = "u-0123456789ab/test"
TASKS = ("chat", "completion", "embedding", "rerank", "image", "speech", "transcription")

WHOLE = {
    "chat/completions": ChatCompletion,
    "completions": Completion,
    "embeddings": CreateEmbeddingResponse,
    "images/generations": ImagesResponse,
    "images/edits": ImagesResponse,
    "audio/transcriptions": Transcription,
}
STREAMED = {
    "chat/completions": ChatCompletionChunk,
    "completions": Completion,
    "images/generations": ImageGenStreamEvent,
    "audio/transcriptions": TranscriptionStreamEvent,
}

# What OpenAI's own streams have, though its types know it of whole answers alone.
LOOSER = ("choices[0].finish_reason: None", "usage.type: 'duration'")


def shown(path: str, *, streaming: bool) -> Answer:
    return example_answer(path, streaming=streaming, base_url=BASE, access_path=PATH)


def events(path: str) -> list[dict[str, Any]]:
    """What a stream's events have; those with names have the name as their type."""
    answer = shown(path, streaming=True)
    assert answer.content_type == EVENTS
    assert answer.text is not None
    found = []
    for event in answer.text.split("\n\n"):
        name, _, data = event.rpartition("data: ")
        if data == "[DONE]":
            continue
        found.append(json.loads(data))
        assert not name or name == f"event: {found[-1]['type']}\n"
    return found


@pytest.mark.parametrize("path", WHOLE)
def test_a_whole_answer_is_one_of_openai_s(path: str) -> None:
    answer = shown(path, streaming=False)
    assert answer.content_type == JSON
    assert answer.text is not None
    body = json.loads(answer.text)
    assert strict(WHOLE[path], body) == []
    assert body.get("model", PATH) == PATH


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_s_events_are_openai_s(path: str) -> None:
    found = events(path)
    assert found
    assert {each.get("model", PATH) for each in found} == {PATH}
    for each in found:
        assert [told for told in strict(STREAMED[path], each) if not told.startswith(LOOSER)] == []


def test_a_message_is_one_of_anthropic_s() -> None:
    answer = shown("messages", streaming=False)
    assert answer.text is not None
    message = Message.model_validate_json(answer.text)
    assert (message.model, message.stop_reason) == (PATH, "end_turn")
    event: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
    kinds = [event.validate_python(each).type for each in events("messages")]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


def test_speech_is_bytes_or_events() -> None:
    assert shown("audio/speech", streaming=False).text is None
    assert [each["type"] for each in events("audio/speech")] == [
        "speech.audio.delta",
        "speech.audio.done",
    ]


def test_whatever_has_an_example_has_its_answer_and_its_fields() -> None:
    found = [each for task in TASKS for each in examples(BASE, PATH, (task,))]
    assert {each.path for each in found} == PARAMETERS.keys()
    for example in found:
        # Where a library streams without events, its page shows the whole answer.
        shown(example.path, streaming=example.streaming)
    for library in library_examples(BASE, PATH):
        shown(library.path, streaming=library.streaming)


@pytest.mark.parametrize("path", PARAMETERS)
def test_the_fields_of_a_call_begin_with_those_it_needs(path: str) -> None:
    fields = PARAMETERS[path]
    needed = [field.needed for field in fields]
    assert needed == sorted(needed, reverse=True)
    assert fields[0].name == "model"
    assert len({field.name for field in fields}) == len(fields)
