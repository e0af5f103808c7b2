"""Embeddings and rerank at the gateway: what is refused, what engines get, what callers get."""

import base64
import json
import math
from array import array
from typing import Any

import msgspec
import pytest

from modelry.routing.messages import Limits, UsageEvent
from tests.support.data_plane import Plane
from tests.support.waiting import wait_for
from tests.support.wire import Answer, post

EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"
TASKS = ("embedding", "rerank")


def ask(plane: Plane, path: str, **body: Any) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(path, plane.owner_key, body))


def vectors(plane: Plane, **more: Any) -> tuple[str, Any]:
    replica = plane.replica(do="vectors", numbers=more.pop("numbers", [0.5]))
    return plane.service(replica, tasks=TASKS, **more), replica


def sent(replica: Any) -> list[dict[str, Any]]:
    return [json.loads(request["body"]) for request in replica.requests]


def waiting(plane: Plane, name: str) -> bool:
    """Whether a gateway tells of calls that wait for the service."""
    loads = [load for (_, id_), load in plane.control.loads.items() if id_ == f"svc_{name}"]
    return any(load.waiting for load in loads)


def used(plane: Plane, path: str) -> UsageEvent:
    def found() -> list[dict[str, Any]]:
        return [line for line in plane.logged() if line.get("access_path") == path]

    wait_for(found, "the call's event")
    return msgspec.convert(found()[0], UsageEvent)


@pytest.mark.parametrize("collect", [True, False])
def test_an_answer_is_openai_s_and_in_the_order_of_the_inputs(plane: Plane, collect: bool) -> None:
    path, replica = vectors(plane, collect=collect)
    answer = ask(plane, EMBEDDINGS, model=path, input=["a", "bbb", "cc"], user="u-7")
    assert answer.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0, 0.5]},
            {"object": "embedding", "index": 1, "embedding": [3.0, 0.5]},
            {"object": "embedding", "index": 2, "embedding": [2.0, 0.5]},
        ],
        "model": path,
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    }
    assert sent(replica) == [{"model": path, "input": ["a", "bbb", "cc"], "user": "u-7"}]
    event = used(plane, path)
    assert (event.prompt_tokens, event.completion_tokens, event.estimated) == (6, 0, False)


@pytest.mark.parametrize("given", ["text", ["a", "b"], [1, 2, 3], [[1, 2], [3]], "\u0000é😀"])
def test_inputs_of_every_kind_reach_the_engine_as_they_are(plane: Plane, given: Any) -> None:
    path, replica = vectors(plane)
    count = len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1
    answer = ask(plane, EMBEDDINGS, model=path, input=given)
    assert [each["index"] for each in answer.json()["data"]] == list(range(count))
    inputs = sent(replica)[0]["input"]
    assert inputs == (given if isinstance(given, list) and count > 1 else [given])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "empty text"),
        (["a", ""], "item 1 of 'input' is an empty text"),
        ([], "empty list"),
        ([[1], []], "item 1 of 'input' is an empty list"),
        (None, "must be a text"),
        (7, "must be a text"),
        ({"text": "a"}, "must be a text"),
        ([[1]] * 2049, "has more than 2048 items"),
        ([2**31], "no list of tokens"),
        (["a", 1], "item 1 is of another kind"),
        ([1, "a"], "no list of tokens"),
        ([[1], "a"], "item 1 is of another kind"),
        ([[1], ["a"]], "Item 1 of 'input' is no list of tokens"),
        ([1.5], "no list of tokens"),
        ([-1], "no list of tokens"),
        ([True], "no list of tokens"),
        ([None], "no list of tokens"),
        ([{"text": "a"}], "no list of tokens"),
        ([10**30], "no list of tokens"),
        (["x"] * 100_000, "has more than 2048 items, the most of one call"),
    ],
)
def test_input_that_is_none_is_refused_before_an_engine_sees_it(
    plane: Plane, given: Any, says: str
) -> None:
    path, replica = vectors(plane)
    answer = ask(plane, EMBEDDINGS, model=path, input=given)
    assert (answer.status, answer.code) == (400, "invalid_request_error")
    assert answer.json()["error"]["param"] == "input"
    assert says in answer.json()["error"]["message"]
    assert sent(replica) == []


def test_a_body_without_input_is_refused(plane: Plane) -> None:
    path, _ = vectors(plane)
    answer = ask(plane, EMBEDDINGS, model=path)
    assert (answer.status, answer.json()["error"]["param"]) == (400, "input")


