"""Each check against a service that does it, refuses it, passes it over, or answers wrongly."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from modelry.services.conformance.caller import Answer, Busy, Interrupted, Json, Subject
from modelry.services.conformance.checks import CHECKS, checks_for
from modelry.services.conformance.examining import examine
from modelry.services.conformance.report import Found, Result, summary
from modelry.services.conformance.shapes import CHAT, Either, Is, differences
from tests.unit.model_services import SUBJECT, ModelService, answer

NEVER_ASKED = {"image.answer"}


def found_by(name: str, service: ModelService, subject: Subject = SUBJECT) -> Found:
    checks = [check for check in CHECKS if check.name == name]
    assert len(checks) == 1
    told: list[Found] = []
    asyncio.run(examine(service, subject, checks, told.append))
    (found,) = told
    return found


@pytest.mark.parametrize("name", [check.name for check in CHECKS])
def test_what_a_service_does_is_supported(name: str) -> None:
    found = found_by(name, ModelService())
    wanted = Result.SKIPPED if name in NEVER_ASKED else Result.SUPPORTED
    assert (found.result, found.name) == (wanted, name), found.detail


FIELDS = [
    ("chat.max_tokens", "max_completion_tokens"),
    ("chat.stop", "stop"),
    ("chat.n", "n"),
    ("chat.seed", "seed"),
    ("chat.logprobs", "logprobs"),
    ("chat.logit_bias", "logit_bias"),
    ("chat.json_object", "response_format"),
    ("chat.json_schema", "response_format"),
    ("chat.tools_required", "tools"),
    ("chat.tools_named", "tool_choice"),
    ("chat.tools_stream", "tools"),
    ("completion.echo", "echo"),
    ("completion.suffix", "suffix"),
    ("completion.logprobs", "logprobs"),
    ("completion.n", "n"),
    ("embedding.base64", "encoding_format"),
    ("embedding.dimensions", "dimensions"),
    ("rerank.answer", "top_n"),
]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_field_that_is_passed_over_in_silence_fails(name: str, field: str) -> None:
    found = found_by(name, ModelService(passes_over=field))
    assert found.result is Result.FAILED, found.detail


@pytest.mark.parametrize(("name", "field"), [*FIELDS, ("chat.tools_auto", "tools")])
def test_a_field_that_is_refused_is_unsupported_in_the_services_words(
    name: str, field: str
) -> None:
    found = found_by(name, ModelService(refuses=field))
    assert (found.result, found.detail) == (
        Result.UNSUPPORTED,
        f"400: {field} is not supported",
    )


@pytest.mark.parametrize(
    "name", ["responses.answer", "messages.answer", "messages.count_tokens", "tokenize.answer"]
)
def test_an_api_that_is_not_there_is_unsupported(name: str) -> None:
    def nothing(path: str, body: Json, found: Answer) -> Answer:
        return answer({"error": {"message": f"There is no POST {path} here."}}, 404)

    found = found_by(name, ModelService(spoils=nothing))
    assert found.result is Result.UNSUPPORTED
    assert "There is no POST" in found.detail


def altered(change: Callable[[Any], object]) -> ModelService:
    """A service whose good answers are changed in place."""

    def spoil(path: str, body: Json, found: Answer) -> Answer:
        if found.status == 200 and found.value is not None:
            change(found.value)
        return found

    return ModelService(spoils=spoil)


def choice(change: Callable[[Any], object]) -> ModelService:
    return altered(lambda value: change(value["choices"][0]))


@pytest.mark.parametrize(
    ("name", "service", "detail"),
    [
        ("chat.answer", altered(lambda v: v.update(created="now")), "created is a text"),
        ("chat.answer", altered(lambda v: v.pop("id")), "id is missing"),
        ("chat.answer", altered(lambda v: v.update(model="x")), "not the access path"),
        ("chat.answer", altered(lambda v: v.update(object="x")), "object is 'x'"),
        ("chat.usage", altered(lambda v: v["usage"].update(total_tokens=1)), "do not add up"),
        ("chat.usage", altered(lambda v: v["usage"].update(prompt_tokens="3")), "no number"),
        ("chat.max_tokens", choice(lambda c: c.update(finish_reason="stop")), "finish_reason"),
        ("chat.stop", choice(lambda c: c.update(finish_reason="length")), "finish_reason"),
        ("chat.n", altered(lambda v: v["usage"].update(completion_tokens=4, total_tokens=6)), "4"),
        ("chat.tools_none", choice(lambda c: c["message"].update(tool_calls=[{}])), "one came"),
        (
            "chat.reasoning",
            choice(lambda c: c["message"].update(content="<think>Hm</think>42")),
            "reasoning_content",
        ),
        ("rerank.answer", altered(lambda v: v["results"].reverse()), "order"),
        ("rerank.answer", altered(lambda v: v.pop("usage")), "usage"),
        ("embedding.answer", altered(lambda v: v["data"].pop()), "for 2 texts"),
        ("transcription.answer", altered(lambda v: v.pop("text")), "no text"),
        ("responses.answer", altered(lambda v: v.pop("output")), "no output"),
        ("messages.answer", altered(lambda v: v.update(role="user")), "role"),
        ("messages.count_tokens", altered(lambda v: v.clear()), "input_tokens"),
        ("tokenize.answer", altered(lambda v: v.clear()), "no tokens"),
    ],
)
def test_a_wrong_answer_fails_and_the_detail_says_what_is_wrong(
    name: str, service: ModelService, detail: str
) -> None:
    found = found_by(name, service)
    assert found.result is Result.FAILED, found.detail
    assert detail in found.detail


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ('{"city": "Paris", "unit": "kelvin"}', "do not fit"),
        ('{"city": "Paris"', "do not fit"),
        ('{"city": "Paris", "unit": "celsius", "more": 1}', "do not fit"),
    ],
)
def test_a_call_whose_arguments_do_not_fit_the_tools_schema_fails(
    arguments: str, detail: str
) -> None:
    def change(value: Any) -> None:
        for call in value["choices"][0]["message"].get("tool_calls", ()):
            call["function"]["arguments"] = arguments

    found = found_by("chat.tools_required", altered(change))
    assert found.result is Result.FAILED
    assert detail in found.detail


def lines(*changed: Callable[[list[Json]], object]) -> ModelService:
    def events(chunks: list[Json]) -> list[str]:
        for change in changed:
            change(chunks)
        return [f"data: {json.dumps(chunk)}" for chunk in chunks] + ["data: [DONE]"]

    return ModelService(events=events)


@pytest.mark.parametrize(
    ("service", "detail"),
    [
        (ModelService(events=lambda chunks: []), "without [DONE]"),
        (ModelService(events=lambda chunks: ["data: {broken"]), "no JSON"),
        (ModelService(events=lambda chunks: ['data: {"error": {"message": "oh"}}']), "oh"),
        (lines(lambda chunks: chunks.pop()), "usage was asked for"),
        (lines(lambda chunks: chunks.pop(0)), "role"),
        (lines(lambda chunks: chunks[0].update(id="c2")), "one id"),
        (lines(lambda chunks: chunks[1]["choices"][0].update(finish_reason=None)), "finish_reason"),
        (lines(lambda chunks: chunks[0].update(object="chat.completion")), "object is"),
    ],
)
def test_a_stream_of_the_wrong_form_fails(service: ModelService, detail: str) -> None:
    found = found_by("chat.stream", service)
    assert found.result is Result.FAILED
    assert detail in found.detail


@pytest.mark.parametrize("name", ["chat.errors", "completion.errors", "embedding.errors"])
def test_a_mistake_of_the_callers_has_to_be_a_400_in_openais_shape(name: str) -> None:
    def as_text(path: str, body: Json, found: Answer) -> Answer:
        return Answer(400, "text/plain", b"bad", None) if found.status == 400 else found

    def as_trouble(path: str, body: Json, found: Answer) -> Answer:
        return replace(found, status=500) if found.status == 400 else found

    def taken(path: str, body: Json, found: Answer) -> Answer:
        return answer({})

    for spoils, detail in ((as_text, "shape"), (as_trouble, "500"), (taken, "all the same")):
        found = found_by(name, ModelService(spoils=spoils))
        assert found.result is Result.FAILED
        assert detail in found.detail


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"code": "too_long"}, "too_long"),
        ({"message": "The prompt is too long."}, "both numbers"),
        ({"message": "256 tokens are the most."}, "both numbers"),
    ],
)
def test_a_prompt_that_is_too_long_has_to_be_refused_with_both_numbers(
    change: dict[str, str], detail: str
) -> None:
    def spoil(path: str, body: Json, found: Answer) -> Answer:
        if found.status == 400:
            found.value["error"].update(change)
        return found

    found = found_by("chat.context_overflow", ModelService(spoils=spoil))
    assert found.result is Result.FAILED
    assert detail in found.detail


def test_a_prompt_that_is_cut_in_silence_fails() -> None:
    def cut(path: str, body: Json, found: Answer) -> Answer:
        return answer({}) if found.status == 400 else found

    found = found_by("chat.context_overflow", ModelService(spoils=cut))
    assert (found.result, "silence" in found.detail) == (Result.FAILED, True)


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("chat.context_overflow", replace(SUBJECT, context_tokens=None)),
        ("chat.context_overflow", replace(SUBJECT, context_tokens=1_000_000)),
        ("chat.cancellation", replace(SUBJECT, slots=None)),
        ("chat.cancellation", replace(SUBJECT, slots=256)),
    ],
)
def test_what_cannot_be_found_out_is_skipped_with_its_reason(name: str, subject: Subject) -> None:
    found = found_by(name, ModelService(), subject)
    assert found.result is Result.SKIPPED
    assert found.detail


def test_an_engine_that_works_on_after_its_callers_left_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelry.services.conformance.fault_checks._FREE_WITHIN_S", 0.05)

    class Stubborn(ModelService):
        left = 0

        async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
            if not body.get("stream"):
                self.left += 1
                await asyncio.sleep(10)
            return await super().ask(path, body, file)

    service = Stubborn()
    found = found_by("chat.cancellation", service)
    assert (found.result, service.left, service.open) == (Result.FAILED, 1, 0)


def test_cancellation_takes_every_slot_and_waits_until_the_gateway_has_heard() -> None:
    class Slow(ModelService):
        most = 0
        tries = 0

        async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
            self.most = max(self.most, self.open + 1)
            if not body.get("stream"):
                self.tries += 1
                if self.tries < 3:
                    raise Busy("it is busy")
            return await super().ask(path, body, file)

    service = Slow()
    found = found_by("chat.cancellation", service)
    assert (found.result, service.most, service.tries) == (Result.SUPPORTED, SUBJECT.slots, 3)


def test_an_answer_that_is_none_at_all_fails_and_ends_nothing() -> None:
    def nonsense(path: str, body: Json, found: Answer) -> Answer:
        return answer({"choices": [7], "data": 3, "results": [None, None], "usage": "x"})

    told: list[Found] = []
    asyncio.run(examine(ModelService(spoils=nonsense), SUBJECT, CHECKS, told.append))
    assert len(told) == len(CHECKS)
    by_name = {found.name: found.result for found in told}
    assert by_name["chat.answer"] is Result.FAILED
    assert by_name["rerank.answer"] is Result.FAILED


# -- examining ---------------------------------------------------------------


def test_what_does_not_end_in_time_is_skipped_and_so_is_all_after_it() -> None:
    class Silent(ModelService):
        async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
            await asyncio.sleep(10)
            raise AssertionError

    told: list[Found] = []
    checks = checks_for(["completion"])
    asyncio.run(examine(Silent(), SUBJECT, checks, told.append, limit_s=0.05))
    assert {found.result for found in told} == {Result.SKIPPED}
    assert "not at its end" in told[0].detail
    assert "were over" in told[1].detail
    assert len(told) == len(checks)


def test_a_service_that_goes_ends_the_probe_with_what_was_found_before() -> None:
    class Going(ModelService):
        asked = 0

        async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
            self.asked += 1
            if self.asked > 1:
                raise Interrupted("the service stopped meanwhile")
            return await super().ask(path, body, file)

    told: list[Found] = []
    with pytest.raises(Interrupted, match="stopped meanwhile"):
        asyncio.run(examine(Going(), SUBJECT, CHECKS, told.append))
    assert [found.name for found in told] == ["chat.answer"]


def test_callers_come_first_and_a_check_is_made_again_when_there_is_a_slot() -> None:
    class Crowded(ModelService):
        refusals = 2

        async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
            if self.refusals:
                self.refusals -= 1
                raise Busy("it is busy")
            return await super().ask(path, body, file)

    assert found_by("chat.answer", Crowded()).result is Result.SUPPORTED


def test_a_probe_gives_way_where_callers_keep_every_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelry.services.conformance.examining._BUSY_S", 0.0)

    class Full(ModelService):
        async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
            raise Busy("it is busy")

    with pytest.raises(Interrupted, match="callers use all its slots"):
        found_by("chat.answer", Full())


def test_a_service_is_asked_what_its_tasks_are_and_slow_checks_come_last() -> None:
    assert {check.task for check in checks_for(["chat"])} == {"chat"}
    assert {check.task for check in CHECKS} == set(SUBJECT.tasks)
    told: list[Found] = []
    asyncio.run(examine(ModelService(), SUBJECT, checks_for(["chat"]), told.append))
    slow = [check.name for check in CHECKS if check.slow]
    assert [found.name for found in told][-len(slow) :] == slow


# -- reports and shapes ------------------------------------------------------


def test_a_summary_names_what_fails_and_counts_the_rest() -> None:
    def found(name: str, result: Result) -> Found:
        return Found(name, "chat", result, "", 0.0)

    all_ = [
        *(found(f"a{at}", Result.SUPPORTED) for at in range(3)),
        found("chat.n", Result.FAILED),
        found("chat.seed", Result.UNSUPPORTED),
        found("b", Result.SKIPPED),
    ]
    assert summary(all_) == ("3 supported; failed: chat.n; unsupported: chat.seed; 1 skipped")
    assert summary(all_[:3]) == "3 supported"


def test_what_a_strict_reader_would_stumble_over_is_noted_without_failing() -> None:
    def change(value: Any) -> None:
        value["timings"] = {}
        del value["choices"][0]["logprobs"]

    found = found_by("chat.answer", altered(change))
    assert found.result is Result.SUPPORTED
    assert "without choices[].logprobs" in found.detail
    assert "timings" in found.detail


def test_numbers_and_truths_are_told_apart() -> None:
    assert not differences({"a": float, "b": int}, {"a": 1, "b": 1}).wrong
    assert differences({"a": int}, {"a": True}).wrong
    assert differences({"a": int}, {"a": 1.5}).wrong
    assert differences({"a": bool}, {"a": 1}).wrong


def test_of_several_shapes_the_one_that_fits_best_counts() -> None:
    either = {"a": Either((Is("x"), {"b": int}))}
    assert not differences(either, {"a": "x"}).wrong
    assert differences(either, {"a": {"b": "1"}}).wrong == ["a.b is a text, not a whole number"]
    assert differences(CHAT, "text").wrong == ["the answer is a text, not an object"]
