"""What a transcription may be asked, and what is said where it may not."""

import pytest

from modelry.runners.languages import NAMES, code_of
from modelry.runners.refusals import Refused
from modelry.runners.transcription_request import Asked, read_fields


def read(*fields: tuple[str, str], translate: bool = False, multilingual: bool = True) -> Asked:
    return read_fields(fields, translate=translate, multilingual=multilingual)


def refused(*fields: tuple[str, str], **more: bool) -> Refused:
    with pytest.raises(Refused) as caught:
        read(*fields, **more)
    assert caught.value.status == 400
    return caught.value


def test_nothing_but_a_file_asks_for_a_text_as_json() -> None:
    assert read(("model", "a/b")) == Asked()
    assert read(multilingual=False).language == "en"


def test_every_field_is_read() -> None:
    asked = read(
        ("language", "fr"),
        ("prompt", "Bonjour"),
        ("response_format", "verbose_json"),
        ("temperature", "0.4"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("stream", "False"),
        ("chunking_strategy", "auto"),
    )
    assert asked == Asked(
        language="fr",
        prompt="Bonjour",
        format="verbose_json",
        temperature=0.4,
        words=True,
        segments=True,
        vad=True,
    )


def test_times_of_words_alone_leave_out_the_segments() -> None:
    asked = read(("response_format", "verbose_json"), ("timestamp_granularities", '["word"]'))
    assert (asked.words, asked.segments) == (True, False)


@pytest.mark.parametrize("stream", ["true", "1", "True"])
def test_a_stream_is_asked_for_as_forms_write_it(stream: str) -> None:
    assert read(("stream", stream)).stream


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("language", "klingon", "ISO 639-1"),
        ("response_format", "docx", "json, text, srt, verbose_json, vtt"),
        ("response_format", "diarized_json", "json, text"),
        ("temperature", "1.5", "from 0 to 1"),
        ("temperature", "nan", "from 0 to 1"),
        ("temperature", "warm", "from 0 to 1"),
        ("timestamp_granularities[]", "letter", "segment, word"),
        ("timestamp_granularities[]", "word", "verbose_json"),
        ("include[]", "logprobs", "logprobs"),
        ("stream", "perhaps", "true or false"),
        ("chunking_strategy", "often", "'auto'"),
        ("chunking_strategy", '{"type": "server_vad", "threshold": 0.5}', "'auto'"),
        ("prompt", "a" * 4001, "4001"),
    ],
)
def test_what_cannot_be_done_is_named_with_what_can(field: str, value: str, told: str) -> None:
    refusal = refused((field, value))
    assert refusal.param == field.removesuffix("[]")
    assert told in refusal.message


@pytest.mark.parametrize("format", ["srt", "vtt", "verbose_json"])
def test_subtitles_are_not_streamed(format: str) -> None:
    assert refused(("stream", "true"), ("response_format", format)).param == "response_format"


def test_a_model_of_english_alone_says_so() -> None:
    assert read(("language", "en-GB"), multilingual=False).language == "en"
    assert "English alone" in refused(("language", "de"), multilingual=False).message
    assert "translate" in refused(translate=True, multilingual=False).message
    assert read(translate=True).translate


def test_a_refusal_does_not_repeat_a_long_value() -> None:
    assert len(refused(("response_format", "x" * 10_000)).message) < 200


@pytest.mark.parametrize(
    ("said", "code"),
    [("en", "en"), ("EN", "en"), ("zh-CN", "zh"), ("pt_BR", "pt"), ("German", "de"), ("", None),
     ("english!", None), ("haw", "haw"), ("e", None)],
)  # fmt: skip
def test_languages_are_known_by_code_and_name(said: str, code: str | None) -> None:
    assert code_of(said) == code


def test_every_language_has_one_name() -> None:
    assert len(set(NAMES.values())) == len(NAMES) == 100
