"""Programs are coloured without a letter of them being lost, or becoming markup."""

import re

import pytest
from markupsafe import Markup

from modelry.console.coloured import coloured
from modelry.services.examples import LANGUAGES, examples

TASKS = ("chat", "completion", "embedding", "rerank", "image", "speech", "transcription")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_example_is_coloured_and_says_what_it_said(language: str) -> None:
    shown = [each for each in examples("http://x/v1", "u-0/a", TASKS) if each.language == language]
    assert shown
    for each in shown:
        markup = coloured(each.code, language)
        assert "<span class=" in markup
        assert Markup(re.sub(r"<[^>]*>", "", markup)).unescape() == each.code


def test_markup_in_a_program_stays_text() -> None:
    shown = coloured('\nprint("<script>alert(1)</script>")', "python")
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.startswith("\n")
    assert "style=" not in shown
