"""Fetching models from hubs and web servers: what comes, what is pinned, what goes wrong."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelry.catalog.adapters import read_adapter
from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.hubs import HubSettings
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.weights import Weights, WeightsStore, tree_digest
from modelry.errors import FetchError
from modelry.settings import Secret
from tests.support.adapter_files import ADAPTERS
from tests.support.file_server import Fault
from tests.support.hub import Hub
from tests.support.weights_files import gguf, safetensors

CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"]}).encode()
FILES = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}" * 3000,
    "model-00001-of-00002.safetensors": safetensors(700_000, 1),
    "model-00002-of-00002.safetensors": safetensors(500_000, 2),
    "model.safetensors.index.json": b"{}",
    "README.md": b"# A model",
    ".gitattributes": b"*.safetensors filter=lfs",
    "pytorch_model.bin": b"\x80\x04pickle" * 1000,
    "onnx/model.onnx": b"onnx" * 1000,
    "training_args.bin": b"\x80\x04",
}
OTHERS = {".gitattributes", "pytorch_model.bin", "onnx/model.onnx", "training_args.bin"}
NEEDED = sorted({*FILES} - OTHERS)
GGUF = gguf(900_000)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelry.catalog.fetch._FIRST_PAUSE_S", 0.01)
    for name in tuple(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("HF_"):
            monkeypatch.delenv(name)


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub()
    served.add("org/whole", FILES)
    quants = {"a-Q4_K_M.gguf": GGUF, "a-Q8_0.gguf": gguf(990_000, 2), "README.md": b"x"}
    served.add("org/quants", quants)
    yield served
    served.close()


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


def bring(
    hub: Hub,
    store: WeightsStore,
    source: str,
    *,
    format: str = "safetensors",
    allow: tuple[str, ...] = (),
    **settings: Any,
) -> Weights:
    variant = Variant.model_validate(
        {"name": "v", "format": format, "source": source, **dict.fromkeys(allow, True)}
    )
    hubs = HubSettings(hf_endpoint=hub.url, modelscope_endpoint=hub.url, **settings)
    origins = Origins(lambda: IndexSettings(()), hubs)
    weights = fetch(variant, store, Progress(), origins)
    assert store.find(variant) == weights
    return weights


def refusal(hub: Hub, store: WeightsStore, source: str, **more: Any) -> FetchError:
    with pytest.raises(FetchError) as raised:
        bring(hub, store, source, **more)
    assert raised.value.hint
    return raised.value


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_a_repository_comes_whole_but_for_what_nobody_needs(
    hub: Hub, store: WeightsStore, scheme: str
) -> None:
    weights = bring(hub, store, f"{scheme}://org/whole")
    assert weights.revision == hub.repos["org/whole"].branches["main"]
    assert [file.name for file in weights.files] == NEEDED
    for name in NEEDED:
        assert (weights.path / name).read_bytes() == FILES[name]
    assert weights.size_bytes == sum(len(FILES[name]) for name in NEEDED)
    assert weights.sha256 == tree_digest(weights.files)
    assert sorted(hub.downloads()) == NEEDED
    assert list(store.partial.iterdir()) == []


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_an_adapter_comes_without_what_its_training_left(
    hub: Hub, store: WeightsStore, scheme: str
) -> None:
    folder = ADAPTERS / "amber"
    files = {each.name: each.read_bytes() for each in folder.iterdir()}
    hub.add("org/adapter", {**files, "tokenizer.json": b"{}", "optimizer.pt": b"\x80\x04"})
    weights = bring(hub, store, f"{scheme}://org/adapter", format="lora")
    assert sorted(hub.downloads()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert read_adapter(weights.path).pairs == read_adapter(folder).pairs


def test_an_adapter_in_a_pickle_is_refused_before_it_comes(hub: Hub, store: WeightsStore) -> None:
    hub.add("org/pickled", {"adapter_config.json": b"{}", "adapter_model.bin": b"\x80\x04"})
    assert "adapter_model.bin" in refusal(hub, store, "hf://org/pickled", format="lora").message
    assert hub.downloads() == []


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_one_file_of_a_repository_is_a_file(hub: Hub, store: WeightsStore, scheme: str) -> None:
    weights = bring(hub, store, f"{scheme}://org/quants/a-Q4_K_M.gguf", format="gguf")
    assert weights.path.read_bytes() == GGUF
    assert weights.sha256 == hashlib.sha256(GGUF).hexdigest()
    assert weights.revision == hub.repos["org/quants"].branches["main"]


def test_files_that_are_here_do_not_come_again(hub: Hub, store: WeightsStore) -> None:
    bring(hub, store, "hf://org/whole")
    seen = len(hub.downloads())
    hub.add("org/fork", {**FILES, "config.json": b'{"changed": 1}'})
    bring(hub, store, "hf://org/fork")
    assert [name for name in hub.downloads()[seen:] if name.endswith(".safetensors")] == []


def test_a_revision_is_fetched_as_it_was(hub: Hub, store: WeightsStore) -> None:
    first = hub.repos["org/whole"].branches["main"]
    weights = bring(hub, store, f"hf://org/whole@{first}")
    assert weights.revision == first
    error = refusal(hub, store, "hf://org/whole@nightly")
    assert "no revision nightly" in error.message


def test_a_repository_of_many_quantisations_must_be_told_which(
    hub: Hub, store: WeightsStore
) -> None:
    error = refusal(hub, store, "hf://org/quants", format="gguf")
    assert "2 GGUF files" in error.message
    assert "a-Q4_K_M.gguf" in str(error.hint)


def test_a_file_that_is_not_there_is_named_with_those_that_are(
    hub: Hub, store: WeightsStore
) -> None:
    error = refusal(hub, store, "hf://org/quants/b.gguf", format="gguf")
    assert "no file b.gguf" in error.message
    assert "a-Q8_0.gguf" in str(error.hint)


def test_several_files_and_patterns_of_a_repository_are_one_model(
    hub: Hub, store: WeightsStore
) -> None:
    files = {f"onnx/model_{kind}.onnx": kind.encode() * 900 for kind in ("int8", "f32")}
    voices = {f"voices/{name}.bin": b"\0\0\0\0" * 256 for name in ("af_a", "bm_b")}
    hub.add("org/voice", {**files, **voices, "tokenizer.json": b"{}", "README.md": b"#"})
    source = "hf://org/voice/{onnx/model_int8.onnx,voices/*.bin,tokenizer.json}"
    weights = bring(hub, store, source, format="onnx")
    wanted = ["onnx/model_int8.onnx", "tokenizer.json", "voices/af_a.bin", "voices/bm_b.bin"]
    assert sorted(hub.downloads()) == wanted
    assert sorted(file.name for file in weights.files) == wanted
    assert (weights.path / "voices" / "bm_b.bin").stat().st_size == 1024


def test_each_of_several_files_has_to_be_there(hub: Hub, store: WeightsStore) -> None:
    error = refusal(hub, store, "hf://org/quants/{a-Q8_0.gguf,voices/*.bin}", format="gguf")
    assert "no file voices/*.bin" in error.message
    assert hub.downloads() == []


def test_what_an_engine_reads_as_numbers_is_no_pickle_and_another_is(
    hub: Hub, store: WeightsStore
) -> None:
    hub.add("org/mixed", {"model.onnx": b"\0" * 900, "a.bin": b"\0" * 4, "b.pt": b"\x80\x04"})
    error = refusal(hub, store, "hf://org/mixed/{model.onnx,a.bin,b.pt}", format="onnx")
    assert "b.pt" in error.message
    error = refusal(hub, store, "hf://org/mixed/{model.onnx,a.bin}", format="safetensors")
    assert "a.bin" in error.message


def test_a_repository_of_pickles_alone_is_refused(hub: Hub, store: WeightsStore) -> None:
    hub.add("org/old", {"config.json": CONFIG, "pytorch_model.bin": b"\x80\x04" * 900})
    error = refusal(hub, store, "hf://org/old")
    assert "pytorch_model.bin" in error.message
    assert "safetensors" in str(error.hint)
    assert hub.downloads() == []


@pytest.mark.parametrize("name", ["../escape.safetensors", "/etc/passwd.safetensors", "a\\..\\b"])
def test_a_name_that_leads_out_of_the_store_is_not_followed(
    hub: Hub, store: WeightsStore, tmp_path: Path, name: str
) -> None:
    hub.add("org/hostile", {"model.safetensors": safetensors(10), name: safetensors(10)})
    weights = bring(hub, store, "hf://org/hostile")
    assert [file.name for file in weights.files] == ["model.safetensors"]
    assert not (tmp_path / "escape.safetensors").exists()


# -- who may ---------------------------------------------------------------------------


def test_a_gated_repository_says_where_its_licence_is_accepted(
    hub: Hub, store: WeightsStore
) -> None:
    hub.add("org/gated", {"model.safetensors": safetensors(2000)}, gated=True, tokens={"hf_in"})
    error = refusal(hub, store, "hf://org/gated")
    assert "gated" in error.message
    assert f"{hub.url}/org/gated" in str(error.hint)
    assert "MODELRY_HF_TOKEN" in str(error.hint)
    error = refusal(hub, store, "hf://org/gated", hf_token=Secret("hf_stranger"))
    assert "hf_stranger" not in f"{error.message} {error.hint}"
    assert bring(hub, store, "hf://org/gated", hf_token=Secret("hf_in")).size_bytes > 2000


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_a_repository_that_is_not_there_or_not_shown(
    hub: Hub, store: WeightsStore, scheme: str
) -> None:
    hub.add("org/private", {"model.safetensors": safetensors(2000)}, private=True, tokens={"t"})
    for repo in ("org/none", "org/private"):
        error = refusal(hub, store, f"{scheme}://{repo}")
        assert repo in error.message
        assert "TOKEN" in str(error.hint)
    token: dict[str, Any] = {"hf_token" if scheme == "hf" else "modelscope_token": Secret("t")}
    assert bring(hub, store, f"{scheme}://org/private", **token).size_bytes > 2000


def test_a_token_goes_nowhere_else(hub: Hub, store: WeightsStore) -> None:
    """Large files are on another host, to which the hub redirects."""
    other = Hub()
    try:
        other.add("cdn/files", {"model.safetensors": safetensors(5000)})
        hub.add("org/far", {"model.safetensors": safetensors(5000)}, tokens={"hf_secret"})
        far = f"http://localhost:{other.port}/cdn/files/model.safetensors"
        hub.faults.append(Fault(redirect=far))
        bring(hub, store, "hf://org/far", hf_token=Secret("hf_secret"))
        assert [request.authorization for request in other.requests] == [None]
    finally:
        other.close()


def test_offline_nothing_is_asked(hub: Hub, store: WeightsStore) -> None:
    error = refusal(hub, store, "hf://org/whole", offline=True)
    assert "offline" in error.message
    assert hub.requests == []


# -- what goes wrong on the way --------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [Fault(cut_after=100_000), Fault(status=503), Fault(status=429), Fault(wrong_range=True)],
    ids=["cut", "503", "429", "wrong-range"],
)
def test_what_passes_is_tried_again(hub: Hub, store: WeightsStore, fault: Fault) -> None:
    hub.faults += [Fault(cut_after=50_000), fault, fault]
    weights = bring(hub, store, "hf://org/whole")
    assert all((weights.path / name).read_bytes() == FILES[name] for name in NEEDED)


def test_a_download_goes_on_where_it_was_cut(hub: Hub, store: WeightsStore) -> None:
    hub.faults.append(Fault(cut_after=400_000))
    bring(hub, store, "hf://org/quants/a-Q4_K_M.gguf", format="gguf")
    ranges = [request.range for request in hub.requests if "/resolve/" in request.path]
    assert ranges == [None, "bytes=400000-"]


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_a_file_with_another_digest_than_stated_is_not_kept(
    hub: Hub, store: WeightsStore, scheme: str
) -> None:
    wrong = {"model.safetensors": "0" * 64}
    hub.add("org/swapped", {"model.safetensors": safetensors(5000)}, wrong=wrong)
    error = refusal(hub, store, f"{scheme}://org/swapped")
    assert "model.safetensors" in error.message
    assert "checksum" in error.message
    assert list(store.partial.iterdir()) == []


def test_a_small_file_is_checked_too(hub: Hub, store: WeightsStore) -> None:
    """By git's digest of it, which is all the hub states."""
    hub.add("org/small", {"config.json": CONFIG, "model.safetensors": safetensors(5000)})
    swapped = b"[" * len(CONFIG)
    hub.always = None
    hub.faults += [Fault(body=swapped) for _ in range(8)]
    error = refusal(hub, store, "hf://org/small")
    assert "checksum" in error.message or "bytes instead" in error.message


