"""A chat that wants functions called, or JSON by a schema, as an engine with grammars gets it."""

import secrets
from typing import Any

import msgspec
from msgspec import Raw

from modelry.gateway import body as bodies
from modelry.gateway import tokenize_calls
from modelry.gateway.replies import Reply, bad_request
from modelry.gateway.request import CHAT, DerivedRequest, Request
from modelry.gateway.structured.fitting import Room, form_of
from modelry.gateway.structured.functions import Offer, offer_of
from modelry.gateway.structured.known_forms import KnownForms, rounded
from modelry.gateway.structured.parsing import Arguments, Begun, CallReader, Ended, Piece, Words
from modelry.gateway.structured.prompts import told, with_calls_told, with_instructions
from modelry.gateway.translating import Answering, Json, TranslatedAnswer
from modelry.routing.messages import Route

PATHS = (CHAT, tokenize_calls.PATH)
"""Also what is asked of a chat's tokens goes by the prompt that the chat would have."""
_CALLED = b'"tool_call'
"""Stands in conversations with calls, which a template without functions passes over in silence."""
_FUNCTIONS = ("tools", "tool_choice", "parallel_tool_calls")
_OWN = (*_FUNCTIONS, "response_format", "grammar")

_SPOILING = ("stop", "ignore_eos")
"""What would cut JSON short, or have the engine go on after its end, where it fails."""

_encode = msgspec.json.Encoder().encode
_decode_messages = msgspec.json.Decoder(list[dict[str, Any]]).decode


def structured(
    request: Request, answering: Answering, head: bodies.Head, route: Route, forms: KnownForms
) -> tuple[DerivedRequest, Answering] | None:
    """The chat as `route`'s engine gets it, which knows grammars; None where it gets what came.
    Raises a 400.
    """
    told_before = not route.tools and request.body.find(_CALLED) >= 0
    asked = (head.tools, head.tool_choice, head.response_format)
    if not (told_before or any(map(_is_given, asked))):
        return None
    if not bodies.is_readable(request.body):
        raise bad_request("The body has too many values, in lists and objects.", "messages")
    fields = bodies.fields(request.body)
    tools, wanted = bodies.value(fields, "tools"), bodies.value(fields, "tool_choice")
    offer = offer_of(tools, wanted, bodies.value(fields, "parallel_tool_calls"))
    schema, strict = _schema(bodies.value(fields, "response_format"))
    own = offer is not None and (offer.must or schema is not None or not route.tools)
    if not (own or schema is not None or told_before):
        if offer is None:
            return _without_functions(request, answering, fields, needed=wanted == "required")
        if not isinstance(wanted, dict):
            return None
        # Its engine would let all of the functions be called.
        allowed = [tools[each.index] for each in offer.functions]
        body = _encode({**fields, "tools": allowed, "tool_choice": "auto"})
        return DerivedRequest(request, request.path, body, request.ignored), answering
    counted = request.path != CHAT
    kept = {name: said for name, said in fields.items() if name not in _OWN}
    left_out: tuple[str, ...] = ()
    if counted:
        # The tokens of its prompt are asked for, and no answer.
        pass
    elif own or schema is not None:
        for name in ("grammar", "json_schema"):
            if name in fields:
                message = f"'{name}' goes with neither 'tools' nor 'response_format'."
                raise bad_request(message, name)
        room = rounded(Room(_tokens(request, head, route), route.small))
        said = [fields.get(name, Raw()) for name in (*_FUNCTIONS, "response_format")]
        where = "response_format.json_schema.schema"
        form = forms.form(
            said,
            room,
            lambda: form_of(offer, schema, strict=strict, schema_path=where, room=room),
        )
        kept["grammar"] = Raw(_encode(form.grammar))
        left_out = tuple(sorted(form.left_out))
        if schema is not None or (offer is not None and offer.must):
            spoiling = [name for name in _SPOILING if bodies.value(kept, name)]
            for name in spoiling:
                del kept[name]
            left_out = (*left_out, *spoiling)
    elif offer is None:
        kept = {name: said for name, said in fields.items() if name not in _FUNCTIONS}
    messages = _messages(head.messages)
    if not route.tools:
        messages = with_calls_told(messages)
    if own:
        assert offer is not None
        messages = with_instructions(messages, told(offer))
    body = _encode({**kept, "messages": messages})
    if own and offer is not None and not counted:
        answering = TranslatedAnswer(answering, CallsTold(offer, streams=head.stream is True))
    derived = DerivedRequest(request, request.path, body, (*request.ignored, *left_out))
    if "grammar" in kept:
        derived.unread_bytes = len(memoryview(kept["grammar"]))
    return derived, answering


def _without_functions(
    request: Request, answering: Answering, fields: dict[str, Raw], *, needed: bool
) -> tuple[DerivedRequest, Answering] | None:
    """The same chat where none may be called: llama.cpp refuses some wishes beside functions.
    `needed`: a call is demanded all the same, of nothing.
    """
    kept = {name: said for name, said in fields.items() if name not in _FUNCTIONS}
    if len(kept) == len(fields):
        return None
    ignored = (*request.ignored, "tool_choice") if needed else request.ignored
    return DerivedRequest(request, request.path, _encode(kept), ignored), answering


def _is_given(field: Raw) -> bool:
    return len(memoryview(field)) > 0


def _messages(messages: Raw) -> list[Json]:
    try:
        return _decode_messages(messages)
    except bodies.UNREADABLE:
        raise bad_request("'messages' must be a list of objects.", "messages") from None


