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
    TOO_LARGE,
    Compiling,
    Json,
    Nothing,
    TooDeep,
    Unfollowable,
    written,
)
from modelry.gateway.grammars.containers import KEY_CHARACTERS, array_of, object_of
from modelry.gateway.grammars.gbnf import Literal, Node, Repeat, Rule, choice, one_of, sequence
from modelry.gateway.grammars.merging import REMARKS, are_apart, merge
from modelry.gateway.grammars.scalars import NUMBER_WORDS, number_of, string_of

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_DEEPEST = 60
# How many of each are about a step's work.
_PAIRS, _VALUES, _LETTERS, _MERGED = 8, 4, 1000, 50
_ANY_DEPTH = 2
_ENDLESS = "'{}' holds itself without an end"

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
    _referred: dict[str, Rule] = field(default_factory=dict)
    _unfinished: set[str] = field(default_factory=set)
    _holds_itself: bool = False
    _within: set[str] = field(default_factory=set)
    """References that are being followed, with nothing of the value that they mean before them."""
    _any: Node | None = None

    def compile(self, schema: Json) -> Node:
        """What is valid by a schema. Raises `Unfollowable`."""
        try:
            node = self.value(schema, "", 0)
        except RecursionError:
            raise Unfollowable("", TOO_LARGE) from None
        if self._holds_itself:
            ending = self.grammar.ending()
            for reference, rule in self._referred.items():
                if rule.name not in ending:
                    raise TooDeep(reference.lstrip("#"), _ENDLESS.format(reference))
        return node

    def value(self, schema: Json, path: str, depth: int) -> Node:
        if schema is True or schema == {}:
            return self._anything()
        if schema is False:
            raise Nothing(path, "nothing is valid here")
        if not isinstance(schema, Mapping):
            raise Unfollowable(path, "a schema is an object, true or false")
        self.spend(1, path)
        if depth > _DEEPEST:
            raise Unfollowable(path, TOO_LARGE)
        if "$ref" in schema:
            return self._reference(schema, path, depth)
        if "allOf" in schema:
            return self.value(self._all_of(schema, path), path, depth + 1)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._any_of(schema, word, path, depth)
        for word in sorted(set(schema) - _KNOWN):
            if not word.startswith("x-"):
                self.leave_out(word, path)
        types = self._types(schema, path)
        if "const" in schema or "enum" in schema:
            return self._listed(schema, types, path)
        if "type" not in schema and len(types) > 1:
            return self._anything()
        nodes = []
        nothing = None
        for type_ in types:
            try:
                nodes.append(self._of_type(type_, schema, path, depth))
            except Nothing as problem:
                nothing = problem
        if not nodes:
            raise nothing or Nothing(path, "nothing is valid here")
        return choice(nodes)

    # ------------------------------------------------------------------------

    def _of_type(self, type_: str, schema: Mapping[str, Json], path: str, depth: int) -> Node:
        match type_:
            case "object" | "array":
                make = object_of if type_ == "object" else array_of
                outside, self._within = self._within, set()
                try:
                    return self.add(make(self, schema, path, depth), type_)
                finally:
                    self._within = outside
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
        if types == []:
            raise Nothing(path, "nothing is of all types at once that are asked for")
        if not isinstance(types, list) or not all(each in _TYPES for each in types):
            raise Unfollowable(f"{path}/type", f"'type' is one of {', '.join(_TYPES)}, or several")
        if schema.get("nullable") is True and "null" not in types:
            types = [*types, "null"]
        return [each for each in types if each != "integer" or "number" not in types]

    def _anything(self) -> Node:
        """Any JSON, not very deep."""
        if self._any is None:
            words = (Literal("true"), Literal("false"), Literal("null"))
            simple = choice((string_of(self, {}, ""), numbers.real(None, None), *words))
            if self.bounds.depth is None:
                rule = self.grammar.reserve(f"{self.prefix}-any")
                self.grammar.define(rule, self._holding(simple, rule))
                self._any = rule
                return rule
            node = simple
            for _ in range(_ANY_DEPTH):
                node = self._holding(simple, self.add(node, "any"))
            self._any = self.add(node, "any")
        return self._any

    def _holding(self, simple: Node, inner: Node) -> Node:
        key = strings.quoted(Repeat(strings.CHARACTER, 1, KEY_CHARACTERS))
        lists = self.items("[", inner, 0, None, "]")
        maps = self.items("{", sequence(key, COLON, inner), 0, None, "}")
        return choice((simple, lists, maps))

    def _listed(self, schema: Mapping[str, Json], types: list[str], path: str) -> Node:
        listed = schema.get("enum", [])
        if not isinstance(listed, list):
            raise Unfollowable(f"{path}/enum", "'enum' is a list")
        values = listed
        if "const" in schema:
            const = schema["const"]
            values = [const] if "enum" not in schema or const in listed else []
        fitting = [each for each in values if any(_is(each, type_) for type_ in types)]
        if not fitting:
            raise Nothing(path, "no value that is listed is valid here")
        texts = [written(each) for each in fitting]
        self.spend(len(texts) // _VALUES + sum(map(len, texts)) // _LETTERS, path)
        return one_of(texts)

    # -- what refers to others -----------------------------------------------

    def _reference(self, schema: Mapping[str, Json], path: str, depth: int) -> Node:
        reference = schema["$ref"]
        beside = {word: said for word, said in schema.items() if word not in {"$ref", *REMARKS}}
        if beside:
            return self.value({"allOf": [{"$ref": reference}, beside]}, path, depth + 1)
        target = self._resolved(reference, path)
        if reference in self._within:
            raise TooDeep(path, _ENDLESS.format(reference))
        self._within.add(reference)
        try:
            if self.bounds.depth is None:
                return self._rule_of(reference, target)
            if self._active[reference] >= self.bounds.depth:
                raise TooDeep(path, _ENDLESS.format(reference))
            self._active[reference] += 1
            try:
                return self.value(target, reference.lstrip("#"), depth + 1)
            finally:
                self._active[reference] -= 1
        finally:
            self._within.discard(reference)

    def _rule_of(self, reference: str, target: Json) -> Rule:
        """The rule of what is referred to, which may hold itself."""
        rule = self._referred.get(reference)
        if rule is None:
            rule = self._referred[reference] = self.grammar.reserve(f"{self.prefix}-ref")
            self._unfinished.add(reference)
            try:
                self.grammar.define(rule, self.value(target, reference.lstrip("#"), 0))
            except Nothing:
                del self._referred[reference]
                raise
            finally:
                self._unfinished.discard(reference)
        elif reference in self._unfinished:
            self._holds_itself = True
        return rule

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
            if part is False:
                raise Nothing(where, "nothing is valid here")
            if not isinstance(part, Mapping):
                raise Unfollowable(where, "a schema is an object, true or false")

            def cannot(word: str, where: str = where) -> None:
                self.leave_out(word, where, "of several in 'allOf' cannot be followed")

            sizes = [len(each) for each in merged.values() if isinstance(each, Mapping | list)]
            self.spend(sum(sizes) // _MERGED, where)
            merge(merged, part, cannot)
        return merged

    def _any_of(self, schema: Mapping[str, Json], word: str, path: str, depth: int) -> Node:
        of = schema[word]
        if not isinstance(of, list) or not of:
            raise Unfollowable(f"{path}/{word}", f"'{word}' is a list of schemas")
        beside = {
            each: said for each, said in schema.items() if each != word and each not in REMARKS
        }
        if word == "oneOf":
            meant = [self.seen_through(each) for each in of]
            if not are_apart(meant, lambda pairs: self.spend(pairs // _PAIRS, path)):
                why = "cannot be followed where several of it may fit; use 'anyOf'"
                self.leave_out(word, path, why)
        nodes = []
        nothing = None
        for at, each in enumerate(of):
            whole = {"allOf": [each, beside]} if beside else each
            try:
                nodes.append(self.value(whole, f"{path}/{word}/{at}", depth + 1))
            except Nothing as problem:
                nothing = problem
        if not nodes:
            raise nothing or Nothing(f"{path}/{word}", "nothing is valid here")
        return self.add(choice(nodes), "any")


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