@pytest.mark.parametrize(
    ("source", "status"), [("hf://org/whole", 500), ("modelscope://org/whole", 502)]
)
def test_a_hub_that_fails_is_named(hub: Hub, store: WeightsStore, source: str, status: int) -> None:
    hub.always = Fault(page=True, status=status)
    with pytest.raises(FetchError, match=str(status)):
        bring(hub, store, source)


def test_a_hub_that_has_had_enough_of_us_says_what_helps(hub: Hub, store: WeightsStore) -> None:
    hub.limited = True
    error = refusal(hub, store, "hf://org/whole")
    assert "429" in error.message
    assert "token" in str(error.hint)


def test_damaged_weights_do_not_get_into_the_store(hub: Hub, store: WeightsStore) -> None:
    data = safetensors(5000)[:-100]
    hub.add("org/damaged", {"model.safetensors": data})
    with pytest.raises(FetchError, match="damaged"):
        bring(hub, store, "hf://org/damaged")
    assert list(store.partial.iterdir()) == []


# -- web servers -----------------------------------------------------------------------


def test_a_file_of_a_web_server(hub: Hub, store: WeightsStore) -> None:
    weights = bring(hub, store, f"{hub.url}/org/quants/a-Q4_K_M.gguf", format="gguf")
    assert weights.path.read_bytes() == GGUF
    assert weights.revision is None


