"""Runtimes installed by the real uv, from a package index on loopback."""

import asyncio
import hashlib
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from modelry.engines.installer import (
    Installed,
    InstallFailed,
    Installing,
    Missing,
    PackageSources,
    Runtimes,
    RuntimeState,
)
from modelry.engines.runtimes import Runtime
from tests.support.package_index import Fault, PackageIndex, noise
from tests.support.slow_index import index_environment, make_wheel, serving

WAIT_S = 60
TINY = "tiny-1.0-cpu"


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    index = PackageIndex()
    yield index
    index.close()


class Node:
    """A node's folder of runtimes, and where its packages come from."""

    def __init__(self, folder: Path, port: int, login: str = "") -> None:
        self.folder = folder
        self.known: dict[str, Runtime] = {}
        self.changes = 0
        self.sources = PackageSources(
            {
                **index_environment(port),
                "UV_DEFAULT_INDEX": f"http://{login}127.0.0.1:{port}/simple/",
                "UV_CACHE_DIR": str(folder / "cache"),
                "UV_HTTP_RETRIES": "0",
                # Longer than a test: what is stopped is stopped by us.
                "UV_HTTP_TIMEOUT": "600",
            }
        )

    def knows(self, version: str, *pins: tuple[str, bytes]) -> Runtime:
        """`pins`: what stands in the requirements, and the wheel whose hash does."""
        file = self.folder / f"tiny-{version}-cpu.txt"
        file.write_text(
            "".join(
                f"{pin} \\\n    --hash=sha256:{hashlib.sha256(wheel).hexdigest()}\n"
                for pin, wheel in pins
            )
        )
        runtime = Runtime("tiny", version, "cpu", file)
        self.known[runtime.id] = runtime
        return runtime

    def runtimes(self) -> Runtimes:
        """As a control plane that has just started sees them."""
        runtimes = Runtimes(self.folder / "runtimes", self.known, lambda: self.sources)
        runtimes.on_change = self._count
        return runtimes

    def _count(self) -> None:
        self.changes += 1

    def install(self, runtime_id: str = TINY) -> RuntimeState:
        """Until it has ended, one way or the other."""

        async def scenario(runtimes: Runtimes) -> RuntimeState:
            return await ended(runtimes, runtime_id)

        return self.run(scenario)

    def run(self, scenario: Callable[[Runtimes], Awaitable[RuntimeState]]) -> RuntimeState:
        async def whole() -> RuntimeState:
            runtimes = self.runtimes()
            try:
                return await scenario(runtimes)
            finally:
                await runtimes.close()

        return asyncio.run(whole())


@pytest.fixture
def node(tmp_path: Path, index: PackageIndex) -> Node:
    node = Node(tmp_path, index.port)
    wheel = index.add("tiny", "1.0", {"tiny/__init__.py": b"VERSION = '1.0'\n"})
    node.knows("1.0", ("tiny==1.0", wheel))
    return node


async def ended(runtimes: Runtimes, runtime_id: str = TINY) -> RuntimeState:
    runtimes.ensure(runtime_id)
    await until(lambda: not isinstance(runtimes.state(runtime_id), Installing), "an end")
    return runtimes.state(runtime_id)


async def until(look: Callable[[], object], what: str) -> None:
    for _ in range(WAIT_S * 50):
        if look():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def said(installed: RuntimeState, code: str) -> str:
    """What Python prints in that environment."""
    assert isinstance(installed, Installed), installed
    return subprocess.check_output([installed.python, "-c", code], text=True).strip()


def failed(state: RuntimeState) -> InstallFailed:
    assert isinstance(state, InstallFailed), state
    return state


