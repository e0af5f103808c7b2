"""Names that a model gets from where it comes from."""

import pytest

from modelry.catalog.cards import check_id
from modelry.cli.models import name_of


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hf://Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf",
         "qwen2.5-0.5b-instruct-q4-k-m"),
        ("hf://org/My_Model@v1.0", "my-model"),
        ("hf://org/My_Model/", "my-model"),
        ("https://host/a%20b.GGUF?token=x", "a-20b"),
        ("file:///models/Fine Tune", "fine-tune"),
        ("pypi://llm==1/llm/x.Q4_1.gguf", "x.q4-1"),
        ("hf://org/" + "x" * 90, "x" * 64),
        ("https://host/…", "model"),
    ],
)  # fmt: skip
def test_a_name_is_made_from_a_source(source: str, name: str) -> None:
    assert name_of(source) == name
    assert check_id(name) == name
