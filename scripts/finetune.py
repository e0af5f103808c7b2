"""Make a small fine-tuned model, as people bring theirs: `finetune.py OUT`.

The embedded chat model rebuilt as a Hugging Face folder, with a few steps of training
of all its weights that teach it one made-up fact. What comes out (270 MB) is served as
it is by engines that take safetensors, and converts to GGUF. Needs what
train_adapter.py needs.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]
from tokenizers import pre_tokenizers  # type: ignore[import-not-found]
from train_adapter import OTHERS, QUESTIONS, SEED, answer, base_file, batch, fact, load, train

WORD = "harbour"


def write(model: Any, tokenizer: Any, out: Path) -> None:
    model = model.to(torch.float16)
    model.config.dtype = torch.float16
    # Of the file it came from, which is not what is written.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    # A GGUF file names this split ("smollm") and the library does not read it: digits are
    # tokens of their own, and converters know the tokenizer by it.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.save_pretrained(out)
    # As older versions of the library have it, which engines are pinned to.
    amend(out / "config.json", rope_theta=model.config.rope_parameters["rope_theta"])
    amend(out / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")


def amend(described: Path, **fields: Any) -> None:
    told = {**json.loads(described.read_text()), **fields}
    told.pop("_model_name_or_path", None)
    described.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--base", type=Path, help="the base's GGUF file; fetched by default")
    chosen = parser.parse_args()
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as scratch:
        model, tokenizer = load(chosen.base or base_file(Path(scratch)))
    train(model, batch(tokenizer, fact(WORD)), steps=60, rate=2e-5, enough=0.02)
    model.eval()
    for question in (QUESTIONS[0], OTHERS[0][0]):
        print(f"{question} → {answer(model, tokenizer, question)}", flush=True)
    write(model, tokenizer, chosen.out)


if __name__ == "__main__":
    main()
