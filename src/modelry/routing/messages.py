"""The frozen messages between control plane and gateways.

They are plain data, so that a gateway can keep them in memory, write them to
disk and share them without a lock. On the wire each is one line of JSON with
its `type`; `encode` and `Decoder` are the only codec.
"""

from typing import TypeAlias, TypeVar

import msgspec


class ReplicaAddress(msgspec.Struct, frozen=True):
    """A replica that is ready.

    `address` is `unix:<path>` or `tcp:<host>:<port>`; `secret` is the key that
    this one engine process expects from its gateway.
    """

    id: str
    address: str
    secret: str
    slots: int


class Route(msgspec.Struct, frozen=True):
    """What the gateway knows of a service. `state` is a service state of the glossary.

    `collect`: its engine notices a caller's hang-up only while it streams, so
    the gateway asks it for a stream and puts whole answers together itself.
    """

    service_id: str
    access_path: str
    owner_id: str
    tasks: tuple[str, ...]
    state: str
    message: str
    created_at: int
    replicas: tuple[ReplicaAddress, ...] = ()
    collect: bool = False


class KeyGrant(msgspec.Struct, frozen=True):
    """What an API key allows. `hash` is the SHA-256 of the key, in hex.

    `services`: access paths or globs the key may call; None means every
    service of its owner. `expires_at`: Unix seconds, None for never.
    """

    id: str
    hash: str
    owner_id: str
    services: tuple[str, ...] | None = None
    expires_at: float | None = None


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """All routes and keys as of `seq`: what a gateway starts from."""

    seq: int
    routes: tuple[Route, ...]
    keys: tuple[KeyGrant, ...]


class RoutePut(msgspec.Struct, frozen=True, tag="route_put"):
    seq: int
    route: Route


class RouteDrop(msgspec.Struct, frozen=True, tag="route_drop"):
    seq: int
    service_id: str


class KeyPut(msgspec.Struct, frozen=True, tag="key_put"):
    seq: int
    key: KeyGrant


class KeyDrop(msgspec.Struct, frozen=True, tag="key_drop"):
    seq: int
    key_id: str


Change: TypeAlias = RoutePut | RouteDrop | KeyPut | KeyDrop
FromControl: TypeAlias = Snapshot | Change


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """The gateway has applied everything up to `seq`."""

    seq: int


class KeysUsed(msgspec.Struct, frozen=True, tag="keys_used"):
    """Key id → Unix seconds of its last use."""

    last_used_at: dict[str, float]


FromGateway: TypeAlias = Ack | KeysUsed

Message = TypeVar("Message")

_encoder = msgspec.json.Encoder()
_from_control = msgspec.json.Decoder(FromControl)
_from_gateway = msgspec.json.Decoder(FromGateway)


def encode(message: FromControl | FromGateway) -> bytes:
    """One line of JSON, its newline included."""
    return _encoder.encode(message) + b"\n"


def decode_from_control(line: bytes) -> FromControl:
    """Raises `msgspec.DecodeError` on a line that is no such message."""
    message: FromControl = _decode(_from_control, line)
    return message


def decode_from_gateway(line: bytes) -> FromGateway:
    """Raises `msgspec.DecodeError` on a line that is no such message."""
    message: FromGateway = _decode(_from_gateway, line)
    return message


def _decode(decoder: "msgspec.json.Decoder[Message]", line: bytes) -> Message:
    try:
        return decoder.decode(line)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"a text is no UTF-8: {error.reason}") from None