@pytest.mark.parametrize(
    "field",
    [
        {"encoding_format": "hex"},
        {"encoding_format": 1},
        {"dimensions": 0},
        {"dimensions": "2"},
        {"dimensions": True},
    ],
)
def test_what_cannot_be_had_is_refused(plane: Plane, field: dict[str, Any]) -> None:
    path, replica = vectors(plane)
    answer = ask(plane, EMBEDDINGS, model=path, input="a", **field)
    assert (answer.status, answer.json()["error"]["param"]) == (400, next(iter(field)))
    assert sent(replica) == []


@pytest.mark.parametrize("dimensions", [1, 0, -1, 2.5, "2", True])
def test_fewer_dimensions_than_the_model_allows_are_refused(plane: Plane, dimensions: Any) -> None:
    path, _ = vectors(plane, dimensions_min=2)
    answer = ask(plane, EMBEDDINGS, model=path, input="a", dimensions=dimensions)
    assert (answer.status, answer.json()["error"]["param"]) == (400, "dimensions")
    assert "at least 2" in answer.json()["error"]["message"]


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_vectors_are_cut_and_have_length_one_again(plane: Plane, form: str | None) -> None:
    path, replica = vectors(plane, dimensions_min=2, numbers=[4.0, 12.0])
    field = {} if form is None else {"encoding_format": form}
    answer = ask(plane, EMBEDDINGS, model=path, input=["abc"], dimensions=2, **field)
    vector = answer.json()["data"][0]["embedding"]
    if form == "base64":
        vector = array("f", base64.b64decode(vector)).tolist()
    assert vector == pytest.approx([0.6, 0.8])
    assert "dimensions" not in sent(replica)[0]


@pytest.mark.parametrize("form", ["float", "base64"])
def test_more_dimensions_than_a_vector_has_are_refused(plane: Plane, form: str) -> None:
    path, _ = vectors(plane, dimensions_min=2, numbers=[4.0, 12.0])
    fields = {"input": ["abc", "de"], "encoding_format": form}
    assert ask(plane, EMBEDDINGS, model=path, dimensions=3, **fields).status == 200
    answer = ask(plane, EMBEDDINGS, model=path, dimensions=100_000, **fields)
    assert (answer.status, answer.code) == (400, "invalid_request_error")
    assert answer.json()["error"]["param"] == "dimensions"
    assert "have 3 numbers" in answer.json()["error"]["message"]
    # The engine has worked for it.
    assert plane.event(answer).prompt_tokens == 5


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_a_model_that_cannot_be_cut_may_be_asked_for_all_its_dimensions(
    plane: Plane, form: str | None
) -> None:
    path, replica = vectors(plane, numbers=[4.0, 12.0])
    field = {} if form is None else {"encoding_format": form}
    plain = ask(plane, EMBEDDINGS, model=path, input=["abc", "de"], **field)
    answer = ask(plane, EMBEDDINGS, model=path, input=["abc", "de"], dimensions=3, **field)
    assert answer.status == 200
    assert answer.json() == plain.json()
    assert sent(replica)[1] == sent(replica)[0]


@pytest.mark.parametrize("dimensions", [2, 4])
@pytest.mark.parametrize("form", ["float", "base64"])
def test_but_for_no_other_number_and_little_is_worked_on_for_it(
    plane: Plane, form: str, dimensions: int
) -> None:
    path, replica = vectors(plane, numbers=[4.0, 12.0])
    fields = {"input": ["abc"] * 200, "encoding_format": form, "dimensions": dimensions}
    answer = ask(plane, EMBEDDINGS, model=path, **fields)
    assert (answer.status, answer.code) == (400, "invalid_request_error")
    assert answer.json()["error"]["param"] == "dimensions"
    assert "have 3 numbers, which cannot be cut" in answer.json()["error"]["message"]
    assert plane.event(answer).prompt_tokens == 32 * 3
    assert len(replica.requests) == 1


def test_vectors_that_are_cut_come_in_pieces_from_every_engine(plane: Plane) -> None:
    path, replica = vectors(plane, dimensions_min=2, numbers=[4.0, 12.0])
    answer = ask(plane, EMBEDDINGS, model=path, input=["abc"] * 70, dimensions=2)
    assert [each["index"] for each in answer.json()["data"]] == list(range(70))
    assert [len(body["input"]) for body in sent(replica)] == [32, 32, 6]


def test_base64_and_numbers_are_the_same_vector(plane: Plane) -> None:
    path, _ = vectors(plane, numbers=[0.1, -2.0])
    numbers = ask(plane, EMBEDDINGS, model=path, input="ab").json()["data"][0]
    packed = ask(plane, EMBEDDINGS, model=path, input="ab", encoding_format="base64")
    told = packed.json()["data"][0]
    assert set(told) == {"object", "index", "embedding"}
    assert array("f", base64.b64decode(told["embedding"])).tolist() == pytest.approx(
        numbers["embedding"]
    )


