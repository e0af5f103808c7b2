"""A replica's answer on its way to the caller, in whichever form it comes.

A stream goes on as it comes, a stream that the caller did not want is put
together, and a whole answer is `WholeAnswers`'. What becomes of a replica that
fails, and of the accounts, is the `Call`'s.
"""

import msgspec

from modelry.gateway import body as bodies
from modelry.gateway.collector import Collector
from modelry.gateway.events import EventStream
from modelry.gateway.heads import Head as AnswerHead
from modelry.gateway.lane import Lane
from modelry.gateway.llama_answers import LlamaAnswers
from modelry.gateway.llama_stream import LlamaStream
from modelry.gateway.replies import JSON_TYPE, engine_refusal
from modelry.gateway.upstream_connection import UpstreamError
from modelry.gateway.vllm_answers import VllmStream
from modelry.gateway.whole_answers import WholeAnswers

_encode = msgspec.json.Encoder().encode


class Relay(WholeAnswers):
    """See `WholeAnswers` for its arguments."""

    _events: EventStream | None = None
    _collector: Collector | None = None
    _lane: Lane | None = None

    def upstream_head(self, head: AnswerHead) -> None:
        self.last_at = self._desk.clock()
        self._answer = head
        # A stream that was not asked for, as some endpoints send, is no answer to be translated.
        is_odd = self._client.translates and self._head.stream is not True and not self._collects
        if head.status >= 400 or not head.event_stream or is_odd:
            self._hold(head)
        elif self._collects:
            self._collector = Collector(self._shapes(streams=False))
        elif self._is_llama:
            self._events = LlamaStream(self._shapes(streams=True), hide_usage=self._hides_usage)
        elif self._is_vllm_chat:
            self._events = VllmStream(hide_usage=self._hides_usage, model=None)
        else:
            replica = self._replica
            assert replica is not None
            self._events = EventStream(
                hide_usage=self._hides_usage,
                model=_encode(self._service.route.access_path) if replica.weighted else None,
            )

    def upstream_whole(self, head: AnswerHead, body: bytes) -> None:
        if head.status == 200:
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
            if events.alone:
                self._learn(chunk)

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
        else:
            self._came(data)

    def upstream_done(self) -> None:
        self._connection = None
        if self._collector is not None:
            self._done_collecting(self._collector)
        elif self._events is not None:
            self._done_streaming(self._events)
        else:
            self._done()

    # ------------------------------------------------------------------------

    def _fed(self, events: EventStream, data: bytes) -> bytes:
        """What goes on now of a stream, which has begun if anything does."""
        now = self._desk.clock()
        if not self._first_at:
            self._first_at = now
        if events.frames and not self.probe:
            self._service.meter.between_tokens.add(now - self._heard_at)
        self.last_at = now
        passed = events.feed(data)
        if not self._begun:
            if isinstance(events, LlamaStream) and events.refused is not None:
                # Of a list of prompts, the status comes before it is known whether all are taken.
                if self._connection is not None:
                    self._connection.abandon()
                self._refused_within(events.refused)
                return b""
            if passed:
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
        if lane is None and connection is not None and not self.probe:
            write = self._client.chunk_writer
            if write is None:
                return
            if isinstance(self._events, LlamaStream):
                write = self._events.writes(write)
            lane = self._lane = Lane(self._service.meter.between_tokens, write, self.last_at)
            connection.lane = lane
        if lane is not None:
            lane.learn(chunk)

    def _begin_stream(self) -> None:
        """With its first frame: until then another replica may answer."""
        self._begin(self._answer.type_line + b"cache-control: no-cache\r\n")

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
            self._refused_within(collector.error)
        elif collector.complete:
            answer = collector.answer()
            self._end(200, collector.usage)
            self._client.respond_whole(200, JSON_TYPE + self._own_lines, answer)
        else:
            self.upstream_failed(UpstreamError("its stream ended early"))

    def _shapes(self, *, streams: bool) -> LlamaAnswers:
        return LlamaAnswers(self._request.path, self._head, streams=streams)

    def _refused_within(self, problem: object) -> None:
        """An event of a stream that the caller has heard nothing of refuses the request."""
        code = problem.get("code") if isinstance(problem, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        told, request = {"error": problem}, self._request
        self._respond(engine_refusal(status, told, path=request.path, body=request.body))

    @property
    def _is_llama(self) -> bool:
        """Whether it is a chat or completion of llama.cpp, whose answers are mended."""
        return self._served_by.collect and self._request.path in bodies.STREAMS_USAGE

    @property
    def _collects(self) -> bool:
        """Whether a stream is asked for that the caller does not want."""
        return self._is_llama and self._head.stream is not True

    @property
    def _hides_usage(self) -> bool:
        """Whether the stream is asked for usage that the caller does not want."""
        return (
            self._head.stream is True
            and self._request.path in bodies.STREAMS_USAGE
            and not bodies.asks_for_usage(self._head)
        )
