"""Grammars of an answer's form: what they allow is read back as calls, and fits."""

import json
from itertools import pairwise
from typing import Any

import jsonschema
import pytest

from modelry.gateway.grammars.gbnf import Grammar
from modelry.gateway.replies import Reply
from modelry.gateway.structured import fitting
from modelry.gateway.structured.fitting import CALLS_MOST, Form, Room, form_of
from modelry.gateway.structured.functions import Function, Offer
from modelry.gateway.structured.parsing import Arguments, Begun, CallReader, Words
from tests.support.grammar_samples import Sampler
from tests.support.structured_asks import ASKS, Ask

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
LOOK = Function("look", parameters=CITY)
WIDE = Room(None, small=False)


def offering(*functions: Function, must: bool = True, several: bool = False) -> Offer:
    return Offer(functions, must, several)


def form(
    offer: Offer | None, schema: Any = None, room: Room = WIDE, *, strict: bool = False
) -> Form:
    return form_of(offer, schema, strict=strict, schema_path="the.schema", room=room)


def samples(
    monkeypatch: pytest.MonkeyPatch,
    offer: Offer | None,
    schema: Any = None,
    room: Room = WIDE,
    count: int = 60,
) -> list[str]:
    """Texts that the form allows."""
    made: list[Grammar] = []
    text = Grammar.text

    def kept(grammar: Grammar) -> str:
        made.append(grammar)
        return text(grammar)

    monkeypatch.setattr(Grammar, "text", kept)
    form(offer, schema, room)
    return [Sampler(made[-1], seed).text() for seed in range(count)]


def calls_in(text: str, offer: Offer) -> list[tuple[str, str]]:
    reader = CallReader(offer)
    calls: list[tuple[str, str]] = []
    for piece in [*reader.feed(text), *reader.end()]:
        match piece:
            case Begun(name):
                calls.append((name, ""))
            case Arguments(more):
                calls[-1] = (calls[-1][0], calls[-1][1] + more)
            case Words():
                assert not calls
    assert not reader.within_call
    return calls


@pytest.mark.parametrize("ask", ASKS, ids=[each.name for each in ASKS])
@pytest.mark.parametrize("room", [WIDE, Room(500, False), Room(1500, True), Room(200, True)])
def test_what_is_allowed_is_read_as_valid_calls(
    monkeypatch: pytest.MonkeyPatch, ask: Ask, room: Room
) -> None:
    offer = offering(LOOK, Function(ask.name, parameters=ask.schema), several=True)
    seen = set()
    for text in samples(monkeypatch, offer, None, room, 30):
        calls = calls_in(text, offer)
        assert 0 < len(calls) <= CALLS_MOST
        for name, arguments in calls:
            schema = CITY if name == "look" else ask.schema
            jsonschema.Draft202012Validator(schema).validate(json.loads(arguments))
            seen.add(name)
    assert seen == {"look", ask.name}


def test_one_call_may_be_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = offering(LOOK)
    for text in samples(monkeypatch, offer):
        assert text.startswith("{")
        assert len(calls_in(text, offer)) == 1


def test_several_calls_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = offering(LOOK, several=True)
    counts = {len(calls_in(text, offer)) for text in samples(monkeypatch, offer, count=200)}
    assert {1, 2, 3} <= counts
    assert max(counts) <= CALLS_MOST


def test_words_may_come_where_no_call_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = offering(LOOK, must=False, several=True)
    found = samples(monkeypatch, offer)
    called = [text for text in found if calls_in(text, offer)]
    words = [text for text in found if text not in called]
    assert called
    assert words
    assert not [text for text in words if text[0] in "[{ \n"]


def test_json_by_a_schema_may_come_where_no_call_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = offering(LOOK, must=False)
    found = samples(monkeypatch, offer, {"enum": ["a", {"name": "look"}]})
    rest = {text for text in found if not calls_in(text, offer)}
    assert rest == {'"a"', '{"name": "look"}'}
    assert len(rest) < len(set(found))


def test_a_schema_is_of_no_account_where_a_call_has_to_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer = offering(LOOK)
    assert all(calls_in(text, offer) for text in samples(monkeypatch, offer, {"enum": ["a"]}))


@pytest.mark.parametrize("tokens", [100, 200, 500, 1500, 6000])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("ask", ASKS, ids=[each.name for each in ASKS])
def test_small_models_get_as_much_as_fits(
    monkeypatch: pytest.MonkeyPatch, ask: Ask, tokens: int, several: bool
) -> None:
    tried: list[float] = []
    longest = fitting._longest

    def noted(grammar: Grammar) -> float:
        tried.append(longest(grammar))
        return tried[-1]

    monkeypatch.setattr(fitting, "_longest", noted)
    offer = offering(Function(ask.name, parameters=ask.schema), several=several)
    narrow = form(offer, None, Room(tokens, small=True))
    # Of fifteen widths, the one that is sought is found without trying each.
    assert len(tried) <= 6
    wide = form(offer, None, Room(tokens * 2, small=True))
    assert len(narrow.grammar) <= len(wide.grammar) + 200