def test_an_engine_that_does_not_notice_a_hang_up_gets_pieces(plane: Plane) -> None:
    path, replica = vectors(plane, collect=True)
    inputs = ["x" * (at % 7 + 1) for at in range(100)] + ["y" * 40_000, "z"]
    answer = ask(plane, EMBEDDINGS, model=path, input=inputs)
    data = answer.json()["data"]
    assert [each["index"] for each in data] == list(range(102))
    assert [each["embedding"][0] for each in data] == [len(each) for each in inputs]
    assert answer.json()["usage"]["prompt_tokens"] == sum(map(len, inputs))
    assert used(plane, path).prompt_tokens == sum(map(len, inputs))
    pieces = [body["input"] for body in sent(replica)]
    assert [len(piece) for piece in pieces] == [32, 32, 32, 4, 1, 1]
    assert [each for piece in pieces for each in piece] == inputs


def test_an_engine_that_does_gets_all_at_once(plane: Plane) -> None:
    path, replica = vectors(plane)
    ask(plane, EMBEDDINGS, model=path, input=["x"] * 2048)
    assert [len(body["input"]) for body in sent(replica)] == [2048]


def test_no_answer_s_tokens_are_held_for_a_call_that_has_none(plane: Plane) -> None:
    coming = plane.service(name="expected", tasks=TASKS, state="fetching")
    path, _ = vectors(plane)
    ranker, _ = scores(plane)
    key = plane.key(limits=Limits(tokens_per_minute=200))
    with plane.wire() as waits, plane.wire() as wire:
        waits.send(post(EMBEDDINGS, key, {"model": coming, "input": "a"}))
        wait_for(lambda: waiting(plane, "expected"), "the call to wait")
        assert wire.ask(post(EMBEDDINGS, key, {"model": path, "input": "a"})).status == 200
        body = {"model": ranker, "query": "q", "documents": ["a"]}
        assert wire.ask(post(RERANK, key, body)).status == 200


def test_a_caller_who_leaves_stops_the_pieces(plane: Plane) -> None:
    replica = plane.replica(do="vectors", delay_s=0.2)
    path = plane.service(replica, tasks=TASKS, collect=True)
    with plane.wire() as wire:
        wire.send(post(EMBEDDINGS, plane.owner_key, {"model": path, "input": ["xx"] * 2048}))
        wait_for(lambda: len(replica.requests) >= 2, "the second piece")
    event = used(plane, path)
    assert (event.status, event.cancelled, event.estimated) == (499, True, True)
    # Of pieces that were whole, the engine told; of the last one it is a guess.
    assert 64 <= event.prompt_tokens < 400
    assert len(replica.requests) < 6
    # The slot is free: the next call goes through.
    assert ask(plane, EMBEDDINGS, model=path, input="a").status == 200


def test_a_replica_that_dies_between_pieces_costs_the_caller_nothing(plane: Plane) -> None:
    dying = plane.replica(do="vectors", requests_per_connection=1)
    path = plane.service(dying, plane.replica(do="vectors"), tasks=TASKS, collect=True)
    answer = ask(plane, EMBEDDINGS, model=path, input=["x"] * 70)
    assert [each["index"] for each in answer.json()["data"]] == list(range(70))
    assert answer.json()["usage"]["total_tokens"] == 70


@pytest.mark.parametrize("status", [400, 401, 503])
@pytest.mark.parametrize(
    ("path", "do", "field"), [(EMBEDDINGS, "vectors", "input"), (RERANK, "scores", "documents")]
)
def test_pieces_are_paid_for_however_the_call_ends(
    plane: Plane, path: str, do: str, field: str, status: int
) -> None:
    replica = plane.replica(do=do, longest=10, status=status)
    service = plane.service(replica, tasks=TASKS, collect=True)
    key = plane.key(limits=Limits(tokens_per_minute=10_000))
    items = ["x" * 10] * 64 + ["y" * 11]
    with plane.wire() as wire:
        answer = wire.ask(post(path, key, {"model": service, "query": "q", field: items}))
    assert answer.status >= 400
    event = plane.event(answer)
    assert (event.prompt_tokens, event.completion_tokens, event.estimated) == (640, 0, False)
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(10_000 - 640)


