"""The reconciler's decisions, as pure functions of what is wanted and what was seen.

`plan` says what to do next, `status` what to tell people. Neither performs
anything, reads a clock or remembers: the same world always gives the same
answer, and a world that is as wanted gives no action.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from modelry.services.situation import (
    Action,
    AdapterSeen,
    Crash,
    Desired,
    DrainReplica,
    FetchWeights,
    ForgetReplica,
    LoadAdapter,
    NodeFull,
    Progress,
    RemoveService,
    Seen,
    StartReplica,
    Status,
    UnloadAdapter,
    Want,
    WeightsAbsent,
    WeightsFailed,
    WeightsFetching,
    WeightsReady,
    World,
)
from modelry.services.states import LIVE, ReplicaState, ServiceState

GIVE_UP_AFTER = 3
"""A replica that never became ready is tried this often before its service has failed."""
STEADY_S = 60.0
"""A replica that was ready this long clears the crashes before it."""
REPORTED_WITHIN = timedelta(seconds=1.5)
"""Gateways report each second: so long after a use at the latest it is known."""
_KEPT_FAILURES = 8
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 60.0


def plan(world: World) -> list[Action]:
    """What to do next. Applying the actions and planning again converges."""
    actions: list[Action] = []
    by_service = _by_service(world.replicas)
    wanted = {service.service_id for service in world.services}
    hosted: list[Desired] = []
    for service_id, orphans in by_service.items():
        if service_id not in wanted:
            actions += _drain(orphans, "its service is gone")
    for service in world.services:
        replicas = by_service.get(service.service_id, [])
        if service.host is not None:
            hosted.append(service)
        elif service.want is Want.RUN and _idle(world, service, replicas):
            actions += _drain(replicas, "idle: nobody calls it")
            if service.ahead and isinstance(world.weights[service.service_id], WeightsAbsent):
                actions.append(FetchWeights(service.service_id))
        elif service.want is Want.RUN:
            actions += _plan_running(world, service, replicas)
        else:
            reason = "deleted" if service.want is Want.DELETE else "stopped by its owner"
            actions += _drain(replicas, reason)
            if service.want is Want.DELETE and not _live(replicas):
                actions.append(RemoveService(service.service_id))
        actions += _forget(service, replicas)
    going = {action.replica_id for action in actions if isinstance(action, DrainReplica)}
    for service in hosted:
        actions += _plan_hosted(world, service, going)
    return actions


def status(world: World, service: Desired) -> Status:
    """What to tell the owner, in a state and a sentence."""
    replicas = [seen for seen in world.replicas if seen.service_id == service.service_id]
    live = _live(replicas)
    if service.want is Want.DELETE:
        return Status(ServiceState.DELETING, "requests in flight finish, then it is removed")
    if service.want is Want.STOP:
        message = "stopped by its owner"
        if live:
            message += "; requests in flight finish"
        return Status(ServiceState.STOPPED, message)
    if service.endpoints:
        plural = "s" if service.endpoints > 1 else ""
        return Status(ServiceState.RUNNING, f"stands on {service.endpoints} endpoint{plural}")
    if service.host is not None:
        return _status_hosted(world, service, service.host)
    if _idle(world, service, replicas):
        lacking = _lacking(world, service) if service.ahead else None
        return lacking or Status(ServiceState.IDLE, "idle; the next call wakes it")
    ready = [seen for seen in live if seen.state is ReplicaState.READY]
    crashes = _crashes(service, replicas)
    if any(not service.is_current(seen.revision) for seen in ready):
        return _status_updating(world, service, live, crashes)
    if ready:
        return Status(ServiceState.RUNNING, _running(len(ready), service.replicas))
    lacking = _lacking(world, service)
    if lacking is not None:
        return lacking
    if crashes and _hopeless(crashes):
        return Status(ServiceState.FAILED, _last(crashes).message)
    if crashes:
        return Status(ServiceState.STARTING, f"starting again: {_last(crashes).message}")
    return Status(ServiceState.STARTING, "the engine loads the weights")


def _lacking(world: World, service: Desired) -> Status | None:
    """What is said of it while something is not here that its replicas need."""
    match world.weights[service.service_id]:
        case WeightsFailed(message):
            return Status(ServiceState.FAILED, message)
        case WeightsFetching(done, total, doing, speed, left_s):
            return Status(ServiceState.FETCHING, doing, Progress(done, total, speed, left_s))
        case WeightsAbsent():
            return Status(ServiceState.PENDING, "its weights are about to be fetched")
        case NodeFull(message):
            return Status(ServiceState.STARTING, message)
        case WeightsReady():
            return None


def _status_updating(
    world: World, service: Desired, live: list[Seen], crashes: list[Seen]
) -> Status:
    """What is said while replicas of an earlier revision serve."""
    current = [seen for seen in live if service.is_current(seen.revision)]
    doing, new = f"changing to revision {service.revision}", f"revision {service.revision}"
    serves = "the one before serves on"
    if sum(seen.state is not ReplicaState.DRAINING for seen in current) < service.replicas:
        match world.weights[service.service_id]:
            case WeightsFailed(message):
                told = f"{new} cannot start: {message}; {serves}"
                return Status(ServiceState.UPDATING, told, stuck=True)
            case WeightsFetching(done, total, what, speed, left_s):
                progress = Progress(done, total, speed, left_s)
                return Status(ServiceState.UPDATING, f"{doing}: {what}", progress)
            case NodeFull(message):
                told = f"{doing}: {message}; {serves}. Stopped and started, it changes with a pause"
                return Status(ServiceState.UPDATING, told, stuck=True)
    if crashes and _hopeless(crashes):
        told = f"{new} does not start: {_last(crashes).message}; {serves}"
        return Status(ServiceState.UPDATING, told, stuck=True)
    if crashes:
        return Status(ServiceState.UPDATING, f"{doing}; starting again: {_last(crashes).message}")
    if sum(seen.state is ReplicaState.READY for seen in current) >= service.replicas:
        for guest in _left_behind(world, service, live):
            failure = world.adapters[guest.service_id].failure
            if failure is not None:
                told = f"its new replicas do not take an adapter: {failure}; {serves}"
                return Status(ServiceState.UPDATING, told, stuck=True)
        return Status(ServiceState.UPDATING, f"{doing}: its adapters are brought there")
    return Status(ServiceState.UPDATING, doing)


def _left_behind(world: World, service: Desired, live: Iterable[Seen]) -> list[Desired]:
    """Whose adapters its replicas of earlier revisions have, and not enough of the present one."""
    ready = [seen for seen in live if seen.state is ReplicaState.READY]
    current = {seen.id for seen in ready if service.is_current(seen.revision)}
    outdated = {seen.id for seen in ready} - current
    if not outdated:
        return []
    found = []
    for guest in world.services:
        if guest.host == service.service_id and guest.want is Want.RUN:
            on = world.adapters.get(guest.service_id, AdapterSeen()).on
            if on & outdated and len(on & current) < service.replicas:
                found.append(guest)
    return found


def next_look(world: World) -> datetime | None:
    """When `plan` may decide otherwise although nothing happens: the end of a back-off,
    or of the time in which a service that nobody calls keeps its replicas.
    """
    by_service = _by_service(world.replicas)
    times: list[datetime | None] = []
    for service in world.services:
        if service.want is Want.RUN:
            replicas = by_service.get(service.service_id, [])
            times.append(_idle_from(world, service, replicas))
            crashes = _crashes(service, replicas)
            if crashes and not _hopeless(crashes):
                times.append(_not_before(crashes))
    return min((at for at in times if at is not None and at > world.now), default=None)


def _idle(world: World, service: Desired, replicas: Sequence[Seen]) -> bool:
    """Whether it is to have no replicas, since nobody has called it for long enough."""
    idle_from = _idle_from(world, service, replicas)
    return idle_from is not None and idle_from <= world.now


def _idle_from(world: World, service: Desired, replicas: Sequence[Seen]) -> datetime | None:
    """When it is idle if nobody calls it until then; None while that cannot be said.

    One that has replicas keeps them while it is not known whether they are in use;
    one without them is idle by what was known before. One that has failed stays so, and one
    whose change cannot start keeps what serves: the next call would wake nothing in its place.
    """
    if service.idle_after_s is None or service.active_at is None:
        return None
    crashes = _crashes(service, replicas)
    ready = [seen for seen in replicas if seen.state is ReplicaState.READY]
    if not any(service.is_current(seen.revision) for seen in ready):
        if crashes and _hopeless(crashes):
            return None
        if ready and isinstance(world.weights[service.service_id], WeightsFailed):
            return None
    idle_from = service.active_at + timedelta(seconds=service.idle_after_s)
    if all(seen.state is ReplicaState.DRAINING for seen in _live(replicas)):
        return idle_from
    if world.known_from is None:
        return None
    return max(idle_from + REPORTED_WITHIN, world.known_from)


def _plan_hosted(world: World, service: Desired, going: set[str]) -> Iterable[Action]:
    """Of a service whose adapter its host's replicas take: it goes wherever it is not yet, but
    to those that are `going`.
    """
    id_, seen = service.service_id, world.adapters.get(service.service_id, AdapterSeen())
    hosts = {each.id: each for each in world.replicas if each.service_id == service.host}
    if service.want is not Want.RUN:
        yield from (UnloadAdapter(id_, replica_id) for replica_id in sorted(seen.on - seen.unsure))
        # Its name must be nowhere any more: the next service may have it.
        if service.want is Want.DELETE and not seen.on and not seen.unsure & hosts.keys():
            yield RemoveService(id_)
        return
    weights = world.weights[id_]
    if isinstance(weights, WeightsAbsent):
        yield FetchWeights(id_)
    if isinstance(weights, WeightsReady):
        passed_over = seen.on | seen.unsure | seen.refusing | going
        for replica_id, replica in hosts.items():
            if replica.state is ReplicaState.READY and replica_id not in passed_over:
                yield LoadAdapter(id_, replica_id)


def _status_hosted(world: World, service: Desired, host_id: str) -> Status:
    host = next((each for each in world.services if each.service_id == host_id), None)
    seen = world.adapters.get(service.service_id, AdapterSeen())
    lacking = _lacking(world, service)
    if lacking is not None:
        return lacking
    if host is None or host.want is not Want.RUN:
        what = "gone" if host is None or host.want is Want.DELETE else "stopped: start it"
        return Status(ServiceState.FAILED, f"the service of its base model is {what}")
    if seen.on:
        replicas = "a replica" if len(seen.on) == 1 else f"{len(seen.on)} replicas"
        return Status(ServiceState.RUNNING, f"serving on {replicas} of its base")
    if seen.failure is not None:
        return Status(ServiceState.FAILED, seen.failure)
    told = status(world, host)
    if told.state is ServiceState.IDLE:
        return Status(ServiceState.IDLE, "idle with its base; the next call wakes both")
    return Status(ServiceState.STARTING, f"waits for its base: {told.message}")


def _plan_running(world: World, service: Desired, replicas: list[Seen]) -> Iterable[Action]:
    live = [seen for seen in _live(replicas) if seen.state is not ReplicaState.DRAINING]
    current = [seen for seen in live if service.is_current(seen.revision)]
    outdated = [seen for seen in live if not service.is_current(seen.revision)]
    ready = [seen for seen in current if seen.state is ReplicaState.READY]

    # Those of an earlier revision serve until enough of this one do, with all their adapters.
    if len(ready) >= service.replicas and not _left_behind(world, service, live):
        yield from _drain(outdated, f"revision {service.revision} has taken over")
    else:
        # One that was found again serves in a moment; one that never has is for nothing.
        unused = [
            seen
            for seen in outdated
            if seen.state is ReplicaState.STARTING and seen.ready_at is None
        ]
        yield from _drain(unused, f"revision {service.revision} is wanted instead")
    surplus = len(current) - service.replicas
    if surplus > 0:
        # Those that do not serve go first, then the youngest.
        dispensable = sorted(
            current,
            key=lambda seen: (seen.state is not ReplicaState.READY, seen.created_at, seen.id),
        )
        yield from _drain(dispensable[-surplus:], "fewer replicas are wanted")

    missing = service.replicas - len(current)
    if missing <= 0:
        return
    weights = world.weights[service.service_id]
    if isinstance(weights, WeightsAbsent):
        yield FetchWeights(service.service_id)
    if not isinstance(weights, WeightsReady):
        return
    crashes = _crashes(service, replicas)
    if crashes and (_hopeless(crashes) or world.now < _not_before(crashes)):
        return
    for _ in range(missing):
        yield StartReplica(service.service_id, service.revision)


def _crashes(service: Desired, replicas: Iterable[Seen]) -> list[Seen]:
    """The replicas that failed one after another and count now, oldest first.

    Several that were tried side by side and never became ready count once: one
    reason brought them all down.
    """
    counting = [
        (seen.crash.at, seen.id, seen)
        for seen in replicas
        if seen.crash is not None
        and seen.revision == service.revision
        and seen.created_at >= service.since
    ]
    in_a_row: list[Seen] = []
    last_at: datetime | None = None
    for at, _, seen in sorted(counting):
        if seen.ready_at and (at - seen.ready_at).total_seconds() >= STEADY_S:
            in_a_row.clear()
        elif seen.ready_at is None and last_at is not None and seen.created_at < last_at:
            in_a_row.pop()
        in_a_row.append(seen)
        last_at = at
    return in_a_row


def _last(crashes: list[Seen]) -> Crash:
    crash = crashes[-1].crash
    assert crash is not None
    return crash


def _hopeless(crashes: list[Seen]) -> bool:
    """Whether to give up. One that once was ready is tried again for ever, ever more slowly."""
    latest = crashes[-GIVE_UP_AFTER:]
    never_ready = all(seen.ready_at is None for seen in latest)
    return _last(crashes).lasting or (never_ready and len(latest) == GIVE_UP_AFTER)


def _not_before(crashes: list[Seen]) -> datetime:
    delay_s = min(_FIRST_DELAY_S * 2 ** (len(crashes) - 1), _LONGEST_DELAY_S)
    return _last(crashes).at + timedelta(seconds=delay_s)


def _drain(replicas: Iterable[Seen], reason: str) -> list[Action]:
    return [
        DrainReplica(seen.id, reason)
        for seen in replicas
        if seen.state in (ReplicaState.STARTING, ReplicaState.READY)
    ]


def _forget(service: Desired, replicas: list[Seen]) -> list[Action]:
    """Stopped replicas go; of the failed ones those stay whose log explains the present."""
    ended = [seen for seen in replicas if seen.state not in LIVE]
    kept = [
        seen
        for seen in ended
        if seen.state is ReplicaState.FAILED
        and service.want is not Want.DELETE
        and seen.revision == service.revision
        and seen.created_at >= service.since
    ]
    newest = sorted(kept, key=lambda seen: (seen.created_at, seen.id))[-_KEPT_FAILURES:]
    return [ForgetReplica(seen.id) for seen in ended if seen not in newest]


def _running(ready: int, wanted: int) -> str:
    return "serving" if ready >= wanted else f"serving with {ready} of {wanted} replicas"


def _live(replicas: Iterable[Seen]) -> list[Seen]:
    return [seen for seen in replicas if seen.state in LIVE]


def _by_service(replicas: Iterable[Seen]) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {}
    for seen in replicas:
        found.setdefault(seen.service_id, []).append(seen)
    return found
