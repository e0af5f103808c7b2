"""`/v1/tokenize`: tokens as the engines of services tell them, each in its own words."""

import itertools
import json
from typing import Any

import msgspec
import pytest

from modelry.gateway.tokenize_calls import TEXT_BYTES_MOST
from modelry.routing.messages import Limits
from tests.support.data_plane import Plane, Replica
from tests.support.waiting import wait_for
from tests.support.wire import Answer, post

TOKENIZE = "/v1/tokenize"
HI = [{"role": "user", "content": "hi"}]
PROMPT = [ord(letter) for letter in "<user>hi"]
ENGINES = ("llama.cpp", "vllm")


def ask(plane: Plane, key: str = "", **body: Any) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(TOKENIZE, key or plane.owner_key, body))


def service(plane: Plane, engine: str, **more: Any) -> tuple[str, Replica]:
    replica = plane.replica(do="tokens")
    return plane.service(replica, dialect=engine, context_tokens=2048, **more), replica


def asked(replica: Replica) -> list[tuple[str, Any]]:
    """Path and body of each request that reached it."""
    return [
        (request["head"].split(" ")[1], json.loads(request["body"].encode("latin-1")))
        for request in replica.requests
    ]


def test_llama_cpp_makes_a_chat_a_prompt_first(plane: Plane) -> None:
    path, replica = service(plane, "llama.cpp", collect=True)
    tools = [{"type": "function", "function": {"name": "look"}}]
    answer = ask(plane, model=path, messages=HI, tools=tools, stream=True)
    assert answer.status == 200
    assert answer.json() == {"tokens": [1, *PROMPT], "count": 9, "max_model_len": 2048}
    assert asked(replica) == [
        ("/apply-template", {"model": path, "messages": HI, "tools": tools}),
        (
            "/tokenize",
            {
                "content": "<user>hi",
                "add_special": True,
                "parse_special": True,
                "with_pieces": False,
            },
        ),
    ]


def test_vllm_takes_a_chat_as_it_is(plane: Plane) -> None:
    path, replica = service(plane, "vllm")
    answer = ask(plane, model=path, messages=HI)
    assert answer.json() == {"tokens": PROMPT, "count": 8, "max_model_len": 99}
    assert asked(replica) == [
        ("/tokenize", {"model": path, "messages": HI, "return_token_strs": False})
    ]


def test_a_replica_of_several_models_is_told_which(plane: Plane) -> None:
    replica = plane.replica(do="tokens")
    replica.address = msgspec.structs.replace(replica.address, model="theirs")
    path = plane.service(replica, dialect="vllm")
    assert ask(plane, model=path, prompt="hi").status == 200
    assert asked(replica)[0][1]["model"] == "theirs"


@pytest.mark.parametrize("special", [None, True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_has_the_tokens_that_its_engine_says(
    plane: Plane, engine: str, special: bool | None
) -> None:
    path, replica = service(plane, engine, tasks=("completion",))
    wish: Any = {} if special is None else {"add_special_tokens": special}
    answer = ask(plane, model=path, prompt="hé", **wish)
    letters = [ord("h"), ord("é")]
    if engine == "llama.cpp":
        assert answer.json()["tokens"] == (letters if special is False else [1, *letters])
        ((path_asked, body),) = asked(replica)
        assert (path_asked, body["content"]) == ("/tokenize", "hé")
    else:
        assert answer.json()["tokens"] == letters
        ((_, body),) = asked(replica)
        assert body == {"model": path, "prompt": "hé", "return_token_strs": False} | wish


@pytest.mark.parametrize("engine", ENGINES)
def test_texts_of_tokens_come_where_they_are_asked_for(plane: Plane, engine: str) -> None:
    path, _ = service(plane, engine)
    options: Any = {"add_special_tokens": False, "return_token_strs": True}
    answer = ask(plane, model=path, prompt="hé", **options)
    assert answer.json()["token_strs"] == ["h", "é"]


def test_a_token_that_is_a_part_of_a_letter_has_a_text_all_the_same(plane: Plane) -> None:
    told = {"tokens": [{"id": 7, "piece": [230, 151]}, {"id": 8, "piece": "a"}]}
    path = plane.service(plane.replica(text=json.dumps(told)), dialect="llama.cpp")
    answer = ask(plane, model=path, prompt="x", return_token_strs=True)
    assert answer.json()["tokens"] == [7, 8]
    assert answer.json()["token_strs"] == ["�", "a"]


@pytest.mark.parametrize("task", ["embedding", "rerank", "completion"])
def test_services_of_other_tasks_tell_tokens_too(plane: Plane, task: str) -> None:
    path, _ = service(plane, "llama.cpp", tasks=(task,))
    assert ask(plane, model=path, prompt="hi").json()["count"] == 3
    refused = ask(plane, model=path, messages=HI)
    assert (refused.status, refused.code) == (400, "unsupported_task")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_request_error", "prompt"),
        ({"prompt": "a", "messages": HI}, "invalid_request_error", "prompt"),
        ({"prompt": ["a"]}, "invalid_request_error", "prompt"),
        ({"prompt": None}, "invalid_request_error", "prompt"),
        ({"messages": 7}, "invalid_request_error", "messages"),
        ({"prompt": "a", "add_special_tokens": 1}, "invalid_request_error", "add_special_tokens"),
        ({"prompt": "a", "return_token_strs": "y"}, "invalid_request_error", "return_token_strs"),
        ({"prompt": "a" * (TEXT_BYTES_MOST + 1)}, "invalid_request_error", "prompt"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "http://a"}}],
                    }
                ]
            },
            "unsupported_content",
            "messages",
        ),
    ],
)
def test_what_has_no_tokens_is_refused_by_name(
    plane: Plane, body: dict[str, Any], code: str, param: str
) -> None:
    path, replica = service(plane, "vllm", images=True)
    answer = ask(plane, model=path, **body)
    assert (answer.status, answer.code) == (400, code)
    assert answer.json()["error"]["param"] == param
    assert replica.requests == []


