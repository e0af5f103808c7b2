"""Adapters whose numbers are none: infinite, or no numbers at all."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.catalog.adapter_numbers import refuse_no_numbers
from modelry.catalog.adapters import UnusableAdapter
from tests.support.adapter_files import ADAPTERS, PAIRS, WIDTH, WORDS, peft

COUNT = sum(shape[0] * shape[1] for shape in PAIRS.values())


def written(folder: Path, dtype: str, number: bytes, at: int) -> Path:
    """An adapter of zeros but for one."""
    width = WIDTH[dtype]
    data = bytearray(COUNT * width)
    data[at * width : (at + 1) * width] = number
    return peft(folder, dtype=dtype, data=bytes(data))


@pytest.mark.parametrize(
    ("dtype", "number"),
    [
        ("F16", struct.pack("<e", float("nan"))),
        ("F16", struct.pack("<e", float("-inf"))),
        ("F32", struct.pack("<f", float("nan"))),
        ("F32", struct.pack("<f", float("inf"))),
        ("BF16", struct.pack("<f", float("nan"))[2:]),
        ("BF16", struct.pack("<f", float("-inf"))[2:]),
    ],
)
@pytest.mark.parametrize("at", [0, 17, COUNT - 1])
def test_one_that_is_no_number_is_enough(
    tmp_path: Path, dtype: str, number: bytes, at: int
) -> None:
    with pytest.raises(UnusableAdapter, match="infinite or no numbers") as caught:
        refuse_no_numbers(written(tmp_path / "a", dtype, number, at))
    assert "lora_" in caught.value.message


@given(st.floats(-60000, 60000, width=16))
def test_every_number_of_half_precision_is_one(number: float) -> None:
    data = struct.pack("<e", number)
    assert data[1] & 0x7C != 0x7C


@pytest.mark.parametrize("name", WORDS)
def test_real_adapters_have_numbers(name: str) -> None:
    refuse_no_numbers(ADAPTERS / name)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_large_and_small_numbers_are_let_pass(tmp_path: Path, dtype: str) -> None:
    for number in (65504.0, -1.5, 6e-5, 0.0):
        packed = struct.pack("<e", number) if dtype == "F16" else struct.pack("<f", number)
        data = packed[2:] if dtype == "BF16" else packed
        refuse_no_numbers(written(tmp_path / f"{number}", dtype, data, 3))
