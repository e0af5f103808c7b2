"""Every check by its name, which stays; docs/guides/conformance.md says what each asks."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from modelry.services.conformance import (
    chat_checks,
    fault_checks,
    media_checks,
    text_checks,
    tool_checks,
)
from modelry.services.conformance.caller import Caller, Subject

Run = Callable[[Caller, Subject], Awaitable[str]]
"""Returns what to say where all is well. Raises `Unsupported`, `Wrong`, `Skipped` or `Interrupted`;
`LookupError`, `TypeError`, `ValueError` or `AttributeError` where an answer is none at all.
"""


@dataclass(frozen=True)
class Check:
    """`task`: services that do it are asked. `slow`: it takes many tokens, or slots, and
    comes after the others, so that a slow model is asked those.
    """

    name: str
    run: Run
    slow: bool = False

    @property
    def task(self) -> str:
        prefix = self.name.partition(".")[0]
        return "chat" if prefix in _BESIDE_CHATS else prefix


_BESIDE_CHATS = frozenset({"responses", "messages", "tokenize"})

CHECKS = (
    Check("chat.answer", chat_checks.answer),
    Check("chat.stream", chat_checks.stream),
    Check("chat.usage", chat_checks.count),
    Check("chat.max_tokens", chat_checks.max_tokens),
    Check("chat.stop", chat_checks.stop),
    Check("chat.n", chat_checks.several),
    Check("chat.seed", chat_checks.seed),
    Check("chat.logprobs", chat_checks.logprobs),
    Check("chat.logit_bias", chat_checks.logit_bias),
    Check("chat.json_object", chat_checks.json_object, slow=True),
    Check("chat.json_schema", chat_checks.json_schema, slow=True),
    Check("chat.tools_auto", tool_checks.auto, slow=True),
    Check("chat.tools_none", tool_checks.none, slow=True),
    Check("chat.tools_required", tool_checks.required, slow=True),
    Check("chat.tools_named", tool_checks.named, slow=True),
    Check("chat.tools_stream", tool_checks.streamed, slow=True),
    Check("chat.system", chat_checks.system),
    Check("chat.developer", chat_checks.developer),
    Check("chat.errors", fault_checks.errors),
    Check("chat.context_overflow", fault_checks.context_overflow),
    Check("chat.cancellation", fault_checks.cancellation, slow=True),
    Check("chat.reasoning", chat_checks.reasoning, slow=True),
    Check("responses.answer", text_checks.responses),
    Check("messages.answer", text_checks.messages),
    Check("messages.count_tokens", text_checks.count_tokens),
    Check("tokenize.answer", text_checks.tokenize),
    Check("completion.answer", text_checks.answer),
    Check("completion.stream", text_checks.stream),
    Check("completion.echo", text_checks.echo),
    Check("completion.suffix", text_checks.suffix),
    Check("completion.logprobs", text_checks.logprobs),
    Check("completion.n", text_checks.several),
    Check("completion.errors", text_checks.errors),
    Check("embedding.answer", media_checks.embedding),
    Check("embedding.base64", media_checks.embedding_base64),
    Check("embedding.dimensions", media_checks.embedding_dimensions),
    Check("embedding.errors", media_checks.embedding_errors),
    Check("rerank.answer", media_checks.rerank),
    Check("rerank.errors", media_checks.rerank_errors),
    Check("image.answer", media_checks.image),
    Check("image.errors", media_checks.image_errors),
    Check("speech.answer", media_checks.speech),
    Check("speech.errors", media_checks.speech_errors),
    Check("transcription.answer", media_checks.transcription),
    Check("transcription.errors", media_checks.transcription_errors),
)


def checks_for(tasks: Iterable[str]) -> list[Check]:
    wanted = set(tasks)
    return [check for check in CHECKS if check.task in wanted]
