"""A voice and ears: what one service reads aloud, another writes down again.

Both are the embedded models, each in its own runtime, called as OpenAI's library calls them.
"""

import io
import json
import re
import statistics
import struct
import time
import wave
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import BadRequestError, OpenAI
from openai.types.audio import Transcription, TranscriptionVerbose

from tests.support.flac import silence
from tests.support.instance import Instance
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(1800)

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Please bring your own cup and a clean spoon.",
    "The train to the city leaves in the morning.",
    "She sells fresh bread at the market every week.",
    "We walked along the river until it was dark.",
    "My brother plays the piano better than I do.",
    "The weather will be cold and windy tomorrow.",
    "He forgot his umbrella on the bus again.",
    "They painted the kitchen in a bright yellow.",
    "The children are playing football in the garden.",
    "Our neighbours have a large and friendly cat.",
    "The teacher wrote a long word on the board.",
    "I would like a glass of water with ice.",
    "The museum is closed on the first day of the year.",
    "An old man was reading a newspaper in the park.",
    "The doctor told him to rest for a few days.",
    "You can see the mountains from this window.",
    "The meeting was moved to another room.",
    "Most birds fly south before the winter.",
    "It took us more than an hour to find the house.",
]
SPEECH = {"mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac",
          "wav": "audio/wav", "pcm": "audio/pcm"}  # fmt: skip


@pytest.fixture(scope="module")
def instance(make_slow_instance: Callable[[], Instance]) -> Instance:
    instance = make_slow_instance().start()
    with instance.client() as client:
        client.post("/services", {"name": "voice", "model": "hibari-en"})
        client.post("/services", {"name": "ears", "model": "whisper-tiny.en"})
    for name in ("voice", "ears"):
        instance.await_state(name, "running", 600)
    return instance


@pytest.fixture(scope="module")
def caller(instance: Instance) -> OpenAI:
    return instance.openai(instance.key(), timeout=300)


@pytest.fixture(scope="module")
def recording(caller: OpenAI) -> bytes:
    """A WAV file of four sentences."""
    return spoken(caller, " ".join(SENTENCES[:4]))


def spoken(caller: OpenAI, text: str, format: str = "wav", **more: Any) -> bytes:
    answer = caller.audio.speech.create(
        model="voice", voice="alloy", input=text, response_format=format, **more  # type: ignore[arg-type]
    )  # fmt: skip
    return answer.read()


def heard(caller: OpenAI, sound: bytes, name: str = "a.wav", **more: Any) -> Any:
    return caller.audio.transcriptions.create(model="ears", file=(name, sound), **more)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def word_errors(said: list[str], found: list[str]) -> int:
    """Words to change, add or take away (Levenshtein's distance)."""
    row = list(range(len(found) + 1))
    for at, word in enumerate(said, 1):
        above, row = row, [at]
        for to, other in enumerate(found, 1):
            row.append(min(above[to] + 1, row[-1] + 1, above[to - 1] + (word != other)))
    return row[-1]


def seconds_of(wav: bytes) -> float:
    """Of 16-bit samples, one channel, whatever a streamed header says."""
    with wave.open(io.BytesIO(wav)) as file:
        rate: int = file.getframerate()
    return (len(wav) - 44) / 2 / rate


# -- what is said is heard -----------------------------------------------------


def test_what_is_read_aloud_is_written_down_again(caller: OpenAI) -> None:
    errors = count = 0
    speaking, hearing = [], []
    for sentence in SENTENCES:
        began = time.monotonic()
        sound = spoken(caller, sentence)
        made = time.monotonic()
        found = heard(caller, sound).text
        length = seconds_of(sound)
        assert 1 < length < 8
        speaking.append((made - began) / length)
        hearing.append((time.monotonic() - made) / length)
        errors += word_errors(words(sentence), words(found))
        count += len(words(sentence))
    print(
        f"{errors} of {count} words wrong; real-time factors: speech "
        f"{statistics.median(speaking):.3f}, transcription {statistics.median(hearing):.3f}"
    )
    assert errors <= count * 0.1


@pytest.mark.parametrize("format", SPEECH)
def test_every_format_of_speech_can_be_heard(caller: OpenAI, format: str) -> None:
    answer = caller.audio.speech.with_raw_response.create(
        model="voice", voice="nova", input=" ".join(SENTENCES[:2]), response_format=format  # type: ignore[arg-type]
    )  # fmt: skip
    assert answer.headers["content-type"] == SPEECH[format]
    sound = answer.content
    if format == "pcm":
        sound = wav_of(sound)
    found = heard(caller, sound, f"a.{format}").text
    said = words(" ".join(SENTENCES[:2]))
    assert word_errors(said, words(found)) <= 2


