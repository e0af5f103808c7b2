"""Which endpoint belongs to which task, and what each does to its calls' bodies."""

from collections.abc import Callable

from modelry.gateway import (
    chat_requests,
    embedding_calls,
    media_calls,
    rerank_calls,
    tokenize_calls,
)
from modelry.gateway.body import Head, expected_tokens, prompt_tokens
from modelry.gateway.request import CHAT, COMPLETION, Request
from modelry.gateway.shaping import Shaping
from modelry.routing.messages import Route

ANY_TASK = ""

# Endpoint → the task a service must do to answer there.
ENDPOINTS = {
    CHAT: "chat",
    b"/v1/messages": "chat",
    b"/v1/messages/count_tokens": "chat",
    tokenize_calls.PATH: ANY_TASK,
    COMPLETION: "completion",
    b"/v1/responses": "chat",
    b"/v1/embeddings": "embedding",
    b"/v1/rerank": "rerank",
    b"/v1/images/generations": "image",
    b"/v1/images/edits": "image",
    b"/v1/audio/speech": "speech",
    b"/v1/audio/transcriptions": "transcription",
    b"/v1/audio/translations": "transcription",
}

TOKENLESS = frozenset(
    path
    for path, task in ENDPOINTS.items()
    if task in (ANY_TASK, "image", "speech", "transcription")
)
"""Those whose calls are expected to use no tokens, however long their bodies are."""

_ANSWERLESS = frozenset(path for path, task in ENDPOINTS.items() if task in ("embedding", "rerank"))
"""Those whose engines write no tokens: what they use is what they read."""

Shape = Callable[[Request, Head, Route], Shaping | None]
"""Raises a `Reply` for input that no engine should get to see."""

SHAPES: dict[bytes, Shape] = {
    CHAT: chat_requests.shape_chat,
    COMPLETION: chat_requests.shape_completion,
    tokenize_calls.PATH: tokenize_calls.shape,
    b"/v1/embeddings": embedding_calls.shape,
    b"/v1/rerank": rerank_calls.shape,
    b"/v1/images/generations": media_calls.images,
    b"/v1/images/edits": media_calls.images,
    b"/v1/audio/speech": media_calls.speech,
    b"/v1/audio/transcriptions": media_calls.transcription,
    b"/v1/audio/translations": media_calls.transcription,
}


def tokens_expected(path: bytes, head: Head, body: bytes | bytearray, unread_bytes: int = 0) -> int:
    """About how many tokens a call of an endpoint uses. See `prompt_tokens`."""
    if path in TOKENLESS:
        return 0
    if path in _ANSWERLESS:
        return prompt_tokens(body, unread_bytes)
    return expected_tokens(head, body, unread_bytes)
