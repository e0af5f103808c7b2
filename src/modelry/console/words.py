"""The console's texts, in each of its languages.

A language is a folder of `translations/` with a file of JSON for each part of the console:
`services.json` holds the texts `services.…`. A text may have values in braces; one that depends
on a number is `{"one": …, "other": …}`, chosen by the value `count`. Files whose names end with
`_js` are for the scripts of a page, which read them with `words.js`.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from markupsafe import Markup, escape

from modelry.console.told import read_told

LANGUAGES = {"en": "English", "zh-CN": "简体中文"}
DEFAULT = "en"

_FOLDER = Path(__file__).parent / "translations"

Text: TypeAlias = str | Mapping[str, str]


class Words:
    """The texts of one language. Called with a text's name and values, it gives the text."""

    def __init__(self, language: str, files: Mapping[str, Mapping[str, Text]]) -> None:
        self.language = language
        self._files = files
        self.told = read_told(language)
        """What the control plane says, in this language."""

    def __call__(self, key: str, **values: object) -> Markup:
        """Values are escaped unless they are markup. Raises `KeyError` for a text there is not."""
        part, _, name = key.partition(".")
        text = self._files[part][name]
        if isinstance(text, Mapping):
            text = text["one" if values["count"] == 1 else "other"]
        return escape(text).format(**values)

    def has(self, key: str) -> bool:
        part, _, name = key.partition(".")
        return name in self._files.get(part, {})

    def of_scripts(self, parts: Iterable[str]) -> dict[str, Text]:
        """The texts of these parts, each under its whole name."""
        return {
            f"{part}.{name}": text for part in parts for name, text in self._files[part].items()
        }


def read_words() -> dict[str, Words]:
    """Every language's."""
    return {
        language: Words(
            language,
            {
                path.stem: json.loads(path.read_text(encoding="utf-8"))
                for path in sorted((_FOLDER / language).glob("*.json"))
            },
        )
        for language in LANGUAGES
    }


def chosen_language(wish: str | None, accepted: str) -> str:
    """What somebody chose, or else the first that their browser accepts and there is.

    `accepted`: an `Accept-Language` header, https://www.rfc-editor.org/rfc/rfc9110#section-12.5.4
    """
    if wish in LANGUAGES:
        return wish
    weighed: list[tuple[float, str]] = []
    for entry in accepted.split(","):
        tag, _, parameter = entry.strip().partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        weighed.append((weight, tag.strip().lower()))
    for weight, tag in sorted(weighed, key=lambda each: -each[0]):
        if weight <= 0:
            continue
        for language in LANGUAGES:
            if tag.split("-")[0] == language.lower().split("-")[0]:
                return language
    return DEFAULT
