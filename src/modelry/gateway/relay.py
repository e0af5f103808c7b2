"""A replica's answer on its way to the caller, in whichever form it comes.

A stream goes on as it comes, a whole answer at its end; one that is long after
all as it comes; a stream that the caller did not want is put together. What
becomes of a replica that fails, and of the accounts, is the `Call`'s.
"""

import asyncio
from typing import Protocol

import msgspec

from modelry.errors import ModelryError
from modelry.gateway import body as bodies
from modelry.gateway import forms
from modelry.gateway.answers import AnswerWriter
from modelry.gateway.collector import Collector
from modelry.gateway.events import EventStream
from modelry.gateway.heads import Head as AnswerHead
from modelry.gateway.lane import Lane
from modelry.gateway.limits import Admitted
from modelry.gateway.replica import Replica
from modelry.gateway.replies import JSON_TYPE, Reply, engine_refusal, error
from modelry.gateway.request import Request
from modelry.gateway.service import Service
from modelry.gateway.shaping import Pieces, Shaping
from modelry.gateway.upstream_connection import UpstreamConnection, UpstreamError
from modelry.gateway.usage import Usage, read_answer, read_duration
from modelry.gateway.waiting import Waiter
from modelry.routing.messages import KeyGrant

_HELD_MAX = 4 * 1024 * 1024
"""A whole answer up to this size goes out at its end; a longer one as it comes."""
_HELD_MAX_CHANGED = 64 * 1024 * 1024
"""The same for one that is changed before it goes out: images get addresses, and endpoints
elsewhere may name another model.
"""
_TAIL = 16 * 1024
"""Of a longer one, the end is kept: usage stands there."""
_REFUSAL_MAX = 64 * 1024

# An engine that says these is in trouble, not its caller.
_TROUBLE = frozenset({502, 503, 504})
# These concern the key that Modelry holds for an endpoint, or its quota there.
_TROUBLE_ELSEWHERE = frozenset({401, 403, 429})

_encode = msgspec.json.Encoder().encode


class Desk(Protocol):
    """What a call needs of the gateway around it."""

    def request_head(self, replica: Replica, path: bytes) -> bytes:
        """The start of a request's head, up to the request id. Raises `UpstreamError`."""
        ...

    def replica_failed(self, service: Service, replica: Replica, why: str) -> None: ...
    def record(self, line: bytes) -> None: ...
    def clock(self) -> float: ...

    @property
    def answer_timeout_s(self) -> float: ...


