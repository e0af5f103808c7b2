"""An operator's folder of cards while Modelry runs: it is read again when it changes."""

import logging
import os
import shutil
from pathlib import Path

import pytest

from modelry.catalog.card_folder import Cards
from modelry.catalog.cards import load_cards
from modelry.errors import SettingsError
from tests.unit.test_catalog_cards import CARD, write

SHIPPED = "smollm2-135m-instruct"


def test_a_card_that_is_added_is_on_offer_at_once(tmp_path: Path) -> None:
    cards = Cards(tmp_path)
    assert "mine" not in cards.current()
    write(tmp_path, "mine.yaml", CARD.format(id="mine"))
    assert cards.current()["mine"].name == "Mine"


def test_a_card_that_changes_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, "mine.yaml", CARD.format(id="mine"))
    cards = Cards(tmp_path)
    write(tmp_path, "mine.yaml", CARD.format(id="mine").replace("Mine", "Ours"))
    assert cards.current()["mine"].name == "Ours"


def test_nothing_is_read_while_nothing_changes(tmp_path: Path) -> None:
    file = write(tmp_path, "mine.yaml", CARD.format(id="mine"))
    cards = Cards(tmp_path)
    first = cards.current()
    assert cards.current() is first
    os.utime(file)
    assert cards.current() is not first
    assert cards.current() == first


def test_removing_an_override_brings_the_shipped_card_back(tmp_path: Path) -> None:
    file = write(tmp_path, "any.yaml", CARD.format(id=SHIPPED))
    cards = Cards(tmp_path)
    assert cards.current()[SHIPPED].name == "Mine"
    file.unlink()
    assert cards.current() == load_cards()


def test_a_card_that_changes_its_id_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, "mine.yaml", CARD.format(id="mine"))
    cards = Cards(tmp_path)
    write(tmp_path, "mine.yaml", CARD.format(id="ours"))
    assert "mine" not in cards.current()
    assert "ours" in cards.current()


def test_a_card_that_breaks_stays_as_it_was_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path, "mine.yaml", CARD.format(id="mine"))
    cards = Cards(tmp_path)
    write(tmp_path, "new.yaml", "id: [unclosed")
    write(tmp_path, "mine.yaml", CARD.format(id="mine").replace("[chat]", "[chatting]"))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert cards.current()["mine"].tasks == ("chat",)
            os.utime(file)
    told = {Path(problem.file).name: problem.message for problem in cards.problems}
    assert set(told) == {"mine.yaml", "new.yaml"}
    assert "tasks.0: " in told["mine.yaml"]
    assert len(caplog.records) == 2, "each fault is logged once"
    write(tmp_path, "mine.yaml", CARD.format(id="mine").replace("Mine", "Mended"))
    (tmp_path / "new.yaml").unlink()
    assert cards.current()["mine"].name == "Mended"
    assert cards.problems == ()


def test_a_broken_card_that_is_removed_is_gone(tmp_path: Path) -> None:
    file = write(tmp_path, "mine.yaml", CARD.format(id="mine"))
    cards = Cards(tmp_path)
    file.write_text("id: [unclosed")
    assert "mine" in cards.current()
    file.unlink()
    assert "mine" not in cards.current()
    assert cards.problems == ()


def test_who_has_an_id_keeps_it(tmp_path: Path) -> None:
    write(tmp_path, "z.yaml", CARD.format(id="mine"))
    cards = Cards(tmp_path)
    late = write(tmp_path, "a.yaml", CARD.format(id="mine").replace("Mine", "Theirs"))
    assert cards.current()["mine"].name == "Mine"
    (problem,) = cards.problems
    assert problem.file == str(late)
    assert "z.yaml" in problem.message
    (tmp_path / "z.yaml").unlink()
    assert cards.current()["mine"].name == "Theirs"
    assert cards.problems == ()


def test_a_card_that_takes_anothers_id_stays_what_it_was(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", CARD.format(id="first"))
    write(tmp_path, "b.yaml", CARD.format(id="second"))
    cards = Cards(tmp_path)
    write(tmp_path, "b.yaml", CARD.format(id="first"))
    assert {"first", "second"} < set(cards.current())
    assert len(cards.problems) == 1


def test_two_cards_can_swap_their_ids(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", CARD.format(id="first").replace("Mine", "A"))
    write(tmp_path, "b.yaml", CARD.format(id="second").replace("Mine", "B"))
    cards = Cards(tmp_path)
    write(tmp_path, "a.yaml", CARD.format(id="second").replace("Mine", "A"))
    write(tmp_path, "b.yaml", CARD.format(id="first").replace("Mine", "B"))
    assert (cards.current()["first"].name, cards.current()["second"].name) == ("B", "A")
    assert cards.problems == ()


def test_a_folder_that_goes_away_takes_no_card_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "cards"
    folder.mkdir()
    write(folder, "mine.yaml", CARD.format(id="mine"))
    cards = Cards(folder)
    shutil.move(folder, tmp_path / "away")
    assert "mine" in cards.current()
    (problem,) = cards.problems
    assert str(folder) in problem.message
    shutil.move(tmp_path / "away", folder)
    (folder / "mine.yaml").unlink()
    assert "mine" not in cards.current()
    assert cards.problems == ()


def test_a_broken_card_at_the_start_ends_it(tmp_path: Path) -> None:
    write(tmp_path, "mine.yaml", "id: [unclosed")
    with pytest.raises(SettingsError, match=r"mine\.yaml"):
        Cards(tmp_path)


def test_two_cards_of_one_id_at_the_start_are_both_named(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", CARD.format(id="mine"))
    write(tmp_path, "b.yaml", CARD.format(id="mine"))
    with pytest.raises(SettingsError) as caught:
        Cards(tmp_path)
    assert "a.yaml" in caught.value.message
    assert "b.yaml" in caught.value.message
    assert "'mine'" in caught.value.message
