"""How long a prompt is for a pipeline's text encoders, and how long it may be.

What is too long would be cut off without a word, and the picture would not show it.
"""

import copy
import threading
from typing import Any

from modelry.runners.refusals import Refused

_NAMES = ("tokenizer", "tokenizer_2", "tokenizer_3")
_NO_LIMIT = 1_000_000
"""Above it, a tokenizer's own limit means that it has none."""
_CLIP = 77
"""What its encoders read, however long a sequence the pipeline takes elsewhere."""


class Prompts:
    """For several threads. `length_max`: tokens that the pipeline gives its last encoder."""

    def __init__(self, pipe: Any, length_max: int | None) -> None:
        # Counting changes how a tokenizer pads and cuts, while the pipeline uses its own.
        found = [copy.deepcopy(getattr(pipe, name, None)) for name in _NAMES]
        self._lock = threading.Lock()
        self._tokenizer, self.limit = None, None
        for tokenizer in found:
            own = getattr(tokenizer, "model_max_length", None)
            if not callable(tokenizer) or not isinstance(own, int):
                continue
            limit = own if own < _NO_LIMIT else None
            if own > _CLIP and isinstance(length_max, int):
                limit = length_max if limit is None else min(limit, length_max)
            # The one that reads most sees what the others cut.
            if self._tokenizer is None or (limit or 0) > (self.limit or 0):
                self._tokenizer, self.limit = tokenizer, limit

    def measure(self, text: str, name: str) -> int:
        """Its tokens; 0 where nobody can tell. Raises `Refused` where they are too many."""
        if self._tokenizer is None:
            return 0
        with self._lock:
            count = len(self._ids(self._tokenizer, text))
        if self.limit is not None and count > self.limit:
            raise Refused(
                f"'{name}' has {count} tokens, and this model reads {self.limit} at most: "
                "shorten it.",
                param=name,
                code="context_length_exceeded",
            )
        return count

    def _ids(self, tokenizer: Any, text: str) -> list[int]:
        if getattr(tokenizer, "chat_template", None):
            # The encoder is a language model, and sees the prompt as a message.
            asked = [{"role": "user", "content": text}]
            ids: list[int] = tokenizer.apply_chat_template(
                asked, tokenize=True, add_generation_prompt=True, return_dict=False
            )
            return ids
        plain: list[int] = tokenizer(text, truncation=False, padding=False).input_ids
        return plain
