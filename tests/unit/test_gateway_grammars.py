"""Whatever a grammar made of a JSON Schema allows is valid by that schema."""

import json
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.gateway.grammars.compiling import Unfollowable
from tests.support.grammar_samples import Sampler, grammar_of, samples

Json = Any


def closed(required: list[str] | None = None, /, **properties: Json) -> Json:
    names = list(properties) if required is None else required
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


LIST = {
    "$defs": {
        "node": closed(
            v={"type": "integer"}, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}
        )
    },
    "$ref": "#/$defs/node",
}
FOLLOWED: dict[str, Json] = {
    "a text": {"type": "string"},
    "lengths": {"type": "string", "minLength": 2, "maxLength": 5},
    "a long length": {"type": "string", "minLength": 1600, "maxLength": 1700},
    "types": {"type": ["string", "integer", "null"], "maxLength": 3, "minimum": 0},
    "nullable": closed(a={"anyOf": [{"type": "string"}, {"type": "null"}]}),
    "enum": {"enum": ["c", 'quo"te', 1, 2.5, None, True, ["x"], {"größe": "特大"}]},
    "enum of a type": {"type": "integer", "enum": ["x", 3, 4.0]},
    "const": {"const": "line\nbreak"},
    "names": closed(
        **{'a"b\\': {"type": "null"}, "größe": {"type": "boolean"}, "x/y~z": {"const": 1}}
    ),
    "optional": closed(["b"], a={"type": "string"}, b={"type": "integer"}, c={"type": "null"}),
    "all optional": closed([], a={"type": "string"}, b={"type": "integer"}),
    "required without a schema": {"type": "object", "required": ["a"]},
    "one to come of two": closed([], a={"const": 1}, b={"const": 2}) | {"minProperties": 2},
    "at most one": closed([], a={"const": 1}, b={"const": 2}) | {"maxProperties": 1},
    "a map": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
    "a map's names": {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]{2}$"},
        "minProperties": 1,
    },
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^x-[0-9]+$": {"type": "boolean"}},
        "additionalProperties": False,
    },
    "items": {
        "type": "array",
        "items": {"type": "string", "maxLength": 2},
        "minItems": 2,
        "maxItems": 4,
    },
    "no items": {"type": "array", "maxItems": 0},
    "a tuple": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"enum": ["a", "b"]}],
        "items": False,
        "minItems": 2,
    },
    "unique": {
        "type": "array",
        "items": {"enum": ["x", "y", "z"]},
        "uniqueItems": True,
        "minItems": 1,
    },
    "unique, or none": {"type": "array", "items": {"enum": ["x", "y"]}, "uniqueItems": True},
    "integers": {"type": "integer", "minimum": -17, "maximum": 2003},
    "integers above": {"type": "integer", "exclusiveMinimum": 99},
    "integers below": {"type": "integer", "maximum": -3},
    "fractional bounds": {"type": "integer", "minimum": 0.5, "maximum": 3.5},
    "numbers": {"type": "number", "minimum": 0.25, "maximum": 1.5},
    "numbers within one": {"type": "number", "minimum": 0.1, "maximum": 0.9},
    "numbers around zero": {"type": "number", "minimum": -2.5, "maximum": 2.75},
    "numbers apart": {"type": "number", "exclusiveMinimum": -2.5, "exclusiveMaximum": -0.1},
    "sevens": {"type": "integer", "multipleOf": 7, "minimum": 3},
    "quarters": {"type": "number", "multipleOf": 0.25, "minimum": -1, "maximum": 1},
    "a pattern": {"type": "string", "pattern": r"^[A-Z]{2}-\d{3,}$"},
    "a pattern somewhere": {"type": "string", "pattern": "a+b|^c$"},
    "groups": {"type": "string", "pattern": r'^(foo|ba[rz])?\s*[^"\\x]+.$'},
    "escapes": {"type": "string", "pattern": r"^\w+@\w+\.com\n\u00e9[\]\-a]$"},
    "a pattern and a length": {"type": "string", "pattern": "^[a-z]{3}$", "maxLength": 5},
    "a list that goes on": LIST,
    "all of": {
        "allOf": [
            {
                "type": "object",
                "properties": {"a": {"type": "string", "minLength": 2}},
                "required": ["a"],
            },
            {"properties": {"a": {"maxLength": 3}, "b": {"type": "integer"}}, "required": ["b"]},
        ]
    },
    "all of numbers": {
        "allOf": [{"type": "number", "minimum": 3}, {"type": "integer", "maximum": 5}]
    },
    "all of several": {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in "abcd"},
        "allOf": [
            {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"anyOf": [{"required": ["c"]}, {"required": ["d"]}]},
        ],
    },
    "beside a reference": {"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n", "minimum": 7},
    "any of, and more": {
        "type": "string",
        "anyOf": [{"minLength": 3}, {"const": ""}],
        "maxLength": 4,
    },
    "one of": {
        "oneOf": [closed(t={"const": "a"}, x={"type": "integer"}), closed(t={"const": "b"})]
    },
    "anything": closed(a={}, b=True),
    "ipv4": {"type": "string", "format": "ipv4"},
    "an unknown format": {"type": "string", "format": "phone", "maxLength": 4},
    "draft 4": {"type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 5},
    "words of other types": {"type": "string", "maxLength": 2, "properties": {"a": False}},
}