def test_who_is_no_operator_gets_at_nothing_of_this_network(hub: Hub, store: WeightsStore) -> None:
    variant = Variant(
        name="v", format="gguf", source=f"{hub.url}/org/quants/a-Q4_K_M.gguf", public_only=True
    )
    with pytest.raises(FetchError, match="public address"):
        fetch(variant, store, Progress(), Origins(lambda: IndexSettings(())))
    assert hub.requests == []


def test_what_was_lost_comes_again_at_the_commit_that_it_had(hub: Hub, store: WeightsStore) -> None:
    commit = hub.repos["org/quants"].branches["main"]
    weights = bring(hub, store, "hf://org/quants/a-Q4_K_M.gguf", format="gguf")
    assert weights.revision == commit
    weights.path.unlink()
    # Meanwhile its makers have gone on.
    hub.repos["org/quants"].branches.update({"main": "f" * 40, "before": commit})
    again = bring(hub, store, "hf://org/quants/a-Q4_K_M.gguf", format="gguf")
    assert again.revision == commit
    asked = [each.path for each in hub.requests if f"/revision/{commit}" in each.path]
    assert asked, "the hub was asked for that commit"
    other = bring(hub, store, "hf://org/quants/a-Q8_0.gguf", format="gguf")
    assert other.revision == "f" * 40
