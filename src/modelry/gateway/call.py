"""One call of a service: from admission over a replica's answer to its usage event.

It is the job of its caller's connection and the exchange of its replica's,
driven by callbacks from both. Until the first byte goes to the caller, a
replica that fails is replaced by another; a whole answer of moderate size goes
out at its end, so for such a call that is nearly always.
"""

import time
from bisect import bisect_left
from typing import Protocol

import msgspec

from modelry.gateway import body as bodies
from modelry.gateway.collector import Collector
from modelry.gateway.connection import ClientConnection
from modelry.gateway.events import EventStream
from modelry.gateway.limits import Admitted
from modelry.gateway.replica import Replica
from modelry.gateway.replies import (
    JSON_TYPE,
    Reply,
    anthropic_error,
    engine_refusal,
    error_body,
)
from modelry.gateway.request import Request
from modelry.gateway.service import Service, Waiter
from modelry.gateway.upstream import Head as AnswerHead
from modelry.gateway.upstream import UpstreamConnection, UpstreamError
from modelry.gateway.usage import NOTHING, Usage, read_answer
from modelry.routing.messages import BUCKETS_S, KeyGrant, UsageEvent

_HELD_MAX = 256 * 1024
"""A whole answer up to this size goes out at its end; a longer one as it comes."""
_REFUSAL_MAX = 64 * 1024
_GONE = 499
"""Status of a call whose caller hung up, as nginx logs it."""
# An engine that says these is in trouble, not its caller.
_TROUBLE = frozenset({502, 503, 504})
# These concern the key that Modelry holds for an endpoint, or its quota there.
_TROUBLE_ELSEWHERE = _TROUBLE | {401, 403, 429}

# With these, an engine has worked, whatever it said of it.
_WORKED = frozenset({200, _GONE, 502})
_SHORT = {path: path[4:].decode() for path in bodies.STREAMS_USAGE}

_encode = msgspec.json.Encoder().encode


class Desk(Protocol):
    """What a call needs of the gateway around it."""

    def request_head(self, replica: Replica, path: bytes) -> bytes:
        """The start of a request's head, up to the request id. Raises `UpstreamError`."""
        ...

    def replica_failed(self, service: Service, replica: Replica) -> None: ...
    def record(self, line: bytes) -> None: ...
    def clock(self) -> float: ...

    @property
    def answer_timeout_s(self) -> float: ...


