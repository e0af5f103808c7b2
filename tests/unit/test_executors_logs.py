"""A replica's log: its end, its rotation under a writer, and following it."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelry.executors.logs import LogFile

Value = TypeVar("Value")
LONG_ENOUGH_S = 10


@pytest.fixture
def log(tmp_path: Path) -> LogFile:
    return LogFile(tmp_path / "engine.log")


def append(log: LogFile, text: str) -> None:
    descriptor = log.open_for_engine()
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def run(work: Coroutine[None, None, Value]) -> Value:
    async def bounded() -> Value:
        async with asyncio.timeout(LONG_ENOUGH_S):
            return await work

    return asyncio.run(bounded())


# -- tail --------------------------------------------------------------------


def test_a_log_that_is_not_there_has_no_lines(log: LogFile) -> None:
    assert log.tail(10) == []


def test_the_tail_is_the_last_lines_in_order(log: LogFile) -> None:
    append(log, "".join(f"line {number}\n" for number in range(100)))
    assert log.tail(3) == ["line 97", "line 98", "line 99"]
    assert log.tail(0) == []
    assert log.tail(-1) == []
    assert len(log.tail(1000)) == 100


def test_a_line_that_is_not_finished_is_shown(log: LogFile) -> None:
    append(log, "one\ntw")
    assert log.tail(5) == ["one", "tw"]


def test_bytes_that_are_no_text_do_not_hide_the_rest(log: LogFile) -> None:
    log.path.write_bytes(b"bad \xff\xfe\nnext\n")
    assert log.tail(2)[1] == "next"


def test_the_tail_of_a_long_log_is_found_from_its_end(log: LogFile) -> None:
    lines = [f"{number} " + "é" * 1000 for number in range(500)]
    append(log, "\n".join(lines) + "\n")
    assert log.tail(200) == lines[-200:]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.text("ab é", max_size=30), max_size=20), st.integers(1, 25))
def test_the_tail_is_what_reading_it_all_would_show(
    tmp_path: Path, lines: list[str], number: int
) -> None:
    log = LogFile(tmp_path / "any.log")
    log.path.write_text("".join(line + "\n" for line in lines))
    assert log.tail(number) == lines[-number:]


# -- rotation ----------------------------------------------------------------


def rotated(log: LogFile, number: int) -> Path:
    return log.path.with_name(f"{log.path.name}.{number}")


def test_a_small_log_is_left_alone(log: LogFile) -> None:
    append(log, "0123456789")
    log.rotate_if_large(10)
    assert log.path.read_text() == "0123456789"
    assert not rotated(log, 1).exists()


def test_a_log_that_is_not_there_needs_no_rotation(log: LogFile) -> None:
    log.rotate_if_large(0)
    assert not log.path.exists()


def test_two_earlier_logs_are_kept(log: LogFile) -> None:
    for number in range(4):
        append(log, f"log {number}\n")
        log.rotate_if_large(1)
    assert log.path.read_text() == ""
    assert rotated(log, 1).read_text() == "log 3\n"
    assert rotated(log, 2).read_text() == "log 2\n"
    assert not rotated(log, 3).exists()


def test_the_tail_reaches_back_over_the_last_rotation(log: LogFile) -> None:
    append(log, "one\ntwo\nthree\n")
    log.rotate_if_large(1)
    append(log, "four\n")
    assert log.tail(3) == ["two", "three", "four"]
    assert log.tail(1) == ["four"]


def test_only_this_account_may_read_a_log(log: LogFile) -> None:
    append(log, "secret\n")
    assert log.path.stat().st_mode & 0o077 == 0


WRITER = """
import os, sys
lines = int(sys.argv[1])
for number in range(lines):
    os.write(1, b"line %06d\\n" % number)
os.write(2, b"written")
input()
os.write(1, b"line %06d\\n" % lines)
"""


def test_an_engine_goes_on_writing_through_rotations(log: LogFile) -> None:
    number = 30_000
    descriptor = log.open_for_engine()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(number)],
        stdin=subprocess.PIPE,
        stdout=descriptor,
        stderr=subprocess.PIPE,
    )
    os.close(descriptor)
    assert writer.stderr is not None
    os.set_blocking(writer.stderr.fileno(), False)
    while not writer.stderr.read():
        log.rotate_if_large(20_000)
    # The last line comes when all rotation is over: none of it may be lost.
    writer.communicate(b"\n", timeout=LONG_ENOUGH_S)
    assert writer.returncode == 0
    files = [rotated(log, 2), rotated(log, 1), log.path]
    found = [
        int(line.split()[1])
        for file in files
        for line in file.read_text().splitlines()
        if re.fullmatch(r"line \d{6}", line)
    ]
    # No hole where the file was cut, nothing twice, nothing out of order, and the end is there.
    assert all(b"\0" not in file.read_bytes() for file in files)
    assert found == sorted(set(found))
    assert log.tail(1) == [f"line {number:06}"]
    assert log.path.stat().st_size < number * len("line 000000\n")


# -- following ---------------------------------------------------------------


async def next_line(lines: AsyncIterator[str]) -> str:
    return await anext(lines)


def test_following_begins_with_the_tail_and_goes_on(log: LogFile) -> None:
    append(log, "one\ntwo\nthree\n")

    async def follow() -> list[str]:
        lines = log.follow(2)
        found = [await anext(lines), await anext(lines)]
        waiting = asyncio.ensure_future(next_line(lines))
        # Until it waits at the end of the file.
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        append(log, "four\n")
        found.append(await waiting)
        return found

    assert run(follow()) == ["two", "three", "four"]


def test_a_line_written_while_the_tail_is_read_is_not_missed(log: LogFile) -> None:
    append(log, "one\n")

    async def follow() -> list[str]:
        lines = log.follow(1)
        found = [await anext(lines)]
        append(log, "two\n")
        async with asyncio.timeout(2):
            found.append(await anext(lines))
        return found

    assert run(follow()) == ["one", "two"]


def test_a_line_that_comes_in_pieces_is_told_once_and_whole(log: LogFile) -> None:
    append(log, "")

    async def follow() -> str:
        waiting = asyncio.ensure_future(next_line(log.follow(0)))
        await asyncio.wait([waiting], timeout=0.05)
        append(log, "first half, ")
        done, _ = await asyncio.wait([waiting], timeout=0.6)
        assert not done
        append(log, "second half\n")
        return await waiting

    assert run(follow()) == "first half, second half"


def test_following_goes_on_after_a_rotation(log: LogFile) -> None:
    append(log, "a long line before the rotation\n")

    async def follow() -> list[str]:
        lines = log.follow(1)
        found = [await anext(lines)]
        waiting = asyncio.ensure_future(next_line(lines))
        await asyncio.wait([waiting], timeout=0.05)
        log.rotate_if_large(1)
        append(log, "after\n")
        found.append(await waiting)
        return found

    assert run(follow())[1] == "after"


def test_following_ends_when_the_log_is_gone(log: LogFile) -> None:
    append(log, "one\n")

    async def follow() -> list[str]:
        found = []
        async for line in log.follow(10):
            found.append(line)
            log.path.unlink()
        return found

    assert run(follow()) == ["one"]


def test_following_a_log_that_is_not_there_ends_at_once(log: LogFile) -> None:
    async def follow() -> list[str]:
        return [line async for line in log.follow(10)]

    assert run(follow()) == []