class Relay:
    """`admitted`: what its key's limits hold for it. `cost`: tokens it may use."""

    # Most calls go straight through and never change these.
    waiter: Waiter | None = None
    waits_from = 0.0
    """When it first began to wait, on the loop's clock; 0 where it never did."""
    why = ""
    """What was wrong with the last replica that was tried."""
    charged = False
    """Whether its cost was charged in the queue."""
    patient = False
    """Whether it waits for a replica that is well."""
    preparing: "asyncio.Task[None] | None" = None
    """What is done for it before it may take a slot."""
    prepared_s = 0.0
    """How long that took."""
    _replica: Replica | None = None
    _connection: UpstreamConnection | None = None
    _prefix: bytes | None = None
    _begun = False
    _ended = False
    _answer: AnswerHead = AnswerHead(0, [])
    _held: bytes | bytearray | None = None
    _tail = b""
    _events: EventStream | None = None
    _collector: Collector | None = None
    _lane: Lane | None = None
    _queue_s = 0.0
    _own_s: float | None = None
    _waits_since = 0.0
    _first_at = 0.0

    def __init__(
        self,
        desk: Desk,
        service: Service,
        key: KeyGrant,
        request: Request,
        head: bodies.Head,
        client: AnswerWriter,
        admitted: Admitted | None,
        cost: int,
        shaping: Shaping | None = None,
    ) -> None:
        request.accounted = True
        self._desk = desk
        self._service = service
        self._key = key
        self._request = request
        self._head = head
        self._client = client
        self._admitted = admitted
        self._shaping = shaping
        self.key_id = key.id
        self.cost = cost
        self.tried: list[str] = []
        self.last_at = request.arrived_at
        """When something last came of the replica, on the loop's clock, the short way apart."""

    def upstream_head(self, head: AnswerHead) -> None:
        self.last_at = self._desk.clock()
        self._answer = head
        if head.status >= 400 or not head.event_stream:
            self._held = b""
        elif self._collects:
            self._collector = Collector()
        else:
            replica = self._replica
            assert replica is not None
            self._events = EventStream(
                hide_usage=self._hides_usage,
                model=_encode(self._service.route.access_path) if replica.weighted else None,
            )

    def upstream_whole(self, head: AnswerHead, body: bytes) -> None:
        if head.status == 200 and not head.event_stream:
            self._first_at = self._desk.clock()
            self._connection = None
            self._answer = head
            self._done_whole(head, body)
            return
        self.upstream_head(head)
        self.upstream_body(body)
        if not self._ended:
            self.upstream_done()

    def upstream_chunk(self, chunk: bytes, data: bytes) -> None:
        events = self._events
        if events is None:
            self.upstream_body(data)
            return
        passed = self._fed(events, data)
        if passed is data:
            self._client.write_chunk(chunk, data)
            if events.alone:
                self._learn(chunk)
        elif passed:
            self._client.write(passed)

    def upstream_body(self, data: bytes) -> None:
        events = self._events
        if events is not None:
            data = self._fed(events, data)
            if data:
                self._client.write(data)
            return
        now = self._desk.clock()
        if not self._first_at:
            self._first_at = now
        self.last_at = now
        if self._collector is not None:
            try:
                self._collector.feed(data)
            except (ValueError, TypeError, AttributeError, KeyError):
                self._give_up("an event of its stream is no chunk of an answer")
        elif self._held is None:
            self._tail = (self._tail + data)[-_TAIL:]
            self._client.write(data)
        elif not self._held:
            self._held = data
            if len(data) > _REFUSAL_MAX or self._flows:
                self._let_go()
        else:
            if not isinstance(self._held, bytearray):
                self._held = bytearray(self._held)
            self._held += data
            if len(self._held) > _REFUSAL_MAX:
                self._let_go()

    def upstream_done(self) -> None:
        self._connection = None
        if self._collector is not None:
            self._done_collecting(self._collector)
        elif self._events is not None:
            self._done_streaming(self._events)
        elif self._held is None:
            self._end(self._answer.status, self._usage_at_end())
            self._client.finish()
        elif self._answer.status >= 400:
            self._done_refused(self._answer.status, bytes(self._held))
        else:
            self._done_whole(self._answer, bytes(self._held))

    def upstream_failed(self, failure: UpstreamError) -> None:
        raise NotImplementedError

    # -- what a call makes of it ---------------------------------------------

    def _end(self, status: int, usage: Usage | None = None) -> None:
        """Account for the call and give back what it holds. Before its caller hears of the end."""
        raise NotImplementedError

    def _respond(self, reply: Reply) -> None:
        """End with an answer that is not the engine's own."""
        raise NotImplementedError

    def _elsewhere(self, replica: Replica) -> None:
        """Nothing has been said yet: another replica may."""
        raise NotImplementedError

    def _ask_on(self, replica: Replica) -> None:
        """Ask the same replica for the next piece."""
        raise NotImplementedError

    def _give_up(self, why: str) -> None:
        """Hang up on a replica whose answer cannot be used, as if it had died."""
        raise NotImplementedError

    # ------------------------------------------------------------------------

    def _let_go(self) -> None:
        """An answer that has grown long goes on as it comes; of a refusal, the start will do."""
        held = self._held
        assert held is not None
        if self._answer.status >= 400:
            self._held = held[:_REFUSAL_MAX]
            return
        if not self._flows and len(held) <= self._held_max:
            return
        self._held = None
        self._tail = bytes(held[-_TAIL:])
        self._begin(self._answer.type_line)
        self._client.write(bytes(held))

    @property
    def _held_max(self) -> int:
        replica = self._replica
        changes = self._shaping is not None or (replica is not None and replica.weighted)
        return _HELD_MAX_CHANGED if changes and self._answer.is_json else _HELD_MAX

    @property
    def _flows(self) -> bool:
        """Whether it is made while it is sent, such as speech: the caller hears it as it comes."""
        answer = self._answer
        return answer.chunked and answer.status == 200 and not answer.is_json

    def _usage_at_end(self) -> Usage | None:
        """What a long answer said of its usage, which engines put last."""
        at = self._tail.rfind(b'"usage"')
        if not self._answer.is_json or at < 0:
            return None
        return read_answer(b"{" + self._tail[at:])[0]

    def _fed(self, events: EventStream, data: bytes) -> bytes:
        """What goes on now of a stream, which has begun if anything does."""
        now = self._desk.clock()
        if not self._first_at:
            self._first_at = now
        if events.frames:
            self._service.meter.between_tokens.add(now - self._heard_at)
        self.last_at = now
        passed = events.feed(data)
        if passed and not self._begun:
            self._begin_stream()
        lane = self._lane
        if lane is not None:
            lane.last_at = now
            lane.stand(events.between_frames)
        return passed

    @property
    def _heard_at(self) -> float:
        """When something last came of the replica, on the loop's clock."""
        return self.last_at if self._lane is None else self._lane.last_at

    def _learn(self, chunk: bytes) -> None:
        """Have chunks like this one take the short way from now on."""
        lane, connection = self._lane, self._connection
        if lane is None and connection is not None:
            write = self._client.chunk_writer
            if write is None:
                return
            lane = self._lane = Lane(self._service.meter.between_tokens, write, self.last_at)
            connection.lane = lane
        if lane is not None:
            lane.learn(chunk)

    def _begin_stream(self) -> None:
        """With its first frame: until then another replica may answer."""
        self._begin(self._answer.type_line + b"cache-control: no-cache\r\n")

    def _begin(self, lines: bytes) -> None:
        self._begun = True
        if self._admitted is not None:
            lines += self._admitted.lines()
        self._client.begin(self._answer.status, lines)

    def _done_whole(self, head: AnswerHead, answer: bytes) -> None:
        replica = self._replica
        assert replica is not None
        usage = None
        if head.is_json:
            shaping = None if replica.weighted else self._shaping
            shaped = answer if shaping is None else self._shaped(shaping, replica, answer)
            if shaped is None:
                return
            answer = shaped
            usage, model = read_answer(answer)
            if usage is None and self._request.path in forms.AUDIO:
                usage = read_duration(answer)
            ours = self._service.route.access_path
            if replica.weighted and model is not None and model != ours:
                answer = bodies.edited(answer, model=ours)
        self._end(head.status, usage)
        lines = head.type_line
        if self._admitted is not None:
            lines += self._admitted.lines()
        self._client.respond_whole(head.status, lines, answer)

    def _shaped(self, shaping: Shaping, replica: Replica, answer: bytes) -> bytes | None:
        """The answer as its caller gets it; None where there is more to ask, or it is of no use."""
        try:
            if isinstance(shaping, Pieces) and shaping.take(answer):
                self._held = None
                self._ask_on(replica)
                return None
            return shaping.answer(answer)
        except (msgspec.DecodeError, ValueError):
            self._give_up("its answer is none to what was asked")
        except Reply as reply:
            self._respond(reply)
        except ModelryError as problem:
            self._respond(error(500, "internal_error", f"{problem.message}."))
        return None

    def _done_streaming(self, events: EventStream) -> None:
        if not self._answer.framed and not events.done:
            # Without a length, dying looks like ending.
            self.upstream_failed(UpstreamError("its stream ended early"))
            return
        rest = events.end()
        if not self._begun:
            self._begin_stream()
        self._end(self._answer.status, events.usage)
        if rest:
            self._client.write(rest)
        self._client.finish()

    def _done_collecting(self, collector: Collector) -> None:
        if collector.error is not None:
            problem = collector.error
            code = problem.get("code") if isinstance(problem, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 502
            self._respond(engine_refusal(status, {"error": problem}))
        elif collector.complete:
            answer = collector.answer()
            self._end(200, collector.usage)
            lines = JSON_TYPE
            if self._admitted is not None:
                lines += self._admitted.lines()
            self._client.respond_whole(200, lines, answer)
        else:
            self.upstream_failed(UpstreamError("its stream ended early"))

    def _done_refused(self, status: int, said: bytes) -> None:
        replica = self._replica
        assert replica is not None
        # A 401 of ours concerns the gateway's secret; the caller's key has been checked.
        trouble = status in _TROUBLE or status == 401
        if replica.weighted:
            trouble = status >= 500 or status in _TROUBLE_ELSEWHERE
        if trouble:
            self.why = f"it answered {status}"
            self._desk.replica_failed(self._service, replica, self.why)
            ours = status == 401 and not replica.weighted
            if ours or self._service.has_other(self.tried):
                self._elsewhere(replica)
                return
            if status in (401, 403):
                # It has worked on nothing.
                self._first_at = 0.0
                message = "The endpoint elsewhere refused the key that Modelry holds for it."
                self._respond(error(502, "bad_gateway", message))
                return
        told: object
        try:
            told = bodies.decode_any(said)
        except bodies.UNREADABLE:
            told = said.decode("utf-8", "replace")
        reply = engine_refusal(status, told)
        reply.lines += self._answer.retry_after
        self._respond(reply)

    @property
    def _collects(self) -> bool:
        """Whether a stream is asked for that the caller does not want."""
        return (
            self._service.route.collect
            and self._head.stream is not True
            and self._request.path in bodies.STREAMS_USAGE
        )

    @property
    def _hides_usage(self) -> bool:
        """Whether the stream is asked for usage that the caller does not want."""
        return (
            self._head.stream is True
            and self._request.path in bodies.STREAMS_USAGE
            and not bodies.asks_for_usage(self._head)
        )