@pytest.mark.parametrize("schema", FOLLOWED.values(), ids=FOLLOWED.keys())
def test_what_is_allowed_is_valid(schema: Json) -> None:
    checked = schema
    if schema == FOLLOWED["draft 4"]:
        checked = {"type": "integer", "minimum": 4, "maximum": 5}
    validator = jsonschema.Draft202012Validator(
        checked, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    for value in samples(schema):
        validator.validate(value)


@pytest.mark.parametrize("format_", ["date", "date-time", "uuid", "email", "hostname", "time"])
def test_formats_are_what_they_say(format_: str) -> None:
    read: dict[str, Any] = {
        "date": date.fromisoformat,
        "date-time": datetime.fromisoformat,
        "time": time.fromisoformat,
        "uuid": UUID,
    }
    for text in samples({"type": "string", "format": format_}):
        if format_ in read:
            assert read[format_](text)
        elif format_ == "email":
            assert text.count("@") == 1
            assert "." in text.partition("@")[2]
        else:
            assert all(part.isalnum() or "-" in part for part in text.split("."))


def test_every_value_of_a_small_range_can_be_written() -> None:
    for schema, expected in (
        ({"type": "integer", "minimum": -3, "maximum": 12}, set(range(-3, 13))),
        ({"type": "integer", "multipleOf": 5, "minimum": 1, "maximum": 21}, {5, 10, 15, 20}),
        ({"enum": ["a", "b"]}, {"a", "b"}),
    ):
        assert set(samples(schema, 400)) == expected


def test_every_selection_of_optional_members_can_be_written() -> None:
    schema = closed([], a={"const": 1}, b={"const": 2}, c={"const": 3})
    assert {"".join(value) for value in samples(schema, 400)} == {
        *("", "a", "b", "c", "ab", "ac", "bc", "abc"),
    }


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        (False, "/"),
        ({"type": "thing"}, "/type"),
        ({"not": {"type": "string"}}, "/not"),
        (
            closed(a={"type": "array", "items": {}, "uniqueItems": True}),
            "/properties/a/uniqueItems",
        ),
        ({"type": "array", "contains": {"const": 1}}, "/contains"),
        ({"type": "object", "if": {}, "then": {}}, "/if"),
        (
            {"type": "object", "properties": {"a": {}}, "dependentRequired": {"a": ["b"]}},
            "/dependentRequired",
        ),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "/oneOf"),
        ({"type": "string", "pattern": "^(?=a)b$"}, "/pattern"),
        ({"type": "string", "pattern": "("}, "/pattern"),
        ({"type": "string", "pattern": "^a+$", "maxLength": 3, "minLength": 2}, "/pattern"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "/"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "/"),
        ({"type": "integer", "minimum": "3"}, "/minimum"),
        ({"$ref": "#/$defs/missing"}, "/$ref"),
        ({"$ref": "https://example.com/schema"}, "/$ref"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "/"),
        (
            {"$defs": {"a": closed(a={"$ref": "#/$defs/a"})}, "$ref": "#/$defs/a"},
            "/$defs/a/properties/a",
        ),
        (closed(["b"], a={"type": "string"}), "/required"),
        ("text", "/"),
        ({"enum": []}, "/"),
        ({"type": "string", "enum": [1]}, "/"),
        ({"allOf": []}, "/allOf"),
        ({"anyOf": "x"}, "/anyOf"),
        ({"properties": []}, "/properties"),
        ({"wrong": 1}, "/wrong"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_place(schema: Json, path: str) -> None:
    with pytest.raises(Unfollowable) as refused:
        grammar_of(schema)
    assert refused.value.path.startswith(path)
    assert refused.value.why


def test_what_may_be_left_out_is_told() -> None:
    schema = closed(
        a={"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
        b={"type": "string", "pattern": "^(?!x)"},
        c={"type": "integer", "not": {"const": 1}},
    )
    grammar, left_out = grammar_of(schema, loose=True)
    assert left_out == {"uniqueItems", "pattern", "not"}
    bare = closed(
        a={"type": "array", "items": {"type": "integer"}},
        b={"type": "string"},
        c={"type": "integer"},
    )
    for seed in range(50):
        jsonschema.validate(json.loads(Sampler(grammar, seed).text()), bare)


def test_bounds_hold_what_a_schema_leaves_open() -> None:
    schema = closed(a={"type": "string"}, b={"type": "array", "items": {"type": "integer"}})
    for value in samples(schema, 200, characters=6, items=2):
        assert len(value["a"]) <= 6
        assert len(value["b"]) <= 2


def test_what_allows_nothing_is_left_out_where_it_need_not_be() -> None:
    nothing: Json = {"type": "string", "minLength": 3, "maxLength": 2}
    for schema, expected in (
        ({"type": "object", "anyOf": [closed(a={"const": 1}), {"type": "null"}]}, {"a": 1}),
        ({"type": "string", "anyOf": [{"const": 1}, {"const": "a"}]}, "a"),
        ({"anyOf": [nothing, False, {"const": None}]}, None),
        (closed([], a=nothing, b={"type": "integer", "minimum": 3, "maximum": 2}), {}),
        ({"type": "array", "items": nothing}, []),
        (nothing | {"type": ["string", "null"]}, None),
    ):
        assert samples(schema, 20) == [expected] * 20
    with pytest.raises(Unfollowable):
        grammar_of(closed(a=nothing))


def test_what_holds_itself_may_go_on_without_bounds() -> None:
    open_ended = {"characters": 3, "items": 2, "depth": None}
    depths = set()
    for value in samples(LIST, 200, **open_ended):
        jsonschema.validate(value, LIST)
        depth = 0
        while value is not None:
            value, depth = value["next"], depth + 1
        depths.add(depth)
    assert max(depths) > 3
    for value in samples({}, 100, **open_ended):
        json.dumps(value)


@pytest.mark.parametrize("depth", [3, None])
@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": closed(a={"$ref": "#/$defs/a"})}, "$ref": "#/$defs/a"},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    ],
)
def test_what_cannot_end_is_refused(schema: Json, depth: int | None) -> None:
    with pytest.raises(Unfollowable):
        grammar_of({"$defs": schema.get("$defs", {}), **closed(x=schema)}, depth=depth)


def test_what_means_itself_or_something_else_means_that() -> None:
    schema = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"const": 1}]}}}
    for depth in (3, None):
        assert samples({**schema, "$ref": "#/$defs/a"}, 20, depth=depth) == [1] * 20


