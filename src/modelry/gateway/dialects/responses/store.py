"""Responses that are kept, so that calls can go on from them and ask for them again.

A file has one response with the whole conversation before it: one look is enough to go on from
it, and whatever becomes of earlier responses. It is its owner's, whose keys alone may read it, and
of them those alone that may call the service it came from.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

import msgspec

from modelry.errors import ModelryError
from modelry.gateway import body as bodies
from modelry.gateway.dialects.responses import ids
from modelry.gateway.dialects.responses.reading import Json
from modelry.gateway.kept_files import OWNER_DIGITS, KeptFiles
from modelry.gateway.replies import bad_request, error
from modelry.gateway.table import covers
from modelry.routing.messages import KeyGrant

log = logging.getLogger(__name__)

_RESPONSES_MOST = 64


class Record(msgspec.Struct):
    """`path`: access path of the service; `items`: of all that the response was made from."""

    owner: str
    path: str
    response: msgspec.Raw
    items: msgspec.Raw

    @property
    def size(self) -> int:
        """About its bytes."""
        return len(memoryview(self.response)) + len(memoryview(self.items))

    @property
    def conversation(self) -> list[Json]:
        """All items up to the response's own. Raises a 400 where it has grown too long."""
        if not bodies.is_readable(memoryview(self.items)):
            message = "The conversation before has too many values, in lists and objects."
            raise bad_request(message, "previous_response_id")
        return _decode_items(self.items) + _decode_output(self.response).output


class _Output(msgspec.Struct):
    output: list[Json]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode
_decode_items = msgspec.json.Decoder(list[dict[str, Any]]).decode
_decode_output = msgspec.json.Decoder(_Output).decode


class ResponseStore:
    """`record_bytes`: the largest record that is read."""

    def __init__(self, folder: Path, *, ttl_s: float, most_bytes: int, record_bytes: int) -> None:
        self._files = KeptFiles(folder, "response", ttl_s=ttl_s, most_bytes=most_bytes)
        self._record_bytes = record_bytes

    @property
    def has_room(self) -> bool:
        return self._files.has_room

    def keep(self, response_id: str, record: Record) -> None:
        """For a thread. Raises `ModelryError`."""
        name = _name(response_id, record.owner)
        assert name is not None
        self._files.keep(name, _encode(record))

    def read(self, response_id: str, key: KeyGrant) -> Record | None:
        """None where there is none for this key. Raises a 503 where it cannot be read."""
        name = _name(response_id, key.owner_id)
        if name is None:
            return None
        try:
            data = self._files.read(name, self._record_bytes)
            record = None if data is None else _decode(data)
        except (OSError, ModelryError, msgspec.DecodeError) as problem:
            log.warning("%s could not be read: %s", response_id, problem)
            message = "The response cannot be read now. Please try again."
            raise error(503, "overloaded", message, retry_after_s=1) from None
        if record is None or record.owner != key.owner_id or not covers(key, record.path):
            return None
        return record

    def delete(self, response_id: str, key: KeyGrant) -> bool:
        """Whether there was such a response for this key. Raises a 503."""
        name = _name(response_id, key.owner_id)
        if name is None or self.read(response_id, key) is None:
            return False
        try:
            return self._files.delete(name)
        except OSError as problem:
            log.warning("%s could not be deleted: %s", response_id, problem)
            message = "The response cannot be deleted now. Please try again."
            raise error(503, "overloaded", message, retry_after_s=1) from None

    def items(self, item_ids: list[str], key: KeyGrant) -> dict[str, Json]:
        """Items of kept conversations by their ids, up to the first that there is none of.

        Raises a 400 where they are spread over too many responses.
        """
        found: dict[str, Json] = {}
        wanted = {*item_ids}
        looked_at, size = 0, 0
        # The last first: what it was made from is likely to be the others.
        for item_id in reversed(item_ids):
            if item_id in found:
                continue
            response_id = ids.response_of(item_id)
            record = None if response_id is None else self.read(response_id, key)
            if record is not None:
                looked_at, size = looked_at + 1, size + record.size
                if looked_at > _RESPONSES_MOST or size > self._record_bytes:
                    message = (
                        "The items that are referred to are spread over too many responses. Go on "
                        "from a 'previous_response_id', or send the items themselves."
                    )
                    raise bad_request(message, "input")
                conversation = record.conversation
                found |= {each["id"]: each for each in conversation if each["id"] in wanted}
            if item_id not in found:
                break
        return found

    def sweep(self) -> None:
        self._files.sweep()


def _name(response_id: str, owner: str) -> str | None:
    """Of its file, which another owner's key does not lead to."""
    match = ids.RESPONSE.fullmatch(response_id)
    if match is None:
        return None
    return f"{hashlib.sha256(owner.encode()).hexdigest()[:OWNER_DIGITS]}{match[1]}.json"
