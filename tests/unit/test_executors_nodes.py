"""What a node tells of itself: fresh enough, asked for once, and never waited for long."""

import asyncio
import gc
import shutil
import socket
import time
from pathlib import Path

import psutil
import pytest

from modelry.engines.inventory import GPU_USE_QUERY, Gpu, Inventory
from modelry.executors import nodes
from modelry.executors.nodes import GpuReading, LocalNodes, NodeReading
from tests.support.waiting import wait_for

MIB = 1024 * 1024
L4 = Gpu(0, "NVIDIA L4", 23034 * MIB)
A6000 = Gpu(3, "NVIDIA RTX A6000", 49140 * MIB)
INVENTORY = Inventory(cores=2, memory_bytes=2**40)
WITH_GPUS = Inventory(cores=2, memory_bytes=2**40, gpus=(L4, A6000))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of each measurement of the cores' use, which takes a moment."""
    taken: list[float] = []

    def sample(interval: float) -> float:
        taken.append(time.monotonic())
        time.sleep(interval)
        return 12.5

    monkeypatch.setattr(psutil, "cpu_percent", sample)
    return taken


def nvidia_smi(programs: Path, script: str) -> None:
    program = programs / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)


def is_running(pid: int) -> bool:
    """One that has ended may wait for somebody who looks at how."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read(inventory: Inventory, folder: Path) -> NodeReading:
    (reading,) = asyncio.run(LocalNodes(inventory, folder).read())
    return reading


def test_it_tells_what_it_has_and_uses(tmp_path: Path) -> None:
    reading = read(INVENTORY, tmp_path)
    assert reading.name == socket.gethostname()
    assert (reading.cores, reading.memory_bytes) == (2, 2**40)
    assert 0 <= reading.cpu_percent <= 100
    assert 0 < reading.used_memory_bytes < reading.memory_bytes
    disk = shutil.disk_usage(tmp_path)
    assert reading.disk_bytes == disk.total
    assert abs(reading.free_disk_bytes - disk.free) < disk.total / 10
    assert reading.gpus == ()


def test_no_more_memory_is_in_use_than_there_is(tmp_path: Path) -> None:
    assert read(Inventory(1, 4096), tmp_path).used_memory_bytes == 4096


def test_its_gpus_are_those_of_the_inventory_with_what_is_used_now(
    programs: Path, tmp_path: Path
) -> None:
    nvidia_smi(programs, f'echo "$@" > {programs}/asked; echo "3, 7"; echo "0, [N/A]"; echo "9, 1"')
    reading = read(WITH_GPUS, tmp_path)
    assert reading.gpus == (GpuReading(L4, None), GpuReading(A6000, 7 * MIB))
    assert (programs / "asked").read_text().split() == list(GPU_USE_QUERY)


def test_without_gpus_no_driver_is_asked(programs: Path, tmp_path: Path) -> None:
    nvidia_smi(programs, f"echo > {programs}/asked")
    assert read(INVENTORY, tmp_path).gpus == ()
    assert not (programs / "asked").exists()


@pytest.mark.parametrize("script", [None, "echo '0, 7'; exit 9", "printf '\\377\\n'", "exec /no"])
def test_a_driver_that_fails_leaves_the_rest(
    programs: Path, tmp_path: Path, script: str | None
) -> None:
    if script is not None:
        nvidia_smi(programs, script)
    reading = read(WITH_GPUS, tmp_path)
    assert [each.used_bytes for each in reading.gpus] == [None, None]
    assert reading.disk_bytes > 0


def test_a_driver_that_hangs_is_not_waited_for_nor_asked_twice(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(programs, f"echo $$ >> {programs}/asked; exec /bin/sleep 600")
    monkeypatch.setattr(nodes, "_KEPT_S", 0.0)
    monkeypatch.setattr(nodes, "_PATIENCE_S", 0.3)

    async def story() -> None:
        here = LocalNodes(WITH_GPUS, tmp_path)
        begun = time.monotonic()
        for _ in range(2):
            (reading,) = await here.read()
            assert [each.used_bytes for each in reading.gpus] == [None, None]
        assert time.monotonic() - begun < 5

    asyncio.run(story())
    # A process that is not seen to its end is told of when it is collected.
    gc.collect()
    (pid,) = (programs / "asked").read_text().split()
    # Nor does it outlive who asked.
    wait_for(lambda: not is_running(int(pid)), "the tool to end")


def test_a_driver_that_hung_is_ended_and_asked_again(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = programs / "pid"
    nvidia_smi(programs, f"echo $$ > {pid}; exec /bin/sleep 600")
    monkeypatch.setattr(nodes, "_KEPT_S", 0.0)
    monkeypatch.setattr(nodes, "_QUERY_TIMEOUT_S", 0.3)

    async def story() -> None:
        here = LocalNodes(WITH_GPUS, tmp_path)
        await here.read()
        assert not psutil.pid_exists(int(pid.read_text()))
        nvidia_smi(programs, "echo '0, 1'")
        (reading,) = await here.read()
        assert reading.gpus[0].used_bytes == MIB

    asyncio.run(story())


def test_a_reading_does_not_hold_up_the_loop(tmp_path: Path, samples: list[float]) -> None:
    async def story() -> None:
        reading = asyncio.create_task(LocalNodes(INVENTORY, tmp_path).read())
        turns = 0
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 10
        assert (await reading)[0].cpu_percent == 12.5

    asyncio.run(story())


def test_who_asks_meanwhile_or_soon_after_gets_the_same_reading(
    tmp_path: Path, samples: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        here = LocalNodes(INVENTORY, tmp_path)
        first, *others = await asyncio.gather(*(here.read() for _ in range(5)))
        assert [each[0] is first[0] for each in others] == [True] * 4
        assert (await here.read())[0] is first[0]
        assert len(samples) == 1
        monkeypatch.setattr(nodes, "_KEPT_S", 0.0)
        assert (await here.read())[0] is not first[0]
        assert len(samples) == 2

    asyncio.run(story())


def test_one_who_goes_away_leaves_the_others_their_reading(tmp_path: Path) -> None:
    async def story() -> None:
        here = LocalNodes(INVENTORY, tmp_path)
        impatient, patient = (asyncio.create_task(here.read()) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        assert (await patient)[0].cores == 2
        assert impatient.cancelled()

    asyncio.run(story())


def test_a_reading_that_failed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_KEPT_S", 0.0)
    folder = tmp_path / "data"

    async def story() -> None:
        here = LocalNodes(INVENTORY, folder)
        with pytest.raises(FileNotFoundError):
            await here.read()
        folder.mkdir()
        assert (await here.read())[0].disk_bytes > 0

    asyncio.run(story())
