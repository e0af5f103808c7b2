"""`/v1/embeddings`: what is asked of an engine, and what is made of its answer.

OpenAI's shapes: https://platform.openai.com/docs/api-reference/embeddings. Inputs are checked
here, because engines embed what is none of them, such as an empty text.
"""

import binascii
import math
from array import array
from typing import Annotated, Any

import msgspec

from modelry.gateway import body as bodies
from modelry.gateway.body import UNREADABLE, Head
from modelry.gateway.items import TooMany, first_of, items_of, kind_of
from modelry.gateway.pieces import Cutting
from modelry.gateway.replies import Reply, bad_request
from modelry.gateway.request import Request
from modelry.gateway.usage import Usage
from modelry.routing.messages import Route

INPUTS_MOST = 2048
_BYTES_PER_TOKEN = 4
_BYTES_PER_NUMBER = 4
_TOKEN_MOST = 2**31 - 1
_FORMATS = ("float", "base64")
_GIVEN = "'input' must be a text, a list of texts, a list of tokens, or a list of such lists"


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    total_tokens: int = 0


class _Embedding(msgspec.Struct):
    """`embedding`: an engine's own list of numbers, or numbers of 32 bits in base64."""

    embedding: msgspec.Raw
    index: int = 0
    object: str = "embedding"


class _Answer(msgspec.Struct):
    data: list[_Embedding]
    model: str = ""
    usage: _Usage = msgspec.field(default_factory=_Usage)
    object: str = "list"


_encode = msgspec.json.Encoder().encode
_Token = Annotated[int, msgspec.Meta(ge=0, le=_TOKEN_MOST)]
_decode_tokens = msgspec.json.Decoder(list[_Token]).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_text = msgspec.json.Decoder(str).decode


class EmbeddingCall:
    """`Pieces` of a call whose `inputs` have been checked. `listed`: they came as a list.
    `dimensions`: how many numbers a vector is to have; of a model whose vectors may not be cut,
    it can only have them already.
    """

    changes_answer = True
    in_thread = False

    def __init__(
        self,
        route: Route,
        fields: dict[str, msgspec.Raw],
        inputs: list[msgspec.Raw],
        *,
        listed: bool,
        as_numbers: bool,
        dimensions: int | None,
    ) -> None:
        self._model = route.access_path
        self._listed = listed
        self._fields = fields
        self._as_numbers = as_numbers
        self._dimensions = dimensions
        self._cuts = dimensions is not None and route.dimensions_min is not None
        # Vectors that are cut here are work for the loop, which is to do it bit by bit.
        self._cutting = Cutting(inputs, whole=not route.collect and dimensions is None)
        self._made = _Answer([], self._model)

    def request(self, body: bytes | bytearray) -> bytes:
        """The piece that is due. Of vectors that are to be cut here, all numbers come."""
        fields = {**self._fields, "input": self._cutting.due}
        if self._cuts:
            fields["encoding_format"] = "base64"
        return _encode(fields)

    def take(self, answer: bytes) -> bool:
        if self._cutting.is_last:
            return False
        self._add(answer)
        self._cutting.go_on()
        return True

    def answer(self, answer: bytes) -> bytes:
        self._add(answer)
        return _encode(self._made)

    def narrow(self) -> str | None:
        if self._cutting.halve():
            return None
        return self._cutting.place("input") if self._listed else "input"

    def taken(self) -> Usage:
        return Usage(self._made.usage.prompt_tokens, 0)

    def estimated(self) -> Usage:
        """What was told of pieces before, and the piece under way by its length."""
        due = self._cutting.due_bytes // _BYTES_PER_TOKEN
        return Usage(self._made.usage.prompt_tokens + due, 0)

    def _add(self, answer: bytes) -> None:
        came = _decode_answer(answer)
        if len(came.data) != len(self._cutting.due):
            raise ValueError("it has not one embedding for each input")
        came.data.sort(key=lambda each: each.index)
        vectors = [each.embedding for each in came.data]
        if self._dimensions is not None:
            # Those of one model have as many numbers each.
            has = _numbers_in(vectors[0])
            if has < self._dimensions or (has > self._dimensions and not self._cuts):
                # Worked on, all the same.
                self._count(came.usage)
                raise self._other_than(has)
            if self._cuts:
                vectors = [self._shorter(vector, self._dimensions) for vector in vectors]
        for vector in vectors:
            self._made.data.append(_Embedding(vector, len(self._made.data)))
        self._count(came.usage)

    def _count(self, told: _Usage) -> None:
        tokens = told.prompt_tokens or told.total_tokens
        self._made.usage.prompt_tokens += tokens
        self._made.usage.total_tokens += tokens

    def _other_than(self, has: int) -> Reply:
        cut = "" if self._cuts else ", which cannot be cut"
        return bad_request(
            f"'dimensions' is {self._dimensions}, and the embeddings of {self._model} have "
            f"{has} numbers{cut}.",
            "dimensions",
        )

    def _shorter(self, vector: msgspec.Raw, dimensions: int) -> msgspec.Raw:
        """The first numbers of a vector, made as long as a vector of all is: one."""
        told = binascii.a2b_base64(_decode_text(vector))
        numbers: list[float] = array("f", told[: dimensions * _BYTES_PER_NUMBER]).tolist()
        # A third of the time of a sum of squares.
        length = math.hypot(*numbers)
        if length:
            numbers = [number / length for number in numbers]
        if self._as_numbers:
            return msgspec.Raw(_encode(numbers))
        text = binascii.b2a_base64(array("f", numbers).tobytes(), newline=False)
        return msgspec.Raw(b'"' + text + b'"')


