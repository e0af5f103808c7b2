"""What llama.cpp answers to chats and completions, in the shapes that OpenAI's types have.

Seen with xllamacpp 2026.10: answers bring `timings` unasked, log probabilities the ids of tokens;
nulls that are due are missing; a completion's id and log probabilities are a chat's; and where a
request asks for several answers, they begin in any order, and each tells its own usage, while the
caller wants that of all. A chat's stream may lack the chunk that begins it.

Every answer of llama.cpp comes as a stream of chunks, as its caller gets it or to be put together
(`collector.py`): all is done to chunks, and the little that is left to the whole.
"""

from typing import Any, TypeGuard

from modelry.gateway.body import Head, answers
from modelry.gateway.request import CHAT

Json = dict[str, Any]

THEIR_ID, OUR_ID = "chatcmpl-", "cmpl-"
"""How the id of a completion begins, and is to begin."""
_BEGINNING = {"role": "assistant", "content": ""}
"""The first delta of an answer, mended."""


def asks(path: bytes, head: Head) -> Json:
    """What a request has to say beyond what its caller did.

    llama.cpp tells of no log probabilities where no likelier tokens are asked for beside them, and
    of twenty in a chat that does not say how many.
    """
    if path == CHAT:
        few = head.top_logprobs is None or head.top_logprobs == 0
        return {"top_logprobs": 1} if head.logprobs is True and few else {}
    return {"logprobs": 1} if _is_count(head.logprobs) and head.logprobs == 0 else {}


class LlamaAnswers:
    """Of one call. `streams`: whether its caller gets the chunks."""

    def __init__(self, path: bytes, head: Head, *, streams: bool) -> None:
        self.is_chat = path == CHAT
        self.reads_all = bool(head.logprobs) or _is_count(head.logprobs)
        """Whether every chunk is to be mended; otherwise a few are."""
        self._streams = streams
        self._keeps_timings = head.timings_per_token is True
        asked = head.top_logprobs if self.is_chat else head.logprobs
        self._alternatives = asked if _is_count(asked) else 0
        prompts, self._expected = answers(head)
        self._each = self._expected // prompts
        self._has_begun = False
        self._told: list[Json] = []
        self._offsets: dict[int, int] = {}

    def chunks(self, chunk: Json) -> list[Json]:
        """What goes on of a chunk: itself, or nothing, and then the usage of all answers once the
        last has told its own. Raises what a malformed one leads to.
        """
        if not self._keeps_timings:
            chunk.pop("timings", None)
        if not self.is_chat and isinstance(chunk.get("id"), str):
            chunk["id"] = OUR_ID + chunk["id"].removeprefix(THEIR_ID)
        usage = chunk.pop("usage", None)
        choices: list[Json] = chunk.get("choices") or []
        for choice in choices:
            self._mend(choice)
        goes_on = [] if usage and not choices else self._in_order(chunk, choices)
        if usage:
            self._told.append({**chunk, "choices": [], "usage": usage})
            if len(self._told) == self._expected:
                goes_on += self.left()
        return goes_on

    def left(self) -> list[Json]:
        """The usage of all answers, where it has not gone on yet and anything is known of it."""
        told, self._told = self._told, []
        if len(told) < 2:
            return told
        usages = [each["usage"] for each in told]
        # Answers to one prompt share it, and each tells of it.
        prompt = sum(_count(usage, "prompt_tokens") for usage in usages) // self._each
        cached = sum(_cached(usage) for usage in usages) // self._each
        completion = sum(_count(usage, "completion_tokens") for usage in usages)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        return [{**told[-1], "usage": usage}]

    def whole(self, answer: Json) -> Json:
        """An answer that was put together from chunks."""
        for choice in answer["choices"]:
            choice.setdefault("logprobs", None)
            message = choice.get("message")
            if message is not None:
                message.setdefault("refusal", None)
        return answer

    # ------------------------------------------------------------------------

    def _in_order(self, chunk: Json, choices: list[Json]) -> list[Json]:
        """Answers to a chat begin in their order, and before any of them says a word: OpenAI's
        library for Python puts them where they begin. llama.cpp begins with any, and not at all
        where the first word takes several tokens, such as a picture.
        """
        if not (self.is_chat and self._streams and choices):
            return [chunk]
        begins = [each.get("delta") for each in choices] == [_BEGINNING]
        if self._has_begun:
            return [] if begins else [chunk]
        self._has_begun = True
        if self._expected == 1 and "role" in (choices[0].get("delta") or {}):
            return [chunk]
        empty = {"finish_reason": None, "delta": _BEGINNING}
        places = range(self._expected)
        beginnings = [{**chunk, "choices": [{"index": index, **empty}]} for index in places]
        return beginnings if begins else [*beginnings, chunk]

    def _mend(self, choice: Json) -> None:
        delta = choice.get("delta")
        if self._streams and delta and delta.get("content", "") is None:
            delta["content"] = ""
        probabilities = choice.get("logprobs")
        # Those after sampling, which only llama.cpp has, are called otherwise.
        if not probabilities or any("logprob" not in each for each in probabilities["content"]):
            return
        tokens: list[Json] = probabilities["content"]
        if not self.is_chat:
            choice["logprobs"] = self._legacy(choice.get("index", 0), tokens)
            return
        for token in tokens:
            token.pop("id", None)
            token["top_logprobs"] = token["top_logprobs"][: self._alternatives]
            for likely in token["top_logprobs"]:
                likely.pop("id", None)
        probabilities["refusal"] = None

    def _legacy(self, index: int, tokens: list[Json]) -> Json:
        """https://platform.openai.com/docs/api-reference/completions/object"""
        names = [_name(token) for token in tokens]
        offsets, at = [], self._offsets.get(index, 0)
        for token in tokens:
            offsets.append(at)
            at += len(token["token"])
        self._offsets[index] = at
        likely = []
        for name, token in zip(names, tokens, strict=True):
            top = token["top_logprobs"][: self._alternatives]
            # The one that was taken is always among them.
            likely.append({_name(each): each["logprob"] for each in top} | {name: token["logprob"]})
        return {
            "tokens": names,
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": likely,
            "text_offset": offsets,
        }


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _count(told: Json, name: str) -> int:
    count = told.get(name)
    return count if _is_count(count) else 0


def _cached(usage: Json) -> int:
    return _count(usage.get("prompt_tokens_details") or {}, "cached_tokens")


def _name(token: Json) -> str:
    """A token's text; as OpenAI has it, its bytes where they are a part of a letter."""
    text, data = token["token"], token.get("bytes") or []
    if text or not data:
        return str(text)
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
