"""Transcripts as text, subtitles and JSON, read back by OpenAI's own types."""

import json
import re

import pytest
from openai.types.audio import Transcription, TranscriptionVerbose

from modelry.runners import transcripts
from modelry.runners.transcripts import Segment, Transcript, Word

HELLO = (Word(" Hello", 0.1, 0.5), Word(" there.", 0.5, 1.0))
HEARD = Transcript(
    segments=(
        Segment(0.0, 2.5, " Hello there.", (1, 2), HELLO),
        Segment(3661.0456, 3662.9999, " A < B --> C\n\nD", (3,), (Word(" A", 3661.05, 3661.2),)),
        Segment(3663.0, 3663.5, "  "),
    ),
    language="en",
    duration_s=3664.01,
)
NOTHING = Transcript((), "de", 1.0)


def test_plain_text_is_what_was_said() -> None:
    assert transcripts.plain(HEARD) == "Hello there. A < B --> C\n\nD\n"


def test_subrip_numbers_its_cues_and_has_commas_in_its_times() -> None:
    assert transcripts.srt(HEARD) == (
        "1\n00:00:00,000 --> 00:00:02,500\nHello there.\n\n"
        "2\n01:01:01,046 --> 01:01:03,000\nA < B -> C D\n"
    )


def test_webvtt_begins_with_its_name_and_escapes_what_would_be_a_tag() -> None:
    assert transcripts.vtt(HEARD) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\nHello there.\n\n"
        "01:01:01.046 --> 01:01:03.000\nA &lt; B -&gt; C D\n"
    )


def test_silence_has_no_cues() -> None:
    assert transcripts.srt(NOTHING) == ""
    assert transcripts.vtt(NOTHING) == "WEBVTT\n"
    assert transcripts.brief(NOTHING)["text"] == ""


def test_json_is_what_openais_types_expect() -> None:
    told = transcripts.brief(HEARD)
    read = Transcription.model_validate_json(json.dumps(told), strict=True)
    assert read.text == HEARD.text
    assert told["usage"] == {"type": "duration", "seconds": 3665}


@pytest.mark.parametrize(("words", "segments"), [(True, True), (True, False), (False, True)])
def test_verbose_json_is_what_openais_types_expect(words: bool, segments: bool) -> None:
    told = transcripts.verbose(HEARD, translated=False, words=words, segments=segments)
    read = TranscriptionVerbose.model_validate_json(json.dumps(told), strict=True)
    assert read.language == "english"
    assert read.duration == 3664.01
    assert (read.words is not None, read.segments is not None) == (words, segments)
    if read.words:
        assert [word.word for word in read.words] == ["Hello", "there.", "A"]
    if read.segments:
        assert [segment.id for segment in read.segments] == [0, 1, 2]


def test_a_translation_is_in_english_whatever_was_spoken() -> None:
    told = transcripts.verbose(NOTHING, translated=True, words=False, segments=True)
    assert (told["task"], told["language"]) == ("translate", "english")
    told = transcripts.verbose(NOTHING, translated=False, words=False, segments=True)
    assert (told["task"], told["language"]) == ("transcribe", "german")


def test_every_format_has_a_type() -> None:
    assert all(re.match(r"(text|application)/", kind) for kind in transcripts.MIME.values())
