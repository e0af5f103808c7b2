"""One call of a service: from admission over a replica's answer to its usage event.

It is the job of its caller's connection and the exchange of its replica's,
driven by callbacks from both. Until the first byte goes to the caller, a
replica that fails is replaced by another; a whole answer of moderate size goes
out at its end, so for such a call that is nearly always.
"""

import logging
import time

import msgspec

from modelry.errors import ModelryError
from modelry.gateway import body as bodies
from modelry.gateway import forms, tokenize_calls
from modelry.gateway.llama_answers import asks
from modelry.gateway.relay import Relay
from modelry.gateway.replica import Replica
from modelry.gateway.replies import Reply, bad_request, error, error_body
from modelry.gateway.request import CHAT, Request
from modelry.gateway.shaping import Asking, Pieces, Routed
from modelry.gateway.tasks import ENDPOINTS, TOKENLESS
from modelry.gateway.upstream_connection import UpstreamConnection, UpstreamError
from modelry.gateway.usage import NO_UNITS, NOTHING, Usage, read_units
from modelry.routing.messages import UsageEvent

log = logging.getLogger(__name__)

_ONE_WRITE_BYTES = 64 * 1024
"""With a body up to this size a head is sent at once; a larger one is not copied for that."""
_GONE = 499
"""Status of a call whose caller hung up, as nginx logs it."""
# With these, an engine has worked, whatever it said of it.
_WORKED = frozenset({200, _GONE, 502})
_SHORT = {path: path[4:].decode() for path in ENDPOINTS}

_encode = msgspec.json.Encoder().encode


