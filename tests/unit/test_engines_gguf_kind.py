"""What a GGUF file is for, by its own word, and files that have none."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from modelry.engines.gguf_kind import Kind, read_kind

CHAT = Kind("llama", context_tokens=8192)
BERT = Kind("bert", causal=False, pooling=1, context_tokens=512)
UNPOOLED = Kind("bert", causal=False, context_tokens=512)
DECODER = Kind("qwen3", pooling=3, context_tokens=32768)
RERANKER = Kind("bert", causal=False, ranks=True, context_tokens=512)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(kind: Kind, *, tensors: tuple[str, ...] = ("token_embd.weight",)) -> bytes:
    name = kind.architecture
    values = [
        text("general.architecture") + struct.pack("<I", 8) + text(name),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("[PAD]") + text("é"),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12),
        text("general.description") + struct.pack("<I", 8) + text("long " * 1000),
    ]
    if not kind.causal:
        values.append(text(f"{name}.attention.causal") + struct.pack("<I?", 7, False))
    if kind.pooling is not None:
        values.append(text(f"{name}.pooling_type") + struct.pack("<II", 4, kind.pooling))
    if kind.context_tokens:
        values.append(text(f"{name}.context_length") + struct.pack("<II", 4, kind.context_tokens))
    places = [
        text(each) + struct.pack("<IQQIQ", 2, 4, 4, 0, at * 64) for at, each in enumerate(tensors)
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(places), len(values))
    return head + b"".join([*values, *places]) + bytes(256)


@pytest.mark.parametrize("kind", [CHAT, BERT, UNPOOLED, DECODER])
def test_a_file_says_what_it_is(tmp_path: Path, kind: Kind) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(kind))
    # Each of its tensors is said to be 4 by 4.
    assert read_kind(file) == replace(kind, parameters=16)


@pytest.mark.parametrize("head", ["cls.weight", "cls.output.weight"])
def test_a_head_that_ranks_is_seen(tmp_path: Path, head: str) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(UNPOOLED, tensors=("token_embd.weight", head)))
    assert read_kind(file) == replace(RERANKER, parameters=32)


def test_a_template_that_tells_of_functions_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    for template, renders in (("{% for tool in tools %}", True), ("{{ messages }}" * 200, False)):
        values = [
            text("general.architecture") + struct.pack("<I", 8) + text("qwen3"),
            text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template),
        ]
        file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + b"".join(values))
        kind = read_kind(file)
        assert kind is not None
        assert kind.renders_tools is renders


@pytest.mark.parametrize(
    ("kind", "does"),
    [
        (CHAT, {"chat"}),
        (BERT, {"embedding"}),
        (UNPOOLED, {"embedding"}),
        (DECODER, {"embedding"}),
        (RERANKER, {"rerank"}),
    ],
)
def test_weights_do_what_they_are_for_alone(kind: Kind, does: set[str]) -> None:
    assert {task for task in ("chat", "embedding", "rerank") if not kind.refusal(task)} == does


def test_what_cannot_be_read_is_left_to_the_engine(tmp_path: Path) -> None:
    whole = gguf(BERT)
    file = tmp_path / "model.gguf"
    with pytest.raises(FileNotFoundError):
        read_kind(file)
    for data in (b"", b"GGUF", b"nope" + whole[4:], whole[:200], whole[:12] + b"\xff" * 12):
        file.write_bytes(data)
        assert read_kind(file) is None