def installers(folder: Path) -> list[psutil.Process]:
    """The processes of uv that work on a folder of ours."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(str(folder) in word for word in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


# -- installing ----------------------------------------------------------------


def test_what_is_installed_runs_and_is_found_again(node: Node) -> None:
    states: list[RuntimeState] = []

    async def scenario(runtimes: Runtimes) -> RuntimeState:
        states.append(runtimes.state(TINY))
        runtimes.ensure(TINY)
        states.append(runtimes.state(TINY))
        return await ended(runtimes)

    before = datetime.now(UTC)
    installed = node.run(scenario)
    assert isinstance(states[0], Missing)
    assert states[1] == Installing(f"installing {TINY}: preparing")
    assert isinstance(installed, Installed)
    assert said(installed, "import tiny; print(tiny.VERSION)") == "1.0"
    assert installed.folder == node.folder / "runtimes" / TINY
    assert before <= installed.installed_at <= datetime.now(UTC)
    files = [each for each in installed.folder.rglob("*") if each.is_file()]
    on_disk = sum(each.stat(follow_symlinks=False).st_size for each in files)
    # All but the mark, which is written last.
    assert installed.size_bytes == on_disk - (installed.folder / "modelry.json").stat().st_size
    assert node.changes == 1

    again = node.runtimes()
    assert again.state(TINY) == installed
    assert again.here() == [TINY]


def test_what_is_here_is_not_installed_again(node: Node, index: PackageIndex) -> None:
    first = node.install()
    asked = len(index.requests)
    assert node.install() == first
    assert len(index.requests) == asked
    assert node.changes == 1


def test_two_versions_lie_side_by_side_until_one_is_removed(
    node: Node, index: PackageIndex
) -> None:
    wheel = index.add("tiny", "2.0", {"tiny/__init__.py": b"VERSION = '2.0'\n"})
    node.knows("2.0", ("tiny==2.0", wheel))

    async def both(runtimes: Runtimes) -> RuntimeState:
        runtimes.ensure(TINY)
        return await ended(runtimes, "tiny-2.0-cpu")

    code = "import tiny; print(tiny.VERSION)"
    second = node.run(both)
    first = node.install()
    assert (said(first, code), said(second, code)) == ("1.0", "2.0")
    assert node.runtimes().here() == [TINY, "tiny-2.0-cpu"]

    async def remove(runtimes: Runtimes) -> RuntimeState:
        await runtimes.remove(TINY)
        return runtimes.state(TINY)

    assert isinstance(node.run(remove), Missing)
    assert not (node.folder / "runtimes" / TINY).exists()
    assert node.runtimes().here() == ["tiny-2.0-cpu"]
    assert said(second, code) == "2.0"
    assert said(node.install(), code) == "1.0"


def test_only_what_the_file_names_is_installed(tmp_path: Path, index: PackageIndex) -> None:
    """Though the wheel asks for more, and more is to be had."""
    node = Node(tmp_path, index.port)
    index.add("greedy", "1.0", {"greedy.py": b""})
    metadata = b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: greedy\n"
    wheel = index.add("tiny", "1.0", {"tiny.py": b"", "tiny-1.0.dist-info/METADATA": metadata})
    node.knows("1.0", ("tiny==1.0", wheel))
    assert (
        said(node.install(), "import importlib.util as i; print(i.find_spec('greedy'))") == "None"
    )
    assert not any("greedy" in request.path for request in index.requests)


# -- what cannot be installed --------------------------------------------------


def looks_whole(node: Node) -> bool:
    """Whether a control plane that starts now takes anything for installed."""
    runtimes = node.runtimes()
    return bool(runtimes.here()) or not isinstance(runtimes.state(TINY), Missing)


@pytest.mark.parametrize("stated", [True, False], ids=["by the index too", "when it is here"])
def test_another_wheel_than_was_pinned_is_refused(
    tmp_path: Path, index: PackageIndex, stated: bool
) -> None:
    node = Node(tmp_path, index.port)
    pinned = index.add("tiny", "1.0", {"tiny.py": b"print('good')"})
    sha256 = hashlib.sha256(pinned).hexdigest()
    index.add("tiny", "1.0", {"tiny.py": b"print('evil')"}, sha256="" if stated else sha256)
    node.knows("1.0", ("tiny==1.0", pinned))
    told = failed(node.install())
    assert told.message.startswith("uv could not install it: ")
    assert "tiny==1.0" in told.message
    assert "hash" in told.message.lower()
    assert told.hint
    assert node.changes == 1
    assert not looks_whole(node)
    assert not list((node.folder / "runtimes").rglob("tiny.py"))


def test_a_requirement_without_a_hash_is_refused(node: Node) -> None:
    node.known[TINY].requirements.write_text("tiny==1.0\n")
    assert "hash" in failed(node.install()).message.lower()
    assert not looks_whole(node)


def test_nothing_is_built_from_source(node: Node, index: PackageIndex) -> None:
    """A source archive runs its own code when it is built."""
    archive = index.wheels["tiny"].pop("tiny-1.0-py3-none-any.whl")
    index.wheels["tiny"]["tiny-1.0.tar.gz"] = archive
    told = failed(node.install())
    assert "tiny" in told.message
    assert not index.downloads()
    assert not looks_whole(node)


@pytest.mark.parametrize(
    "fault", [Fault(page=True, status=500), Fault(status=500)], ids=["page", "file"]
)
def test_an_index_that_fails_is_told_and_tried_again_when_asked(
    node: Node, index: PackageIndex, fault: Fault
) -> None:
    async def scenario(runtimes: Runtimes) -> RuntimeState:
        index.always = fault
        told = failed(await ended(runtimes))
        assert "500" in told.message
        assert "tiny" in told.message
        assert told.hint
        assert not runtimes.here()

        # Not by itself: nobody has looked at what is wrong.
        index.always = None
        asked = len(index.requests)
        runtimes.ensure(TINY)
        assert runtimes.state(TINY) == told
        assert len(index.requests) == asked

        runtimes.forget_failure(TINY)
        assert isinstance(runtimes.state(TINY), Missing)
        return await ended(runtimes)

    assert said(node.run(scenario), "import tiny; print(tiny.VERSION)") == "1.0"
    assert node.changes == 2


def test_an_index_that_cannot_be_reached_is_told_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Bound and not listened on: it refuses every connection.
        taken.bind(("127.0.0.1", 0))
        node = Node(tmp_path, taken.getsockname()[1], login="me:hidden@")
        node.knows("1.0", ("tiny==1.0", b""))
        told = failed(node.install())
    assert "refused" in told.message
    assert "hidden" not in f"{told}"
    assert told.hint
    assert not looks_whole(node)


def test_without_a_network_only_the_cache_is_used(node: Node, index: PackageIndex) -> None:
    with_network = node.sources
    node.sources = replace(with_network, offline=True)
    assert "tiny" in failed(node.install()).message
    assert not index.requests

    node.sources = with_network
    node.install()
    asked = len(index.requests)

    async def again(runtimes: Runtimes) -> RuntimeState:
        await runtimes.remove(TINY)
        return await ended(runtimes)

    node.sources = replace(with_network, offline=True)
    assert said(node.run(again), "import tiny; print(tiny.VERSION)") == "1.0"
    assert len(index.requests) == asked


# -- what is cut short ---------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Node]:
    """A node whose index would take an hour for the one wheel."""
    files = {
        "tiny/__init__.py": b"",
        "tiny/data.bin": noise(4 * 1024**2),
        "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        "tiny-1.0.dist-info/RECORD": b"",
    }
    wheel = make_wheel(tmp_path, "tiny", "1.0", files)
    with serving(wheel, bytes_per_s=1000) as index:
        node = Node(tmp_path, index.port)
        node.knows("1.0", ("tiny==1.0", wheel.file.read_bytes()))
        yield node


async def begun(slow: Node, runtimes: Runtimes) -> psutil.Process:
    """The uv that downloads, once uv has told that it does."""
    runtimes.ensure(TINY)

    def downloading() -> bool:
        state = runtimes.state(TINY)
        assert isinstance(state, Installing), state
        return state.total_bytes > 0

    await until(downloading, "the download")
    (process,) = installers(slow.folder / "runtimes" / TINY)
    return process


@pytest.mark.parametrize("how", ["remove", "close"])
def test_a_download_that_is_stopped_leaves_no_process_and_nothing_whole(
    slow: Node, how: str
) -> None:
    async def scenario(runtimes: Runtimes) -> RuntimeState:
        process = await begun(slow, runtimes)
        state = runtimes.state(TINY)
        assert isinstance(state, Installing)
        assert "downloading tiny" in state.message
        assert state.total_bytes == pytest.approx(4 * 1024**2, rel=0.05)
        ending = runtimes.remove(TINY) if how == "remove" else runtimes.close()
        await asyncio.wait_for(ending, 20)
        assert not process.is_running()
        return runtimes.state(TINY)

    assert isinstance(slow.run(scenario), Missing)
    assert installers(slow.folder) == []
    assert not looks_whole(slow)
    assert slow.changes >= 1
    assert (slow.folder / "runtimes" / TINY).exists() == (how == "close")


def test_a_killed_uv_is_a_failure(slow: Node) -> None:
    async def scenario(runtimes: Runtimes) -> RuntimeState:
        (await begun(slow, runtimes)).kill()
        return await ended(runtimes)

    assert failed(slow.run(scenario)).hint
    assert not looks_whole(slow)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_password_stands_in_an_argument(index: PackageIndex, tmp_path: Path) -> None:
    index.login = "me:hidden"
    node = Node(tmp_path, index.port, login="me:hidden@")
    files = {"tiny/__init__.py": b"VERSION = '1.0'\n", "tiny/data.bin": noise(2 * 1024**2)}
    node.knows("1.0", ("tiny==1.0", index.add("tiny", "1.0", files)))
    gate = threading.Event()
    index.faults.append(Fault(gate=gate))

    async def scenario(runtimes: Runtimes) -> RuntimeState:
        try:
            process = await begun(node, runtimes)
            told = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert b"tiny-1.0-cpu" in told
            assert b"hidden" not in told
            assert b"127.0.0.1" not in told
        finally:
            gate.set()
        return await ended(runtimes)

    assert said(node.run(scenario), "import tiny; print(tiny.VERSION)") == "1.0"
    assert any(request.authorization for request in index.requests)
    assert b"hidden" not in (tmp_path / "runtimes" / TINY / "modelry.json").read_bytes()


def test_a_refused_password_is_not_told(index: PackageIndex, tmp_path: Path) -> None:
    node = Node(tmp_path, index.port, login="me:hidden@")
    node.knows("1.0", ("tiny==1.0", index.add("tiny", "1.0", {"tiny.py": b""})))
    index.always = Fault(page=True, status=401)
    told = failed(node.install())
    assert "tiny" in told.message
    assert "hidden" not in f"{told}"


def test_what_was_cut_short_by_a_crash_is_installed_anew(node: Node) -> None:
    folder = node.folder / "runtimes" / TINY
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to("/usr/bin/env")
    (folder / "left-over").write_text("of an earlier attempt")
    (folder / "modelry.json.new").write_text("{}")
    assert not looks_whole(node)
    assert said(node.install(), "import tiny; print(tiny.VERSION)") == "1.0"
    assert not (folder / "left-over").exists()


@pytest.mark.parametrize("mark", [b"", b"{", b"[]", b'{"size_bytes": "much"}', b"\xff"])
def test_a_mark_that_cannot_be_read_is_none(node: Node, mark: bytes) -> None:
    node.install()
    (node.folder / "runtimes" / TINY / "modelry.json").write_bytes(mark)
    assert isinstance(node.runtimes().state(TINY), Missing)
    assert isinstance(node.install(), Installed)


def test_an_environment_whose_interpreter_is_gone_is_made_anew(node: Node) -> None:
    """As after an upgrade of Python: the environment's own is a link to it."""
    installed = node.install()
    assert isinstance(installed, Installed)
    assert installed.python.is_symlink()
    installed.python.unlink()
    installed.python.symlink_to(node.folder / "gone" / "python")
    assert isinstance(node.runtimes().state(TINY), Missing)
    assert said(node.install(), "import tiny; print(tiny.VERSION)") == "1.0"


def test_nobody_else_can_look_into_the_runtimes(node: Node) -> None:
    node.runtimes()
    assert (node.folder / "runtimes").stat().st_mode & 0o777 == 0o700
    assert list((node.folder / "runtimes").iterdir()) == []
