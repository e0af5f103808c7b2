"""Kept images go out as their callers take them, and no more of them is held than that."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec, cast

import pytest

from modelry.gateway.answers import AnswerWriter, Job
from modelry.gateway.connection import ClientConnection, Server
from modelry.gateway.image_files import ImageFiles, OpenImage
from modelry.gateway.image_serving import ImageServing
from modelry.gateway.memory import Memory
from modelry.gateway.replies import Reply
from modelry.gateway.request import Request

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8192

Given = ParamSpec("Given")


def in_a_loop(story: Callable[Given, Coroutine[Any, Any, None]]) -> Callable[Given, None]:
    @wraps(story)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        asyncio.run(story(*args, **kwargs))

    return run


class Client:
    """A caller's connection. With `takes`, it is full after so many writes."""

    def __init__(self, takes: int | None = None) -> None:
        self.takes = takes
        self.job: Job | None = None
        self.length = -1
        self.data = b""
        self.finished = self.aborted = False

    def begin(self, status: int, lines: bytes, length: int) -> None:
        assert status == 200
        self.length = length

    def write(self, data: bytes) -> None:
        self.data += data
        if self.takes is not None:
            self.takes -= 1
            if self.takes <= 0 and self.job is not None:
                self.job.client_writable(False)

    def finish(self) -> None:
        self.finished = True

    def abort(self) -> None:
        self.aborted = True


class Files(ImageFiles):
    """Remembers what it opened."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda *, make: b"k" * 32, ttl_s=60, most_bytes=1 << 30)
        self.opened: list[OpenImage] = []

    def open(self, request: Request) -> OpenImage:
        self.opened.append(super().open(request))
        return self.opened[-1]

    @property
    def under_way(self) -> int:
        return sum(not each.file.closed for each in self.opened)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = Files(tmp_path)
    yield files
    for each in files.opened:
        each.file.close()


def start(serving: ImageServing, address: str, client: Client, method: bytes = b"GET") -> Job:
    request = Request("", 0.0)
    request.method, request.target = method, address.encode()
    request.complete_head()
    client.job = serving.start(request, cast(AnswerWriter, client))
    return cast(Job, client.job)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


@in_a_loop
async def test_an_image_goes_out_whole(files: Files) -> None:
    client = Client()
    start(ImageServing(files), files.keep(IMAGE, "u"), client)
    await until(lambda: client.finished)
    assert (client.length, client.data) == (len(IMAGE), IMAGE)
    assert files.under_way == 0


@in_a_loop
async def test_nothing_is_read_ahead_of_a_caller_who_takes_nothing(files: Files) -> None:
    client = Client(takes=1)
    job = start(ImageServing(files), files.keep(IMAGE, "u"), client)
    await until(lambda: client.data != b"")
    for _ in range(20):
        await asyncio.sleep(0)
    (opened,) = files.opened
    assert len(client.data) == opened.file.tell() < len(IMAGE) // 4
    client.takes = None
    job.client_writable(True)
    await until(lambda: client.finished)
    assert client.data == IMAGE


class Full(asyncio.Transport):
    """Takes what is written, and is full at once until it is `emptied`."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self._connection = connection
        self.full = False
        self.data = b""

    def write(self, data: Any) -> None:
        self.data += data
        if not self.full:
            self.full = True
            self._connection.pause_writing()

    def emptied(self) -> None:
        self.full = False
        self._connection.resume_writing()


@in_a_loop
async def test_nothing_is_read_for_who_takes_not_even_the_head(files: Files) -> None:
    """A caller may have so many answers unread that the head of one more fills the buffer."""
    serving = ImageServing(files)
    rules = {"check_head": lambda _: None, "body_limit": lambda _: 0, "streams": lambda *_: False}
    server = SimpleNamespace(
        handler=SimpleNamespace(start=serving.start, **rules),
        memory=Memory(1),
        request_id=lambda: b"req_1",
        connections=set(),
        check_drained=lambda: None,
        draining=False,
        cors=None,
        log=None,
    )
    connection = ClientConnection(cast(Server, server))
    transport = Full(connection)
    connection.connection_made(transport)
    address = files.keep(IMAGE, "u")
    connection.data_received(f"GET {address} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    for _ in range(20):
        await asyncio.sleep(0)
    assert transport.data.endswith(b"\r\n\r\n")
    (opened,) = files.opened
    assert opened.file.tell() == 0
    while not opened.file.closed:
        transport.emptied()
        await asyncio.sleep(0)
    assert transport.data.endswith(IMAGE)


@in_a_loop
async def test_who_asks_for_the_head_has_nothing_read(files: Files) -> None:
    client = Client()
    address = files.keep(IMAGE, "u")
    start(ImageServing(files, at_once=0), address, client, b"HEAD")
    assert (client.length, client.data, client.finished) == (len(IMAGE), b"", True)
    assert files.under_way == 0


@in_a_loop
async def test_so_many_at_a_time_and_no_more(files: Files) -> None:
    serving, address = ImageServing(files, at_once=2), files.keep(IMAGE, "u")
    clients = [Client(takes=1), Client(takes=1)]
    jobs = [start(serving, address, client) for client in clients]
    with pytest.raises(Reply) as refusal:
        start(serving, address, Client())
    assert refusal.value.status == 503
    assert b"retry-after" in refusal.value.lines
    assert files.under_way == 2
    jobs[0].client_gone()
    jobs[0].client_gone()
    assert files.under_way == 1
    start(serving, address, Client())
    with pytest.raises(Reply):
        start(serving, address, Client())


@in_a_loop
async def test_the_images_of_one_owner_leave_places_for_those_of_others(files: Files) -> None:
    """Whoever has one address could keep everybody else's images from being fetched."""
    serving = ImageServing(files, each=2)
    annas, bens = files.keep(IMAGE, "u-anna"), files.keep(IMAGE, "u-ben")
    jobs = [start(serving, annas, Client(takes=1)) for _ in range(2)]
    with pytest.raises(Reply) as refusal:
        start(serving, files.keep(IMAGE, "u-anna"), Client())
    assert refusal.value.status == 503
    start(serving, bens, Client())
    jobs[0].client_gone()
    start(serving, annas, Client())
    assert files.under_way == 3


@in_a_loop
async def test_who_dawdles_is_dropped(files: Files) -> None:
    serving, client = ImageServing(files, patience_s=0, at_once=1), Client(takes=1)
    job = start(serving, files.keep(b"\x89PNG\r\n\x1a\n", "u"), client)
    job.client_writable(False)
    await until(lambda: client.aborted)
    assert files.under_way == 0
    start(serving, files.keep(IMAGE, "u"), Client())


@in_a_loop
async def test_a_file_that_was_cut_short_does_not_look_whole(files: Files, tmp_path: Path) -> None:
    client = Client(takes=1)
    job = start(ImageServing(files), files.keep(IMAGE, "u"), client)
    await until(lambda: client.data != b"")
    (path,) = tmp_path.iterdir()
    path.write_bytes(IMAGE[:10])
    client.takes = None
    job.client_writable(True)
    await until(lambda: client.aborted)
    assert not client.finished
    assert files.under_way == 0
