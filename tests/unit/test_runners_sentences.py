"""Text that is read aloud, cut where a reader would breathe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.runners.sentences import LONGEST, cleaned, foreign_letter, is_readable, split


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mr. J. Jones. They left.", ["Dr. Smith met Mr. J. Jones.", "They left."]),
        ("It costs 3.50 dollars. Yes.", ["It costs 3.50 dollars.", "Yes."]),
        ("Wait... what? No.", ["Wait... what?", "No."]),
        ('He said "go." Then he went.', ['He said "go."', "Then he went."]),
        ("A line\nand another\n\n- and a third", ["A line", "and another", "- and a third"]),
        ("See e.g. this one, i.e. that.", ["See e.g. this one, i.e. that."]),
        ("\n\n... !!! \n", []),
        ("Only this. 😀", ["Only this."]),
        ("你好。再见。", ["你好。", "再见。"]),
    ],
)
def test_sentences_end_where_a_reader_would_stop(text: str, sentences: list[str]) -> None:
    assert split(text) == sentences


def test_a_long_sentence_is_cut_behind_a_comma() -> None:
    clause = "and then there was another thing to be said about it, "
    parts = split(clause * 12)
    assert len(parts) > 1
    assert all(part.endswith(",") for part in parts[:-1])


@given(st.text(max_size=3000) | st.text(alphabet="a1.,[]( )'$", max_size=3000))
def test_no_piece_is_long_and_nothing_readable_is_lost(text: str) -> None:
    text = cleaned(text)
    pieces = split(text)
    assert all(0 < len(piece) <= LONGEST for piece in pieces)
    spoken = [character for character in text if character.isalnum()]
    assert [each for piece in pieces for each in piece if each.isalnum()] == spoken


@pytest.mark.parametrize("text", ["a" * 5000, "1" * 5000, "1,2" * 2000, "$1" * 2000])
def test_words_and_numbers_that_never_end_are_cut(text: str) -> None:
    assert max(len(word) for word in cleaned(text).split()) <= 40


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["a" + " " * 600_000 + "a", "a.\u3000" * 200_000, "a\n \t" * 200_000, "A. " * 600_000]
)
def test_work_grows_no_quicker_than_the_text(text: str) -> None:
    # Each takes minutes where every end or space is looked at together with all the others.
    assert split(text)
    assert split(cleaned(text))


def test_spaces_that_never_end_are_one() -> None:
    assert cleaned("a \t\u3000 b \n\n  c" + " " * 5000) == "a b \n\n c"


def test_ordinary_words_and_numbers_stay_whole() -> None:
    text = "Donaudampfschifffahrtsgesellschaft: +49 30 1234567, 2026-11-28, $1,234,567.89"
    assert cleaned(text) == text


def test_control_characters_are_spaces() -> None:
    assert cleaned("a\x00b\x1b[0mc\u200bd\n") == "a b [0mc d"


@pytest.mark.parametrize("text", ["", "  ", "!?", "😀", "—", "\x00"])
def test_what_has_no_letter_cannot_be_read(text: str) -> None:
    assert not is_readable(cleaned(text))


@pytest.mark.parametrize(
    ("text", "letter"),
    [("hello", None), ("café à Zürich", None), ("12", None), ("π is 3.14, they say", None),
     ("你好 ok", None), ("你好世界 ok", "你"), ("Привет", "П"), ("שלום", "ש")],
)  # fmt: skip
def test_a_script_is_foreign_where_most_letters_are(text: str, letter: str | None) -> None:
    assert foreign_letter(text) == letter
