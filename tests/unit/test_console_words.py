"""All text of the console is in its catalogues, in every language, and nothing there is unused."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from modelry import console
from modelry.console.words import DEFAULT, LANGUAGES, Text, Words, chosen_language, read_words

CONSOLE = Path(console.__file__).parent
TEMPLATES = sorted((CONSOLE / "templates").glob("*.html"))
SCRIPTS = sorted((CONSOLE / "static").glob("*.js"))
MODULES = sorted(CONSOLE.glob("*.py"))
WORDS = read_words()

# A text's whole name, or its beginning where the rest is put to it: `t("states." ~ name)`.
_NAME = re.compile(r"""["'`]([a-z_]+\.[a-z0-9_]*)(["'`]|\$\{)""")
_VALUE = re.compile(r"\{(\w*)[^}]*\}")
_LETTERS = re.compile(r"[A-Za-z\u4e00-\u9fff]{2,}")
_SHOWN_ATTRIBUTES = ("title", "aria-label", "placeholder", "alt", "aria-description")
# Names that are written the same in every language.
_PROPER = frozenset({"API", "UTC", "URL", "Esc", "Enter", "Shift", "JSON", "curl", "kbd", "CSV"})


def every_text() -> dict[str, dict[str, Text]]:
    """By language: each text under its whole name."""
    parts = {path.stem for path in (CONSOLE / "translations" / DEFAULT).glob("*.json")}
    return {language: words.of_scripts(sorted(parts)) for language, words in WORDS.items()}


def named(paths: list[Path]) -> Iterator[tuple[Path, str, bool]]:
    """Each text that a file names, and whether more is put to the name."""
    parts = {path.stem for path in (CONSOLE / "translations" / DEFAULT).glob("*.json")}
    for path in paths:
        for name, end in _NAME.findall(path.read_text()):
            part, _, key = name.partition(".")
            if part in parts and key not in ("js", "html", "css", "py", "json"):
                yield path, name, end == "${" or name.endswith(("_", "."))


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != DEFAULT])
def test_a_language_has_what_the_others_have(language: str) -> None:
    texts = every_text()
    assert texts[language].keys() == texts[DEFAULT].keys()
    files = {path.name for path in (CONSOLE / "translations" / language).iterdir()}
    assert files == {path.name for path in (CONSOLE / "translations" / DEFAULT).iterdir()}


def test_a_text_takes_the_same_values_in_every_language() -> None:
    texts = every_text()
    for key, text in texts[DEFAULT].items():
        for language in LANGUAGES:
            other = texts[language][key]
            assert isinstance(other, str) == isinstance(text, str), (language, key)
            forms = [other] if isinstance(other, str) else list(other.values())
            if not isinstance(other, str):
                assert other.keys() == {"one", "other"}, (language, key)
            wanted = values_of(text)
            assert {value for form in forms for value in _VALUE.findall(form)} == wanted, key
            assert all(form.strip() for form in forms), (language, key)


def values_of(text: Text) -> set[str]:
    forms = [text] if isinstance(text, str) else list(text.values())
    return {value for form in forms for value in _VALUE.findall(form)}


def test_every_text_that_is_named_is_there() -> None:
    known = every_text()[DEFAULT].keys()
    for path, name, is_beginning in named([*TEMPLATES, *SCRIPTS, *MODULES]):
        if is_beginning:
            assert any(key.startswith(name) for key in known), (path.name, name)
        elif name.split(".")[1]:
            assert name in known, (path.name, name)


def test_every_text_is_used() -> None:
    used: set[str] = set()
    beginnings: set[str] = set()
    for _, name, is_beginning in named([*TEMPLATES, *SCRIPTS, *MODULES]):
        (beginnings if is_beginning else used).add(name)
    unused = {
        key
        for key in every_text()[DEFAULT]
        if key not in used and not any(key.startswith(name) for name in beginnings)
    }
    assert unused == set()


class _Shown(HTMLParser):
    """Collects the text and the attributes of a page that people read."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style", "code", "kbd"):
            self._silent += 1
        self.shown += [value for name, value in attrs if value and name in _SHOWN_ATTRIBUTES]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "code", "kbd"):
            self._silent = max(0, self._silent - 1)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.shown.append(data)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_text_of_its_own(path: Path) -> None:
    # What the templates' language puts in is written as nothing, and its comments are left out.
    environment = jinja2.Environment()
    tokens = environment.lex(path.read_text())
    html = "".join(value for _, kind, value in tokens if kind == "data")
    page = _Shown()
    page.feed(html)
    words = {word for text in page.shown for word in _LETTERS.findall(text)}
    assert words <= _PROPER


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_has_no_text_of_its_own(path: Path) -> None:
    """A sentence in quotes is text, unless it goes to developers by way of an `Error`."""
    source = re.sub(r"(^|\s)//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    source = re.sub(r"import [^;]*;", "", source)
    for quoted in re.findall(r'"([^"\n]*)"', source):
        assert not re.search(r"[A-Z][a-z]+ [a-z]{2,}|[a-z]{3,} [a-z]{2,} [a-z]{2,}", quoted), quoted


def test_values_are_escaped_and_markup_is_not() -> None:
    words = Words("en", {"page": {"by": "Made by <{who}>"}})
    assert words("page.by", who="<b>") == "Made by &lt;&lt;b&gt;&gt;"
    assert words("page.by", who=Markup("<b>")) == "Made by &lt;<b>&gt;"


def test_a_text_goes_by_a_number() -> None:
    words = Words("en", {"page": {"cats": {"one": "{count} cat", "other": "{count} cats"}}})
    assert [words("page.cats", count=each) for each in (0, 1, 2)] == ["0 cats", "1 cat", "2 cats"]


@pytest.mark.parametrize(
    ("wish", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "fr,de;q=0.5", "en"),
        (None, "zh-TW,zh;q=0.9,en;q=0.8", "zh-CN"),
        (None, "en-GB,zh;q=0.9", "en"),
        (None, "en;q=0.1, zh;q=0.9", "zh-CN"),
        (None, "zh;q=0, en", "en"),
        (None, "zh;q=much", "en"),
        ("zh-CN", "en", "zh-CN"),
        ("xx", "zh", "zh-CN"),
    ],
)
def test_a_language_is_chosen_or_taken_from_the_browser(
    wish: str | None, accepted: str, language: str
) -> None:
    assert chosen_language(wish, accepted) == language
