"""A form that was made before is found again, and only for what made it."""

import pytest
from msgspec import Raw

from modelry.gateway.structured.fitting import Form, Room
from modelry.gateway.structured.known_forms import KnownForms, rounded

ROOM = Room(640, small=True)


class Maker:
    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.made = 0

    def __call__(self) -> Form:
        self.made += 1
        return Form("x" * self.size, frozenset())


def said(*texts: bytes) -> list[Raw]:
    return [Raw(text) for text in texts]


def test_the_same_is_made_once() -> None:
    forms, make = KnownForms(), Maker()
    first = forms.form(said(b"[1]", b'"auto"', b""), ROOM, make)
    assert forms.form(said(b"[1]", b'"auto"', b""), ROOM, make) is first
    assert make.made == 1


@pytest.mark.parametrize(
    ("texts", "room"),
    [
        ((b"[2]", b'"auto"', b""), ROOM),
        # The same bytes in other places.
        ((b"[1]", b"", b'"auto"'), ROOM),
        ((b'[1]"auto"', b"", b""), ROOM),
        ((b"[1]", b'"auto"', b""), Room(320, small=True)),
        ((b"[1]", b'"auto"', b""), Room(640, small=False)),
    ],
)
def test_anything_else_is_made_anew(texts: tuple[bytes, ...], room: Room) -> None:
    forms, make = KnownForms(), Maker()
    forms.form(said(b"[1]", b'"auto"', b""), ROOM, make)
    forms.form(said(*texts), room, make)
    assert make.made == 2


def test_of_too_much_together_the_oldest_goes_and_what_is_too_large_is_not_kept() -> None:
    forms, make = KnownForms(25), Maker(10)
    for text in (b"1", b"2", b"1", b"3"):
        forms.form(said(text), ROOM, make)
    assert make.made == 3
    forms.form(said(b"1"), ROOM, make)
    assert make.made == 3
    forms.form(said(b"2"), ROOM, make)
    assert make.made == 4
    large = Maker(26)
    for _ in range(2):
        forms.form(said(b"large"), ROOM, large)
    assert large.made == 2


def test_a_room_a_little_smaller_is_the_same_for_the_next_turn() -> None:
    assert rounded(Room(1000, small=True)) == rounded(Room(993, small=True))
    assert rounded(Room(1000, small=True)) == Room(992, small=True)
    assert rounded(Room(50, small=True)) == Room(50, small=True)
    assert rounded(Room(None, small=False)) == Room(None, small=False)


def test_what_cannot_be_made_is_not_remembered() -> None:
    def refuse() -> Form:
        raise ValueError("nothing is valid")

    forms, make = KnownForms(), Maker()
    with pytest.raises(ValueError, match="nothing is valid"):
        forms.form(said(b"1"), ROOM, refuse)
    forms.form(said(b"1"), ROOM, make)
    assert make.made == 1
