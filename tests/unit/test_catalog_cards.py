"""Model cards: those that ship, and those of an operator's folder."""

from pathlib import Path

import pytest

from modelry.catalog.cards import ModelCard, Variant, load_cards
from modelry.catalog.sources import PackageFile
from modelry.engines.llama_cpp import LlamaCpp
from modelry.errors import SettingsError

CARD = """\
id: {id}
name: Mine
provider: Me
licence: MIT
description: A model.
tasks: [chat]
variants:
  - name: Q4
    format: gguf
    source: file:///models/mine.gguf
"""


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def refusal(folder: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_cards(folder)
    assert caught.value.param == "models_dir"
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_model_of_the_demonstration_ships_pinned() -> None:
    card = load_cards()["smollm2-135m-instruct"]
    assert set(card.tasks) == {"chat", "completion"}
    variant = card.default_variant
    assert isinstance(variant.parsed_source, PackageFile)
    assert variant.sha256 is not None
    assert variant.size_bytes is not None


def test_every_shipped_card_is_under_its_id_and_can_be_run() -> None:
    for id_, card in load_cards().items():
        assert card.id == id_
        assert card.licence
        if card.default_variant.format == "gguf":
            assert LlamaCpp().supports("gguf", card.tasks) is None


def test_an_operators_card_is_added(tmp_path: Path) -> None:
    write(tmp_path, "mine.yaml", CARD.format(id="mine"))
    cards = load_cards(tmp_path)
    assert cards["mine"].name == "Mine"
    assert "smollm2-135m-instruct" in cards


def test_an_operators_card_overrides_the_one_that_ships(tmp_path: Path) -> None:
    write(tmp_path, "any-name.yaml", CARD.format(id="smollm2-135m-instruct"))
    cards = load_cards(tmp_path)
    assert cards["smollm2-135m-instruct"].name == "Mine"
    assert len(cards) == len(load_cards())


def test_only_yaml_files_are_cards(tmp_path: Path) -> None:
    write(tmp_path, "README.md", "# Our models")
    write(tmp_path, "mine.yaml~", "not: [a card")
    assert load_cards(tmp_path) == load_cards()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refusal(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the card"),
        ("- a\n- list\n", "the card"),
        ("id: [unclosed", "line 1"),
        ("id: a\tb:\n\t- c", ""),
        (CARD.format(id="Has Capitals"), "id: "),
        (CARD.format(id="-starts-badly"), "id: "),
        (CARD.format(id="x" * 65), "id: "),
        (CARD.format(id='"ends-in-a-line-break\\n"'), "id: "),
        (CARD.format(id="mine").replace("tasks: [chat]", "tasks: []"), "tasks: "),
        (CARD.format(id="mine").replace("[chat]", "[chatting]"), "tasks.0: "),
        (CARD.format(id="mine").replace("file:///", "ftp://"), "variants.0.source: "),
        (CARD.format(id="mine") + "    sha256: abc\n", "variants.0.sha256: "),
        (CARD.format(id="mine") + "    size_bytes: 0\n", "variants.0.size_bytes: "),
        (CARD.format(id="mine") + "licens: MIT\n", "licens: "),
        (CARD.format(id="mine").split("variants")[0], "variants: "),
    ],
)
def test_a_bad_card_is_named_with_its_fault(tmp_path: Path, text: str, told: str) -> None:
    file = write(tmp_path, "broken.yaml", text)
    message = refusal(tmp_path)
    assert str(file) in message
    assert told in message.partition("is not usable: ")[2]


def test_a_card_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(b"id: \xff\xfe")
    assert str(file) in refusal(tmp_path)


def test_a_card_that_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "nowhere")
    assert "dangling.yaml" in refusal(tmp_path)


def test_a_card_cannot_run_code(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    write(tmp_path, "evil.yaml", f"id: !!python/object/apply:os.mkdir ['{touched}']\n")
    assert "evil.yaml" in refusal(tmp_path)
    assert not touched.exists()


def test_a_variant_is_the_same_before_and_after_its_source_was_looked_at() -> None:
    one = Variant(name="a", format="gguf", source="pypi://llm==1/a.gguf")
    other = Variant(name="a", format="gguf", source="pypi://llm==1/a.gguf")
    assert one.parsed_source == PackageFile("llm", "1", "a.gguf")
    assert one == other
    assert hash(one) == hash(other)


def test_the_first_variant_is_the_default() -> None:
    variants = tuple(
        Variant(name=name, format="gguf", source="file:///a.gguf") for name in ("Q4", "Q8")
    )
    card = ModelCard(
        id="mine",
        name="Mine",
        provider="Me",
        licence="MIT",
        description="A model.",
        tasks=("chat",),
        variants=variants,
    )
    assert card.default_variant.name == "Q4"
