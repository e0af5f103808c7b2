"""What is known of a process: that it is still the same one, and that it has ended."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from modelry.executors import processes
from tests.support.waiting import wait_for

LONG_ENOUGH_S = 10


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for a line, in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", "input()", f"mark-{secrets.token_hex(8)}"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def orphan() -> Iterator[int]:
    """The pid of a process that is nobody's child here."""
    text = subprocess.check_output(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], text=True)
    pid = int(text)
    yield pid
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=[True, False], ids=["told by the kernel", "by looking"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without pidfd_open, which only Linux has."""
    if request.param and not hasattr(os, "pidfd_open"):
        pytest.skip("this kernel has no pidfd_open")
    if not request.param:
        monkeypatch.delattr(os, "pidfd_open", raising=False)


def mark_of(pid: int) -> str:
    mark = processes.start_mark(pid)
    assert mark is not None
    return mark


# -- start mark --------------------------------------------------------------


def test_the_mark_of_a_live_process_stays_the_same(child: subprocess.Popen[bytes]) -> None:
    assert mark_of(child.pid) == mark_of(child.pid)


def test_two_processes_started_apart_have_different_marks(
    child: subprocess.Popen[bytes],
) -> None:
    ours, parents = psutil.Process(child.pid).create_time(), psutil.Process().create_time()
    assert ours - parents > 0.02
    assert mark_of(child.pid) != mark_of(os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_mark_holds_the_start_time_and_the_boot(child: subprocess.Popen[bytes]) -> None:
    boot, _, ticks = mark_of(child.pid).rpartition(":")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = int(ticks) / os.sysconf("SC_CLK_TCK") + psutil.boot_time()
    assert started == pytest.approx(psutil.Process(child.pid).create_time(), abs=2)


def test_a_process_that_has_ended_has_no_mark(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    # Not waited for: a zombie has ended as well.
    wait_for(lambda: processes.start_mark(child.pid) is None, "the mark to go")
    child.wait()
    assert processes.start_mark(child.pid) is None


def test_a_name_full_of_brackets_does_not_confuse_the_mark(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o700)
    process = subprocess.Popen([program], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: psutil.Process(process.pid).name() == program.name, "its name")
        ticks = mark_of(process.pid).rpartition(":")[2]
        started = int(ticks) / os.sysconf("SC_CLK_TCK") + psutil.boot_time()
        assert started == pytest.approx(psutil.Process(process.pid).create_time(), abs=2)
    finally:
        process.communicate(b"\n")


# -- waiting for an end ------------------------------------------------------


async def _gone_after(pid: int, mark: str, ended_by: int) -> None:
    waiting = asyncio.ensure_future(processes.wait_until_gone(pid, mark))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    os.kill(pid, ended_by)
    async with asyncio.timeout(LONG_ENOUGH_S):
        await waiting


@pytest.mark.usefixtures("way")
def test_the_end_of_a_child_is_noticed(child: subprocess.Popen[bytes]) -> None:
    asyncio.run(_gone_after(child.pid, mark_of(child.pid), signal.SIGKILL))
    assert processes.start_mark(child.pid) is None


@pytest.mark.usefixtures("way")
def test_the_end_of_a_process_that_is_no_child_is_noticed(orphan: int) -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(orphan, os.WNOHANG)
    asyncio.run(_gone_after(orphan, mark_of(orphan), signal.SIGTERM))
    assert processes.start_mark(orphan) is None


@pytest.mark.usefixtures("way")
def test_the_end_of_a_child_leaves_its_status_to_its_parent(
    child: subprocess.Popen[bytes],
) -> None:
    asyncio.run(_gone_after(child.pid, mark_of(child.pid), signal.SIGKILL))
    assert child.wait(LONG_ENOUGH_S) == -signal.SIGKILL


@pytest.mark.usefixtures("way")
def test_a_process_that_took_over_the_pid_is_not_waited_for() -> None:
    async def wait() -> None:
        async with asyncio.timeout(LONG_ENOUGH_S):
            await processes.wait_until_gone(os.getpid(), "an earlier process")

    asyncio.run(wait())


@pytest.mark.usefixtures("way")
def test_a_process_that_is_gone_already_is_not_waited_for(
    child: subprocess.Popen[bytes],
) -> None:
    mark = mark_of(child.pid)
    child.kill()
    child.wait()

    async def wait() -> None:
        async with asyncio.timeout(LONG_ENOUGH_S):
            await processes.wait_until_gone(child.pid, mark)

    asyncio.run(wait())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_wait_that_is_given_up_leaves_nothing_open(child: subprocess.Popen[bytes]) -> None:
    async def give_up() -> None:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        waiting = asyncio.ensure_future(processes.wait_until_gone(child.pid, mark_of(child.pid)))
        await asyncio.wait([waiting], timeout=0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208

    asyncio.run(give_up())


# -- the rest ----------------------------------------------------------------


def test_a_process_is_found_by_its_argument(child: subprocess.Popen[bytes]) -> None:
    assert isinstance(child.args, list)
    mark = child.args[-1]
    assert processes.find_by_argument(mark) == child.pid
    assert processes.find_by_argument(mark[:-1]) is None
    child.kill()
    child.wait()
    assert processes.find_by_argument(mark) is None


def test_a_signal_reaches_the_whole_group() -> None:
    script = "sleep 600 & echo $!; wait"
    leader = subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout is not None
    follower = int(leader.stdout.readline())
    processes.signal_group(leader.pid, signal.SIGKILL)
    leader.communicate(timeout=LONG_ENOUGH_S)
    wait_for(lambda: processes.start_mark(follower) is None, "the follower to end")


def test_what_a_leader_that_is_gone_left_behind_is_ended(tmp_path: Path) -> None:
    """Workers of an engine whose first process was killed while nobody watched."""
    told = tmp_path / "worker"
    script = f"sleep 100 & echo $! > {told}.new; mv {told}.new {told}; wait"
    leader = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    wait_for(told.exists, "the worker to start")
    worker = int(told.read_text())
    mark = processes.start_mark(leader.pid)
    assert mark is not None
    # While the leader lives, and where the mark is of another boot, nothing is touched.
    processes.end_what_is_left(leader.pid, mark)
    leader.kill()
    leader.wait()
    processes.end_what_is_left(leader.pid, "another-boot:1")
    assert psutil.pid_exists(worker)
    processes.end_what_is_left(leader.pid, mark)
    wait_for(lambda: processes.start_mark(worker) is None, "the worker to end")
    processes.end_what_is_left(leader.pid, mark)


def test_only_the_leader_is_asked_to_end(tmp_path: Path) -> None:
    """An engine of several processes could not finish its work otherwise."""
    told = tmp_path / "worker"
    script = f"trap 'exit 7' TERM; sleep 100 & echo $! > {told}.new; mv {told}.new {told}; wait"
    leader = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    wait_for(told.exists, "the worker to start")
    worker = int(told.read_text())
    processes.ask_to_end(leader.pid)
    assert leader.wait(10) == 7
    assert processes.start_mark(worker) is not None
    processes.signal_group(leader.pid, signal.SIGKILL)
    processes.ask_to_end(leader.pid)


def test_signalling_a_group_that_is_gone_is_no_error(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    processes.signal_group(child.pid, signal.SIGTERM)


def test_memory_counts_descendants(child: subprocess.Popen[bytes]) -> None:
    alone = processes.memory_bytes(child.pid)
    together = processes.memory_bytes(os.getpid())
    assert alone is not None
    assert together is not None
    assert 0 < alone < together
    assert together >= psutil.Process().memory_info().rss * 0.9
    assert processes.memory_bytes(child.pid) is not None


def test_a_process_that_is_gone_has_no_memory(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    assert processes.memory_bytes(child.pid) is None