def test_services_whose_engines_do_not_say_are_refused(plane: Plane) -> None:
    elsewhere = plane.service(endpoints=(plane.endpoint(plane.replica(tcp=True)),))
    silent = plane.service(plane.replica(), tasks=("speech",))
    for path in (elsewhere, silent):
        answer = ask(plane, model=path, prompt="hi")
        assert (answer.status, answer.code) == (400, "unsupported_task")
        assert path in answer.json()["error"]["message"]


def test_what_an_engine_refuses_comes_in_its_words(plane: Plane) -> None:
    path = plane.service(
        plane.replica(status=400, text='{"error": {"message": "roles must alternate"}}'),
        dialect="llama.cpp",
    )
    answer = ask(plane, model=path, messages=HI)
    assert (answer.status, answer.json()["error"]["message"]) == (400, "roles must alternate")


@pytest.mark.parametrize("text", ["[]", "{}", '{"tokens": ["a"]}', '{"prompt": 7}'])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_that_is_none_is_a_502(plane: Plane, engine: str, text: str) -> None:
    path = plane.service(plane.replica(text=text), dialect=engine)
    answer = ask(plane, model=path, messages=HI)
    assert (answer.status, answer.code) == (502, "bad_gateway")


@pytest.mark.parametrize("where", ["/apply-template", "/tokenize"])
def test_a_replica_that_dies_on_the_way_costs_the_caller_nothing(plane: Plane, where: str) -> None:
    dying, well = plane.replica(do="tokens", die_at=where), plane.replica(do="tokens")
    path = plane.service(dying, well, dialect="llama.cpp")
    words = itertools.count(10)

    def counted() -> bool:
        # Other conversations each time, which go to either.
        turns = [{"role": "user", "content": f"{next(words)}"}]
        assert ask(plane, model=path, messages=turns).json()["count"] == 9
        return dying.process.poll() is not None

    wait_for(counted, "a call to meet the replica that dies")


def test_a_call_that_waits_is_asked_as_its_engine_is_then(plane: Plane) -> None:
    path = plane.service(name="changing", dialect="llama.cpp", state="starting")
    replica = plane.replica(do="tokens")
    with plane.wire() as wire:
        wire.send(post(TOKENIZE, plane.owner_key, {"model": path, "messages": HI}))
        wait_for(lambda: _waits(plane, "svc_changing"), "the call to wait")
        plane.service(replica, name="changing", dialect="vllm")
        assert wire.answer().json()["tokens"] == PROMPT
    assert [where for where, _ in asked(replica)] == ["/tokenize"]


def _waits(plane: Plane, service_id: str) -> bool:
    loads = [load for (_, id_), load in plane.control.loads.items() if id_ == service_id]
    return any(load.waiting for load in loads)


def test_a_call_is_metered_and_limited_and_uses_no_tokens(plane: Plane) -> None:
    path, _ = service(plane, "llama.cpp", collect=True)
    key = plane.key(limits=Limits(requests_per_minute=1, tokens_per_minute=5))
    answer = ask(plane, key, model=path, messages=HI)
    assert answer.headers["x-ratelimit-remaining-tokens"] == "5"
    event = plane.event(answer)
    assert (event.endpoint, event.status, event.estimated) == ("tokenize", 200, False)
    assert (event.prompt_tokens, event.completion_tokens) == (0, 0)
    assert ask(plane, key, model=path, messages=HI).status == 429


def test_a_caller_who_leaves_frees_the_slot(plane: Plane) -> None:
    replica = plane.replica(slots=1, do="tokens", delay_s=0.3)
    path = plane.service(replica, dialect="llama.cpp", name="left")
    with plane.wire() as wire:
        wire.send(post(TOKENIZE, plane.owner_key, {"model": path, "messages": HI}))
        wait_for(lambda: replica.requests, "the request to arrive")
    assert ask(plane, model=path, prompt="hi").status == 200
    (gone,) = wait_for(lambda: _gone(plane, path), "its event", 5)
    assert (gone["status"], gone.get("estimated", False)) == (499, False)


def _gone(plane: Plane, path: str) -> list[dict[str, Any]]:
    return [
        line for line in plane.logged() if line.get("access_path") == path and line.get("cancelled")
    ]