def shape(request: Request, head: Head, route: Route) -> EmbeddingCall | None:
    """None for endpoints elsewhere. Raises a 400 for what no engine should get to see."""
    if route.endpoints:
        return None
    fields = bodies.fields(request.body)
    given = fields.pop("input", None)
    if given is None:
        raise bad_request(f"The body lacks 'input': {_GIVEN[8:]}.", "input")
    inputs = _inputs(given)
    listed = inputs[0] is not given
    form = bodies.value(fields, "encoding_format")
    if form is not None and form not in _FORMATS:
        raise bad_request("'encoding_format' must be 'float' or 'base64'.", "encoding_format")
    dimensions = _dimensions(bodies.value(fields, "dimensions"), route)
    fields.pop("dimensions", None)
    as_numbers = form != "base64"
    return EmbeddingCall(
        *(route, fields, inputs), listed=listed, as_numbers=as_numbers, dimensions=dimensions
    )


def _dimensions(wanted: Any, route: Route) -> int | None:
    """How many numbers a model's vectors have, only they tell: here it is what may be asked for."""
    if wanted is None:
        return None
    least = route.dimensions_min or 1
    if type(wanted) is not int or wanted < least:
        raise bad_request(f"'dimensions' must be a number of at least {least}.", "dimensions")
    return wanted


def _numbers_in(vector: msgspec.Raw) -> int:
    if kind_of(vector) == b'"':
        return len(binascii.a2b_base64(_decode_text(vector))) // _BYTES_PER_NUMBER
    return bytes(vector).count(b",") + 1


def _inputs(given: msgspec.Raw) -> list[msgspec.Raw]:
    """Each input as it came, a text or a list of tokens."""
    kind = kind_of(given)
    if kind == b'"':
        _check_text(given)
        return [given]
    if kind != b"[":
        raise bad_request(f"{_GIVEN}.", "input")
    kind = first_of(given)
    if kind == b"]":
        raise bad_request("'input' is an empty list: give at least one text.", "input")
    if kind != b'"' and kind != b"[":
        # One input, of tokens.
        _check_tokens(given, "'input'")
        return [given]
    try:
        items = items_of(given, INPUTS_MOST)
    except TooMany:
        raise bad_request(
            f"'input' has more than {INPUTS_MOST} items, the most of one call: "
            "send them in several.",
            "input",
        ) from None
    except UNREADABLE:
        raise bad_request("'input' is not valid JSON.", "input") from None
    for at, item in enumerate(items):
        if kind_of(item) != kind:
            raise bad_request(
                f"{_GIVEN}, and not a mixture: item {at} is of another kind than the first.",
                "input",
            )
        if kind == b'"':
            _check_text(item, at)
        else:
            _check_tokens(item, f"item {at} of 'input'")
    return items


def _check_text(text: msgspec.Raw, at: int | None = None) -> None:
    if len(memoryview(text)) == 2:
        where = "'input'" if at is None else f"item {at} of 'input'"
        raise bad_request(f"There is nothing to embed: {where} is an empty text.", "input")


def _check_tokens(value: msgspec.Raw, what: str) -> None:
    try:
        tokens = _decode_tokens(value)
    except UNREADABLE:
        raise _no_tokens(what) from None
    if not tokens:
        raise bad_request(f"There is nothing to embed: {what} is an empty list.", "input")


def _no_tokens(what: str) -> Reply:
    return bad_request(
        f"{what[0].upper()}{what[1:]} is no list of tokens: they are numbers from 0 on.", "input"
    )
