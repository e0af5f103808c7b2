"""Headers of weights that nobody vouches for: read, or refused, whatever they hold."""

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelry.catalog.headers import DamagedFile, check_header, read_gguf, read_safetensors
from tests.support.weights_files import gguf, safetensors

HUGE = 2**63 - 1


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_of(*values: bytes, tensors: tuple[bytes, ...] = (), version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    return head + b"".join(values) + b"".join(tensors)


def tensor(name: str, *shape: int, offset: int = 0) -> bytes:
    dimensions = struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", each) for each in shape)
    return text(name) + dimensions + struct.pack("<IQ", 0, offset)


WHOLE = gguf_of(
    text("general.architecture") + struct.pack("<I", 8) + text("llama"),
    text("llama.context_length") + struct.pack("<II", 4, 8192),
    text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
    text("scores") + struct.pack("<IIQ", 9, 6, 3) + struct.pack("<fff", 1, 2, 3),
    tensors=(tensor("a", 4, 2), tensor("b", 8, offset=64)),
) + bytes(128)


def write(folder: Path, data: bytes, name: str = "model") -> Path:
    file = folder / name
    file.write_bytes(data)
    return file


def test_what_a_gguf_file_says_of_itself(tmp_path: Path) -> None:
    header = read_gguf(write(tmp_path, WHOLE))
    assert header.metadata == {"general.architecture": "llama", "llama.context_length": 8192}
    assert header.tensors == {"a": (4, 2), "b": (8,)}


def test_what_a_safetensors_file_says_of_itself(tmp_path: Path) -> None:
    header = read_safetensors(write(tmp_path, safetensors(100)))
    assert header.metadata == {"format": "pt"}
    assert header.tensors == {"weight": (100,)}


@pytest.mark.parametrize("size", range(0, len(WHOLE) - 64, 7))
def test_a_gguf_file_cut_off_anywhere_is_damaged(tmp_path: Path, size: int) -> None:
    with pytest.raises(DamagedFile):
        read_gguf(write(tmp_path, WHOLE[:size]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        b"PK\x03\x04" + bytes(100),
        gguf_of(version=1),
        gguf_of(version=2**31),
        b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE),
        gguf_of(struct.pack("<Q", HUGE)),
        gguf_of(text("k") + struct.pack("<I", 8) + struct.pack("<Q", HUGE)),
        gguf_of(text("k") + struct.pack("<I", 13)),
        gguf_of(text("k") + struct.pack("<IIQ", 9, 0, HUGE)),
        gguf_of(text("k") + struct.pack("<IIQ", 9, 8, HUGE)),
        gguf_of(text("k") + struct.pack("<IIQ", 9, 8, 1) + struct.pack("<Q", HUGE)),
        gguf_of(text("k") + struct.pack("<IIQ", 9, 9, 1)),
        gguf_of(tensors=(text("a") + struct.pack("<I", HUGE % 2**32),)),
        gguf_of(tensors=(tensor("a", 1, offset=HUGE),)),
        gguf_of(tensors=(tensor("a", 1), tensor("a", 1))) + bytes(100),
    ],
)
def test_a_hostile_gguf_file_is_damaged(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DamagedFile):
        read_gguf(write(tmp_path, data))


def st_file(fields: Any, body: int = 8) -> bytes:
    header = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return struct.pack("<Q", len(header)) + header + bytes(body)


def u8(begin: Any, end: Any, *shape: Any, dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", HUGE) + b"{}",
        struct.pack("<Q", 50) + b"{}",
        st_file(b"{"),
        st_file(b"[]"),
        st_file(b"[" * 100_000),
        st_file({"a": 1}),
        st_file({"a": {}}),
        st_file({"a": u8(0, 8, 8, dtype="X9")}),
        st_file({"a": u8(0, 8, 9)}),
        st_file({"a": u8(0, 8, 2**62, 2**62)}),
        st_file({"a": u8(0, 8, -8)}),
        st_file({"a": u8(0, 8, 8.0)}),
        st_file({"a": u8(0, 8, True, 8)}),
        st_file({"a": u8(0, "8", 8)}),
        st_file({"a": u8(-8, 0, 8)}),
        st_file({"a": u8(0, 8, 8), "b": u8(0, 8, 8)}),
        st_file({"a": u8(0, 4, 4), "b": u8(5, 8, 3)}),
        st_file({"a": u8(0, 4, 4)}),
        st_file({"a": u8(0, 16, 16)}),
    ],
)
def test_a_hostile_safetensors_file_is_damaged(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DamagedFile):
        read_safetensors(write(tmp_path, data))


@pytest.mark.parametrize("name", ["model.gguf", "model.safetensors", "MODEL.GGUF"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DamagedFile, match=name):
        check_header(name, write(tmp_path, b"\x80\x04 a pickle under another name"))
    check_header("notes.txt", write(tmp_path, b"anything"))


seeds = st.sampled_from([WHOLE, gguf(200), safetensors(50)])


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=seeds,
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=9)), max_size=6),
    end=st.integers(0, 500),
)
def test_whatever_a_file_holds_it_is_read_or_refused(
    tmp_path: Path, data: bytes, changes: list[tuple[int, bytes]], end: int
) -> None:
    for at, piece in changes:
        at %= len(data)
        data = data[:at] + piece + data[at + len(piece) :]
    file = write(tmp_path, data[:end] if end % 3 == 0 else data)
    for read in (read_gguf, read_safetensors):
        try:
            read(file)
        except DamagedFile:
            pass


def test_a_large_claim_costs_no_memory(tmp_path: Path) -> None:
    """A sparse file of 4 GB that is all header, as far as it says."""
    file = tmp_path / "large.gguf"
    with file.open("wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1_000_000))
        out.truncate(4 * 2**30)
    tracemalloc.start()
    try:
        # A million empty names with a number each: it ends, one way or the other.
        read_gguf(file)
    except DamagedFile:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20
