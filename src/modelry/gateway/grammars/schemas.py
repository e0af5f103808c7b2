"""JSON Schema (https://json-schema.org/draft/2020-12) to a grammar of the JSON that it allows.

The grammar allows a part of what the schema does, never more: members of an object come in the
schema's order, and only those that it names, there is little white space, and whatever could go on
without an end is bounded, so that an answer is complete before its tokens are used up. What cannot
be followed is refused (`Unfollowable`), or left out where the caller said it may be (`loose`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelry.gateway.grammars import numbers, strings
from modelry.gateway.grammars.compiling import (
    COLON,
    Compiling,
    Json,
    TooDeep,
    Unfollowable,
    written,
)
from modelry.gateway.grammars.containers import KEY_CHARACTERS, array_of, object_of
from modelry.gateway.grammars.gbnf import Literal, Node, Repeat, choice, sequence
from modelry.gateway.grammars.merging import REMARKS, are_apart, merge
from modelry.gateway.grammars.scalars import NUMBER_WORDS, number_of, string_of

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_DEEPEST = 60
_RULES_MOST = 2000
_STEPS_MOST = 20_000
_ANY_DEPTH = 2

_OF_TYPE: dict[str, frozenset[str]] = {
    "object": frozenset(
        {
            *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
            *("propertyNames", "patternProperties", "unevaluatedProperties", "dependentRequired"),
            *("dependentSchemas", "dependencies"),
        }
    ),
    "array": frozenset(
        {
            *("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"),
            *("contains", "minContains", "maxContains", "unevaluatedItems"),
        }
    ),
    "string": frozenset({"minLength", "maxLength", "pattern"}),
    "number": NUMBER_WORDS,
}
_ANYWHERE = frozenset({"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"})
_KNOWN = _ANYWHERE | REMARKS | frozenset().union(*_OF_TYPE.values())


@dataclass
class Compiler(Compiling):
    """`root`: what `#` in a `$ref` means."""

    root: Json = None
    _active: Counter[str] = field(default_factory=Counter)
    _steps: int = 0
    _any: Node | None = None

    def compile(self, schema: Json) -> Node:
        """What is valid by a schema. Raises `Unfollowable`."""
        return self.value(schema, "", 0)

    def value(self, schema: Json, path: str, depth: int) -> Node:
        if schema is True or schema == {}:
            return self._anything()
        if schema is False:
            raise Unfollowable(path, "nothing is valid here")
        if not isinstance(schema, Mapping):
            raise Unfollowable(path, "a schema is an object, true or false")
        self._steps += 1
        if depth > _DEEPEST or self._steps > _STEPS_MOST or len(self.grammar.rules) > _RULES_MOST:
            raise Unfollowable(path, "the schema is too large, or too deep")
        if "$ref" in schema:
            return self._reference(schema, path, depth)
        if "allOf" in schema:
            return self.value(self._all_of(schema, path), path, depth + 1)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._any_of(schema, word, path, depth)
        for word in sorted(set(schema) - _KNOWN):
            self.leave_out(word, path)
        types = self._types(schema, path)
        if "const" in schema or "enum" in schema:
            return _listed(schema, types, path)
        if "type" not in schema and len(types) > 1:
            return self._anything()
        return choice(self._of_type(type_, schema, path, depth) for type_ in types)

    # ------------------------------------------------------------------------

    def _of_type(self, type_: str, schema: Mapping[str, Json], path: str, depth: int) -> Node:
        match type_:
            case "object":
                return self.add(object_of(self, schema, path, depth), "object")
            case "array":
                return self.add(array_of(self, schema, path, depth), "array")
            case "string":
                return string_of(self, schema, path)
            case "integer" | "number":
                return number_of(self, schema, path, whole=type_ == "integer")
            case "boolean":
                return choice((Literal("true"), Literal("false")))
        return Literal("null")

    def _types(self, schema: Mapping[str, Json], path: str) -> list[str]:
        told = schema.get("type")
        types = [told] if isinstance(told, str) else told
        if types is None:
            # Words of one type mean that one: whatever else would be valid too.
            meant = [type_ for type_, words in _OF_TYPE.items() if words & set(schema)]
            listed = "const" in schema or "enum" in schema
            if meant and not listed:
                return meant[:1]
            return [each for each in _TYPES if each != "integer"]
        if not isinstance(types, list) or not types or not all(each in _TYPES for each in types):
            raise Unfollowable(f"{path}/type", f"'type' is one of {', '.join(_TYPES)}, or several")
        if schema.get("nullable") is True and "null" not in types:
            types = [*types, "null"]
        return [each for each in types if each != "integer" or "number" not in types]

    def _anything(self) -> Node:
        """Any JSON, not very deep."""
        if self._any is None:
            words = (Literal("true"), Literal("false"), Literal("null"))
            simple = choice((string_of(self, {}, ""), numbers.real(None, None), *words))
            node = simple
            for _ in range(_ANY_DEPTH):
                inner = self.add(node, "any")
                key = strings.quoted(Repeat(strings.CHARACTER, 1, KEY_CHARACTERS))
                member = sequence(key, COLON, inner)
                lists = self.items("[", inner, 0, None, "]"), self.items("{", member, 0, None, "}")
                node = choice((simple, *lists))
            self._any = self.add(node, "any")
        return self._any

    # -- what refers to others -----------------------------------------------

    def _reference(self, schema: Mapping[str, Json], path: str, depth: int) -> Node:
        reference = schema["$ref"]
        beside = {word: said for word, said in schema.items() if word not in {"$ref", *REMARKS}}
        if beside:
            return self.value({"allOf": [{"$ref": reference}, beside]}, path, depth + 1)
        target = self._resolved(reference, path)
        if self._active[reference] >= self.bounds.depth:
            raise TooDeep(path, f"'{reference}' holds itself without an end")
        self._active[reference] += 1
        try:
            return self.value(target, str(reference).lstrip("#"), depth + 1)
        finally:
            self._active[reference] -= 1

    def _resolved(self, reference: Json, path: str) -> Json:
        if not isinstance(reference, str):
            raise Unfollowable(f"{path}/$ref", "'$ref' is a text")
        if reference != "#" and not reference.startswith("#/"):
            raise Unfollowable(f"{path}/$ref", f"'{reference}' is elsewhere; refer to '#/$defs/…'")
        found = self.root
        for part in reference[2:].split("/") if len(reference) > 1 else ():
            name = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise Unfollowable(f"{path}/$ref", f"there is no '{reference}'") from None
        return found

    def seen_through(self, schema: Json) -> Json:
        for _ in range(_DEEPEST):
            if not isinstance(schema, Mapping) or set(schema) - REMARKS != {"$ref"}:
                return schema
            schema = self._resolved(schema["$ref"], "")
        raise Unfollowable("", "a '$ref' leads to itself alone")

    def _all_of(self, schema: Mapping[str, Json], path: str) -> dict[str, Json]:
        """`allOf` in one: what is valid by all of them."""
        parts = schema["allOf"]
        if not isinstance(parts, list) or not parts:
            raise Unfollowable(f"{path}/allOf", "'allOf' is a list of schemas")
        merged: dict[str, Json] = {word: said for word, said in schema.items() if word != "allOf"}
        for at, each in enumerate(parts):
            where = f"{path}/allOf/{at}"
            part = self.seen_through(each)
            if part is True:
                continue
            if not isinstance(part, Mapping):
                raise Unfollowable(where, "a schema is an object, true or false")

            def cannot(word: str, where: str = where) -> None:
                self.leave_out(word, where, "of several in 'allOf' cannot be followed")

            merge(merged, part, cannot)
        return merged

    def _any_of(self, schema: Mapping[str, Json], word: str, path: str, depth: int) -> Node:
        of = schema[word]
        if not isinstance(of, list) or not of:
            raise Unfollowable(f"{path}/{word}", f"'{word}' is a list of schemas")
        beside = {
            each: said for each, said in schema.items() if each != word and each not in REMARKS
        }
        if word == "oneOf" and not are_apart([self.seen_through(each) for each in of]):
            why = "cannot be followed where several of it may fit; use 'anyOf'"
            self.leave_out(word, path, why)
        nodes = []
        deep = None
        for at, each in enumerate(of):
            whole = {"allOf": [each, beside]} if beside else each
            try:
                if each is not False:
                    nodes.append(self.value(whole, f"{path}/{word}/{at}", depth + 1))
            except TooDeep as problem:
                deep = problem
        if not nodes:
            raise deep or Unfollowable(f"{path}/{word}", "nothing is valid here")
        return self.add(choice(nodes), "any")


def _listed(schema: Mapping[str, Json], types: list[str], path: str) -> Node:
    listed = schema.get("enum", [])
    if not isinstance(listed, list):
        raise Unfollowable(f"{path}/enum", "'enum' is a list")
    values = listed
    if "const" in schema:
        const = schema["const"]
        values = [const] if "enum" not in schema or const in listed else []
    fitting = [each for each in values if any(_is(each, type_) for type_ in types)]
    if not fitting:
        raise Unfollowable(path, "no value that is listed is valid here")
    return choice(Literal(written(each)) for each in fitting)


def _is(value: Json, type_: str) -> bool:
    match type_:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "integer" | "number":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and (type_ == "number" or value == int(value))
        case "array":
            return isinstance(value, list)
    return isinstance(value, dict)
