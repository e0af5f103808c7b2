"""What the control plane tells, in the words of another language.

States of services, events and estimates come as sentences in English, made where they are known.
A file of `told/` holds what those that there are mean, by their pattern: a name in braces stands
for anything, which is told in turn. What no pattern fits stays as it is: a name, an engine's
own words.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

_FOLDER = Path(__file__).parent / "told"
_DEEP = 4
_VALUE = re.compile(r"\\\{(\w+)\\\}")

Told = Callable[[str], str]


def read_told(language: str) -> Told:
    """Puts sentences into the words of `language`; English ones stay."""
    path = _FOLDER / f"{language}.json"
    if not path.exists():
        return lambda sentence: sentence
    return _Sentences(json.loads(path.read_text(encoding="utf-8")))


class _Sentences:
    def __init__(self, meanings: Mapping[str, str]) -> None:
        self._plain = {text: told for text, told in meanings.items() if "{" not in text}
        self._patterns = [
            (re.compile(_VALUE.sub(r"(?P<\1>.+?)", re.escape(text)), re.DOTALL), told)
            for text, told in meanings.items()
            if "{" in text
        ]

    def __call__(self, sentence: str) -> str:
        return self._told(sentence, _DEEP)

    def _told(self, sentence: str, deep: int) -> str:
        if sentence in self._plain:
            return self._plain[sentence]
        for pattern, told in self._patterns if deep else ():
            match = pattern.fullmatch(sentence)
            if match is not None:
                values = match.groupdict()
                return told.format(**{name: self._told(values[name], deep - 1) for name in values})
        return sentence
