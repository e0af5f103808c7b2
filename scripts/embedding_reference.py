"""Writes what all-MiniLM-L6-v2 makes of a few texts: the mean over its tokens' last hidden states,
as the model's makers compute it, of length one.

    PYTHON scripts/embedding_reference.py MODEL_FOLDER > tests/support/minilm_vectors.json

PYTHON is one with torch and transformers, such as that of the runtime gguf-converter.
"""

import json
import sys

import torch  # type: ignore[import-not-found]
from transformers import AutoModel, AutoTokenizer  # type: ignore[import-not-found]

TEXTS = (
    "The cat sits outside.",
    "A MAN is playing the Guitar!",
    "Crème brûlée, naïve façade; 東京 and émigré.",
    "def add(a, b):\n    return a + b  # 2+2=4",
    "Refunds are paid within 14 days. " * 20,
)


def main(folder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    made = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state
        vector = torch.nn.functional.normalize(hidden.mean(dim=1), dim=1)[0]
        numbers = [round(number, 5) for number in vector.tolist()]
        made.append({"text": text, "tokens": inputs["input_ids"][0].tolist(), "vector": numbers})
    # A line for each, so that a change can be seen.
    print("[\n" + ",\n".join(json.dumps(each) for each in made) + "\n]")


if __name__ == "__main__":
    main(sys.argv[1])