class Call:
    """`admitted`: what its key's limits hold for it. `cost`: tokens it may use."""

    # Most calls go straight through and never change these.
    waiter: Waiter | None = None
    _replica: Replica | None = None
    _connection: UpstreamConnection | None = None
    _prefix: bytes | None = None
    _begun = False
    _ended = False
    _answer: AnswerHead = AnswerHead(0, [])
    _held: bytes | bytearray | None = None
    _events: EventStream | None = None
    _collector: Collector | None = None
    _queue_s = 0.0
    _own_s = 0.0
    _waits_since = 0.0
    _first_at = 0.0

    def __init__(
        self,
        desk: Desk,
        service: Service,
        key: KeyGrant,
        request: Request,
        head: bodies.Head,
        client: ClientConnection,
        admitted: Admitted | None,
        cost: int,
    ) -> None:
        request.accounted = True
        self._desk = desk
        self._service = service
        self._key = key
        self._request = request
        self._head = head
        self._client = client
        self._admitted = admitted
        self.key_id = key.id
        self.cost = cost
        self.tried: list[str] = []
        self.last_at = request.arrived_at
        """When something last came of the replica, on the loop's clock."""

    # -- admission -----------------------------------------------------------

    @property
    def prefix(self) -> bytes | None:
        if self._prefix is None:
            self._prefix = bodies.conversation(self._request.body, self._service.route.access_path)
        return self._prefix

    def waiting(self) -> None:
        self._waits_since = self._desk.clock()

    def granted(self, replica: Replica) -> None:
        self.last_at = now = self._desk.clock()
        if self._waits_since:
            self._queue_s += now - self._waits_since
            self._waits_since = 0.0
        self._replica = replica
        self.tried.append(replica.id)
        replica.upstream.send(self)

    def refused(self, reply: Reply) -> None:
        if self._waits_since:
            self._queue_s += self._desk.clock() - self._waits_since
        self._respond(reply)

    # -- the caller's side ---------------------------------------------------

    def client_gone(self) -> None:
        """The caller hung up: the engine must not go on for nobody."""
        connection = self._connection
        self._service.withdraw(self)
        self._end(_GONE)
        if connection is not None:
            connection.abandon()

    def hurry(self) -> None:
        """A call is not cut short: draining waits for it."""

    def client_writable(self, writable: bool) -> None:
        if self._connection is None:
            return
        if writable:
            self._connection.resume_reading()
        else:
            self._connection.pause_reading()

    # -- the replica's side --------------------------------------------------

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        if self._ended:
            connection.abandon()
            return
        replica, request = self._replica, self._request
        assert replica is not None
        head = replica.heads.get(request.path)
        if head is None:
            try:
                head = self._desk.request_head(replica, request.path)
            except UpstreamError as failure:
                connection.abandon()
                self.upstream_failed(failure)
                return
        if self._head.stream is True or replica.model is not None or self._service.route.collect:
            body = self._body(replica)
        else:
            body = bytes(request.body)
        self._connection = connection
        self._own_s = self.last_at - request.arrived_at - self._queue_s
        connection.write(
            b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (head, request.id, len(body), body)
        )

    def upstream_head(self, head: AnswerHead) -> None:
        self.last_at = self._first_at = self._desk.clock()
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
            self._begin(head.type_line + b"cache-control: no-cache\r\n")

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
        now = self._desk.clock()
        if events.frames:
            between = self._service.meter.between_tokens
            gap_s = now - self.last_at
            between.counts[bisect_left(BUCKETS_S, gap_s)] += 1
            between.total_s += gap_s
        self.last_at = now
        passed = events.feed(data)
        if passed is data:
            self._client.write_chunk(chunk, data)
        elif passed:
            self._client.write(passed)

    def upstream_body(self, data: bytes) -> None:
        now = self._desk.clock()
        events = self._events
        if events is not None:
            if events.frames:
                self._service.meter.between_tokens.add(now - self.last_at)
            self.last_at = now
            data = events.feed(data)
            if data:
                self._client.write(data)
            return
        self.last_at = now
        if self._collector is not None:
            try:
                self._collector.feed(data)
            except (ValueError, TypeError, AttributeError, KeyError):
                self._give_up("an event of its stream is no chunk of an answer")
        elif self._held is None:
            self._client.write(data)
        elif not self._held:
            self._held = data
            if len(data) > _HELD_MAX:
                self._let_go()
        else:
            if not isinstance(self._held, bytearray):
                self._held = bytearray(self._held)
            self._held += data
            if len(self._held) > _HELD_MAX:
                self._let_go()

    def upstream_done(self) -> None:
        self._connection = None
        if self._collector is not None:
            self._done_collecting(self._collector)
        elif self._events is not None:
            self._done_streaming(self._events)
        elif self._held is None:
            self._end(self._answer.status)
            self._client.finish()
        elif self._answer.status >= 400:
            self._done_refused(self._answer.status, bytes(self._held))
        else:
            self._done_whole(self._answer, bytes(self._held))

    def upstream_failed(self, failure: UpstreamError) -> None:
        self._connection = None
        if self._ended:
            return
        replica = self._replica
        assert replica is not None
        if not self._begun and failure.stale:
            replica.upstream.send(self, fresh=True)
            return
        self._desk.replica_failed(self._service, replica)
        if self._begun:
            self._break_off()
        else:
            self._elsewhere(replica)

    def sweep(self, now: float) -> None:
        """Give up a replica that has been silent for too long."""
        if self._replica is not None and now - self.last_at > self._desk.answer_timeout_s:
            self._give_up("it has been silent for too long")

    # ------------------------------------------------------------------------

    def _body(self, replica: Replica) -> bytes:
        """The body as this replica gets it."""
        body, head = self._request.body, self._head
        theirs = replica.model
        if self._collects:
            options = {"include_usage": True}
            body = bodies.edited(body, stream=True, stream_options=options)
        elif self._hides_usage:
            body = bodies.with_usage(head, body)
        if theirs is not None:
            body = bodies.edited(body, model=theirs)
        return bytes(body)

    def _let_go(self) -> None:
        """An answer that has grown long goes on as it comes."""
        held = self._held
        assert held is not None
        if self._answer.status >= 400:
            self._held = held[:_REFUSAL_MAX]
            return
        self._held = None
        self._begin(self._answer.type_line)
        self._client.write(bytes(held))

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
            usage, model = read_answer(answer)
            ours = self._service.route.access_path
            if replica.weighted and model is not None and model != ours:
                answer = bodies.edited(answer, model=ours)
        self._end(head.status, usage)
        lines = head.type_line
        if self._admitted is not None:
            lines += self._admitted.lines()
        self._client.respond_whole(head.status, lines, answer)

    def _done_streaming(self, events: EventStream) -> None:
        if not self._answer.framed and not events.done:
            # Without a length, dying looks like ending.
            self.upstream_failed(UpstreamError("its stream ended early"))
            return
        rest = events.end()
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
            self._end(200, collector.usage)
            lines = JSON_TYPE
            if self._admitted is not None:
                lines += self._admitted.lines()
            self._client.respond_whole(200, lines, collector.answer())
        else:
            self.upstream_failed(UpstreamError("its stream ended early"))

    def _done_refused(self, status: int, said: bytes) -> None:
        replica = self._replica
        assert replica is not None
        if status in (_TROUBLE_ELSEWHERE if replica.weighted else _TROUBLE) or (
            # It concerns the gateway's secret; the caller's key has been checked.
            status == 401
        ):
            self._desk.replica_failed(self._service, replica)
            if status in (401, 403) or self._service.has_other(self.tried):
                self._elsewhere(replica)
                return
        told: object
        try:
            told = bodies.decode_any(said)
        except bodies.UNREADABLE:
            told = said.decode("utf-8", "replace")
        self._respond(engine_refusal(status, told))

    def _elsewhere(self, replica: Replica) -> None:
        """Nothing has been said yet: another replica may."""
        self._held = self._collector = self._events = None
        self._first_at = 0.0
        self._replica = None
        self._service.leave(self, replica, None)
        if not self._ended:
            self._service.enter_again(self)

    def _give_up(self, why: str) -> None:
        """Hang up on a replica whose answer cannot be used, as if it had died."""
        connection = self._connection
        if connection is not None:
            # First, or it would tell of its end.
            connection.abandon()
        self.upstream_failed(UpstreamError(why))

    def _break_off(self) -> None:
        """The replica died within its answer: say so where the format lets us."""
        events = self._events
        self._end(502, None if events is None else events.usage)
        if events is None:
            self._client.abort()
            return
        if events.within_frame:
            # A blank line ends an event that was cut off.
            self._client.write(b"\n\n")
        message = "The replica stopped before the answer was complete. Please try again."
        if self._request.is_anthropic:
            told = anthropic_error(502, message, self._request.id.decode())
            self._client.write(b"event: error\ndata: " + told + b"\n\n")
        else:
            told = error_body(502, "bad_gateway", message)
            self._client.write(b"data: " + told + b"\n\n")
        self._client.finish()

    def _respond(self, reply: Reply) -> None:
        """End with an answer that is not the engine's own."""
        self._end(reply.status)
        if self._admitted is not None:
            reply.lines += self._admitted.lines()
        self._client.respond(reply)

    def _end(self, status: int, usage: Usage | None = None) -> None:
        """Account for the call and give back what it holds. Before its caller hears of the end."""
        if self._ended:
            return
        self._ended = True
        self._connection = None
        desk, service, request = self._desk, self._service, self._request
        estimated = usage is None and self._first_at > 0.0 and status in _WORKED
        used = usage or (self._estimated() if estimated else NOTHING)
        if self._admitted is not None:
            self._admitted.settle(used.prompt_tokens + used.completion_tokens)
        replica, self._replica = self._replica, None
        if replica is not None:
            if replica.failures and status < 500 and self._first_at:
                replica.answered()
            service.leave(self, replica, used.prompt_tokens + used.completion_tokens)
        arrived_at = request.arrived_at
        first_s = self._first_at - arrived_at if self._first_at else None
        service.meter.ended(status, self._own_s, self._queue_s, first_s, used)
        route = service.route
        # In the order of its fields: names would cost half as much again.
        event = UsageEvent(
            time.time(),
            request.id.decode(),
            route.service_id,
            route.access_path,
            self.key_id,
            self._key.owner_id,
            _SHORT.get(request.path) or request.path[4:].decode(),
            status,
            desk.clock() - arrived_at,
            self._queue_s,
            first_s,
            None if replica is None else replica.id,
            self._head.stream is True,
            used.prompt_tokens,
            used.completion_tokens,
            used.cached_tokens,
            estimated,
            status == _GONE,
        )
        desk.record(_encode(event) + b"\n")

    def _estimated(self) -> Usage:
        """What the engine did not say: the frames so far, and the prompt by its length."""
        frames = 0
        if self._events is not None:
            frames = self._events.frames
        elif self._collector is not None:
            frames = self._collector.frames
        # A chat's first frame brings its role.
        return Usage(bodies.prompt_tokens(self._request.body), max(0, frames - 1))

    @property
    def _collects(self) -> bool:
        """Whether a stream is asked for that the caller does not want."""
        return self._service.route.collect and self._head.stream is not True

    @property
    def _hides_usage(self) -> bool:
        """Whether the stream is asked for usage that the caller does not want."""
        return (
            self._head.stream is True
            and self._request.path in bodies.STREAMS_USAGE
            and not bodies.asks_for_usage(self._head)
        )
