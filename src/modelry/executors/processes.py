"""What the kernel tells of a process: whether it is still the same one, and when it ends."""

import asyncio
import os
import signal
from pathlib import Path

import psutil

_POLL_S = 0.2


def start_mark(pid: int) -> str | None:
    """A text that two processes with the same pid do not share; None where there is none.

    On Linux the start time in clock ticks since boot (field 22 of
    /proc/<pid>/stat, see proc(5)) and the boot's id: unlike a date it does not
    move when somebody sets the clock.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        ticks = stat.rpartition(")")[2].split()[19]
        state = stat.rpartition(")")[2].split()[0]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if state in "ZX" else f"{boot}:{ticks}"
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except ProcessLookupError:
        return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None


def find_by_argument(argument: str) -> int | None:
    """The pid of this account's process that has `argument` in its command line."""
    for process in psutil.process_iter(["cmdline", "uids"]):
        uids = process.info["uids"]
        if uids is None or uids.real != os.getuid() or process.pid == os.getpid():
            continue
        if argument in (process.info["cmdline"] or []):
            return int(process.pid)
    return None


async def wait_until_gone(pid: int, mark: str) -> None:
    """Return once the process has ended. Works for any process, not only children."""
    descriptor = _pidfd(pid)
    if descriptor is None:
        while start_mark(pid) == mark:
            await asyncio.sleep(_POLL_S)
        return
    loop = asyncio.get_running_loop()
    gone = loop.create_future()

    def ended() -> None:
        if not gone.done():
            gone.set_result(None)

    loop.add_reader(descriptor, ended)
    try:
        if start_mark(pid) == mark:
            await gone
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def ask_to_end(pid: int) -> None:
    """SIGTERM for the leader alone, which ends what it started itself: an engine of several
    processes could not finish its work if all of them were told at once.
    """
    try:
        os.kill(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return


def end_what_is_left(pid: int, mark: str) -> None:
    """Kill what a leader that is gone left in its group.

    Its number is nobody else's as long as its group lives, since the kernel gives no number of a
    living group to a new process; before the last boot it was another's.
    """
    if pid and start_mark(pid) is None and mark.rpartition(":")[0] == _boot():
        signal_group(pid, signal.SIGKILL)


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a session's whole process group; one that is gone is no error."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def memory_bytes(pid: int) -> int | None:
    """Resident memory of the process and its descendants."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(int(member.memory_info().rss) for member in family)
    except psutil.Error:
        return None


def _pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