@pytest.mark.parametrize("text", ["[]", '{"data": 7}', '{"data": []}', '{"results": []}'])
@pytest.mark.parametrize("path", [EMBEDDINGS, RERANK])
def test_an_answer_that_is_none_is_a_502(plane: Plane, path: str, text: str) -> None:
    service = plane.service(plane.replica(text=text), tasks=TASKS)
    answer = ask(plane, path, model=service, input="a", query="q", documents=["a"])
    assert (answer.status, answer.code) == (502, "bad_gateway")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "input (2002 tokens) is too large to process. increase the physical batch size "
              "(current batch size: 512)"),
        (400, "This model's maximum context length is 512 tokens. However, you requested 0 output "
              "tokens and your prompt contains 2002 input tokens"),
    ],
)  # fmt: skip
def test_an_input_that_is_too_long_is_the_caller_s_fault(
    plane: Plane, status: int, said: str
) -> None:
    text = json.dumps({"error": {"code": status, "message": said, "type": "server_error"}})
    path = plane.service(plane.replica(status=status, text=text), tasks=TASKS)
    answer = ask(plane, EMBEDDINGS, model=path, input="a")
    assert (answer.status, answer.code) == (400, "context_length_exceeded")
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "2002" in error["message"]
    assert "512" in error["message"]


LLAMA = (
    "input (40 tokens) is too large to process. increase the physical batch size "
    "(current batch size: 10)"
)
VLLM = "This model's maximum context length is 10 tokens. However, your prompt contains 40"


@pytest.mark.parametrize(
    ("path", "do", "field"), [(EMBEDDINGS, "vectors", "input"), (RERANK, "scores", "documents")]
)
@pytest.mark.parametrize(
    ("collect", "status", "says", "code"),
    [
        (True, 500, LLAMA, "context_length_exceeded"),
        (False, 400, VLLM, "context_length_exceeded"),
        (True, 400, "Prompt contains invalid tokens", "invalid_request_error"),
    ],
)
@pytest.mark.parametrize(("count", "bad"), [(1, 0), (2, 1), (32, 0), (32, 31), (27, 19)])
def test_the_one_of_a_list_that_an_engine_refuses_is_named(
    plane: Plane,
    path: str,
    do: str,
    field: str,
    collect: bool,
    status: int,
    says: str,
    code: str,
    count: int,
    bad: int,
) -> None:
    replica = plane.replica(do=do, longest=10, status=status, says=says)
    service = plane.service(replica, tasks=TASKS, collect=collect)
    items = ["x" * 10] * count
    items[bad] = "y" * 40
    answer = ask(plane, path, **{"model": service, "query": "q", field: items})
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (400, code, f"{field}[{bad}]")
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{field}[{bad}]: ")
    # The one is found by halves, and what was worked on for that is paid for.
    assert len(replica.requests) <= 11
    assert plane.event(answer).prompt_tokens == 10 * bad


def test_it_is_named_by_its_place_in_the_whole_of_a_list_that_goes_in_pieces(
    plane: Plane,
) -> None:
    replica = plane.replica(do="vectors", longest=10, status=500, says=LLAMA)
    path = plane.service(replica, tasks=TASKS, collect=True)
    items = ["x"] * 100
    items[70] = items[80] = "y" * 40
    answer = ask(plane, EMBEDDINGS, model=path, input=items)
    assert answer.json()["error"]["param"] == "input[70]"
    assert ask(plane, EMBEDDINGS, model=path, input="x").status == 200


def test_where_a_list_goes_whole_and_is_long_nothing_is_worked_on_to_name_it(
    plane: Plane,
) -> None:
    replica = plane.replica(do="vectors", longest=10, says=VLLM)
    path = plane.service(replica, tasks=TASKS)
    answer = ask(plane, EMBEDDINGS, model=path, input=["x"] * 100 + ["y" * 40])
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (400, "context_length_exceeded")
    assert (error["param"], error["message"]) == ("input", VLLM)
    assert len(replica.requests) == 1


@pytest.mark.parametrize("given", ["y" * 40, [7] * 40])
def test_what_is_no_list_of_inputs_has_no_place_in_one(plane: Plane, given: Any) -> None:
    replica = plane.replica(do="vectors", longest=10, status=500, says=LLAMA)
    answer = ask(plane, EMBEDDINGS, model=plane.service(replica, tasks=TASKS), input=given)
    error = answer.json()["error"]
    assert (answer.status, error["param"]) == (400, "input")
    assert error["message"] == "The input has 40 tokens, and 10 are the most the service takes."


def test_what_an_engine_refuses_of_the_whole_request_is_asked_once(plane: Plane) -> None:
    replica = plane.replica(do="vectors", longest=10, says="no such field")
    path = plane.service(replica, tasks=TASKS, collect=True)
    answer = ask(plane, EMBEDDINGS, model=path, input=["x", "y" * 40])
    assert (answer.status, answer.json()["error"]["param"]) == (400, None)
    assert len(replica.requests) == 1


