"""What callers ask of responses that are kept: one, its input, its end."""

from urllib.parse import parse_qs

import msgspec

from modelry.gateway.dialects.responses.store import Record, ResponseStore
from modelry.gateway.replies import Reply, bad_request, error, json_reply, shown
from modelry.gateway.request import Request
from modelry.routing.messages import KeyGrant

PREFIX = b"/v1/responses/"
_PAGE, _PAGE_MOST = 20, 100


class _Named(msgspec.Struct):
    id: str


_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_id_of = msgspec.json.Decoder(_Named).decode


class KeptResponses:
    """`/v1/responses/{id}` and what lies under it."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store

    def answer(self, request: Request, key: KeyGrant) -> Reply:
        """Raises a `Reply` that refuses it."""
        id_, _, rest = request.path[len(PREFIX) :].decode("ascii", "replace").partition("/")
        if rest == "":
            if request.method == b"DELETE":
                return self._delete(id_, key)
            _require(request, b"GET, HEAD, DELETE")
            if _query(request).get("stream", ["false"])[0].lower() in ("true", "1"):
                message = "A kept response comes whole here; leave 'stream' out."
                raise bad_request(message, "stream")
            return Reply(200, bytes(self._read(id_, key).response))
        if rest == "input_items":
            _require(request, b"GET, HEAD")
            return _page(self._read(id_, key), request)
        if rest == "cancel":
            _require(request, b"POST")
            self._read(id_, key)
            message = "It is complete: responses are not made in the background here."
            raise bad_request(message)
        told = shown(request.path.decode("ascii", "replace"))
        raise error(404, "unknown_url", f"There is no {request.method.decode()} {told} here.")

    def _read(self, id_: str, key: KeyGrant) -> Record:
        record = self._store.read(id_, key)
        if record is None:
            raise _unknown(id_)
        return record

    def _delete(self, id_: str, key: KeyGrant) -> Reply:
        if not self._store.delete(id_, key):
            raise _unknown(id_)
        return json_reply({"id": id_, "object": "response", "deleted": True})


def _page(record: Record, request: Request) -> Reply:
    """A page of input items, as OpenAI's lists have them: the newest first unless asked."""
    query = _query(request)
    limit, order = query.get("limit", [str(_PAGE)])[0], query.get("order", ["desc"])[0]
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:6]) <= _PAGE_MOST:
        raise bad_request(f"'limit' must be a number from 1 to {_PAGE_MOST}.", "limit")
    if order not in ("asc", "desc"):
        raise bad_request("'order' must be asc or desc.", "order")
    items = _decode_items(record.items)
    if order == "desc":
        items.reverse()
    after = query.get("after", [""])[0]
    start = 0
    if after:
        start = 1 + next((at for at, each in enumerate(items) if _id_of(each).id == after), -1)
        if not start:
            raise bad_request(f"There is no item '{shown(after)}' to go on after.", "after")
    page = items[start : start + int(limit)]
    return json_reply(
        {
            "object": "list",
            "data": page,
            "first_id": _id_of(page[0]).id if page else "",
            "last_id": _id_of(page[-1]).id if page else "",
            "has_more": start + len(page) < len(items),
        }
    )


def _query(request: Request) -> dict[str, list[str]]:
    try:
        return parse_qs(request.target.partition(b"?")[2].decode("ascii", "replace"))
    except ValueError:
        raise bad_request("The address's query cannot be read.") from None


def _require(request: Request, methods: bytes) -> None:
    if request.method not in methods.split(b", "):
        allowed = methods.decode()
        message = f"Use {allowed.replace('HEAD, ', '')} here, not {request.method.decode()}."
        raise error(405, "method_not_allowed", message, allow=allowed)


def _unknown(id_: str) -> Reply:
    message = (
        f"There is no response '{shown(id_)}' here: it was not kept, is kept no longer, or is "
        "another's."
    )
    return error(404, "not_found", message)
