"""`strict(kind, body)`: what is wrong with a JSON body, held against a type of `openai`'s.

The library builds its models leniently (no validation, unknown fields kept, missing ones None), so
that using it as a client shows nothing about shapes. This walks a body beside the annotations:

- a field that the type does not have, at any depth;
- a required field that is missing;
- a value of another type, literal or union member, in JSON's terms: "1" is no number, nor is true;
- a field that is missing although null would be due. The Python types cannot tell that from one
  that may be left out, as both are `Optional[X] = None`; `openai_nullable.json` names the former.

A union is resolved by its members' `type`, `object` or `role` literals, and otherwise by the member
with the fewest problems.
"""

import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

NULLABLE: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("openai_nullable.json").read_text()
)["fields"]
"""Name of a class → its fields that must be there, if as null. A class whose name others have too
is called by its module as well. The source is named in the file.
"""

_TAGS = ("type", "object", "role")
_INDEX = re.compile(r"\[\d+\]")
_SCALARS: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    str: (str,),
    bool: (bool,),
}
_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    type(None): "null",
    int: "an integer",
    float: "a number",
}


def strict(kind: Any, body: Any, *, allow: frozenset[str] = frozenset()) -> list[str]:
    """Problems, each as `path: what`; none where the body is right.

    `allow`: paths of fields beyond the type that are there on purpose, with `[]` for any index,
    such as `choices[].message.reasoning_content`.
    """
    return [problem for problem in _walk(kind, body, "") if _beyond(problem) not in allow]


def _beyond(problem: str) -> str | None:
    """The path of an unknown field."""
    path, _, what = problem.partition(": ")
    return _INDEX.sub("[]", path) if what == "unknown field" else None


def _walk(kind: Any, value: Any, path: str) -> Iterator[str]:
    kind = _plain(kind)
    at = path or "."
    origin = get_origin(kind)
    if kind is Any or kind is object:
        return
    if kind is type(None):
        if value is not None:
            yield f"{at}: {_NAMES[type(value)]} where null is due"
    elif origin in (Union, types.UnionType):
        yield from _union(list(_flat(get_args(kind))), value, path)
    elif origin is Literal:
        if not any(value == each and type(value) is type(each) for each in get_args(kind)):
            yield f"{at}: {value!r} is none of {', '.join(map(repr, get_args(kind)))}"
    elif list in (origin, kind):
        yield from _list(kind, value, path)
    elif dict in (origin, kind):
        yield from _dict(kind, value, path)
    elif _is_model(kind):
        yield from _model(origin or kind, value, path)
    elif kind in _SCALARS:
        if not isinstance(value, _SCALARS[kind]) or (isinstance(value, bool) and kind is not bool):
            yield f"{at}: {_NAMES[type(value)]} where {kind.__name__} is due"
    else:
        raise TypeError(f"strict does not know {kind!r}")


def _list(kind: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path or '.'}: {_NAMES[type(value)]} where an array is due"
        return
    (inner,) = get_args(kind) or (Any,)
    for index, item in enumerate(value):
        yield from _walk(inner, item, f"{path}[{index}]")


def _dict(kind: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path or '.'}: {_NAMES[type(value)]} where an object is due"
        return
    _, inner = get_args(kind) or (str, Any)
    for name, item in value.items():
        yield from _walk(inner, item, _within(path, name))


def _model(kind: type[BaseModel], value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path or '.'}: {_NAMES[type(value)]} where {kind.__name__} is due"
        return
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    module = kind.__module__.rpartition(".")[2]
    due = NULLABLE.get(f"{module}.{kind.__name__}") or NULLABLE.get(kind.__name__, [])
    for name, field in fields.items():
        here = _within(path, name)
        if name in value:
            yield from _walk(field.annotation, value[name], here)
        elif field.is_required():
            yield f"{here}: missing"
        elif name in due:
            yield f"{here}: missing, null is due"
    for name in value.keys() - fields.keys():
        yield f"{_within(path, name)}: unknown field"


def _union(members: list[Any], value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for tag in _TAGS:
            tagged = [each for each in members if value.get(tag) in _literals(each, tag)]
            if tag in value and tagged:
                members = tagged
                break
            known = sorted({str(each) for member in members for each in _literals(member, tag)})
            models = [each for each in members if _is_model(each)]
            if tag in value and known and all(_literals(each, tag) for each in models):
                yield f"{_within(path, tag)}: {value[tag]!r} is none of {', '.join(known)}"
                return
    tried = [list(_walk(member, value, path)) for member in members]
    yield from min(tried, key=len)


def _within(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _plain(kind: Any) -> Any:
    """Without what says nothing about its values."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        elif isinstance(kind, typing.TypeVar):
            kind = kind.__bound__ or Any
        else:
            return type(None) if kind is None else kind


def _flat(members: tuple[Any, ...]) -> Iterator[Any]:
    for each in members:
        member = _plain(each)
        if get_origin(member) in (Union, types.UnionType):
            yield from _flat(get_args(member))
        else:
            yield member


def _is_model(kind: Any) -> bool:
    bare = get_origin(kind) or kind
    return isinstance(bare, type) and issubclass(bare, BaseModel)


def _literals(kind: Any, name: str) -> tuple[Any, ...]:
    """What a model's field may be, where it says so."""
    bare = get_origin(kind) or kind
    if not _is_model(bare) or name not in bare.model_fields:
        return ()
    options = _flat((bare.model_fields[name].annotation,))
    return tuple(tag for each in options if get_origin(each) is Literal for tag in get_args(each))
