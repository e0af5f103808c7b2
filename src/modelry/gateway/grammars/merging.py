"""What several schemas allow together, and whether two allow nothing in common."""

import json
from collections.abc import Callable, Mapping
from typing import Any

Json = Any

REMARKS = frozenset(
    {
        *("$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "title", "description"),
        *("default", "examples", "example", "deprecated", "readOnly", "writeOnly", "nullable"),
        *("contentEncoding", "contentMediaType", "contentSchema", "discriminator", "xml"),
        *("externalDocs", "strict", "$vocabulary", "$dynamicAnchor", "id", "format"),
    }
)
"""Keywords that say nothing of what is valid; nor does any that begins with `x-`."""

_PAIRS_MOST = 64
_HIGHEST = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_LOWEST = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})


_TYPES_MOST = 16
"""More than there are, even if some come twice."""


def merge(merged: dict[str, Json], part: Mapping[str, Json], cannot: Callable[[str], None]) -> None:
    """Have `merged` allow only what `part` does too. `cannot` is told of a keyword where that is
    more than can be said in one schema; what `merged` has stays then.
    """
    for word, said in part.items():
        if word in REMARKS or word not in merged:
            merged.setdefault(word, said)
        elif merged[word] != said:
            try:
                merged[word] = _both(word, merged[word], said)
            except (TypeError, _Cannot):
                cannot(word)


class _Cannot(Exception):
    """Two values of a keyword cannot be one."""


def _both(word: str, mine: Json, said: Json) -> Json:
    if word in _HIGHEST:
        return max(mine, said)
    if word in _LOWEST:
        return min(mine, said)
    if word == "type":
        return _common_types(mine, said)
    if word == "items":
        return {"allOf": [mine, said]}
    if word == "additionalProperties" and True in (mine, said):
        return mine if said is True else said
    if isinstance(mine, Mapping) and isinstance(said, Mapping) and word == "properties":
        both = {
            name: {"allOf": [mine[name], said[name]]}
            for name in mine.keys() & said.keys()
            if mine[name] != said[name]
        }
        return {**mine, **said, **both}
    if isinstance(mine, list) and isinstance(said, list):
        match word:
            case "required":
                return list(dict.fromkeys([*mine, *said]))
            case "allOf":
                return [*mine, *said]
            case "anyOf" if len(mine) * len(said) <= _PAIRS_MOST:
                return [{"allOf": [one, other]} for one in mine for other in said]
            case "enum":
                theirs = {_key(each) for each in said}
                return [each for each in mine if _key(each) in theirs]
    raise _Cannot


def _common_types(one: Json, other: Json) -> list[str]:
    mine = [one] if isinstance(one, str) else list(one)
    theirs = [other] if isinstance(other, str) else list(other)
    if max(len(mine), len(theirs)) > _TYPES_MOST:
        raise _Cannot
    found = [each for each in mine if each in theirs]
    if ("integer" in theirs and "number" in mine) or ("integer" in mine and "number" in theirs):
        found.append("integer")
    return list(dict.fromkeys(found))


def are_apart(schemas: list[Json], compared: Callable[[int], None]) -> bool:
    """Whether what is valid by one of them is for sure valid by no other. `compared` is told how
    many pairs are to be looked at. Where one of them is no schema, that is for others to tell.
    """
    listed = [_values(each) if isinstance(each, Mapping) else None for each in schemas]
    if None not in listed:
        keys = [{_key(each) for each in values or ()} for values in listed]
        return sum(map(len, keys)) == len(frozenset().union(*keys))
    compared(len(schemas) * (len(schemas) - 1) // 2)
    try:
        return _are_apart(schemas)
    except TypeError:
        return False


def _are_apart(schemas: list[Json]) -> bool:
    return all(_differ(one, other) for at, one in enumerate(schemas) for other in schemas[at + 1 :])


def _differ(one: Json, other: Json) -> bool:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return False
    mine, theirs = _kinds(one), _kinds(other)
    if mine is not None and theirs is not None and not mine & theirs:
        return True
    listed, listed_there = _values(one), _values(other)
    if listed is not None and listed_there is not None:
        return not {_key(each) for each in listed} & {_key(each) for each in listed_there}
    properties, others = one.get("properties", {}), other.get("properties", {})
    required, required_there = one.get("required", []), other.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(others, Mapping):
        return False
    # An object that both allow would have two values under one name.
    objects = mine == theirs == {"object"}
    return objects and any(
        name in required and name in required_there and _differ(properties[name], others[name])
        for name in properties.keys() & others.keys()
    )


def _key(value: Json) -> str:
    """The same for values that are equal by a schema, to which 1.0 is 1, and true is not."""
    if isinstance(value, str):
        return f'"{value}'
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _kinds(schema: Mapping[str, Json]) -> set[str] | None:
    told = schema.get("type")
    if told is None:
        return None
    kinds = {told} if isinstance(told, str) else set(told)
    return kinds | {"integer"} if "number" in kinds else kinds


def _values(schema: Mapping[str, Json]) -> list[Json] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None
