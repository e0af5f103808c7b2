"""Makes a small cross-encoder for tests: all-MiniLM-L6-v2, taught in a few minutes to give a text
that answers a question a higher score than one that does not.

    PYTHON scripts/make_reranker.py MODEL_FOLDER OUT

PYTHON is one with torch and transformers, such as that of the runtime gguf-converter. OUT gets a
Hugging Face folder, a BertForSequenceClassification, and `scores.json`: what PyTorch gives pairs
that it was not trained with, before any function makes them probabilities.

Both texts are of BERT's first kind, as llama.cpp has it, which knows no second.
"""

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]
from transformers import (  # type: ignore[import-not-found]
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)

SEED = 7
STEPS = 80
PAIRS = 8
FROZEN = 3
LEARNING_RATE = 2e-4

THINGS = {
    "a whale": ("It lives in the sea and breathes air.", "It is a mammal of up to 150 tonnes."),
    "a violin": (
        "It has four strings and is played with a bow.",
        "It is made of spruce and maple.",
    ),
    "bread": (
        "Flour, water, salt and yeast are kneaded and baked.",
        "A loaf keeps for three days.",
    ),
    "a refund": ("The money is paid back within 14 days.", "Write to the shop with the receipt."),
    "the moon": ("It goes around the earth in 27 days.", "Its gravity makes the tides."),
    "a bicycle": ("It has two wheels and pedals.", "Oil its chain once a month."),
    "Python": ("It is a language for programs, named after comedians.", "Its lists start at zero."),
    "rain": ("Drops fall from clouds as vapour cools.", "It fills rivers and lakes."),
    "a lighthouse": ("Its lamp warns ships of rocks.", "A keeper once lived in the tower."),
    "coffee": ("Roasted beans are ground and brewed.", "It contains caffeine."),
    "a password": ("Choose a long one, and use it once.", "It can be reset by e-mail."),
    "a volcano": ("Molten rock comes out of its crater.", "Ash may close airports."),
    "an owl": ("It hunts mice at night.", "It turns its head by 270 degrees."),
    "chess": ("Two players move pieces on 64 squares.", "The king must be mated."),
    "a passport": ("It is shown at borders.", "It is renewed every ten years."),
    "honey": ("Bees make it of nectar.", "It does not spoil."),
}
ASKED = ("What is {}?", "Tell me about {}.", "How does {} work?", "facts on {}")

HELD_OUT = (
    (
        "What is honey like?",
        ("Honey: it is sweet, and bees make it.", "Chess: two players move pieces in turn.",
         "A volcano: its crater is full of molten rock."),
    ),
    (
        "tell me of the moon",
        ("The moon: it is as far as 30 earths in a row.", "Coffee: grind the beans first.",
         "A violin: its bow is of horsehair."),
    ),
    (
        "Where is a passport shown?",
        ("A passport: an officer at the border looks at it.", "An owl: it sees well at night.",
         "Bread: it is baked for forty minutes."),
    ),
)  # fmt: skip
"""Of each query, the first document answers."""


def inputs(tokenizer: Any, pairs: list[tuple[str, str]]) -> Any:
    given = tokenizer(
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
        padding=True,
        return_tensors="pt",
    )
    given["token_type_ids"] = torch.zeros_like(given["token_type_ids"])
    return given


def batch(dice: random.Random) -> tuple[list[tuple[str, str]], list[float]]:
    pairs, wanted = [], []
    for _ in range(PAIRS):
        thing, other = dice.sample(list(THINGS), 2)
        query = dice.choice(ASKED).format(thing)
        right = dice.random() < 0.5
        subject = thing if right else other
        text = dice.choice(THINGS[subject])
        # Half of the texts name what they are about.
        if dice.random() < 0.5:
            text = f"{subject[0].upper()}{subject[1:]}: {text}"
        pairs.append((query, text))
        wanted.append(float(right))
    return pairs, wanted


def main(folder: str, out: Path) -> None:
    torch.manual_seed(SEED)
    # Threads that wait for each other are slower where others have the cores.
    torch.set_num_threads(1)
    dice = random.Random(SEED)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = BertConfig.from_pretrained(folder, num_labels=1)
    model = BertForSequenceClassification.from_pretrained(folder, config=config)
    # What is below can tell texts apart already.
    below = [model.bert.embeddings, *model.bert.encoder.layer[:FROZEN]]
    for parameter in (each for layer in below for each in layer.parameters()):
        parameter.requires_grad = False
    taught = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(taught, lr=LEARNING_RATE)
    model.train()
    for step in range(STEPS):
        pairs, wanted = batch(dice)
        scores = model(**inputs(tokenizer, pairs)).logits[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.tensor(wanted))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr)
    model.eval()
    told = []
    for query, documents in HELD_OUT:
        with torch.no_grad():
            given = inputs(tokenizer, [(query, document) for document in documents])
            scores = model(**given).logits[:, 0].tolist()
        told.append({"query": query, "documents": list(documents), "scores": scores})
        print(query, [round(score, 2) for score in scores], file=sys.stderr)
    draft = out.with_name(out.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    (draft / "scores.json").write_text(json.dumps(told, indent=1))
    draft.rename(out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
