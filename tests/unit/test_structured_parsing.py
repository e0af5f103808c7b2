"""Calls in what a model writes: found the same however the text comes."""

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelry.gateway.structured.fitting import opening
from modelry.gateway.structured.functions import Function, Offer
from modelry.gateway.structured.parsing import Arguments, Begun, CallReader, Ended, Piece, Words

LOOK, LOOK_UP = Function("look"), Function("look_up")
OFFER = Offer((LOOK, LOOK_UP), must=False, several=True)
ODD = '{"a": "}]\\"{[", "b": [{}, [1, 2]], "größe": "\\\\"}'


def call(function: Function, arguments: str = "{}") -> str:
    return f"{opening(function)}{arguments}}}"


def read(pieces: Iterable[str]) -> tuple[list[Piece], CallReader]:
    """What is found, with the texts of one kind that follow one another joined."""
    reader = CallReader(OFFER)
    found: list[Piece] = []
    for text in pieces:
        found += reader.feed(text)
    found += reader.end()
    joined: list[Piece] = []
    for piece in found:
        match joined[-1:], piece:
            case [Words(before)], Words(text):
                joined[-1] = Words(before + text)
            case [Arguments(before)], Arguments(text):
                joined[-1] = Arguments(before + text)
            case _:
                joined.append(piece)
    return joined, reader


def called(name: str, arguments: str = "{}") -> list[Piece]:
    return [Begun(name), Arguments(arguments), Ended()]


TEXTS: dict[str, tuple[str, list[Piece]]] = {
    "words": ("Grüße, {}", [Words("Grüße, {}")]),
    "nothing": ("", []),
    "a call": (call(LOOK), called("look")),
    "a name that begins like another's": (call(LOOK_UP), called("look_up")),
    "odd arguments": (call(LOOK, ODD), called("look", ODD)),
    "a list of one": (f"[{call(LOOK)}]", called("look")),
    "a list": (
        f"[{call(LOOK, ODD)}, {call(LOOK_UP)},\n{call(LOOK)}]",
        [*called("look", ODD), *called("look_up"), *called("look")],
    ),
    "words that begin with a brace": ('{"name": "luke"}', [Words('{"name": "luke"}')]),
    "a call of another function": (
        call(Function("other"), '{"x": 1}'),
        [Words(call(Function("other"), '{"x": 1}'))],
    ),
    "a list that is none of calls": ("[1, 2]", [Words("[1, 2]")]),
    "space before a brace": (f" {call(LOOK)}", [Words(f" {call(LOOK)}")]),
    "broken off before it is a call": ('{"name": "lo', [Words('{"name": "lo')]),
    "a bracket alone": ("[", [Words("[")]),
    "broken off within a call": (
        opening(LOOK) + '{"a": "}',
        [Begun("look"), Arguments('{"a": "}')],
    ),
    "broken off at a call's last brace": (opening(LOOK) + "{}", called("look")),
    "broken off within a list": (
        f"[{call(LOOK)}, {opening(LOOK_UP)}",
        [*called("look"), Begun("look_up")],
    ),
    "broken off where the second would begin": (f'[{call(LOOK)}, {{"name', called("look")),
    "words after a call": (f"{call(LOOK)} and more", called("look")),
    "words after a call, and a call": (f"{call(LOOK)} x {call(LOOK)}", called("look")),
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS.keys())
def test_a_text_is_read_however_it_is_cut_in_two(text: str, expected: list[Piece]) -> None:
    for at in range(len(text) + 1):
        assert read([text[:at], text[at:]])[0] == expected
    found, reader = read(text)
    assert found == expected
    assert reader.calls == sum(isinstance(piece, Begun) for piece in expected)
    assert reader.within_call == (Begun in map(type, expected) and expected[-1] != Ended())


_FRAGMENTS = st.sampled_from(
    [*'[]{}, \n"\\x', opening(LOOK), opening(LOOK_UP), call(LOOK), call(LOOK_UP, ODD), "words"]
)


@given(st.lists(_FRAGMENTS, max_size=8).map("".join), st.data())
@example("]}", None)
def test_any_text_is_read_the_same_however_it_is_cut(text: str, data: st.DataObject | None) -> None:
    whole, reader = read([text])
    assert read(text)[0] == whole
    if data is not None:
        cuts = data.draw(st.lists(st.integers(0, len(text))))
        at = [0, *sorted(cuts), len(text)]
        pieces = [text[one:other] for one, other in pairwise(at)]
        assert read(pieces)[0] == whole
    # Nothing gets lost of words, and of calls nothing is told but what stands there.
    if not reader.calls:
        assert "".join(each.text for each in whole if isinstance(each, Words)) == text
    for piece in whole:
        if isinstance(piece, Arguments):
            assert piece.text in text


@given(
    st.lists(
        st.tuples(
            st.sampled_from([LOOK, LOOK_UP]),
            st.dictionaries(
                st.text(max_size=4),
                st.recursive(
                    st.text() | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3)
                ),
                max_size=3,
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_calls_come_back_as_they_were(calls: list[tuple[Function, dict[str, object]]]) -> None:
    told = [call(each, json.dumps(arguments)) for each, arguments in calls]
    found, reader = read([f"[{', '.join(told)}]"])
    assert [each.name for each in found if isinstance(each, Begun)] == [
        each.name for each, _ in calls
    ]
    assert [json.loads(each.text) for each in found if isinstance(each, Arguments)] == [
        arguments for _, arguments in calls
    ]
    assert not reader.within_call


def test_a_call_is_told_of_while_it_comes() -> None:
    reader = CallReader(OFFER)
    assert list(reader.feed('{"name": "look", "argu')) == []
    assert list(reader.feed('ments": {"a"')) == [Begun("look"), Arguments('{"a"')]
    assert list(reader.feed(": 1}")) == [Arguments(": 1}"), Ended()]
    assert list(reader.feed("}")) == []
    assert list(reader.end()) == []


def test_words_are_told_of_at_once() -> None:
    reader = CallReader(OFFER)
    assert list(reader.feed("W")) == [Words("W")]
    assert list(reader.feed(call(LOOK))) == [Words(call(LOOK))]
    assert reader.calls == 0


def test_the_beginning_of_a_call_that_had_to_come_is_no_words() -> None:
    beginning = opening(LOOK)[:9]
    for must, expected in ((True, []), (False, [Words(beginning)])):
        reader = CallReader(Offer((LOOK, LOOK_UP), must=must, several=True))
        assert [*reader.feed(beginning), *reader.end()] == expected
