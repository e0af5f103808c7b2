"""A replica's whole answer on its way to the caller: held, made what the caller asked for, and
sent at its end; one that is long after all goes out as it comes.

Knows nothing of streams, which are `Relay`'s, nor of what becomes of a replica that fails and of
the accounts, which are the `Call`'s.
"""

import asyncio
import logging
from concurrent.futures import Executor
from typing import Protocol

import msgspec

from modelry.errors import ModelryError
from modelry.gateway import body as bodies
from modelry.gateway import forms, vllm_answers
from modelry.gateway.heads import Head as AnswerHead
from modelry.gateway.held import Held
from modelry.gateway.limits import Admitted
from modelry.gateway.memory import Memory
from modelry.gateway.replica import Replica
from modelry.gateway.replies import Reply, engine_refusal, error, is_of_an_input
from modelry.gateway.request import CHAT, Request
from modelry.gateway.service import Service
from modelry.gateway.shaping import Pieces, Shaping
from modelry.gateway.translating import Answering, no_answer
from modelry.gateway.upstream_connection import UpstreamConnection, UpstreamError
from modelry.gateway.usage import Usage, read_answer, read_duration
from modelry.gateway.waiting import Waiter
from modelry.routing.messages import KeyGrant, Route

log = logging.getLogger(__name__)

# An engine that says these is in trouble, not its caller.
_TROUBLE = frozenset({502, 503, 504})
# These concern the key that Modelry holds for an endpoint, or its quota there.
_TROUBLE_ELSEWHERE = frozenset({401, 403, 429})


class Desk(Protocol):
    """What a call needs of the gateway around it."""

    def request_head(self, replica: Replica, path: bytes) -> bytes:
        """The start of a request's head, up to the request id. Raises `UpstreamError`."""
        ...

    def replica_failed(self, service: Service, replica: Replica, why: str) -> None: ...
    def record(self, line: bytes) -> None: ...
    def clock(self) -> float: ...

    @property
    def memory(self) -> Memory: ...
    @property
    def threads(self) -> Executor:
        """For what takes so long that the loop would stand still."""
        ...

    @property
    def answer_timeout_s(self) -> float: ...