def _schema(wish: Any) -> tuple[Any, bool]:
    """The schema that an answer is to be held to, None for none, and whether to all of it."""
    match wish:
        case {"type": "json_schema", "json_schema": {"schema": dict() | bool() as schema, **said}}:
            strict = said.get("strict")
            if not isinstance(strict, bool | None):
                where = "response_format.json_schema.strict"
                raise bad_request(f"'{where}' is true or false.", where)
            return schema, strict is True
        case {"type": "json_schema"}:
            where = "response_format.json_schema"
            raise bad_request(f"'{where}' lacks 'schema': a JSON Schema.", where)
        case {"type": "json_object"}:
            return {"type": "object"}, False
        case None | {"type": "text"}:
            return None, False
    raise bad_request(
        "'response_format' is {'type': 'text'}, {'type': 'json_object'}, or {'type': "
        "'json_schema', 'json_schema': {'schema': …}}.",
        "response_format",
    )


def _tokens(request: Request, head: bodies.Head, route: Route) -> int | None:
    """How many an answer may have, rather too few than too many."""
    asked = (
        head.max_completion_tokens if head.max_completion_tokens is not None else head.max_tokens
    )
    most = asked if type(asked) is int and asked > 0 else route.max_tokens
    left = None
    if route.context_tokens is not None:
        # Schemas have shorter words than prose, and some scripts a token a byte.
        left = max(64, route.context_tokens - 2 * bodies.prompt_tokens(request.body))
    known = [each for each in (most, left) if each is not None]
    return min(known) if known else None


class CallsTold:
    """`Translation` of a chat's answer whose text has calls into one that has `tool_calls`."""

    def __init__(self, offer: Offer, *, streams: bool) -> None:
        self.streams = streams
        self._offer = offer
        self._choices: dict[int, _Choice] = {}

    def whole(self, answer: Json) -> bytes:
        for choice in answer["choices"]:
            _read_whole(choice, self._offer)
        return _encode(answer)

    def chunk(self, chunk: Json) -> bytes:
        choices = []
        for choice in chunk["choices"]:
            state = self._choices.setdefault(choice["index"], _Choice(self._offer))
            choices += state.choices(choice)
        if chunk["choices"] and not choices:
            return b""
        frames = [{**chunk, "choices": [each]} for each in choices] or [chunk]
        for frame in frames[:-1]:
            frame.pop("usage", None)
        return b"".join(b"data: " + _encode(frame) + b"\n\n" for frame in frames)

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def broken(self, problem: Json) -> bytes:
        return b"data: " + _encode({"error": problem}) + b"\n\n"

    def refusal(self, reply: Reply) -> Reply:
        return reply


class _Choice:
    """One answer of a stream."""

    def __init__(self, offer: Offer) -> None:
        self._reader = CallReader(offer)
        self._index = -1
        """Of the call that was begun last."""

    def choices(self, choice: Json) -> list[Json]:
        """What a chunk's choice becomes: as many as it takes, none where it says nothing yet."""
        delta = dict(choice.get("delta") or {})
        text = delta.pop("content", None)
        finish = choice.get("finish_reason")
        pieces: list[Piece] = list(self._reader.feed(text)) if isinstance(text, str) else []
        if finish is not None:
            pieces += self._reader.end()
        deltas = [each for each in map(self._delta, pieces) if each is not None]
        if delta:
            # Its role, or what it thinks.
            deltas.insert(0, {**delta, "content": ""} if "role" in delta else delta)
        if finish is None:
            return [
                {**choice, "delta": each, **_ONLY_FIRST[at > 0]} for at, each in enumerate(deltas)
            ]
        last = {**choice, "delta": {}, "finish_reason": self._finish(finish)}
        before = [{**choice, "delta": each, "finish_reason": None} for each in deltas]
        return [*before, {**last, **_ONLY_FIRST[bool(before)]}]

    def _finish(self, told: str) -> str:
        return "tool_calls" if told == "stop" and self._reader.calls else told

    def _delta(self, piece: Piece) -> Json | None:
        match piece:
            case Words(text):
                return {"content": text}
            case Begun(name):
                self._index += 1
                begun = {"name": name, "arguments": ""}
                call = {"index": self._index, "id": _id(), "type": "function", "function": begun}
                return {"tool_calls": [call]}
            case Arguments(text):
                return {"tool_calls": [{"index": self._index, "function": {"arguments": text}}]}
            case Ended():
                return None


# Of the deltas that one becomes, the first keeps its tokens' probabilities.
_ONLY_FIRST: dict[bool, Json] = {False: {}, True: {"logprobs": None}}


def _read_whole(choice: Json, offer: Offer) -> None:
    """Have a whole answer's calls as `tool_calls`: those that are complete."""
    message = choice["message"]
    reader = CallReader(offer)
    words, calls = "", list[Json]()
    pieces = [*reader.feed(message.get("content") or ""), *reader.end()]
    for piece in pieces:
        match piece:
            case Words(text):
                words += text
            case Begun(name):
                function = {"name": name, "arguments": ""}
                calls.append({"id": _id(), "type": "function", "function": function})
            case Arguments(text):
                calls[-1]["function"]["arguments"] += text
            case Ended():
                pass
    if reader.within_call:
        # Its tokens were used up: what there is of it is no call.
        calls.pop()
    message["content"] = words or None
    if calls:
        message["tool_calls"] = calls
        if choice.get("finish_reason") == "stop":
            choice["finish_reason"] = "tool_calls"
    elif message["content"] is None:
        message["content"] = ""


def _id() -> str:
    return f"call_{secrets.token_hex(12)}"