def test_what_has_no_schema_of_its_own_follows_the_rest() -> None:
    assert samples({"type": "object", "unevaluatedProperties": False}, 5) == [{}] * 5
    assert samples({"type": "array", "unevaluatedItems": False}, 5) == [[]] * 5
    schema = closed(a={"const": 1}) | {"patternProperties": {"^a": {"type": "string"}}}
    with pytest.raises(Unfollowable):
        grammar_of(schema)


# -- schemas at random -------------------------------------------------------

_TEXTS = st.fixed_dictionaries(
    {"type": st.just("string")},
    optional={"minLength": st.integers(0, 3), "maxLength": st.integers(3, 9)},
)
_INTEGERS = st.fixed_dictionaries(
    {"type": st.just("integer")},
    optional={"minimum": st.integers(-(10**6), 50), "maximum": st.integers(50, 10**6)},
)
_REALS = st.builds(
    lambda low, width: {"type": "number", "minimum": low / 100, "maximum": (low + width) / 100},
    st.integers(-100_000, 100_000),
    st.integers(0, 100_000),
)
_SIMPLE = st.one_of(
    _TEXTS,
    _INTEGERS,
    _REALS,
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, True]),
    st.builds(
        lambda values: {"enum": values}, st.lists(st.text(max_size=5), min_size=1, max_size=4)
    ),
)


def _larger(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    members = st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=4)
    return st.one_of(
        members.flatmap(
            lambda found: (
                st.lists(st.sampled_from(sorted(found)), unique=True).map(
                    lambda needed: closed(needed, **found)
                )
                if found
                else st.just(closed())
            )
        ),
        st.builds(lambda item: {"type": "array", "items": item, "maxItems": 3}, inner),
        st.builds(lambda of: {"anyOf": of}, st.lists(inner, min_size=1, max_size=3)),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(_SIMPLE, _larger, max_leaves=8), st.integers(0, 1000))
def test_any_schema_s_grammar_allows_valid_json_alone(schema: Json, seed: int) -> None:
    grammar, _ = grammar_of(schema)
    value = json.loads(Sampler(grammar, seed).text())
    jsonschema.Draft202012Validator(schema).validate(value)


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf"),
                    *("$ref", "$defs", "required", "minimum", "maximum", "multipleOf", "pattern"),
                    *("minLength", "maxLength", "minItems", "uniqueItems", "prefixItems", "format"),
                    *(
                        "additionalProperties",
                        "propertyNames",
                        "patternProperties",
                        "minProperties",
                    ),
                ]
            ),
            inner
            | st.sampled_from(["object", "array", "string", "number", "#", "#/properties", "^a$"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(_ANY_JSON, st.booleans())
def test_nonsense_is_refused_or_followed_and_nothing_else(schema: Json, loose: bool) -> None:
    try:
        grammar, _ = grammar_of(schema, loose=loose)
    except Unfollowable:
        return
    json.loads(Sampler(grammar, 1).text())
