"""Usage events as gateways write them into their spools, and the gateway that sends them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from modelry.routing.messages import (
    Ack,
    FromControl,
    FromGateway,
    Snapshot,
    UsageBatch,
    UsageEvent,
    UsageTaken,
    decode_from_control,
    encode,
)

OWNER = "u-0123456789ab"
NOON = datetime(2026, 2, 2, 12, tzinfo=UTC)


def event(number: int = 1, **fields: Any) -> UsageEvent:
    """A request of ten tokens and `number` more, unless `fields` say otherwise."""
    given: dict[str, Any] = {
        "at": NOON.timestamp() + number,
        "request_id": f"req_{number}",
        "service_id": "svc_1",
        "access_path": f"{OWNER}/demo",
        "key_id": "key_1",
        "owner_id": OWNER,
        "endpoint": "chat/completions",
        "status": 200,
        "duration_s": 0.5,
        "prompt_tokens": 10,
        "completion_tokens": number,
    }
    return UsageEvent(**{**given, **fields})


def spooled(*events: UsageEvent) -> bytes:
    return b"".join(encode(each) for each in events)


class GatewayStandIn:
    """A connection to the feed, as a gateway has one."""

    def __init__(self, channel: socket.socket, reader: BinaryIO) -> None:
        self._channel = channel
        self._reader = reader
        snapshot = self._hear()
        assert isinstance(snapshot, Snapshot)
        self.tell(Ack(snapshot.seq))

    def tell(self, message: FromGateway, lines: bytes = b"") -> None:
        self._channel.sendall(encode(message) + lines)

    def send(self, source: str, lines: bytes, segment: int = 1, start: int = 0) -> UsageTaken:
        """Send a batch of a spool's lines; returns once they are taken."""
        self.tell(UsageBatch(source, segment, start, len(lines)), lines)
        return self.answer()

    def answer(self) -> UsageTaken:
        """Up to where the last batch is taken. Raises `OSError` where the other side is gone."""
        while True:
            message = self._hear()
            if isinstance(message, UsageTaken):
                return message

    def _hear(self) -> FromControl:
        line = self._reader.readline()
        if not line:
            raise ConnectionError("the control plane hung up")
        return decode_from_control(line)


@contextmanager
def gateway_stand_in(feed_socket: Path) -> Iterator[GatewayStandIn]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(20)
        channel.connect(str(feed_socket))
        with channel.makefile("rb") as reader:
            yield GatewayStandIn(channel, reader)
