"""Uploads without a server: what stays after a stall, a restart, a week, a full disk."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modelry.access.principal import Principal
from modelry.catalog.arriving import ArrivingFile, CutOff, DiskFull
from modelry.catalog.cards import Variant
from modelry.catalog.uploads import Announced, Upload, Uploads, wanted_of
from modelry.catalog.weights import Weights, WeightsStore
from modelry.errors import Conflict, InvalidRequest, NotFound
from tests.support.weights_files import gguf

OWNER = "u-000000000001"
ME = Principal(OWNER, "me", operator=False)
DATA = gguf(3_000_000, 51)


async def blocks(*data: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for each in data:
        yield each
    if then is not None:
        raise then


def arriving(tmp_path: Path) -> ArrivingFile:
    return ArrivingFile("a.gguf", len(DATA), tmp_path / "0")


def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads", WeightsStore(tmp_path / "weights"))


async def begun(all_: Uploads, data: bytes = DATA) -> Upload:
    told = Announced("a.gguf", len(data), hashlib.sha256(data).hexdigest())
    upload = await all_.begin(OWNER, "mine", ("chat",), wanted_of([told]))
    await all_.receive(upload, "a.gguf", 0, None, blocks(data))
    return upload


def test_a_sender_that_stalls_is_cut_off_and_what_came_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelry.catalog.arriving._STALL_S", 0.05)
    file = arriving(tmp_path)

    async def silent() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        await asyncio.sleep(60)

    with pytest.raises(CutOff):
        asyncio.run(file.take(0, None, silent()))
    assert (tmp_path / "0").read_bytes() == DATA[:1000]
    assert arriving(tmp_path).received == file.received == 1000


def test_a_sender_that_never_ends_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelry.catalog.arriving._PIECE_MAX_S", 0.2)
    file = arriving(tmp_path)

    async def slow() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    with pytest.raises(CutOff):
        asyncio.run(file.take(0, None, slow()))
    assert 0 < file.received < 30


def test_a_later_sender_takes_over(tmp_path: Path) -> None:
    file = arriving(tmp_path)

    async def both() -> None:
        go = asyncio.Event()

        async def dead() -> AsyncIterator[bytes]:
            yield DATA[:1_500_000]
            await go.wait()
            yield b"\xff" * 1_500_000

        first = asyncio.create_task(file.take(0, None, dead()))
        while file.received == 0:
            await asyncio.sleep(0.001)
        await file.take(file.received, None, blocks(DATA[file.received :]))
        go.set()
        # As much as would still fit is nothing, and who sent it may not write.
        with pytest.raises((Conflict, InvalidRequest)):
            await first

    asyncio.run(both())
    assert (tmp_path / "0").read_bytes() == DATA
    assert file.sha256() == hashlib.sha256(DATA).hexdigest()


def test_a_full_disk_is_said_and_keeps_what_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = arriving(tmp_path)
    asyncio.run(file.take(0, None, blocks(DATA[:1000])))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DiskFull):
            asyncio.run(file.take(1000, None, blocks(DATA[1000:2000])))
    assert file.received == 1000
    asyncio.run(file.take(1000, None, blocks(DATA[1000:])))
    assert (tmp_path / "0").read_bytes() == DATA


def test_a_digest_is_right_after_a_restart(tmp_path: Path) -> None:
    asyncio.run(arriving(tmp_path).take(0, None, blocks(DATA[:1_700_000])))
    file = arriving(tmp_path)
    asyncio.run(file.take(1_700_000, None, blocks(DATA[1_700_000:])))
    assert file.whole
    assert file.sha256() == hashlib.sha256(DATA).hexdigest()


def test_a_process_that_dies_while_it_completes_loses_nothing(tmp_path: Path) -> None:
    async def die_after_the_blobs() -> str:
        all_ = uploads(tmp_path)
        upload = await begun(all_)
        with pytest.raises(RuntimeError):
            async with all_.completed(upload):
                raise RuntimeError("the process ends before the model is in the database")
        return upload.state.id

    async def go_on(id_: str) -> None:
        all_ = uploads(tmp_path)
        upload = all_.get(ME, id_)
        assert upload.files[0].whole
        async with all_.completed(upload) as found:
            assert str(found.source) == f"upload://{hashlib.sha256(DATA).hexdigest()}"
        with pytest.raises(NotFound):
            all_.get(ME, id_)

    asyncio.run(go_on(asyncio.run(die_after_the_blobs())))
    assert list((tmp_path / "uploads").iterdir()) == []


def test_an_upload_of_what_is_here_leaves_the_model_that_has_it(tmp_path: Path) -> None:
    store = WeightsStore(tmp_path / "weights")
    sha256 = hashlib.sha256(DATA).hexdigest()
    (store.partial / "draft").write_bytes(DATA)
    blob = store.add_blob(store.partial / "draft", sha256)
    fetched = Variant(name="v", format="gguf", source="hf://org/model/a.gguf")
    weights = Weights(blob, len(DATA), sha256)
    store.remember(fetched, weights, [(blob, blob.stat())])

    async def run() -> None:
        all_ = Uploads(tmp_path / "uploads", store)
        async with all_.completed(await begun(all_)) as found:
            uploaded = Variant(name="v", format="gguf", source=str(found.source))
            assert store.find(uploaded) == weights

    asyncio.run(run())
    assert store.find(fetched) == weights
    assert list((tmp_path / "uploads").iterdir()) == []


def test_what_is_no_upload_is_swept_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "uploads" / "upl_cut").mkdir(parents=True)
    (tmp_path / "uploads" / "upl_cut" / "0").write_bytes(b"x")
    assert uploads(tmp_path).list(None) == []
    assert list((tmp_path / "uploads").iterdir()) == []


def test_an_abandoned_upload_expires_a_week_after_its_last_byte(tmp_path: Path) -> None:
    async def run() -> None:
        all_ = uploads(tmp_path)
        old, new = await begun(all_), await begun(all_)
        for place in (old.folder, *old.folder.iterdir()):
            os.utime(place, (1, 1))
        await all_.expire(new.last_byte_at() + 6 * 24 * 3600)
        assert all_.list(None) == [new]
        assert not old.folder.exists()
        await all_.expire(new.last_byte_at() + 8 * 24 * 3600)
        assert all_.list(None) == []

    asyncio.run(run())


def test_nothing_is_taken_for_an_upload_that_was_dropped(tmp_path: Path) -> None:
    async def run() -> None:
        all_ = uploads(tmp_path)
        upload = await all_.begin(
            OWNER, "mine", ("chat",), wanted_of([Announced("a.gguf", len(DATA))])
        )

        async def dropped() -> AsyncIterator[bytes]:
            yield DATA[:10]
            await all_.discard(upload)
            yield DATA[10:20]

        with pytest.raises(Conflict):
            await all_.receive(upload, "a.gguf", 0, None, dropped())
        assert list((tmp_path / "uploads").iterdir()) == []

    asyncio.run(run())


def test_others_do_not_see_an_upload_and_operators_may_not_add_to_it(tmp_path: Path) -> None:
    async def run() -> None:
        all_ = uploads(tmp_path)
        upload = await begun(all_)
        other = Principal("u-000000000002", "other", operator=False)
        operator = Principal("u-000000000003", "operator", operator=True)
        refused: list[Any] = [(all_.get, other), (all_.own, other), (all_.own, operator)]
        for look, who in refused:
            with pytest.raises(NotFound):
                look(who, upload.state.id)
        assert all_.get(operator, upload.state.id) is all_.own(ME, upload.state.id)

    asyncio.run(run())
