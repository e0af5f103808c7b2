"""OpenAI's published shapes, as far as checks read them, and what differs from them.

A shape is a tuple of types or literal texts, `None` for null, a `dict` of fields, a `list` of one
member, or `Either`. A field's name ends in `?` where it may be left out. Source: the types of
`openai` for Node.js, where a field that may be null is apart from one that may be missing.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Shape: TypeAlias = Any
"""Recursive, and a table: what is said above holds."""


@dataclass(frozen=True)
class Is:
    """This text and no other."""

    text: str


@dataclass(frozen=True)
class Either:
    shapes: tuple[Shape, ...]


def nullable(shape: Shape) -> Either:
    return Either((shape, None))


@dataclass
class Differences:
    """Paths, with `[]` for any index: what is `wrong` in itself, the fields that are `missing`
    although they may be null, and those that are `more` than the API has.
    """

    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """What a strict reader would stumble over, in words."""
        found = []
        if self.missing:
            found.append(f"without {', '.join(dict.fromkeys(self.missing))} (null is due)")
        if self.more:
            found.append(f"with fields OpenAI has not: {', '.join(dict.fromkeys(self.more))}")
        return found


def differences(shape: Shape, value: object) -> Differences:
    found = Differences()
    _walk(shape, value, "", found)
    return found


def _walk(shape: Shape, value: object, path: str, found: Differences) -> None:
    if isinstance(shape, Either):
        _either(shape, value, path, found)
    elif isinstance(shape, dict):
        if isinstance(value, dict):
            _fields(shape, value, path, found)
        else:
            found.wrong.append(f"{path or 'the answer'} is {_kind(value)}, not an object")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            found.wrong.append(f"{path} is {_kind(value)}, not an array")
            return
        for member in value:
            _walk(shape[0], member, f"{path}[]", found)
    elif isinstance(shape, Is):
        if value != shape.text:
            found.wrong.append(f"{path} is {value!r}, not {shape.text!r}"[:120])
    elif shape is None:
        if value is not None:
            found.wrong.append(f"{path} is {_kind(value)}, not null")
    elif not _is(value, shape):
        found.wrong.append(f"{path} is {_kind(value)}, not {_NAMES[shape]}")


def _fields(
    shape: dict[str, Shape], value: dict[str, object], path: str, found: Differences
) -> None:
    known = set()
    for name, inner in shape.items():
        plain = name.removesuffix("?")
        known.add(plain)
        at = f"{path}.{plain}".lstrip(".")
        if plain in value:
            _walk(inner, value[plain], at, found)
        elif not name.endswith("?"):
            may_be_null = isinstance(inner, Either) and None in inner.shapes
            (found.missing if may_be_null else found.wrong).append(
                at if may_be_null else f"{at} is missing"
            )
    found.more += [f"{path}.{name}".lstrip(".") for name in value if name not in known]


def _either(shape: Either, value: object, path: str, found: Differences) -> None:
    """That which fits best; of those that fit as badly, one of the value's own kind."""
    every = []
    for each in shape.shapes:
        tried = Differences()
        _walk(each, value, path, tried)
        every.append(tried)

    def badness(tried: Differences) -> tuple[int, bool]:
        return len(tried.wrong), any(told.startswith(f"{path} is ") for told in tried.wrong)

    best = min(every, key=badness)
    found.wrong += best.wrong
    found.missing += best.missing
    found.more += best.more


_NAMES: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "an array",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _NAMES[type(value)]


def _is(value: object, kind: type) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)


_FINISH = Either(
    tuple(Is(each) for each in ("stop", "length", "tool_calls", "content_filter", "function_call"))
)
USAGE = {
    "prompt_tokens": int,
    "completion_tokens": int,
    "total_tokens": int,
    "prompt_tokens_details?": nullable({"cached_tokens?": int, "audio_tokens?": int}),
    "completion_tokens_details?": nullable(
        {
            "reasoning_tokens?": int,
            "audio_tokens?": int,
            "accepted_prediction_tokens?": int,
            "rejected_prediction_tokens?": int,
        }
    ),
}
_TOP_LOGPROB = {"token": str, "bytes": nullable([int]), "logprob": float}
_LOGPROBS = nullable(
    {
        "content": nullable([{**_TOP_LOGPROB, "top_logprobs": [_TOP_LOGPROB]}]),
        "refusal": nullable([{**_TOP_LOGPROB, "top_logprobs": [_TOP_LOGPROB]}]),
    }
)
TOOL_CALL = {"id": str, "type": Is("function"), "function": {"name": str, "arguments": str}}
_HEAD = {
    "id": str,
    "created": int,
    "model": str,
    "service_tier?": nullable(str),
    "system_fingerprint?": nullable(str),
}
CHAT = {
    **_HEAD,
    "object": Is("chat.completion"),
    "choices": [
        {
            "index": int,
            "finish_reason": _FINISH,
            "logprobs": _LOGPROBS,
            "message": {
                "role": Is("assistant"),
                "content": nullable(str),
                "refusal": nullable(str),
                "annotations?": list,
                "audio?": nullable(dict),
                "tool_calls?": [TOOL_CALL],
            },
        }
    ],
    "usage": USAGE,
}
_DELTA_CALL = {
    "index": int,
    "id?": str,
    "type?": Is("function"),
    "function?": {"name?": str, "arguments?": str},
}
CHAT_CHUNK = {
    **_HEAD,
    "object": Is("chat.completion.chunk"),
    "choices": [
        {
            "index": int,
            "finish_reason": nullable(_FINISH),
            "logprobs?": _LOGPROBS,
            "delta": {
                "role?": str,
                "content?": nullable(str),
                "refusal?": nullable(str),
                "tool_calls?": [_DELTA_CALL],
            },
        }
    ],
    "usage?": nullable(USAGE),
}
COMPLETION = {
    **_HEAD,
    "object": Is("text_completion"),
    "choices": [
        {
            "index": int,
            "text": str,
            "finish_reason": Either((Is("stop"), Is("length"), Is("content_filter"))),
            "logprobs": nullable(dict),
        }
    ],
    "usage": USAGE,
}
COMPLETION_CHUNK = {
    **_HEAD,
    "object": Is("text_completion"),
    "choices": [
        {
            "index": int,
            "text": str,
            "finish_reason": nullable(str),
            "logprobs?": nullable(dict),
        }
    ],
    "usage?": nullable(USAGE),
}
COMPLETION_LOGPROBS = {
    "tokens": [str],
    "token_logprobs": [nullable(float)],
    "top_logprobs": nullable([nullable(dict)]),
    "text_offset": [int],
}
_EMBEDDING_USAGE = {"prompt_tokens": int, "total_tokens": int}
EMBEDDINGS = {
    "object": Is("list"),
    "model": str,
    "data": [{"object": Is("embedding"), "index": int, "embedding": Either(([float], str))}],
    "usage": _EMBEDDING_USAGE,
}
ERROR = {
    "error": {"message": str, "type": str, "param": nullable(str), "code": nullable(str)},
}
