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
    this one engine process expects from its gateway. `model` is the only name it
    knows the service by; None where it takes any.
    """

    id: str
    address: str
    secret: str
    slots: int
    model: str | None = None


class EndpointAddress(msgspec.Struct, frozen=True):
    """An OpenAI-compatible endpoint elsewhere that a service stands on.

    `url` is its base, such as `https://api.example.com/v1`; `model` what it
    calls the model, None where it takes the access path. `sealed_key` is its own
    key, encrypted (`modelry.sealing`) for `id`. `public_only`: it must resolve to a public
    address, because its owner may not reach into our network.
    """

    id: str
    url: str
    slots: int
    weight: int = 1
    model: str | None = None
    sealed_key: str | None = None
    public_only: bool = False


class Route(msgspec.Struct, frozen=True):
    """What the gateway knows of a service. `state` is a service state of the glossary.

    It has `replicas` of ours or `endpoints` elsewhere, never both. `collect`: its
    engine notices a caller's hang-up only while it streams, so the gateway asks
    it for a stream and puts whole answers together itself. `images`: its chats take images,
    of `image_types` alone where there are some (`image/png`). `dimensions_min`: its
    embeddings may be cut to so many numbers at least; None where they may not be cut.
    `raw_scores`: its engine ranks by scores of any size, which are no probabilities yet.
    `grammars`: its engine writes by a grammar, which the gateway makes of schemas and functions
    that an answer is to be held to; `tools`: its chats take functions by themselves all the same;
    `small`: its model is so small that it may repeat itself without an end.
    `dialect`: the engine in whose words its replicas are asked, `llama.cpp` or `vllm`; empty where
    that is of no matter. `context_tokens`: of one request, prompt and answer;
    `max_tokens`: of an answer where a request does not say.
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
    endpoints: tuple[EndpointAddress, ...] = ()
    images: bool = False
    image_types: tuple[str, ...] = ()
    dimensions_min: int | None = None
    raw_scores: bool = False
    grammars: bool = False
    tools: bool = False
    small: bool = False
    dialect: str = ""
    context_tokens: int | None = None
    max_tokens: int | None = None


class Limits(msgspec.Struct, frozen=True):
    """What a key may use; None is no limit. Tokens are prompt and answer together.

    The minute slides; the month is the calendar's, in UTC.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    tokens_per_month: int | None = None


class KeyGrant(msgspec.Struct, frozen=True):
    """What an API key allows. `hash` is the SHA-256 of the key, in hex.

    `services`: access paths or globs the key may call; None means every
    service of its owner. `expires_at`: Unix seconds, None for never. `number`
    is the key's for ever: gateways count its use in a row of that number. `probe`: it is
    Modelry's own, to find out what a service does. Its calls count as nobody's use. `strict`: its
    calls are refused where something that they ask for would be ignored.
    """

    id: str
    hash: str
    owner_id: str
    services: tuple[str, ...] | None = None
    expires_at: float | None = None
    limits: Limits | None = None
    number: int = 0
    strict: bool = False
    probe: bool = False


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


class UsageTaken(msgspec.Struct, frozen=True, tag="usage_taken"):
    """Every event of the spool `source` before `offset` of `segment` is stored for good."""

    source: str
    segment: int
    offset: int


Change: TypeAlias = RoutePut | RouteDrop | KeyPut | KeyDrop
FromControl: TypeAlias = Snapshot | Change | UsageTaken


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """The gateway has applied everything up to `seq`."""

    seq: int


class KeysUsed(msgspec.Struct, frozen=True, tag="keys_used"):
    """Key id → Unix seconds of its last use."""

    last_used_at: dict[str, float]


class ServiceLoad(msgspec.Struct, frozen=True):
    """Requests of one service in one gateway now, and Unix seconds of its last request."""

    inflight: int
    waiting: int
    last_used_at: float


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Service id → load, of every service whose load has changed or is not nothing."""

    services: dict[str, ServiceLoad]


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """A request waits for a service that is idle."""

    service_id: str


class UsageBatch(msgspec.Struct, frozen=True, tag="usage"):
    """Followed by `length` bytes: the lines of the spool `source` from `start` of `segment` on.

    Each line is a `UsageEvent`. A spool belongs to one gateway process at a
    time; its segments count up, and (segment, offset) orders its events.
    """

    source: str
    segment: int
    start: int
    length: int


class SpoolEnded(msgspec.Struct, frozen=True, tag="spool_ended"):
    """The spool `source` is taken whole and deleted: nothing more will come of it."""

    source: str


class Histogram(msgspec.Struct, frozen=True):
    """`counts[i]`: observations up to `BUCKETS_S[i]` seconds and over the one before;
    the last counts those over all. `total_s`: their sum.
    """

    counts: tuple[int, ...]
    total_s: float


class ServiceMetrics(msgspec.Struct, frozen=True):
    """Of one service in one gateway process, since that process started.

    `requests`: HTTP status → answers. Histograms in seconds: `first_token` from a
    request's arrival to the first byte of its answer, `between_tokens` between
    frames of a stream, `queue` waiting for a slot, `own` the gateway's own time
    before it sends the request on. The last four are those of `UsageEvent`.
    """

    access_path: str
    requests: dict[int, int]
    prompt_tokens: int
    completion_tokens: int
    first_token: Histogram
    between_tokens: Histogram
    queue: Histogram
    own: Histogram
    images: int = 0
    pixels: int = 0
    audio_s: float = 0.0
    characters: int = 0


class MetricsReport(msgspec.Struct, frozen=True, tag="metrics"):
    """Service id → counters that only ever grow, of services that were used since the last.

    `process` names the gateway process that counts them, whatever connection it
    reports by.
    """

    process: str
    services: dict[str, ServiceMetrics]


FromGateway: TypeAlias = Ack | KeysUsed | Load | Wake | UsageBatch | SpoolEnded | MetricsReport

BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of every histogram's buckets, in seconds."""


class UsageEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one request used: a line of the spool and of the access log.

    `at`: Unix seconds of its end. `endpoint`: such as `chat/completions`. `owner_id` is
    the key's owner. `estimated`: the gateway counted some of it, the engine
    did not say. `cancelled`: its caller hung up; the tokens are those until then.
    `first_token_s` is None where no byte of an answer came. Beyond tokens: `images` that
    were made, of `pixels` together; `audio_s` of speech that was heard; `characters` that
    were read aloud.
    """

    at: float
    request_id: str
    service_id: str
    access_path: str
    key_id: str
    owner_id: str
    endpoint: str
    status: int
    duration_s: float
    queue_s: float = 0.0
    first_token_s: float | None = None
    replica_id: str | None = None
    stream: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False
    cancelled: bool = False
    images: int = 0
    pixels: int = 0
    audio_s: float = 0.0
    characters: int = 0


Message = TypeVar("Message")

_encoder = msgspec.json.Encoder()
_from_control = msgspec.json.Decoder(FromControl)
_from_gateway = msgspec.json.Decoder(FromGateway)


_usage_event = msgspec.json.Decoder(UsageEvent)


def decode_usage_event(line: bytes) -> UsageEvent:
    """Raises `msgspec.DecodeError` on a line that is no such event."""
    event: UsageEvent = _decode(_usage_event, line)
    return event


def encode(message: FromControl | FromGateway | UsageEvent) -> bytes:
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
