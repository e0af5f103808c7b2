"""Text cut into pieces that are read aloud one after another. Pure.

The first piece is what a caller waits for, and the longest is what an engine needs memory for:
so none is longer than `LONGEST` characters, whatever the text looks like.
"""

import re
import unicodedata

LONGEST = 300
_WORD_LONGEST = 40
_DIGITS_LONGEST = 15
_LOOK = _WORD_LONGEST + 1
"""Characters that are looked at around an end: a look at the whole line at each is quadratic."""

_END = re.compile(r"[.!?…]+[\"”’')\]]*(?=\s)|[。！？]+[」』”]*")
_SPACES = re.compile(r"[^\S\n]+")
_CLAUSE = re.compile(r"[,;:—、，；：]\s*")
_WORDS = re.compile(rf"\S{{{_WORD_LONGEST}}}(?=\S)")
_DIGITS = re.compile(rf"[\d.,:/$£€¥%+-]{{{_DIGITS_LONGEST}}}(?=[\d.,:/$£€¥%+-])")
_TITLES = frozenset(
    {
        "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "rev", "gen", "col", "capt", "lt", "sgt",
        "vs", "etc", "approx", "no", "fig", "vol", "e.g", "i.e", "mt", "hon", "inc", "co", "ltd",
    }
)  # fmt: skip


def cleaned(text: str) -> str:
    """Without what cannot be read aloud and only gets in the way: control characters, marks that
    have no width, and words, numbers and spaces that never end.
    """
    kept = "".join(
        character if character in "\n\t" or unicodedata.category(character)[0] != "C" else " "
        for character in unicodedata.normalize("NFC", text)
    )
    kept = _SPACES.sub(" ", kept)
    kept = _DIGITS.sub(lambda found: found[0] + " ", kept)
    return _WORDS.sub(lambda found: found[0] + " ", kept).strip()


def is_readable(text: str) -> bool:
    """Whether there is a letter or a digit in it."""
    return any(character.isalnum() for character in text)


def foreign_letter(text: str) -> str | None:
    """A letter of another script than the Latin one, where most letters are of such."""
    letters = [character for character in text if character.isalpha()]
    foreign = [each for each in letters if not unicodedata.name(each, "").startswith("LATIN ")]
    return foreign[0] if len(foreign) * 2 > len(letters) else None


def split(text: str) -> list[str]:
    """Its sentences in their order, long ones in parts; none that has nothing to read."""
    found: list[str] = []
    for line in text.splitlines():
        for sentence in _sentences(line.strip()):
            found += _parts(sentence)
    return [each for each in found if is_readable(each)]


def _sentences(line: str) -> list[str]:
    found, start = [], 0
    for match in _END.finditer(line):
        if _ends(line, match):
            found.append(line[start : match.end()].strip())
            start = match.end()
    return [*found, line[start:].strip()]


def _ends(line: str, match: "re.Match[str]") -> bool:
    """Not behind a title or an initial, and not where the next word goes on in small letters."""
    rest = line[match.end() : match.end() + _LOOK].lstrip()
    if rest[:1].islower():
        return False
    if match[0] != ".":
        return True
    before = line[max(0, match.start() - _LOOK) : match.start()]
    word = before.rpartition(" ")[2].lstrip("(\"'“‘").lower()
    return word not in _TITLES and not (len(word) == 1 and word.isalpha())


def _parts(sentence: str) -> list[str]:
    """Cut behind a comma, or else between words, where it is too long."""
    found = []
    while len(sentence) > LONGEST:
        window = sentence[:LONGEST]
        cuts = [match.end() for match in _CLAUSE.finditer(window)]
        cut = max((each for each in cuts if each > LONGEST // 3), default=0)
        cut = cut or window.rfind(" ") + 1 or LONGEST
        found.append(sentence[:cut].strip())
        sentence = sentence[cut:].strip()
    return [*found, sentence]
