"""Grammars of what is large, or many: as engines take them."""

import re
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