class Call(Relay):
    """See `Relay` for its arguments."""

    # -- admission -----------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether it is accounted for: its caller has heard its end, or hung up."""
        return self._ended

    @property
    def arrived_at(self) -> float:
        return self._request.arrived_at

    @property
    def prefix(self) -> bytes | None:
        """Where a chat begins, by which it returns to the replica that it was on."""
        route = self._service.route
        # Not of what was not looked at (`picture_parts.py`): it may have any number of messages.
        if self._prefix is None and self._request.path == CHAT and not route.endpoints:
            self._prefix = bodies.conversation(self._request.body, route.access_path)
        return self._prefix

    def waiting(self) -> None:
        self._waits_since = self._desk.clock()
        self.waits_from = self.waits_from or self._waits_since

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
        if self.preparing is not None:
            self.preparing.cancel()
        self._service.withdraw(self)
        self._end(_GONE)
        if connection is not None:
            connection.abandon()

    def hurry(self) -> None:
        """A call is not cut short: draining waits for it. But for a probe nobody need wait."""
        if self.probe and not self._ended:
            self.client_gone()
            self._client.abort()

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
        try:
            path = self._path
            head = replica.heads.get(path)
            if head is None:
                head = self._desk.request_head(replica, path)
            own = _hop(request) if replica.weighted else b""
            if request.path in forms.ENDPOINTS:
                own += b"content-type: %b\r\n" % forms.content_type(request)
            body = self._body(replica)
        except Exception as problem:
            # Whatever it is: the slot goes back, and the caller hears of it.
            connection.abandon()
            self._respond(_unsendable(problem, request))
            return
        self._connection = connection
        self._own_s = self.last_at - request.arrived_at - self._queue_s - self.prepared_s
        head = b"%b%b\r\n%bcontent-length: %d\r\n\r\n" % (head, request.id, own, len(body))
        if len(body) <= _ONE_WRITE_BYTES:
            connection.write(head + body)
        else:
            connection.write(head)
            connection.write(body)

    def upstream_failed(self, failure: UpstreamError) -> None:
        self._connection = None
        if self._ended:
            return
        replica = self._replica
        assert replica is not None
        self.why = failure.message
        if not self._begun and failure.stale:
            replica.upstream.send(self, fresh=True)
            return
        self._desk.replica_failed(self._service, replica, failure.message)
        if self._begun:
            self._break_off()
        else:
            self._elsewhere(replica)

    def sweep(self, now: float) -> None:
        """Give up a replica that has been silent for too long."""
        if self._replica is None or self._is_shaped_aside:
            return
        if now - self._heard_at > self._desk.answer_timeout_s:
            self._give_up("it has been silent for too long")

    # ------------------------------------------------------------------------

    @property
    def _path(self) -> bytes:
        """Where its replica is asked. Raises a `Reply` as `_body` does."""
        shaping = self._shaping
        if shaping is None or not isinstance(shaping, Asking):
            return self._request.path
        if isinstance(shaping, Routed):
            shaping.routed(self._served_by)
        return shaping.path

    def _body(self, replica: Replica) -> bytes:
        """The body as this replica gets it. Raises where it cannot be changed, and a `Reply` where
        it is none for the service as it is now.
        """
        body, head, route = self._request.body, self._head, replica.route
        if head.stream is True:
            if self._hides_usage:
                body = bodies.with_usage(head, body)
            if head.logprobs is not None and self._is_llama:
                body = bodies.edited(body, **asks(self._request.path, head))
        elif self._collects:
            options = {"include_usage": True}
            more = asks(self._request.path, head)
            body = bodies.edited(body, stream=True, stream_options=options, **more)
        if self._shaping is not None and not replica.weighted:
            if isinstance(self._shaping, Routed):
                self._shaping.routed(route)
            body = self._shaping.request(body)
        if replica.weighted:
            # Also where it is what the caller said: it may say so in more than one way.
            body = self._renamed(body, replica.model or route.access_path)
        elif replica.model is not None and replica.model != head.model:
            body = self._renamed(body, replica.model)
        return bytes(body)

    def _renamed(self, body: bytes | bytearray, model: str) -> bytes:
        boundary = None
        if self._request.path in forms.ENDPOINTS:
            boundary = forms.boundary_of(self._request)
        if boundary is None:
            return bodies.for_model(body, model)
        return forms.edited(body, boundary, "model", model.encode())

    def _elsewhere(self, replica: Replica) -> None:
        """Nothing has been said yet: another replica may."""
        self._drop_held()
        self._collector = self._events = self._lane = None
        self._first_at = 0.0
        self._replica = None
        self._service.leave(self, replica, None)
        if not self._ended:
            self._service.enter_again(self)

    def _ask_on(self, replica: Replica) -> None:
        replica.upstream.send(self)

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
        self._client.write(b"data: " + error_body(502, "bad_gateway", message) + b"\n\n")
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
        self._drop_held()
        sent, self._connection = self._connection is not None, None
        desk, service, request = self._desk, self._service, self._request
        # Who hangs up before the first byte has had the prompt read all the same.
        worked = self._first_at > 0.0 or (sent and status == _GONE)
        estimated = (
            usage is None
            and worked
            and status in _WORKED
            # Which uses none, whatever becomes of it.
            and request.path != tokenize_calls.PATH
        )
        used = usage or (self._estimated() if estimated else self._taken())
        if self._shaping is not None or self._answer.units:
            used, estimated = self._with_units(used, estimated, status)
        units = used.units
        tokens = used.prompt_tokens + used.completion_tokens
        if self._admitted is not None:
            self._admitted.settle(tokens)
        replica, self._replica = self._replica, None
        if replica is not None:
            if replica.failures and status < 500 and self._first_at:
                replica.answered()
            # In the queue, work without tokens costs what it was expected to: for nothing, one
            # key's calls would go before everybody's.
            unmeasured = not tokens and worked and request.path in TOKENLESS
            service.leave(self, replica, None if unmeasured else tokens)
        if self.probe:
            return
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
            _SHORT.get(request.asked_path) or request.asked_path[4:].decode(),
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
            units.images,
            units.pixels,
            units.audio_s,
            units.characters,
        )
        desk.record(_encode(event) + b"\n")

    def _estimated(self) -> Usage:
        """What the engine did not say: the frames so far, and the prompt by its length."""
        # A chat's first frame brings its role.
        answer = max(0, self._frames - 1)
        if self._shaping is None:
            request = self._request
            return Usage(bodies.prompt_tokens(request.body, request.unread_bytes), answer)
        used = self._shaping.estimated()
        if self._request.path in bodies.STREAMS_USAGE:
            used = msgspec.structs.replace(used, completion_tokens=answer)
        return used

    def _taken(self) -> Usage:
        """What was used of a call that ends without its answer: the pieces before."""
        return self._shaping.taken() if isinstance(self._shaping, Pieces) else NOTHING

    def _with_units(self, used: Usage, estimated: bool, status: int) -> tuple[Usage, bool]:
        """The same with what was used beyond tokens: by the replica's word, or estimated."""
        tokens = (used.prompt_tokens, used.completion_tokens, used.cached_tokens)
        if status != 200 and not self._begun:
            # Of what was made, if anything, nothing has come.
            return Usage(*tokens), estimated
        replica = self._replica
        if self._answer.units and replica is not None and not replica.weighted:
            units = read_units(self._answer.units)
            if units is not NO_UNITS:
                # Whoever says this has said all.
                return (
                    (Usage(0, 0, 0, units), False) if estimated else (Usage(*tokens, units), False)
                )
        if used.units is NO_UNITS and self._shaping is not None:
            units = self._shaping.estimated().units
            if units is not NO_UNITS:
                return Usage(*tokens, units), True
        return used, estimated

    @property
    def _frames(self) -> int:
        if self._events is not None:
            return self._events.frames + (self._lane.frames if self._lane else 0)
        return 0 if self._collector is None else self._collector.frames


def _hop(request: Request) -> bytes:
    """How many Modelrys the call will have come through."""
    return b"x-modelry-hops: %d\r\n" % (int(request.fields.get(b"x-modelry-hops", b"0")) + 1)


def _unsendable(problem: Exception, request: Request) -> Reply:
    if isinstance(problem, Reply):
        return problem
    if isinstance(problem, bodies.UNREADABLE):
        return bad_request("The body is not valid JSON: a name in it is no UTF-8.")
    if isinstance(problem, ModelryError):
        return error(503, "service_unavailable", problem.message)
    log.error("%s could not be sent on", request.id.decode(), exc_info=problem)
    return error(500, "internal_error", "Something went wrong in the gateway.")
