"""The control plane's sentences in other languages."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given

from modelry.console import told
from modelry.console.told import read_told
from modelry.console.words import LANGUAGES
from modelry.services.plan import status
from modelry.services.situation import World
from tests.unit.test_plan_properties import some_worlds, worlds

OTHERS = [language for language in LANGUAGES if language != "en"]
ENGLISH_WORDS = re.compile(r"[A-Za-z]{3,}")
# What a failure of these worlds says: it is an engine's own, or a name.
ENGINE_WORDS = {"ended", "exited", "crashed", "svc", "GGUF"}


@pytest.mark.parametrize("language", OTHERS)
@some_worlds
@given(seen=worlds())
def test_whatever_is_told_of_a_service_is_known(language: str, seen: World) -> None:
    tell = read_told(language)
    for service in seen.services:
        message = status(seen, service).message
        words = set(ENGLISH_WORDS.findall(tell(message)))
        assert words <= ENGINE_WORDS, message


@pytest.mark.parametrize("language", OTHERS)
def test_sentences_within_sentences_are_told_too(language: str) -> None:
    sentence = "waits for its base: starting again: the engine loads the weights"
    assert ENGLISH_WORDS.search(read_told(language)(sentence)) is None


@pytest.mark.parametrize("language", OTHERS)
def test_what_is_nobody_s_sentence_stays(language: str) -> None:
    for text in ("", "error: {x} %s \\1", "serving tea", "a\nb", "{reason}"):
        assert read_told(language)(text) == text


def test_english_stays() -> None:
    assert read_told("en")("serving") == "serving"


@pytest.mark.parametrize("language", OTHERS)
def test_a_meaning_takes_what_its_sentence_has(language: str) -> None:
    path = Path(told.__file__).parent / "told" / f"{language}.json"
    for sentence, meaning in json.loads(path.read_text()).items():
        assert set(re.findall(r"\{(\w+)\}", sentence)) == set(re.findall(r"\{(\w+)\}", meaning))


def test_a_value_with_braces_is_put_in_as_it_is() -> None:
    sentence = "needs about {x} of the {0} of this machine's memory"
    assert "{x}" in read_told("zh-CN")(sentence)
