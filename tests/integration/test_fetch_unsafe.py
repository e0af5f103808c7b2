"""Models that can run programs: refused, unless an operator allows it for that one."""

import json
from pathlib import Path

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.formats import Allowed
from modelry.catalog.hubs import HubSettings
from modelry.catalog.look import look
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.sources import LocalFile
from modelry.catalog.weights import WeightsStore
from modelry.errors import FetchError, InvalidRequest
from tests.integration.test_fetch_hubs import bring, hub, refusal, store, surroundings
from tests.support.file_server import Fault
from tests.support.hub import Hub
from tests.support.weights_files import safetensors

__all__ = ["hub", "store", "surroundings"]

PICKLE = b"\x80\x04pickle" * 1000
OWN = json.dumps({"auto_map": {"AutoModel": "modeling_x.Model"}}).encode()
PROGRAM = b"print('hello')\n"
WITH_PROGRAM = {
    "config.json": OWN,
    "model.safetensors": safetensors(900_000, 4),
    "modeling_x.py": PROGRAM,
}


def test_pickles_come_where_they_are_allowed(hub: Hub, store: WeightsStore) -> None:
    hub.add("org/old", {"config.json": b"{}", "pytorch_model.bin": PICKLE, "x.py": PROGRAM})
    weights = bring(hub, store, "hf://org/old", format="pytorch", allow=("allow_pickles",))
    assert [file.name for file in weights.files] == ["config.json", "pytorch_model.bin"]
    # What came so is not there for those who may not.
    error = refusal(hub, store, "hf://org/old", format="pytorch")
    assert "pytorch_model.bin" in error.message


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_with_a_program_of_its_own_is_refused_before_its_weights_come(
    hub: Hub, store: WeightsStore, name: str
) -> None:
    files = {**WITH_PROGRAM, "config.json": b"{}", name: OWN}
    hub.add("org/own", {**files, **{f"a{n}.safetensors": safetensors(90_000, n) for n in range(9)}})
    # No file is whole before the others are begun, however busy this machine is.
    hub.always = Fault(slow_s=0.3)
    error = refusal(hub, store, "hf://org/own")
    assert name in error.message
    assert "auto_map" in error.message
    assert "--allow-remote-code" in str(error.hint)
    assert len(hub.downloads()) < 8
    # Also where that file is here from elsewhere.
    assert name in refusal(hub, store, "hf://org/own").message


def test_a_program_comes_along_where_it_is_allowed(hub: Hub, store: WeightsStore) -> None:
    hub.add("org/own", WITH_PROGRAM)
    weights = bring(hub, store, "hf://org/own", allow=("allow_remote_code",))
    assert (weights.path / "modeling_x.py").read_bytes() == PROGRAM


@pytest.mark.parametrize("path", ["modeling_x.py", "*"])
def test_a_program_that_is_named_does_not_come(hub: Hub, store: WeightsStore, path: str) -> None:
    hub.add("org/plain", {**WITH_PROGRAM, "config.json": b"{}"})
    if path == "*":
        weights = bring(hub, store, f"hf://org/plain/{path}")
        assert [file.name for file in weights.files] == ["config.json", "model.safetensors"]
    else:
        assert "is a program" in refusal(hub, store, f"hf://org/plain/{path}").message
    assert "modeling_x.py" not in hub.downloads()


def test_a_configuration_too_large_to_be_read_is_refused(hub: Hub, store: WeightsStore) -> None:
    padded = OWN + b" " * (17 * 1024 * 1024)
    hub.add("org/padded", {**WITH_PROGRAM, "config.json": padded})
    assert "too large" in refusal(hub, store, "hf://org/padded").message


def test_a_folder_of_pickles_is_a_model_where_they_are_allowed(
    store: WeightsStore, tmp_path: Path
) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(PICKLE)
    source = LocalFile(str(tmp_path))
    assert look(source, HubSettings(), Allowed(pickles=True)).format == "pytorch"
    with pytest.raises(InvalidRequest, match="can run a program"):
        look(source, HubSettings())


def test_other_formats_have_no_use_for_such_programs(hub: Hub, store: WeightsStore) -> None:
    hub.add("org/gguf", {"model.onnx": b"onnx" * 900, "config.json": OWN})
    assert bring(hub, store, "hf://org/gguf", format="onnx").files


@pytest.mark.parametrize("copied", [False, True])
def test_folders_of_this_machine_are_refused_alike(
    store: WeightsStore, tmp_path: Path, copied: bool
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in WITH_PROGRAM.items():
        (folder / name).write_bytes(data)
    variant = Variant(name="v", format="safetensors", source=folder.as_uri(), copied=copied)
    with pytest.raises(FetchError, match="auto_map"):
        fetch(variant, store, Progress(), Origins(lambda: IndexSettings(())))
    allowed = variant.model_copy(update={"allow_remote_code": True})
    allowed = Variant.model_validate(allowed.model_dump())
    weights = fetch(allowed, store, Progress(), Origins(lambda: IndexSettings(())))
    assert (weights.path / "modeling_x.py").read_bytes() == PROGRAM