class WholeAnswers:
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
    lines = b""
    """Header lines of its answer, each with its line end."""
    _replica: Replica | None = None
    _connection: UpstreamConnection | None = None
    _prefix: bytes | None = None
    _begun = False
    _ended = False
    _answer: AnswerHead = AnswerHead(0, [])
    _held: Held | None = None
    _is_shaped_aside = False
    """Whether its answer is whole, and is made ready in a thread."""
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
        client: Answering,
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
        self.probe = key.probe
        self.cost = cost
        self.tried: list[str] = []
        self.last_at = request.arrived_at
        """When something last came of the replica, on the loop's clock, the short way apart."""

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

    def _hold(self, head: AnswerHead) -> None:
        """Begin with an answer that is no stream."""
        self._held = Held(head, self._desk.memory, changed=self._is_changed)

    def _came(self, data: bytes) -> None:
        held = self._held
        assert held is not None
        if held.passing:
            held.passed(data)
            self._client.write(data)
        elif not held.add(data) or self._flows:
            self._let_go(held)

    def _done(self) -> None:
        held = self._held
        assert held is not None
        if held.passing:
            self._end(self._answer.status, held.usage)
            self._client.finish()
        elif self._answer.status >= 400:
            self._done_refused(self._answer.status, held.taken())
        else:
            self._done_whole(self._answer, held.taken())

    def _let_go(self, held: Held) -> None:
        """An answer that has grown long goes on as it comes, unless that would be of no use."""
        shaping = self._own_shaping
        translates, is_json = self._client.translates, self._answer.is_json
        if translates or (is_json and shaping is not None and shaping.changes_answer):
            connection = self._connection
            if connection is not None:
                # The replica has done nothing wrong: nobody is told that it failed.
                connection.abandon()
            self._respond(held.refusal() if is_json else no_answer())
            return
        self._begin(self._answer.type_line)
        self._client.write(held.let_go())

    @property
    def _own_shaping(self) -> Shaping | None:
        """What its answer goes through: those of endpoints elsewhere go out as they come."""
        replica = self._replica
        return self._shaping if replica is not None and not replica.weighted else None

    @property
    def _is_changed(self) -> bool:
        replica, shaping = self._replica, self._own_shaping
        renamed = replica is not None and replica.weighted
        shaped = shaping is not None and shaping.changes_answer
        return renamed or shaped or self._client.translates

    @property
    def _flows(self) -> bool:
        """Whether it is made while it is sent, such as speech: the caller hears it as it comes."""
        answer = self._answer
        return answer.chunked and answer.status == 200 and not answer.is_json

    def _begin(self, lines: bytes) -> None:
        self._begun = True
        self._client.begin(self._answer.status, lines + self._own_lines)

    def _done_whole(self, head: AnswerHead, answer: bytes) -> None:
        shaping = self._own_shaping if head.is_json else None
        if shaping is None:
            self._finish_whole(head, answer)
        elif shaping.in_thread:
            self._shape_aside(shaping, head, answer)
        else:
            shaped = self._shaped(shaping, answer)
            if shaped is not None:
                self._finish_whole(head, shaped)

    def _finish_whole(self, head: AnswerHead, answer: bytes) -> None:
        replica = self._replica
        assert replica is not None
        usage = None
        if head.is_json:
            usage, model = read_answer(answer)
            if usage is None and self._request.path in forms.AUDIO:
                usage = read_duration(answer)
            ours = self._service.route.access_path
            if replica.weighted and model is not None and model != ours:
                answer = bodies.edited(answer, model=ours)
            if self._is_vllm_chat:
                answer = vllm_answers.renamed(answer)
        self._end(head.status, usage)
        self._client.respond_whole(head.status, head.type_line + self._own_lines, answer)

    @property
    def _is_vllm_chat(self) -> bool:
        return self._served_by.dialect == "vllm" and self._request.path == CHAT

    @property
    def _served_by(self) -> Route:
        """The route of the replica that works on it: the service may have another by now."""
        replica = self._replica
        return self._service.route if replica is None else replica.route

    @property
    def _own_lines(self) -> bytes:
        return self.lines if self._admitted is None else self.lines + self._admitted.lines()

    def _shaped(self, shaping: Shaping, answer: bytes) -> bytes | None:
        """The answer as its caller gets it; None where there is more to ask, or it is of no use."""
        replica = self._replica
        assert replica is not None
        try:
            if not isinstance(shaping, Pieces) or not shaping.take(answer):
                return shaping.answer(answer)
        except Exception as problem:
            self._unshaped(problem)
            return None
        self._drop_held()
        self._ask_on(replica)
        return None

    def _shape_aside(self, shaping: Shaping, head: AnswerHead, answer: bytes) -> None:
        """The same in a thread. Its caller may be gone before that is done."""
        held, self._held = self._held, None
        self._is_shaped_aside = True

        def done(work: asyncio.Future[bytes]) -> None:
            self._is_shaped_aside = False
            if held is not None:
                held.drop()
            problem = None if work.cancelled() else work.exception()
            if self._ended or work.cancelled():
                return
            if problem is not None:
                self._unshaped(problem)
            else:
                self._finish_whole(head, work.result())

        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._desk.threads, shaping.answer, answer)
        work.add_done_callback(done)

    def _unshaped(self, problem: BaseException) -> None:
        """Only an answer that is none to what was asked is its replica's fault."""
        if isinstance(problem, Reply):
            self._respond(problem)
        elif isinstance(problem, (msgspec.DecodeError, ValueError)):
            self._give_up("its answer is none to what was asked")
        elif isinstance(problem, ModelryError):
            self._respond(error(500, "internal_error", f"{problem.message}."))
        else:
            log.error("an answer could not be made ready", exc_info=problem)
            self._respond(error(500, "internal_error", "Something went wrong in the gateway."))

    def _drop_held(self) -> None:
        if self._held is not None:
            self._held.drop()
            self._held = None

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
        request = self._request
        reply = engine_refusal(status, told, path=request.path, body=request.body)
        shaping = self._own_shaping
        if isinstance(shaping, Pieces) and is_of_an_input(reply):
            place = shaping.narrow()
            if place is None:
                self._drop_held()
                self._ask_on(replica)
                return
            reply = engine_refusal(status, told, place)
        reply.lines += self._answer.retry_after
        self._respond(reply)
