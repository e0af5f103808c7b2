"""`/v1/messages` and `/v1/messages/count_tokens` of Anthropic's API, made calls of a chat."""

from modelry.gateway import tokenize_calls
from modelry.gateway.dialects.messages.answers import MessagesAnswer, TokenCount
from modelry.gateway.dialects.messages.requests import chat_of, prompt_of
from modelry.gateway.request import CHAT, DerivedRequest, Request
from modelry.gateway.translating import Answering, Translate, TranslatedAnswer


def create(request: Request, client: Answering) -> tuple[DerivedRequest, Answering]:
    chat = chat_of(request.body)
    derived = DerivedRequest(request, CHAT, chat.body, chat.ignored)
    answer = MessagesAnswer(request.id, chat.model, streams=chat.streams)
    return derived, TranslatedAnswer(client, answer)


def count_tokens(request: Request, client: Answering) -> tuple[DerivedRequest, Answering]:
    prompt = prompt_of(request.body)
    derived = DerivedRequest(request, tokenize_calls.PATH, prompt.body, prompt.ignored)
    return derived, TranslatedAnswer(client, TokenCount())


TRANSLATES: dict[bytes, Translate] = {
    b"/v1/messages": create,
    b"/v1/messages/count_tokens": count_tokens,
}