def test_bounds_get_narrower_one_by_one() -> None:
    asks = {ask.name: ask for ask in ASKS}
    for name in ("make_folders", "create_order", "set_config"):
        offer = offering(Function(name, parameters=asks[name].schema))
        sizes = [
            fitting._longest(
                fitting._made(offer, None, bounds, strict=False, schema_path="").grammar
            )
            for bounds in fitting._TIERS
        ]
        assert all(wider >= narrower for wider, narrower in pairwise(sizes))
        assert sizes[-1] < 500


def test_a_list_of_calls_fits_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Function("f", parameters={"type": "object", "properties": {}})
    offer = offering(call, several=True)
    few = samples(monkeypatch, offer, None, Room(40, small=True), 200)
    assert max(len(calls_in(text, offer)) for text in few) in (1, 2, 3)
    # No room for two: there is no list.
    long = offering(Function("f", parameters=ASKS[1].schema), several=True)
    assert not [
        text
        for text in samples(monkeypatch, long, None, Room(100, small=True))
        if text.startswith("[")
    ]


def test_large_models_are_not_bounded() -> None:
    text = form(offering(LOOK), None, Room(4000, small=False)).grammar
    assert "{0," not in text
    assert "{0,1499}" in form(offering(LOOK), None, Room(1000, small=False)).grammar
    assert form(offering(LOOK), None, Room(None, small=True)).grammar == text


@pytest.mark.parametrize("name", ["a-b", "a.b", "a:b", "A_1", "f" * 128])
def test_functions_of_any_name_can_be_called(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    offer = offering(Function(name, parameters=CITY), Function("f", parameters=CITY))
    found = {calls_in(text, offer)[0][0] for text in samples(monkeypatch, offer)}
    assert found == {name, "f"}


def test_what_is_not_held_to_is_told() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "not": {"const": "x"}, "x-order": 1}},
        "if": {},
        "evil\r\nheader: 1": True,
    }
    assert form(None, schema).left_out == {"not", "if"}
    assert form(offering(Function("f", parameters=schema))).left_out == {"not", "if"}
    with pytest.raises(Reply) as refused:
        form(None, schema, strict=True)
    assert refused.value.status == 400
    with pytest.raises(Reply) as refused:
        form(offering(Function("f", parameters=schema, strict=True)))
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"type": "string"}, "arguments are an object"),
        ({"type": ["object", "null"]}, "arguments are an object"),
        ({"type": "object", "nullable": True}, "arguments are an object"),
        ({"type": "array", "items": {}}, "arguments are an object"),
        ({"properties": {"a": {"type": "thing"}}}, "parameters/properties/a/type"),
        ({"properties": {"a": False}, "required": ["a"]}, "nothing is valid"),
    ],
)
def test_functions_whose_arguments_cannot_be_are_refused(parameters: Any, words: str) -> None:
    with pytest.raises(Reply) as refused:
        form(offering(LOOK, Function("f", parameters=parameters, index=7)))
    assert refused.value.status == 400
    assert words in refused.value.body.decode()
    assert b'"param":"tools[7].function.parameters"' in refused.value.body


def test_a_schema_that_cannot_be_followed_is_refused_by_its_place() -> None:
    with pytest.raises(Reply) as refused:
        form(None, {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}})
    assert b"the.schema/properties/a/$ref" in refused.value.body
    assert b'"param":"the.schema"' in refused.value.body


def test_work_is_bounded_over_all_functions() -> None:
    # Each level holds the next one twice.
    levels: Any = {
        f"a{at}": {
            "properties": {"x": {"$ref": f"#/$defs/a{at + 1}"}, "y": {"$ref": f"#/$defs/a{at + 1}"}}
        }
        for at in range(10)
    }
    schema = {"$defs": {**levels, "a10": {"type": "null"}}, "$ref": "#/$defs/a0"}
    functions = [Function(f"f{at}", parameters=schema, index=at) for at in range(100)]
    form(offering(functions[0]), None, Room(200, small=True))
    with pytest.raises(Reply) as refused:
        form(offering(*functions), None, Room(200, small=True))
    assert b"too large" in refused.value.body


def test_what_would_fill_the_engine_s_memory_is_refused() -> None:
    """Of each character that is counted, the engine makes a rule."""
    texts = {f"t{at}": {"type": "string", "maxLength": 15_000 + at} for at in range(700)}
    large = {"type": "object", "properties": texts}
    for offer, schema, where in (
        (None, large, "the.schema"),
        (offering(Function("look", parameters=large)), None, "tools"),
    ):
        with pytest.raises(Reply) as refused:
            form(offer, schema)
        assert refused.value.problem is not None
        assert refused.value.problem[1].startswith(f"{where}: its texts or lists may be too long")
    some = {"type": "object", "properties": dict(list(texts.items())[:60])}
    assert form(None, some).grammar
