"""Lists read no further than is wanted of them."""

import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway.items import MOST, TooMany, first_of, items_of, kind_of

VALUES = st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()), st.booleans())


@given(st.lists(VALUES, max_size=60), st.sampled_from([None, 1]))
def test_items_come_as_they_are(values: list[object], indent: int | None) -> None:
    told = msgspec.Raw(json.dumps(values, indent=indent).encode())
    items = items_of(told, 60)
    assert [json.loads(bytes(item)) for item in items] == values
    assert first_of(told) == (kind_of(items[0]) if items else b"]")


@pytest.mark.parametrize("most", [1, 1000, MOST])
def test_a_list_may_be_as_long_as_is_wanted_and_no_longer(most: int) -> None:
    assert len(items_of(msgspec.Raw(json.dumps(["a"] * most).encode()), most)) == most
    with pytest.raises(TooMany):
        items_of(msgspec.Raw(json.dumps(["a"] * (most + 1)).encode()), most)


@pytest.mark.parametrize("item", [b"1", b'"a"', b"[1]"])
def test_a_long_list_is_refused_before_its_items_are_objects(item: bytes) -> None:
    told = msgspec.Raw(b"[" + b",".join([item] * 1_000_000) + b"]")
    tracemalloc.start()
    try:
        with pytest.raises(TooMany):
            items_of(told, MOST)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("told", [b'["a" "b"]', b"[1,]", b"["])
def test_what_is_no_json_is_told_from_a_long_list(told: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        items_of(msgspec.Raw(told), 5)
