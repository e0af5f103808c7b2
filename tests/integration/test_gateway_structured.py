"""Functions and schemas through a gateway, to engines that know grammars and to others."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from anthropic import Anthropic

from modelry.gateway.structured.fitting import opening
from modelry.gateway.structured.functions import Function
from modelry.routing.messages import Limits
from tests.support.data_plane import Plane, Replica
from tests.support.waiting import wait_for
from tests.support.wire import Answer, post

CHAT = "/v1/chat/completions"
HI: list[Any] = [{"role": "user", "content": "What is in Oslo?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OSLO = '{"city": "Oslo"}'
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
BASE = {"id": "chatcmpl-1", "created": 7, "model": "m"}


def tool(name: str, **more: Any) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": CITY, **more}}


TOOLS = [tool("look"), tool("listen")]
NAMED: Any = {"type": "function", "function": {"name": "listen"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": CITY}}


def call(name: str, arguments: str = OSLO) -> str:
    return f"{opening(Function(name))}{arguments}}}"


def whole(text: str, finish: str = "stop") -> str:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({**BASE, "object": "chat.completion", "choices": [choice], "usage": USAGE})


def frames(text: str, finish: str = "stop", cut: int = 3) -> list[str]:
    """A stream that brings a few characters at a time."""

    def frame(**fields: Any) -> str:
        return f"data: {json.dumps({**BASE, 'object': 'chat.completion.chunk', **fields})}\n\n"

    def choice(delta: Any, finish: str | None = None) -> str:
        return frame(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])

    said = [choice({"content": text[at : at + cut]}) for at in range(0, len(text), cut)]
    first = choice({"role": "assistant", "content": None})
    last = frame(choices=[], usage=USAGE)
    return [first, *said, choice({}, finish), last, "data: [DONE]\n\n"]


def service(plane: Plane, text: str, *, streams: bool, finish: str = "stop", **more: Any) -> Any:
    """A service whose engine knows grammars and writes `text`, and that engine. `streams`: it is
    asked for streams alone.
    """
    do: dict[str, Any] = {"do": "stream", "frames": frames(text, finish)}
    replica = plane.replica(**do if streams else {"text": whole(text, finish)})
    return plane.service(replica, **{"grammars": True, **more}), replica


def ask(plane: Plane, path: str, key: str = "", **fields: Any) -> Answer:
    body = {"model": path, "messages": HI, **fields}
    with plane.wire() as wire:
        return wire.ask(post(CHAT, key or plane.owner_key, body))


def asked(replica: Replica) -> dict[str, Any]:
    (request,) = replica.requests
    found: dict[str, Any] = json.loads(request["body"].encode("latin-1"))
    return found


def chunks(answer: Answer) -> list[dict[str, Any]]:
    *events, done = answer.body.decode().removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


# -- calls -------------------------------------------------------------------


@pytest.mark.parametrize("collect", [False, True])
@pytest.mark.parametrize("choice", ["required", "auto", NAMED])
def test_a_call_comes_back_as_one(plane: Plane, collect: bool, choice: Any) -> None:
    path, replica = service(plane, call("listen"), streams=collect, collect=collect)
    answer = plane.openai(plane.owner_key).chat.completions.create(
        model=path, messages=HI, tools=TOOLS, tool_choice=choice, max_tokens=50
    )
    (got,) = answer.choices
    assert got.finish_reason == "tool_calls"
    assert got.message.content is None
    assert got.message.tool_calls is not None
    (made,) = got.message.tool_calls
    assert made.type == "function"
    assert (made.function.name, made.function.arguments) == ("listen", OSLO)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 14
    body = asked(replica)
    assert not {"tools", "tool_choice", "response_format"} & set(body)
    assert "listen" in body["grammar"]
    assert ("look" in body["grammar"]) == (choice != NAMED)
    # Whatever is no call may come where none has to.
    assert ("[^" in body["grammar"].splitlines()[0]) == (choice == "auto")
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][1:] == HI
    assert body["max_tokens"] == 50


def test_a_stream_brings_a_call_while_it_comes(plane: Plane) -> None:
    path, replica = service(
        plane, f"[{call('look')}, {call('listen', '{}')}]", streams=True, collect=True
    )
    answer = ask(
        *(plane, path),
        tools=TOOLS,
        tool_choice="required",
        stream=True,
        stream_options={"include_usage": True},
    )
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    *said, last = chunks(answer)
    assert (last["choices"], last["usage"]) == ([], USAGE)
    assert all(chunk["id"] == "chatcmpl-1" for chunk in said)
    found = [chunk["choices"][0] for chunk in said]
    assert found[0]["delta"] == {"role": "assistant", "content": ""}
    assert [each["finish_reason"] for each in found][-1] == "tool_calls"
    parts = [part for each in found for part in each["delta"].get("tool_calls", [])]
    begun = [part for part in parts if "id" in part]
    assert [(part["index"], part["function"]["name"]) for part in begun] == [
        (0, "look"),
        (1, "listen"),
    ]
    texts = ["", ""]
    for part in parts:
        texts[part["index"]] += part["function"]["arguments"]
    assert texts == [OSLO, "{}"]
    assert len(parts) > 5
    assert asked(replica)["stream"] is True


def test_words_stay_words(plane: Plane) -> None:
    path, _ = service(plane, "An opera. {}", streams=True)
    answer = ask(plane, path, tools=TOOLS, stream=True)
    said = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks(answer)]
    assert "".join(said) == "An opera. {}"
    path, _ = service(plane, "An opera.", streams=False)
    choice = json.loads(ask(plane, path, tools=TOOLS).body)["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "An opera."}
    assert choice["finish_reason"] == "stop"


def test_a_call_that_was_cut_is_no_call(plane: Plane) -> None:
    path, _ = service(plane, call("look")[:-8], streams=False, finish="length")
    choice = json.loads(ask(plane, path, tools=TOOLS, tool_choice="required").body)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize("fields", [{"tools": TOOLS, "tool_choice": "none"}, {"tools": []}, {}])
def test_what_asks_for_no_call_goes_on_without_functions(plane: Plane, fields: Any) -> None:
    path, replica = service(plane, call("look"), streams=False)
    message = json.loads(ask(plane, path, **fields).body)["choices"][0]["message"]
    assert message["content"] == call("look")
    assert asked(replica) == {"model": path, "messages": HI}


def test_an_engine_whose_template_has_functions_chooses_by_itself(plane: Plane) -> None:
    path, replica = service(plane, "Hm.", streams=False, tools=True)
    ask(plane, path, tools=TOOLS)
    assert asked(replica) == {"model": path, "messages": HI, "tools": TOOLS}
    path, replica = service(plane, "Hm.", streams=False, tools=True)
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("look")]}}
    ask(plane, path, tools=TOOLS, tool_choice=allowed)
    assert asked(replica)["tools"] == TOOLS[:1]
    path, replica = service(plane, call("look"), streams=False, tools=True)
    answer = ask(plane, path, tools=TOOLS, tool_choice="required")
    assert json.loads(answer.body)["choices"][0]["finish_reason"] == "tool_calls"
    assert "tools" not in asked(replica)


def test_small_models_are_held_to_what_fits(plane: Plane) -> None:
    sizes = []
    routes: list[dict[str, Any]] = [
        {"small": True, "context_tokens": 2048},
        {"small": True, "max_tokens": 100},
        {},
    ]
    for more in routes:
        path, replica = service(plane, call("look"), streams=False, **more)
        ask(plane, path, tools=TOOLS, tool_choice=NAMED)
        rule = next(line for line in asked(replica)["grammar"].splitlines() if "-string" in line)
        sizes.append("{0," in rule)
    assert sizes == [True, True, False]


# -- schemas -----------------------------------------------------------------


@pytest.mark.parametrize("format_", [SCHEMA, {"type": "json_object"}])
@pytest.mark.parametrize("stream", [False, True])
def test_json_is_asked_for_by_a_grammar(plane: Plane, format_: Any, stream: bool) -> None:
    path, replica = service(plane, OSLO, streams=stream)
    answer = ask(plane, path, response_format=format_, stream=stream, stop=["x"])
    if stream:
        found = [chunk["choices"] for chunk in chunks(answer)]
        said = [each[0]["delta"].get("content") or "" for each in found if each]
        assert "".join(said) == OSLO
    else:
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == OSLO
    body = asked(replica)
    assert not {"response_format", "stop"} & set(body)
    assert "root" in body["grammar"]
    assert body["messages"] == HI


# -- refusals ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [tool("a b")]}, "tools[0].function.name"),
        (
            {"tools": [tool("a", parameters={"type": "array"})]},
            "tools[0].function.parameters",
        ),
        (
            {"tools": [tool("a", strict=True, parameters={"not": {}})]},
            "tools[0].function.parameters",
        ),
        ({"tools": TOOLS, "tool_choice": "some"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": SCHEMA, "grammar": "root ::= 'a'"}, "grammar"),
    ],
)
def test_what_cannot_be_followed_reaches_no_engine(plane: Plane, fields: Any, param: str) -> None:
    path, replica = service(plane, "", streams=False)
    answer = ask(plane, path, **fields)
    assert answer.status == 400
    problem = json.loads(answer.body)["error"]
    assert (problem["code"], problem["param"]) == ("invalid_request_error", param)
    assert replica.requests == []


# -- other engines, and replicas that end ------------------------------------


@pytest.mark.parametrize("kind", ["elsewhere", "no grammars"])
def test_other_engines_get_what_was_sent(plane: Plane, kind: str) -> None:
    replica = plane.replica(tcp=kind == "elsewhere", text=whole(call("look")))
    if kind == "elsewhere":
        path = plane.service(endpoints=(plane.endpoint(replica, model="theirs"),))
    else:
        path = plane.service(replica)
    answer = ask(plane, path, tools=TOOLS, tool_choice="required", response_format=SCHEMA)
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == call("look")
    body = asked(replica)
    assert body["tools"] == TOOLS
    assert body["tool_choice"] == "required"
    assert body["response_format"] == SCHEMA
    assert body["messages"] == HI


@pytest.mark.parametrize("collect", [False, True])
def test_a_replica_that_dies_costs_the_caller_nothing(plane: Plane, collect: bool) -> None:
    do: dict[str, Any] = {"do": "stream", "frames": frames(call("look"))}
    good = do if collect else {"text": whole(call("look"))}
    dying = plane.replica(**good, die_after=900 if collect else 30)
    well = plane.replica(**good)
    path = plane.service(dying, well, grammars=True, collect=collect)
    numbers = itertools.count()

    def met() -> bool:
        # Conversations of their own: one would stay where it was.
        messages = [{"role": "user", "content": f"hi {next(numbers)}"}]
        answer = ask(plane, path, messages=messages, tools=TOOLS, tool_choice="required")
        assert json.loads(answer.body)["choices"][0]["finish_reason"] == "tool_calls"
        return bool(dying.requests)

    wait_for(met, "the replica that dies to be asked")
    # The other one is asked for the same.
    first, again = dying.requests[0]["body"], well.requests[-1]["body"]
    assert first == again
    assert "grammar" in json.loads(first)


def test_a_stream_whose_replica_dies_says_so(plane: Plane) -> None:
    replica = plane.replica(do="stream", frames=frames(call("look")), die_after=1200, die="exit")
    path = plane.service(replica, grammars=True)
    answer = ask(plane, path, tools=TOOLS, tool_choice="required", stream=True)
    assert answer.status == 200
    last = answer.body.decode().removesuffix("\n\n").split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "bad_gateway"


def test_limits_and_usage_count_such_calls_as_others(plane: Plane) -> None:
    path, _ = service(plane, call("look"), streams=False)
    key = plane.key(limits=Limits(requests_per_minute=1))
    answer = ask(plane, path, key, tools=TOOLS, tool_choice="required")
    event = plane.event(answer)
    assert (event.prompt_tokens, event.completion_tokens) == (11, 3)
    assert ask(plane, path, key, tools=TOOLS, tool_choice="required").status == 429


def test_what_was_made_of_a_body_counts_as_memory_and_is_given_back(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane(max_body_bytes="200000", max_buffered_bytes="250000")
    path, replica = service(plane, call("look", "{}"), streams=False)

    def ask_for(members: int) -> Answer:
        many = {f"p{at}": {"enum": [at]} for at in range(members)}
        function = tool("look", parameters={"type": "object", "properties": many})
        return ask(plane, path, tools=[function], tool_choice="required")

    for _ in range(20):
        assert ask_for(400).status == 200
    sizes = [len(request["body"]) for request in replica.requests]
    assert min(sizes) > 40_000
    assert sum(sizes) > 800_000
    # Its body alone would have had room.
    refused = ask_for(1400)
    assert refused.status == 503
    assert json.loads(refused.body)["error"]["code"] == "overloaded"
    assert ask_for(400).status == 200


# -- other APIs --------------------------------------------------------------


@pytest.mark.parametrize(
    "choice", [{"type": "any"}, {"type": "tool", "name": "listen"}, {"type": "auto"}]
)
@pytest.mark.parametrize("stream", [False, True])
def test_messages_use_tools_by_grammars(plane: Plane, choice: Any, stream: bool) -> None:
    path, replica = service(plane, call("listen"), streams=stream)
    tools: Any = [{"name": name, "input_schema": CITY} for name in ("look", "listen")]
    options: Any = {"base_url": plane.gateway.url, "api_key": plane.owner_key}
    wish: Any = {"model": path, "max_tokens": 50, "messages": HI}
    with Anthropic(**options, max_retries=0, timeout=15) as claude:
        if stream:
            with claude.messages.stream(**wish, tools=tools, tool_choice=choice) as events:
                message = events.get_final_message()
        else:
            message = claude.messages.create(**wish, tools=tools, tool_choice=choice)
    (block,) = message.content
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("listen", {"city": "Oslo"})
    assert message.stop_reason == "tool_use"
    body = asked(replica)
    assert "tools" not in body
    assert ("look" in body["grammar"]) == (choice["type"] != "tool")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "listen"}])
@pytest.mark.parametrize("stream", [False, True])
def test_responses_call_functions_by_grammars(plane: Plane, choice: Any, stream: bool) -> None:
    path, replica = service(plane, call("listen"), streams=stream)
    tools: Any = [
        {"type": "function", "name": name, "parameters": CITY, "strict": True}
        for name in ("look", "listen")
    ]
    openai = plane.openai(plane.owner_key)
    wish: Any = {"model": path, "input": "hi", "tools": tools, "tool_choice": choice}
    if stream:
        with openai.responses.create(**wish, store=False, stream=True) as events:
            *_, last = list(events)
        assert last.type == "response.completed"
        response = last.response
    else:
        response = openai.responses.create(**wish, store=False)
    (item,) = response.output
    assert item.type == "function_call"
    assert (item.name, item.arguments) == ("listen", OSLO)
    assert "grammar" in asked(replica)


def test_responses_give_json_by_grammars(plane: Plane) -> None:
    path, replica = service(plane, OSLO, streams=False)
    wish: Any = {"format": {"type": "json_schema", "name": "a", "schema": CITY, "strict": False}}
    response = plane.openai(plane.owner_key).responses.create(
        model=path, input="hi", text=wish, store=False
    )
    assert response.output_text == OSLO
    assert "response_format" not in asked(replica)
