"""What `strict` knows beyond the Python types is what OpenAI's library for Node.js declares."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.node import Node
from tests.support.strict import NULLABLE

# Where the types of the table are declared.
FILES = ("chat/completions/completions", "completions", "responses/responses")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_BLOCK = re.compile(r"(?:export )?(?:declare )?(?:namespace|interface) (\w+).*\{$")
_FIELD = re.compile(r"(\w+): (.*)$")
_NULL = re.compile(r"(^|\| )null( \||;$)")


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def nullable(text: str) -> Iterator[tuple[str, str]]:
    """Each required field that may be null, after its class as the Python library calls it: with
    the outermost one's module where it is declared within another.
    """
    names: list[str] = []
    fields: list[str] = []
    for line in map(str.strip, _COMMENT.sub("", text).splitlines()):
        opened, closed = line.count("{"), line.count("}")
        found = _FIELD.match(line)
        if opened > closed:
            block = _BLOCK.match(line)
            within = names[-1] if names else ""
            names += [block[1] if block else within] * (opened - closed)
            fields += ["" if block or not found else found[1]] * (opened - closed)
        elif closed > opened:
            field = fields[-1]
            del names[opened - closed :], fields[opened - closed :]
            if field and _NULL.search(line):
                yield _python(names), field
        elif names and found and _NULL.search(found[2]):
            yield _python(names), found[1]


def _python(names: list[str]) -> str:
    apart = [name for at, name in enumerate(names) if name not in names[:at]]
    return apart[0] if len(apart) == 1 else f"{snake(apart[0])}.{''.join(apart[1:])}"


def declared(modules: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name in FILES:
        text = (modules / "openai" / "resources" / f"{name}.d.ts").read_text()
        for kind, field in nullable(text):
            found.setdefault(kind, set()).add(field)
    return found


def test_the_fields_that_have_to_be_there_as_null_are_those_that_openai_declares(
    node: Node,
) -> None:
    found = declared(node.modules)
    assert {kind: set(fields) for kind, fields in NULLABLE.items()} == {
        kind: found.get(kind) for kind in NULLABLE
    }
