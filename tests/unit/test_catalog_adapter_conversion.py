"""PEFT adapters made into GGUF: held against gguf's own reader, names and arithmetic."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from modelry.catalog.adapter_conversion import EXIT_REFUSED, convert, convert_apart
from modelry.catalog.adapter_fit import MisfitAdapter, check_adapter_fits, read_base
from modelry.catalog.adapter_names import ARCHITECTURES, gguf_name
from modelry.catalog.adapters import UnusableAdapter, read_adapter
from tests.support.adapter_files import GGUF_BASE, GGUF_WEIGHTS, PAIRS, Q, gguf_of, peft

LAYER = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.qkv_proj", "mlp.gate_up_proj",
}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    file = tmp_path / "base.gguf"
    file.write_bytes(gguf_of(GGUF_BASE, GGUF_WEIGHTS))
    return file


def tensors_of(file: Path) -> dict[str, Any]:
    return {each.name: each.data for each in gguf.GGUFReader(file).tensors}


def values(dtype: str = "F32") -> tuple[bytes, dict[str, Any]]:
    """Numbers for `PAIRS` that tell each place from any other."""
    made, data = {}, b""
    for number, (name, shape) in enumerate(PAIRS.items()):
        whole = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 64 * number
        made[name] = whole
        if dtype == "BF16":
            data += (whole.view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            data += whole.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
    return data, made


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_numbers_arrive_and_rotary_rows_change_places(
    tmp_path: Path, base: Path, dtype: str
) -> None:
    data, made = values(dtype)
    out = tmp_path / "out.gguf"
    convert(peft(tmp_path / "a", dtype=dtype, data=data), base, out)
    found = tensors_of(out)
    a, b = made[f"{Q}.lora_A.weight"], made[f"{Q}.lora_B.weight"]
    np.testing.assert_array_equal(found["blk.0.attn_q.weight.lora_a"], a)
    # Two heads of four rows: as llama.cpp's conversion permutes them.
    permuted = b.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(8, 2)
    assert [int(row[0] - b[0, 0]) // 2 for row in permuted] == [0, 2, 1, 3, 4, 6, 5, 7]
    np.testing.assert_array_equal(found["blk.0.attn_q.weight.lora_b"], permuted)
    v = next(name for name in made if "v_proj.lora_B" in name)
    np.testing.assert_array_equal(found["blk.1.attn_v.weight.lora_b"], made[v])
    assert found["blk.1.attn_v.weight.lora_b"].dtype == ("f2" if dtype == "F16" else "f4")


def test_keys_are_permuted_by_their_own_heads(tmp_path: Path, base: Path) -> None:
    k = Q.replace("q_proj", "k_proj")
    shapes = {f"{k}.lora_A.weight": (2, 8), f"{k}.lora_B.weight": (4, 2)}
    data = np.arange(24, dtype="<f4").tobytes()
    convert(peft(tmp_path / "a", shapes=shapes, data=data), base, tmp_path / "out.gguf")
    found = tensors_of(tmp_path / "out.gguf")["blk.0.attn_k.weight.lora_b"]
    assert found[:, 0].tolist() == [16, 20, 18, 22]


@pytest.mark.parametrize(("architecture", "moved"), [("qwen2", False), ("granite", True)])
def test_only_where_the_base_was_permuted_are_rows_moved(
    tmp_path: Path, base: Path, architecture: str, moved: bool
) -> None:
    told = {key.replace("llama", architecture): value for key, value in GGUF_BASE.items()}
    base.write_bytes(gguf_of({**told, "general.architecture": architecture}, GGUF_WEIGHTS))
    data, made = values()
    convert(peft(tmp_path / "a", data=data), base, tmp_path / "out.gguf")
    found = tensors_of(tmp_path / "out.gguf")["blk.0.attn_q.weight.lora_b"]
    assert np.array_equal(found, made[f"{Q}.lora_B.weight"]) is not moved


@pytest.mark.parametrize(("rslora", "alpha"), [(False, 4.0), (True, 4 * 2**0.5)])
def test_what_the_file_says_of_itself(
    tmp_path: Path, base: Path, rslora: bool, alpha: float
) -> None:
    out = tmp_path / "out.gguf"
    convert(peft(tmp_path / "a", {"use_rslora": rslora}), base, out)
    fields = {
        name: field.contents()
        for name, field in gguf.GGUFReader(out).fields.items()
        if not name.startswith("GGUF.")
    }
    assert fields == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": pytest.approx(alpha, rel=1e-6),
    }
    check_adapter_fits(read_adapter(out), read_base(base))


def test_the_same_input_gives_the_same_bytes_and_leaves_nothing_else(
    tmp_path: Path, base: Path
) -> None:
    data, _ = values()
    adapter = peft(tmp_path / "a", data=data)
    (tmp_path / "out").mkdir()
    first, second = tmp_path / "out" / "first.gguf", tmp_path / "out" / "second.gguf"
    second.write_bytes(b"what was there before")
    # As a process that was killed leaves it.
    (tmp_path / "out" / ".second.gguf.new").write_bytes(b"x" * 100_000)
    convert_apart(adapter, base, first)
    convert_apart(adapter, base, second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "first.gguf",
        "second.gguf",
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_names_are_those_that_ggufs_own_tables_have(architecture: str) -> None:
    kind = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    table = gguf.get_tensor_name_map(kind, 40)
    known = ARCHITECTURES[architecture]
    for module in known.modules:
        name = f"model.layers.37.{module}.weight"
        assert gguf_name(known, name) == table.get_name(name, try_suffixes=(".weight",))
        twin = f"model.language_model.layers.37.{module}.weight"
        assert gguf_name(known, twin) == gguf_name(known, name)
    for module in LAYER - set(known.modules):
        assert gguf_name(known, f"model.layers.37.{module}.weight") is None


@pytest.mark.parametrize(
    "name", ["model.layers.01.self_attn.q_proj.weight", "model.layers.-1.self_attn.q_proj.weight",
             "vision_tower.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight",
             "model.layers.0.mlp.experts.3.up_proj.weight", "", "model.layers.0..weight"]
)  # fmt: skip
def test_names_that_are_not_known_have_no_other(name: str) -> None:
    assert gguf_name(ARCHITECTURES["llama"], name) is None


def refusal(adapter: Path, base: Path, out: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "modelry.catalog.adapter_conversion"],
        input=json.dumps({"adapter": str(adapter), "base": str(base), "out": str(out)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_REFUSED, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_process_says_on_one_line_why_it_cannot(tmp_path: Path, base: Path) -> None:
    out = tmp_path / "out.gguf"
    dora = peft(tmp_path / "dora", {"use_dora": True})
    assert refusal(dora, base, out)["code"] == "unusable_adapter"
    fine = peft(tmp_path / "fine")
    assert refusal(fine, tmp_path / "missing", out)["message"].startswith("No such file")
    assert "No such file" in refusal(fine, base, tmp_path / "no" / "out.gguf")["message"]
    base.write_bytes(base.read_bytes()[:300])
    assert refusal(fine, base, out)["code"] == "damaged_weights"
    assert [each.name for each in tmp_path.glob("*out*")] == []
    with pytest.raises(UnusableAdapter, match="DoRA") as caught:
        convert_apart(dora, base, out)
    assert "merge it" in str(caught.value.hint)


def test_what_comes_to_nothing_leaves_nothing(tmp_path: Path, base: Path) -> None:
    for heads in (0, 3, 16):
        base.write_bytes(gguf_of({**GGUF_BASE, "llama.attention.head_count": heads}, GGUF_WEIGHTS))
        with pytest.raises(MisfitAdapter, match="how many heads"):
            convert(peft(tmp_path / "a"), base, tmp_path / "out.gguf")
    with pytest.raises(UnusableAdapter, match="took more than"):
        convert_apart(tmp_path / "a", base, tmp_path / "out.gguf", timeout_s=0.001)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "base.gguf"]


def test_a_large_adapter_is_converted_in_little_memory(tmp_path: Path) -> None:
    """64 MB of BF16 in two tensors; a sparse base of 4 GB."""
    width = 32_768
    base = tmp_path / "base.gguf"
    told = {**GGUF_BASE, "llama.attention.head_count": 256}
    head = gguf_of(told, {"blk.0.attn_q.weight": (width, width)}, body=False)
    base.write_bytes(head)
    with base.open("r+b") as file:
        file.truncate(len(head) + 4 * width**2)
    shapes = {f"{Q}.lora_A.weight": (512, width), f"{Q}.lora_B.weight": (width, 512)}
    adapter = peft(tmp_path / "a", {"r": 512}, shapes, dtype="BF16")
    out = tmp_path / "out.gguf"
    tracemalloc.start()
    convert(adapter, base, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert out.stat().st_size > 2 * 64 * 2**20
    assert peak < 8 * 2**20
