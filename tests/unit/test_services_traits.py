"""What is read of weights: once, in a thread, and only of those that services have."""

import asyncio
import errno
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.weights import Weights
from modelry.engines.base import Engine
from modelry.engines.llama_cpp import LlamaCpp
from modelry.engines.vllm import Vllm
from modelry.services.spec import ServiceSpec, Spec
from modelry.services.supplies import Needs, Supplied, Supplies
from modelry.services.traits import Traits, TraitsReader

WEIGHTS = Path("/weights")


class Reading:
    """An engine that notes what it reads, and in which thread."""

    def __init__(self) -> None:
        self.read: list[tuple[str, Path]] = []
        self.threads: set[threading.Thread] = set()
        self.broken = False

    def raw_scores(self, weights: Path) -> bool:
        return self._say("raw_scores", weights)

    def reads_images(self, weights: Path) -> bool:
        return self._say("images", weights)

    def _say(self, what: str, weights: Path) -> bool:
        self.read.append((what, weights))
        self.threads.add(threading.current_thread())
        if self.broken:
            raise OSError("the disk is gone")
        return True


class Here:
    """What is here, by the variant's name: path and digest."""

    def __init__(self) -> None:
        self.weights: dict[str, tuple[Path, str]] = {}

    def ready(self, needs: Needs) -> Supplied | None:
        found = self.weights.get(needs.variant.name)
        return None if found is None else Supplied(Weights(found[0], 1, found[1]))


@pytest.fixture
def engine() -> Reading:
    return Reading()


@pytest.fixture
def here() -> Here:
    return Here()


@pytest.fixture
def reader(engine: Reading, here: Here) -> TraitsReader:
    engines = {"e": cast(Engine, engine), "plain": cast(Engine, SimpleNamespace())}
    return TraitsReader(engines, cast(Supplies, here))


def spec(name: str, engine: str = "e") -> ServiceSpec:
    return ServiceSpec(model=name, model_name=name, variant=name, engine=engine)


def needs(name: str, **more: Any) -> Needs:
    variant = Variant(name=name, format="safetensors", source=f"file:///{name}")
    return Needs(variant, **more)


def read(
    reader: TraitsReader,
    wanted: Mapping[str, Needs],
    *tasks: str,
    specs: Mapping[str, Spec] | None = None,
) -> dict[str, Traits]:
    every = specs or {id_: spec(id_) for id_ in wanted}
    return asyncio.run(reader.read(dict.fromkeys(every, tasks), every, wanted))


def test_weights_are_read_once_and_in_a_thread(
    reader: TraitsReader, engine: Reading, here: Here
) -> None:
    here.weights["a"] = (WEIGHTS, "d1")
    for _ in range(3):
        assert read(reader, {"a": needs("a")}, "rerank") == {"a": Traits(True, True)}
    assert sorted(engine.read) == [("images", WEIGHTS), ("raw_scores", WEIGHTS)]
    assert threading.main_thread() not in engine.threads


def test_services_of_the_same_weights_share_what_was_read(
    reader: TraitsReader, engine: Reading, here: Here
) -> None:
    here.weights.update(a=(WEIGHTS, "d1"), b=(WEIGHTS, "d1"))
    read(reader, {"a": needs("a"), "b": needs("b")}, "chat")
    assert engine.read == [("images", WEIGHTS)]


def test_other_weights_at_the_same_place_are_read_again(
    reader: TraitsReader, engine: Reading, here: Here
) -> None:
    for digest in ("d1", "d2"):
        here.weights["a"] = (WEIGHTS, digest)
        read(reader, {"a": needs("a")}, "chat")
    assert len(engine.read) == 2


def test_what_nobody_has_any_more_is_forgotten(
    reader: TraitsReader, engine: Reading, here: Here
) -> None:
    here.weights["a"] = (WEIGHTS, "d1")
    for wanted in ({"a": needs("a")}, {}, {"a": needs("a")}):
        read(reader, wanted, "chat")
    assert len(engine.read) == 2


def test_nothing_is_read_that_no_trait_goes_by(
    reader: TraitsReader, engine: Reading, here: Here
) -> None:
    here.weights["a"] = (WEIGHTS, "d1")
    known = needs("a", images=True)
    assert read(reader, {"a": known}, "chat") == {"a": Traits(images=True)}
    plain = {"a": spec("a", engine="plain")}
    assert read(reader, {"a": needs("a")}, "rerank", specs=plain) == {"a": Traits()}
    assert engine.read == []


def test_weights_that_are_not_here_may_read_images(reader: TraitsReader, engine: Reading) -> None:
    assert read(reader, {"a": needs("a")}, "rerank") == {"a": Traits(images=True)}
    assert engine.read == []


def test_what_cannot_be_read_holds_nobody_up_and_is_tried_again(
    reader: TraitsReader, engine: Reading, here: Here
) -> None:
    here.weights["a"] = (WEIGHTS, "d1")
    engine.broken = True
    assert read(reader, {"a": needs("a")}, "chat") == {"a": Traits()}
    engine.broken = False
    assert read(reader, {"a": needs("a")}, "chat") == {"a": Traits(images=True)}


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_a_disk_that_fails_for_a_moment_is_no_answer_of_an_engine(
    engine: str, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be believed until the control plane ends."""
    text = b"general.architecture"
    value = struct.pack("<Q", len(text)) + text + struct.pack("<IQ", 8, 5) + b"qwen3"
    (tmp_path / "weights.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + value)
    (tmp_path / "config.json").write_text('{"vision_config": {}}')
    here.weights["a"] = (tmp_path, "d1")
    reader = TraitsReader({"llama.cpp": LlamaCpp(), "vllm": Vllm()}, cast(Supplies, here))
    specs = {"a": spec("a", engine)}

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fails)
        read(reader, {"a": needs("a")}, "rerank", specs=specs)
    told = read(reader, {"a": needs("a")}, "rerank", specs=specs)
    assert told == {"a": Traits(images=engine == "vllm")}