def test_endpoints_elsewhere_get_what_came_and_say_what_they_like(plane: Plane) -> None:
    replica = plane.replica(tcp=True, text='{"data": "theirs", "model": "m"}')
    path = plane.service(endpoints=(plane.endpoint(replica, model="m"),), tasks=TASKS)
    answer = ask(plane, EMBEDDINGS, model=path, input=[""], dimensions=3)
    assert answer.json() == {"data": "theirs", "model": path}
    assert sent(replica) == [{"model": "m", "input": [""], "dimensions": 3}]


# -- rerank ----------------------------------------------------------------------------


def scores(plane: Plane, **more: Any) -> tuple[str, Any]:
    replica = plane.replica(do="scores")
    return plane.service(replica, tasks=TASKS, **more), replica


def test_documents_come_back_in_their_order_with_scores_between_0_and_1(plane: Plane) -> None:
    path, replica = scores(plane, raw_scores=True)
    documents = ["bb", {"text": "a", "title": "x"}, "dddd", {"text": "cc"}]
    answer = ask(plane, RERANK, model=path, query="q", documents=documents, priority=1).json()
    assert answer["model"] == path
    assert [each["index"] for each in answer["results"]] == [2, 0, 3, 1]
    for each, score in zip(answer["results"], [4, 2, 2, 1], strict=True):
        assert each == {
            "index": each["index"],
            "relevance_score": pytest.approx(1 / (1 + math.exp(-score))),
        }
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    documents = ["bb", "a", "dddd", "cc"]
    assert sent(replica) == [{"model": path, "query": "q", "documents": documents, "priority": 1}]
    assert used(plane, path).prompt_tokens == 9


def test_scores_that_are_probabilities_stay(plane: Plane) -> None:
    path, _ = scores(plane)
    answer = ask(plane, RERANK, model=path, query="q", documents=["a"]).json()
    assert answer["results"] == [{"index": 0, "relevance_score": 1}]


def test_scores_are_made_probabilities_where_the_weights_came_while_a_call_waited(
    plane: Plane,
) -> None:
    path = plane.service(name="coming", tasks=TASKS, state="fetching")
    with plane.wire() as wire:
        wire.send(post(RERANK, plane.owner_key, {"model": path, "query": "q", "documents": ["aa"]}))
        wait_for(lambda: waiting(plane, "coming"), "the call to wait")
        plane.service(plane.replica(do="scores"), name="coming", tasks=TASKS, raw_scores=True)
        answer = wire.answer()
    (result,) = answer.json()["results"]
    assert result["relevance_score"] == pytest.approx(1 / (1 + math.exp(-2)))


def test_the_best_are_asked_for_with_their_documents(plane: Plane) -> None:
    path, replica = scores(plane, collect=True)
    documents: list[Any] = ["x" * (at % 50 + 1) for at in range(1000)]
    documents[700] = {"text": "é" * 60}
    answer = ask(
        plane, RERANK, model=path, query="q", documents=documents, top_n=2, return_documents=True
    ).json()
    assert [(each["index"], each["document"]) for each in answer["results"]] == [
        (700, {"text": "é" * 60}),
        (49, {"text": "x" * 50}),
    ]
    assert len(replica.requests) > 20
    assert "top_n" not in sent(replica)[0]


def test_more_than_there_are_is_all(plane: Plane) -> None:
    path, _ = scores(plane)
    answer = ask(plane, RERANK, model=path, query="q", documents=["a", "b"], top_n=9).json()
    assert [each["index"] for each in answer["results"]] == [0, 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query", None),
        ("query", ""),
        ("query", 7),
        ("query", ["q"]),
        ("documents", None),
        ("documents", []),
        ("documents", "a"),
        ("documents", ["a", ""]),
        ("documents", ["a", 7]),
        ("documents", [{"title": "a"}]),
        ("documents", [{"text": 7}]),
        ("documents", [["a"]]),
        ("documents", ["a"] * 1001),
        ("top_n", 0),
        ("top_n", "2"),
        ("top_n", True),
        ("return_documents", "yes"),
        ("return_documents", 1),
    ],
)
def test_bad_fields_are_refused_by_name(plane: Plane, field: str, value: Any) -> None:
    path, replica = scores(plane)
    body = {"model": path, "query": "q", "documents": ["a"], field: value}
    answer = ask(plane, RERANK, **body)
    assert (answer.status, answer.code) == (400, "invalid_request_error")
    assert answer.json()["error"]["param"] == field
    assert sent(replica) == []
