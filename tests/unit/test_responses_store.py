"""Where responses are kept, and how an answer waits for that."""

import asyncio
import json
import os
import shutil
import threading
import time
from collections import namedtuple
from pathlib import Path

import msgspec
import pytest

from modelry.errors import ModelryError
from modelry.gateway import kept_files
from modelry.gateway.dialects.responses import keeping
from modelry.gateway.dialects.responses.ids import Ids
from modelry.gateway.dialects.responses.store import Record, ResponseStore
from modelry.gateway.replies import Reply
from modelry.routing.messages import KeyGrant
from tests.unit.responses import KEY, OWNER, PATH, Api, Caller, Json, answer, chunk

Disk = namedtuple("Disk", "total used free")
BEN = KeyGrant("key_2", "hash", "u-ben", number=2)


def store(folder: Path, *, ttl_s: float = 60, most_bytes: int = 1 << 20) -> ResponseStore:
    return ResponseStore(
        folder / "responses", ttl_s=ttl_s, most_bytes=most_bytes, record_bytes=1 << 20
    )


def record(owner: str = OWNER, text: str = "hi", path: str = PATH) -> Record:
    def raw(value: object) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(value))

    return Record(owner, path, raw({"output": [{"id": "b"}]}), raw([{"id": "a", "text": text}]))


def keep(kept: ResponseStore, owner: str = OWNER, text: str = "hi", path: str = PATH) -> str:
    id_ = Ids().response
    kept.keep(id_, record(owner, text, path))
    return id_


def file_of(folder: Path, id_: str) -> Path:
    (file,) = (folder / "responses").glob(f"*{id_[5:]}*")
    return file


def test_a_record_has_the_conversation_up_to_its_answer(tmp_path: Path) -> None:
    kept = store(tmp_path)
    found = kept.read(keep(kept), KEY)
    assert found is not None
    assert [item["id"] for item in found.conversation] == ["a", "b"]


def test_another_owner_finds_nothing(tmp_path: Path) -> None:
    kept = store(tmp_path)
    id_ = keep(kept)
    assert kept.read(id_, BEN) is None
    assert not kept.delete(id_, BEN)
    assert kept.read(id_, KEY) is not None
    # Not even where its name were another's.
    mine, theirs = file_of(tmp_path, id_), keep(kept, BEN.owner_id)
    mine.replace(file_of(tmp_path, theirs))
    assert kept.read(theirs, BEN) is None


def test_a_key_finds_what_it_may_call(tmp_path: Path) -> None:
    kept = store(tmp_path)
    id_ = keep(kept, path=f"{OWNER}/demo")
    for services, may in (((f"{OWNER}/*",), True), ((f"{OWNER}/other",), False), ((), False)):
        key = msgspec.structs.replace(KEY, services=services)
        assert (kept.read(id_, key) is not None) is may


@pytest.mark.parametrize("id_", ["", "resp_", "resp_" + "g" * 48, "../secret", "resp_" + "0" * 48])
def test_ids_that_are_none_lead_nowhere(tmp_path: Path, id_: str) -> None:
    kept = store(tmp_path)
    assert kept.read(id_, KEY) is None
    assert not kept.delete(id_, KEY)


def test_what_is_old_is_gone_before_it_is_swept(tmp_path: Path) -> None:
    kept = store(tmp_path, ttl_s=10)
    id_ = keep(kept)
    at = time.time() - 11
    os.utime(file_of(tmp_path, id_), (at, at))
    assert kept.read(id_, KEY) is None
    kept.sweep()
    assert not list((tmp_path / "responses").iterdir())


def test_whoever_keeps_most_loses_the_oldest(tmp_path: Path) -> None:
    kept = store(tmp_path, most_bytes=100_000)
    bens = keep(kept, BEN.owner_id, "x" * 5_000)
    mine = [keep(kept, text="x" * 20_000) for _ in range(4)]
    for age, id_ in enumerate([bens, *mine]):
        at = time.time() - 50 + age
        os.utime(file_of(tmp_path, id_), (at, at))
    last = keep(kept, text="x" * 20_000)
    assert kept.read(bens, BEN) is not None
    assert kept.read(mine[0], KEY) is None
    assert kept.read(last, KEY) is not None
    with pytest.raises(ModelryError):
        keep(kept, text="x" * 200_000)


