"""`/v1/rerank`: documents put in the order of how well they answer a query.

The shapes of Jina and Cohere, which vLLM and llama.cpp have as well. Sorting, `top_n` and
`return_documents` are done here, the same for every engine; so are scores between 0 and 1.
"""

import math

import msgspec

from modelry.gateway import body as bodies
from modelry.gateway.body import UNREADABLE, Head
from modelry.gateway.items import TooMany, items_of, kind_of
from modelry.gateway.pieces import Cutting
from modelry.gateway.replies import bad_request
from modelry.gateway.request import Request
from modelry.gateway.usage import Usage
from modelry.routing.messages import Route

DOCUMENTS_MOST = 1000
_BYTES_PER_TOKEN = 4


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    total_tokens: int = 0


class _Ranked(msgspec.Struct):
    index: int
    relevance_score: float


class _Came(msgspec.Struct):
    results: list[_Ranked]
    id: str | None = None
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Document(msgspec.Struct):
    text: msgspec.Raw


class _Result(msgspec.Struct, omit_defaults=True):
    index: int
    relevance_score: float
    document: _Document | None = None


class _Answer(msgspec.Struct):
    id: str
    model: str
    results: list[_Result]
    usage: _Usage


_encode = msgspec.json.Encoder().encode
_decode_document = msgspec.json.Decoder(_Document).decode
_decode_came = msgspec.json.Decoder(_Came).decode


class RerankCall:
    """`Pieces` of a call whose `documents`, texts as they came, have been checked. Its service may
    have come without its weights yet: what scores are is known once a replica is asked.
    """

    changes_answer = True
    in_thread = False

    def __init__(
        self,
        route: Route,
        request_id: bytes,
        fields: dict[str, msgspec.Raw],
        documents: list[msgspec.Raw],
        *,
        top_n: int | None,
        returned: bool,
    ) -> None:
        self._model = route.access_path
        self._raw_scores = False
        self._id = request_id.decode()
        self._fields = fields
        self._documents = documents
        self._top_n = top_n
        self._returned = returned
        # Each document is read together with the query.
        query_bytes = len(memoryview(fields["query"]))
        self._cutting = Cutting(documents, whole=not route.collect, beside_bytes=query_bytes)
        self._results: list[_Result] = []
        self._usage = _Usage()

    def routed(self, route: Route) -> None:
        self._raw_scores = route.raw_scores

    def request(self, body: bytes | bytearray) -> bytes:
        """The piece that is due."""
        return _encode({**self._fields, "documents": self._cutting.due})

    def take(self, answer: bytes) -> bool:
        if self._cutting.is_last:
            return False
        self._add(answer)
        self._cutting.go_on()
        return True

    def answer(self, answer: bytes) -> bytes:
        self._add(answer)
        # The earlier of two that are as good comes first.
        self._results.sort(key=lambda each: (-each.relevance_score, each.index))
        best = self._results[: self._top_n]
        if self._returned:
            for each in best:
                each.document = _Document(self._documents[each.index])
        return _encode(_Answer(self._id, self._model, best, self._usage))

    def narrow(self) -> str | None:
        return None if self._cutting.halve() else self._cutting.place("documents")

    def taken(self) -> Usage:
        return Usage(self._usage.prompt_tokens, 0)

    def estimated(self) -> Usage:
        """What was told of pieces before, and the piece under way by its length."""
        due = self._cutting.due_bytes // _BYTES_PER_TOKEN
        return Usage(self._usage.prompt_tokens + due, 0)

    def _add(self, answer: bytes) -> None:
        came = _decode_came(answer)
        count = len(self._cutting.due)
        if sorted(each.index for each in came.results) != list(range(count)):
            raise ValueError("it has not one score for each document")
        for each in came.results:
            score = each.relevance_score
            if self._raw_scores:
                score = _between_0_and_1(score)
            self._results.append(_Result(self._cutting.start + each.index, score))
        prompt = came.usage.prompt_tokens or came.usage.total_tokens
        self._usage.prompt_tokens += prompt
        self._usage.total_tokens += prompt


def _between_0_and_1(score: float) -> float:
    """The logistic function, which keeps the order."""
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    power = math.exp(score)
    return power / (1 + power)


def shape(request: Request, head: Head, route: Route) -> RerankCall | None:
    """None for endpoints elsewhere. Raises a 400 for what no engine should get to see."""
    if route.endpoints:
        return None
    fields = bodies.fields(request.body)
    query = bodies.value(fields, "query")
    if not isinstance(query, str) or not query:
        raise bad_request("'query' must be a text that is not empty.", "query")
    documents = _documents(fields.pop("documents", None))
    top_n, returned = bodies.value(fields, "top_n"), bodies.value(fields, "return_documents")
    if top_n is not None and (type(top_n) is not int or top_n < 1):
        raise bad_request("'top_n' must be a number of at least 1.", "top_n")
    if returned is not None and type(returned) is not bool:
        raise bad_request("'return_documents' must be true or false.", "return_documents")
    for name in ("top_n", "return_documents"):
        fields.pop(name, None)
    return RerankCall(
        *(route, request.id, fields, documents), top_n=top_n, returned=returned is True
    )


def _documents(given: msgspec.Raw | None) -> list[msgspec.Raw]:
    """The text of each, as it came."""
    items: list[msgspec.Raw] = []
    try:
        if given is not None and kind_of(given) == b"[":
            items = items_of(given, DOCUMENTS_MOST)
    except TooMany:
        raise bad_request(
            f"'documents' has more than {DOCUMENTS_MOST} items, the most of one call: "
            "send them in several.",
            "documents",
        ) from None
    except UNREADABLE:
        pass
    if not items:
        raise bad_request(
            "'documents' must be a list of texts, or of objects with a 'text'.", "documents"
        )
    return [_text(item, at) for at, item in enumerate(items)]


def _text(item: msgspec.Raw, at: int) -> msgspec.Raw:
    text = item
    if kind_of(item) == b"{":
        try:
            text = _decode_document(item).text
        except UNREADABLE:
            text = msgspec.Raw(b"null")
    if kind_of(text) != b'"':
        raise bad_request(
            f"Item {at} of 'documents' is no text, and no object with a 'text'.", "documents"
        )
    if len(memoryview(text)) == 2:
        raise bad_request(f"Item {at} of 'documents' is an empty text.", "documents")
    return text
