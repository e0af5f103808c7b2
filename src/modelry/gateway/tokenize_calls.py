"""`/v1/tokenize`: which tokens a prompt has, or a chat with its template, and how many.

The shape is vLLM's. Engines are asked at their own addresses: one takes all at once, another first
makes a chat a prompt, and then that tokens. Which it is, the route says (`Route.dialect`).
"""

from typing import Any

import msgspec
from msgspec import Raw

from modelry.gateway import body as bodies
from modelry.gateway.body import Head
from modelry.gateway.picture_parts import refuse_images
from modelry.gateway.replies import Reply, bad_request, error
from modelry.gateway.request import Request
from modelry.gateway.usage import NOTHING, Usage
from modelry.routing.messages import Route

PATH = b"/v1/tokenize"
TEXT_BYTES_MOST = 1024 * 1024
"""Of what is tokenized at a time, so that an engine is done in seconds."""
_BYTES_PER_TOKEN_MOST = 8
"""Whatever a context has room for may be counted, even if its words are long."""

# Of the request, what no engine is asked, each in its own words.
_OURS = ("prompt", "add_special_tokens", "return_token_strs", "stream", "stream_options")


class _Piece(msgspec.Struct):
    """`piece`: a text, or bytes as numbers where they are none."""

    id: int
    piece: str | list[int] = ""


class _Prompt(msgspec.Struct):
    prompt: str


class _Told(msgspec.Struct):
    """What engines answer: tokens, or tokens with their texts."""

    tokens: list[int | _Piece]
    max_model_len: int | None = None
    token_strs: list[str | None] | None = None


class _Tokens(msgspec.Struct, omit_defaults=True):
    tokens: list[int]
    count: int
    max_model_len: int | None
    token_strs: list[str | None] | msgspec.UnsetType = msgspec.UNSET


_encode = msgspec.json.Encoder().encode
_decode_prompt = msgspec.json.Decoder(_Prompt).decode
_decode_told = msgspec.json.Decoder(_Told).decode
_decode_text = msgspec.json.Decoder(str).decode


class TokenizeCall:
    """`Asking` of a call with either a `prompt` or, in `chat`, the fields of a chat.

    `special`: whether tokens are added that no text stands for; None leaves it to the engine.
    """

    changes_answer = True
    in_thread = False

    def __init__(
        self,
        route: Route,
        prompt: str | None,
        chat: dict[str, Raw],
        *,
        special: bool | None,
        with_texts: bool,
    ) -> None:
        self._given = prompt
        self._chat = chat
        self._special = special
        self._with_texts = with_texts
        self._prompt = prompt
        """What is to be tokenized, once it is known."""
        self._dialect = ""
        self._context_tokens: int | None = None
        self.routed(route)

    def routed(self, route: Route) -> None:
        """Raises a 400 where its engine does not say: that may have changed meanwhile."""
        if not route.dialect:
            raise no_tokens(route)
        if route.dialect != self._dialect:
            self._dialect, self._prompt = route.dialect, self._given
        self._context_tokens = route.context_tokens

    @property
    def path(self) -> bytes:
        if self._is_template_due:
            return b"/apply-template"
        return b"/tokenize"

    def request(self, body: bytes | bytearray) -> bytes:
        if self._is_template_due:
            return _encode(self._chat)
        if self._dialect == "vllm":
            return _encode(self._as_vllm_has_it())
        return _encode(
            {
                "content": self._prompt,
                # Of a chat's prompt, too: its engine reads it so.
                "add_special": self._special is not False,
                "parse_special": True,
                "with_pieces": self._with_texts,
            }
        )

    def take(self, answer: bytes) -> bool:
        if not self._is_template_due:
            return False
        self._prompt = _decode_prompt(answer).prompt
        _require_short(len(self._prompt.encode()), self._context_tokens, "messages")
        return True

    def answer(self, answer: bytes) -> bytes:
        told = _decode_told(answer)
        ids, texts = _apart(told.tokens)
        if self._with_texts and told.token_strs is not None:
            texts = told.token_strs
        made = _Tokens(ids, len(ids), told.max_model_len or self._context_tokens)
        if self._with_texts:
            made.token_strs = texts
        return _encode(made)

    def narrow(self) -> str:
        return "prompt" if self._given is not None else "messages"

    def taken(self) -> Usage:
        return NOTHING

    def estimated(self) -> Usage:
        return NOTHING

    @property
    def _is_template_due(self) -> bool:
        return self._dialect == "llama.cpp" and self._prompt is None

    def _as_vllm_has_it(self) -> dict[str, Any]:
        fields: dict[str, Any] = dict(self._chat)
        if self._given is not None:
            fields["prompt"] = self._given
        if self._special is not None:
            fields["add_special_tokens"] = self._special
        return {**fields, "return_token_strs": self._with_texts}


def shape(request: Request, head: Head, route: Route) -> TokenizeCall:
    """Raises a 400 for what has no tokens, and for services whose engines do not tell them."""
    fields = bodies.fields(request.body)
    prompt, messages = fields.get("prompt"), fields.get("messages")
    if (prompt is None) == (messages is None):
        raise bad_request("Give either 'prompt', a text, or 'messages', a chat.", "prompt")
    if not route.dialect:
        raise no_tokens(route)
    special = _flag(fields, "add_special_tokens")
    with_texts = _flag(fields, "return_token_strs") is True
    chat = {name: value for name, value in fields.items() if name not in _OURS}
    if messages is not None:
        if "chat" not in route.tasks:
            told = f"{route.access_path} does not do chat: give a 'prompt', not 'messages'."
            raise error(400, "unsupported_task", told, param="messages")
        refuse_images(messages, "The tokens of an image are not known before it is worked on.")
        _require_short(len(request.body), route.context_tokens, "messages")
        return TokenizeCall(route, None, chat, special=special, with_texts=with_texts)
    assert prompt is not None
    try:
        text = _decode_text(prompt)
    except bodies.UNREADABLE:
        raise bad_request("'prompt' must be a text.", "prompt") from None
    _require_short(len(text.encode()), route.context_tokens, "prompt")
    # A prompt alone has no use for what is a chat's.
    model = {"model": chat["model"]}
    return TokenizeCall(route, text, model, special=special, with_texts=with_texts)


def no_tokens(route: Route) -> Reply:
    what = "stands on endpoints elsewhere" if route.endpoints else "has an engine"
    told = f"{route.access_path} {what} that Modelry does not ask for tokens."
    return error(400, "unsupported_task", told, param="model")


# ----------------------------------------------------------------------------


def _flag(fields: dict[str, Raw], name: str) -> bool | None:
    value = bodies.value(fields, name)
    if value is not None and not isinstance(value, bool):
        raise bad_request(f"'{name}' must be true or false.", name)
    return value


def _require_short(size: int, context_tokens: int | None, param: str) -> None:
    most = max(TEXT_BYTES_MOST, _BYTES_PER_TOKEN_MOST * (context_tokens or 0))
    if size > most:
        told = f"'{param}' has {size} bytes of text; {most} are tokenized at a time."
        raise bad_request(told, param)


def _apart(tokens: list[int | _Piece]) -> tuple[list[int], list[str | None]]:
    """Numbers and texts. A token may hold a part of a letter alone."""
    ids: list[int] = []
    texts: list[str | None] = []
    for token in tokens:
        if isinstance(token, int):
            ids.append(token)
            continue
        piece = token.piece
        ids.append(token.id)
        texts.append(piece if isinstance(piece, str) else bytes(piece).decode("utf-8", "replace"))
    return ids, texts