def test_a_file_that_cannot_be_read_is_a_503(tmp_path: Path) -> None:
    kept = store(tmp_path)
    id_ = keep(kept)
    file_of(tmp_path, id_).write_bytes(b"{")
    with pytest.raises(Reply) as refused:
        kept.read(id_, KEY)
    assert refused.value.status == 503


def test_items_are_found_in_the_conversation_that_has_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store(tmp_path)
    items: list[Json] = []
    for _ in range(100):
        ids = Ids()
        items.append({"id": ids.item("message")})
        made = record()
        made.items = msgspec.Raw(msgspec.json.encode(items))
        kept.keep(ids.response, made)
    wanted = [item["id"] for item in items]
    looks = []
    read = kept.read

    def looked(id_: str, key: KeyGrant) -> Record | None:
        looks.append(id_)
        return read(id_, key)

    monkeypatch.setattr(kept, "read", looked)
    assert kept.items(wanted, KEY) == {item["id"]: item for item in items}
    assert len(looks) == 1
    # From the first on, each has to be looked for anew: that is too much for one call.
    with pytest.raises(Reply) as refused:
        kept.items(wanted[::-1], KEY)
    assert refused.value.status == 400
    assert kept.items([wanted[0], "msg_unknown"], KEY) == {}
    assert kept.items(wanted, BEN) == {}


# -- answers ------------------------------------------------------------------


def kept_answer(api: Api, caller: Caller, **body: object) -> None:
    """A call whose answer comes, within a loop."""

    async def run() -> None:
        asked = {"model": PATH, "input": "hi", **body}
        _, answering = api.call(asked, caller)
        if body.get("stream"):
            answering.begin(200, b"")
            for each in (chunk(content="Hi"), chunk("stop")):
                answering.write(b"data: " + json.dumps(each).encode() + b"\n\n")
            answering.finish()
        else:
            answering.respond_whole(200, b"", json.dumps(answer(content="Hi")).encode())
        # Nothing of the end has gone out yet.
        assert not caller.finished
        assert b"response.completed" not in caller.body
        api.responses.threads.shutdown()
        for _ in range(5):
            # What a thread has done is told in turns of the loop.
            await asyncio.sleep(0)

    asyncio.run(run())


def response_of(caller: Caller) -> Json:
    found: Json = caller.events[-1]["response"] if caller.events else json.loads(caller.body)
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_once_it_is_kept(tmp_path: Path, stream: bool) -> None:
    api, caller = Api(tmp_path), Caller()
    kept_answer(api, caller, stream=stream)
    assert caller.finished
    response = json.loads(caller.body.rpartition(b"data: ")[2]) if stream else response_of(caller)
    response = response.get("response", response)
    found = api.store.read(response["id"], KEY)
    assert found is not None
    assert json.loads(bytes(found.response)) == response
    (item,) = response["output"]
    assert api.store.items([item["id"]], KEY) == {item["id"]: item}


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_left_meanwhile_is_sent_nothing(tmp_path: Path, stream: bool) -> None:
    api, caller = Api(tmp_path), Caller(left=True)
    kept_answer(api, caller, stream=stream)
    assert not caller.finished


def test_a_full_disk_costs_the_answer_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(9, 0, kept_files.DISK_LEFT_BYTES - 1))
    api, caller = Api(tmp_path), Caller()
    kept_answer(api, caller)
    assert caller.finished
    assert not list((tmp_path / "responses").iterdir())
    # Whoever relies on it is told before any work is done.
    with pytest.raises(Reply) as refused:
        api.call({"model": PATH, "input": "hi", "store": True})
    assert refused.value.status == 503
    api.call({"model": PATH, "input": "hi", "store": False})


def test_a_disk_that_hangs_does_not_hang_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, caller, answered = Api(tmp_path), Caller(), threading.Event()
    monkeypatch.setattr(keeping, "PATIENCE_S", 0.01)
    monkeypatch.setattr(api.store, "keep", lambda *_: answered.wait(10))

    async def run() -> None:
        _, answering = api.call({"model": PATH, "input": "hi"}, caller)
        answering.respond_whole(200, b"", json.dumps(answer(content="Hi")).encode())
        async with asyncio.timeout(5):
            while not caller.finished:
                await asyncio.sleep(0.01)
        body = caller.body
        answered.set()
        api.responses.threads.shutdown()
        for _ in range(5):
            await asyncio.sleep(0)
        # Nothing is sent a second time.
        assert caller.body == body

    asyncio.run(run())