def wav_of(samples: bytes) -> bytes:
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(samples)
    return held.getvalue()


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_speed_is_what_it_says(caller: OpenAI, speed: float) -> None:
    usual = seconds_of(spoken(caller, SENTENCES[0]))
    length = seconds_of(spoken(caller, SENTENCES[0], speed=speed))
    assert length * speed == pytest.approx(usual, rel=0.15)


# -- streams -------------------------------------------------------------------


def test_the_first_sentence_is_heard_while_the_others_are_made(caller: OpenAI) -> None:
    text = " ".join(SENTENCES * 3)
    began = time.monotonic()
    with caller.audio.speech.with_streaming_response.create(
        model="voice", voice="alloy", input=text, response_format="pcm"
    ) as answer:
        chunks = answer.iter_bytes(4096)
        size = len(next(chunks))
        first_s = time.monotonic() - began
        size += sum(len(chunk) for chunk in chunks)
    whole_s = time.monotonic() - began
    print(f"first bytes after {first_s:.3f} s, {size / 48_000:.0f} s of sound in {whole_s:.2f} s")
    assert first_s < whole_s / 4
    assert size / 48_000 > 100


def test_speech_comes_as_openais_events(caller: OpenAI) -> None:
    body = {"model": "voice", "input": " ".join(SENTENCES[:3]), "stream_format": "sse"}
    answer = httpx2.post(
        f"{caller.base_url}audio/speech",
        json={**body, "response_format": "wav"},
        headers={"authorization": f"Bearer {caller.api_key}"},
        timeout=60,
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line[:6] == "data: "]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 3 + ["speech.audio.done"]
    assert set(events[-1]["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}


def test_a_transcription_is_streamed_as_it_is_heard(caller: OpenAI, recording: bytes) -> None:
    stream = heard(caller, recording, stream=True)
    events = list(stream)
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) > 1
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == "".join(deltas)
    assert events[-1].usage.type == "duration"
    assert word_errors(words(" ".join(SENTENCES[:4])), words(events[-1].text)) <= 3


# -- formats of transcripts ----------------------------------------------------


def test_a_transcript_comes_in_every_format(caller: OpenAI, recording: bytes) -> None:
    plain = heard(caller, recording)
    assert isinstance(plain, Transcription)
    length = seconds_of(recording)
    assert plain.usage is not None
    assert plain.usage.type == "duration"
    assert plain.usage.seconds == pytest.approx(length, abs=1)
    text = heard(caller, recording, response_format="text")
    assert text.strip() == plain.text
    srt = heard(caller, recording, response_format="srt")
    assert re.match(r"1\n00:00:0\d,\d{3} --> 00:00:\d\d,\d{3}\n", srt)
    vtt = heard(caller, recording, response_format="vtt")
    assert re.match(r"WEBVTT\n\n00:00:0\d\.\d{3} --> 00:00:\d\d\.\d{3}\n", vtt)


def test_times_of_words_rise_within_their_segments(caller: OpenAI, recording: bytes) -> None:
    told = heard(
        caller,
        recording,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert isinstance(told, TranscriptionVerbose)
    read = TranscriptionVerbose.model_validate_json(told.model_dump_json(), strict=True)
    assert read.language == "english"
    length = seconds_of(recording)
    assert read.duration == pytest.approx(length, abs=0.05)
    assert read.words
    assert read.segments
    assert words(" ".join(word.word for word in read.words)) == words(read.text)
    for before, after in pairwise(read.words):
        assert 0 <= before.start <= before.end <= after.start + 0.02
    assert read.words[-1].end <= length + 0.1
    for first, second in pairwise(read.segments):
        assert first.start < first.end <= second.start + 0.02


# -- what cannot be done -------------------------------------------------------


def test_what_is_no_sound_is_refused_and_does_no_harm(caller: OpenAI, recording: bytes) -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n"
    bad = {
        "empty.wav": b"",
        "header.wav": recording[:44],
        "text.wav": b"This is not a recording of anything.\n" * 50,
        "picture.mp3": picture(),
        "playlist.mp3": playlist,
        "list.mp3": b"ffconcat version 1.0\nfile /etc/hostname\n",
        "noise.ogg": bytes(range(256)) * 200,
        # Almost four hours in 55 bytes.
        "slow.flac": silence(1, 14_000),
        "cut.mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2mp41\0\0\xff\xffmoov" + b"\0" * 50,
    }
    for name, sound in bad.items():
        with pytest.raises(BadRequestError) as caught:
            heard(caller, sound, name)
        assert caught.value.param == "file", name
    with pytest.raises(BadRequestError) as caught:
        heard(caller, recording, language="de")
    assert caught.value.param == "language"
    # OpenAI's library has this endpoint as one that will go, and warns.
    answer = httpx2.post(
        f"{caller.base_url}audio/translations",
        data={"model": "ears"},
        files={"file": ("a.wav", recording)},
        headers={"authorization": f"Bearer {caller.api_key}"},
        timeout=60,
    )
    assert answer.status_code == 400
    assert "multilingual" in answer.json()["error"]["message"]
    with pytest.raises(BadRequestError, match="stream"):
        heard(caller, recording, response_format="srt", stream=True)
    assert heard(caller, recording).text


def picture() -> bytes:
    """A PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_ = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", sum_)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 4)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


def test_what_cannot_be_read_aloud_is_refused_and_does_no_harm(caller: OpenAI) -> None:
    bad: list[dict[str, Any]] = [
        {"input": ""}, {"input": "?!"}, {"input": "😀"}, {"input": "Привет, мир"},
        {"input": "a" * 100_000}, {"input": "Hi", "voice": "nobody"}, {"input": "Hi", "speed": 5},
        {"input": "Hi", "response_format": "ogg"}, {"input": "Hi", "instructions": "Shout."},
    ]  # fmt: skip
    for fields in bad:
        with pytest.raises(BadRequestError) as caught:
            caller.audio.speech.create(**{"model": "voice", "voice": "alloy", **fields})
        assert caught.value.param in fields
    for text in ("1" * 300, "[" * 2000 + "a", "1,2" * 100, "(a)" * 500, "Hi\x00\x1b there"):
        assert seconds_of(spoken(caller, text)) > 0.3
    assert spoken(caller, "Hello.")


def test_an_upload_over_the_limit_is_refused_by_the_gateway(caller: OpenAI) -> None:
    boundary = b"x" * 20
    head = b'--%b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' % boundary
    answer = httpx2.post(
        f"{caller.base_url}audio/transcriptions",
        content=head + bytes(65 * 1024 * 1024),
        headers={
            "authorization": f"Bearer {caller.api_key}",
            "content-type": f"multipart/form-data; boundary={boundary.decode()}",
        },
        timeout=60,
    )
    assert answer.status_code == 413


# -- many, and those who leave -------------------------------------------------


def test_eight_callers_at_once_are_each_given_their_own(caller: OpenAI) -> None:
    def round_trip(sentence: str) -> int:
        found = heard(caller, spoken(caller, sentence)).text
        return word_errors(words(sentence), words(found))

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(round_trip, SENTENCES[:8]))
    print(f"eight round trips at once took {time.monotonic() - began:.1f} s")
    assert sum(errors) <= 8
    assert max(errors) <= 4


def test_work_for_a_caller_who_left_is_given_up(instance: Instance, caller: OpenAI) -> None:
    part = spoken(caller, " ".join(SENTENCES), "mp3")
    began = time.monotonic()
    heard(caller, part, "part.mp3")
    part_s = time.monotonic() - began
    long = part * 32
    began = time.monotonic()
    with caller.audio.transcriptions.with_streaming_response.create(
        model="ears", file=("long.mp3", long), stream=True
    ) as answer:
        next(answer.iter_lines())
        first_s = time.monotonic() - began
        wait_for(lambda: is_working(instance), "the replica to go on", 30)
    left = time.monotonic()
    # A quarter of what hearing it all takes: it has hardly begun.
    wait_for(lambda: not is_working(instance), "the replica to stop", 8 * part_s)
    print(
        f"a part of 32 is heard in {part_s:.1f} s; the first event came after {first_s:.1f} s; the "
        f"replica stopped {time.monotonic() - left:.1f} s after its caller had left"
    )


def is_working(instance: Instance) -> bool:
    """Whether a thread of a replica computes, or waits for a core to do so, within a second."""
    for _ in range(20):
        for pid in instance.engine_pids():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                if (thread / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                    return True
        time.sleep(0.05)
    return False
