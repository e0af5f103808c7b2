"""Grammars of what is large, or many: as engines take them."""

import json
import re
import time
from typing import Any

import jsonschema
import pytest

from modelry.gateway.grammars.compiling import Unfollowable
from tests.support.grammar_samples import grammar_of, samples

Json = Any


@pytest.mark.parametrize(("least", "most"), [(0, 2000), (1700, 1700), (3100, 9000), (1600, None)])
def test_much_is_counted_in_pieces(least: int, most: int | None) -> None:
    schema = {"type": "string", "minLength": least, "maxLength": most}
    if most is None:
        del schema["maxLength"]
    grammar, _ = grammar_of(schema, characters=None)
    text = grammar.text()
    counts = [int(each) for each in re.findall(r"[{,](\d+)", text)]
    assert max(counts) == 1500
    # What is counted is a rule of its own: the engine counts what it is made of too.
    assert re.search(r"repeated-0\{", text)
    for value in samples(schema, 5, characters=None):
        assert len(value) >= least
        assert most is None or len(value) <= most


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "number", "minimum": 1e308}, "/minimum"),
        ({"type": "integer", "maximum": -(10**4000)}, "/maximum"),
        ({"type": "number", "multipleOf": 1e-300}, "/multipleOf"),
        ({"type": "string", "minLength": 10**7}, "/minLength"),
        ({"type": "array", "minItems": 10**7}, "/minItems"),
    ],
)
def test_what_is_out_of_all_proportion_is_refused(schema: Json, path: str) -> None:
    with pytest.raises(Unfollowable) as refused:
        grammar_of(schema)
    assert refused.value.path == path


def test_bounds_of_any_size_are_followed() -> None:
    for schema in (
        {"type": "number", "minimum": -1e308, "maximum": 1e308},
        {"type": "integer", "minimum": -(10**300), "maximum": 10**300},
        {"type": "integer", "minimum": 10**18, "maximum": 2 * 10**18},
        {"type": "number", "minimum": 1e-300, "maximum": 0.1234567890123456789},
        {"type": "integer", "multipleOf": 10**29, "minimum": 5},
    ):
        for value in samples(schema, 30):
            jsonschema.validate(value, schema)


def test_multiples_are_such_to_whoever_divides_floating_point_numbers() -> None:
    schema = {"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 1}
    found = set(samples(schema, 400))
    assert 0.29 not in found
    assert len(found) > 40


def test_values_that_begin_alike_are_written_once() -> None:
    values = [f"value {at}" for at in range(1000)] + ["", "value", "v"]
    grammar, _ = grammar_of({"enum": values})
    assert grammar.text().count("alue") == 1
    assert set(samples({"enum": values[::100]}, 200)) == set(values[::100])


def test_values_of_which_each_begins_the_next_are_followed() -> None:
    values = ["a" * length for length in range(300)]
    found = set(samples({"enum": values}, 300))
    assert found <= set(values)
    assert len(found) > 5


NAMES = [f"n{at}" for at in range(30_000)]
OTHERS = [f"o{at}" for at in range(30_000)]
TAGGED = [{"properties": {"t": {"const": name}}, "required": ["t"]} for name in NAMES]


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"const": name} for name in NAMES]},
        {"oneOf": [{"type": "object", **each} for each in TAGGED]},
        {"allOf": [{"enum": NAMES}, {"enum": OTHERS}]},
        {"allOf": [{"type": ["string", *NAMES]}, {"type": ["string", *OTHERS]}]},
        {"properties": {name: {"type": "null"} for name in NAMES}, "required": OTHERS},
        {"type": "string", "pattern": f"[{'a' * 400_000}]"},
        {"properties": {name: {"multipleOf": 0.001} for name in NAMES}},
        {"enum": list(range(200_000))},
    ],
    ids=["constants", "objects", "enums", "types", "required", "class", "multiples", "values"],
)  # fmt: skip
def test_what_would_take_minutes_is_refused_at_once(schema: Json) -> None:
    begun_at = time.process_time()
    with pytest.raises(Unfollowable):
        grammar_of(schema)
    assert time.process_time() - begun_at < 5


def test_many_constants_are_told_apart() -> None:
    schema = {"oneOf": [{"const": name} for name in NAMES[:1000]]}
    assert set(samples(schema, 50)) <= set(NAMES)
    for twice in (["n1"], [1.0]):
        of = [{"const": "n1"}, {"const": 1}, {"enum": twice}]
        with pytest.raises(Unfollowable, match="several of it may fit"):
            grammar_of({"oneOf": of})


def test_true_is_not_1_where_lists_of_values_meet() -> None:
    schema = {"allOf": [{"enum": [1, 2, True]}, {"enum": [True, 2.0]}]}
    assert {json.dumps(each) for each in samples(schema, 40)} == {"2", "true"}


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"type": [{}]}, "/oneOf/0/type"),
        ({"type": 5}, "/oneOf/0/type"),
        ({"type": "object", "properties": {"a": {}}, "required": 5}, "/oneOf/0/required"),
    ],
)
def test_what_is_no_schema_is_refused_where_it_is_one_of_several(part: Json, path: str) -> None:
    other = {"type": "object", "properties": {"a": {}}, "required": ["a"]}
    with pytest.raises(Unfollowable) as refused:
        grammar_of({"oneOf": [part, other]}, loose=True)
    assert refused.value.path == path
