"""Usage while the control plane dies."""

import itertools
import os
import signal
import time
from pathlib import Path

from modelry.routing.messages import UsageBatch
from tests.support.instance import Instance, running
from tests.support.usage import event, gateway_stand_in, spooled

EVENTS = 4000
BATCH = 500
# How long after a batch was sent the control plane is killed: before, while and after it
# is stored.
KILLS_AFTER_S = (0.0, 0.01, 0.03, 0.06)


def test_each_event_is_taken_once_whenever_the_control_plane_dies(tmp_path: Path) -> None:
    events = [event(number) for number in range(1, EVENTS + 1)]
    ends = [0, *itertools.accumulate(len(spooled(each)) for each in events)]
    kills = iter(KILLS_AFTER_S)
    with running(Instance(tmp_path / "data")) as instance:

        def send_batch(reached: int) -> int:
            """Send the next batch, and kill who takes it as long as kills are left."""
            lines = spooled(*events[reached : reached + BATCH])
            with gateway_stand_in(instance.paths.feed_socket) as gateway:
                gateway.tell(UsageBatch("spool", 1, ends[reached], len(lines)), lines)
                pause_s = next(kills, None)
                if pause_s is not None:
                    time.sleep(pause_s)
                    os.kill(instance.pid_of("control"), signal.SIGKILL)
                return ends.index(gateway.answer().offset)

        reached = 0
        while reached < EVENTS:
            try:
                reached = send_batch(reached)
            except OSError:
                # It is being started again; what was not answered is sent again.
                time.sleep(0.05)

        assert next(kills, None) is None
        (row,) = instance.api("GET", "/usage?from=2026-02-01&to=2026-03-01").json()["data"]
        assert row["requests"] == EVENTS
        tokens = sum(each.prompt_tokens + each.completion_tokens for each in events)
        assert row["total_tokens"] == tokens
