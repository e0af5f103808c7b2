"""What uv tells while it installs, what is made of its last words, and what it is told of us."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.engines import installer
from modelry.engines.installer import (
    Downloads,
    InstallFailed,
    Installing,
    PackageSources,
    Runtimes,
    RuntimeState,
)
from modelry.engines.runtimes import Flavour, Runtime

MIB = 1024**2

# Standard error of uv 0.13, as it wrote it.
RESOLVED = "Resolved 34 packages in 1.20s"
TRITON = "Downloading triton (272.5MiB)"
XGRAMMAR = "Downloading xgrammar (32.0MiB)"
TORCH = "Downloading torch (1.5GiB)"
SMALL = "Downloading click (96.0KiB)"
PREPARED = "Prepared 34 packages in 2.1s"
INSTALLED = "Installed 34 packages in 310ms"


def after(*lines: str) -> Installing:
    downloads = Downloads()
    for line in lines:
        downloads.take(line)
    return downloads.state("vllm-1-cpu")


@pytest.mark.parametrize(
    ("lines", "message", "done", "total"),
    [
        ([], "preparing", 0, 0),
        (["Using Python 3.11.7 environment at: /a/b"], "preparing", 0, 0),
        ([RESOLVED], "resolved 34 packages", 0, 0),
        ([RESOLVED, TRITON], "downloading triton", 0, 285736960),
        ([f"   {TRITON}"], "downloading triton", 0, 285736960),
        ([XGRAMMAR, TRITON], "downloading triton and 1 more packages", 0, 319291392),
        (
            [XGRAMMAR, TRITON, TORCH, SMALL],
            "downloading torch and 3 more packages",
            0,
            319291392 + 1536 * MIB + 96 * 1024,
        ),
        ([TRITON, XGRAMMAR, " Downloaded xgrammar"], "downloading triton", 32 * MIB, 319291392),
        ([TRITON, " Downloaded triton"], "preparing", 285736960, 285736960),
        ([TRITON, " Downloaded triton", PREPARED], "prepared 34 packages", 285736960, 285736960),
        ([PREPARED, INSTALLED], "installed 34 packages", 0, 0),
        # What it never said it would download, and what is nothing of the sort.
        ([" Downloaded other", TRITON], "downloading triton", 0, 285736960),
        ([TRITON, TRITON], "downloading triton", 0, 285736960),
        (["Downloading triton (many MiB)", "Downloading cpython-3.12"], "preparing", 0, 0),
        (["warning: Downloading triton (1.0MiB)"], "preparing", 0, 0),
    ],
)
def test_what_uv_tells_line_by_line(lines: list[str], message: str, done: int, total: int) -> None:
    assert after(*lines) == Installing(f"installing vllm-1-cpu: {message}", done, total)


told_lines = st.builds(
    "{} {}{}".format,
    st.sampled_from(["Downloading", " Downloaded", "Prepared", "Downloadin"]),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["", " (1.5MiB)", " (0.0KiB)", " (2GiB)", " (1.2.3MiB)", " in 1s"]),
)


@given(st.lists(told_lines | st.text()))
def test_never_more_is_downloaded_than_there_is(lines: list[str]) -> None:
    state = after(*lines)
    assert 0 <= state.done_bytes <= state.total_bytes


# -- with a program in uv's place ----------------------------------------------


Install = Callable[..., RuntimeState]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install by a script that stands in for uv, and say what came of it."""
    requirements = tmp_path / "r.txt"
    requirements.write_text("tiny==1.0 --hash=sha256:00\n")
    program = tmp_path / "uv"
    monkeypatch.setattr(installer, "find_uv_bin", lambda: str(program))

    def install(
        script: str, sources: PackageSources | None = None, flavour: Flavour = "cuda"
    ) -> RuntimeState:
        runtime = Runtime("tiny", "1.0", flavour, requirements)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        return asyncio.run(_installed(tmp_path, runtime, sources or PackageSources()))

    return install


async def _installed(tmp_path: Path, runtime: Runtime, sources: PackageSources) -> RuntimeState:
    runtimes = Runtimes(tmp_path / "runtimes", {runtime.id: runtime}, lambda: sources)
    ended = asyncio.Event()
    runtimes.on_change = ended.set
    runtimes.ensure(runtime.id)
    await asyncio.wait_for(ended.wait(), 20)
    return runtimes.state(runtime.id)


def saying(text: str, code: int = 1) -> str:
    return f"cat >&2 <<'END'\n{text}\nEND\nexit {code}"


def message(state: RuntimeState) -> str:
    assert isinstance(state, InstallFailed), state
    return state.message


# As uv 0.13 wrote them.
UNREACHABLE = """\
Using Python 3.11.7 environment at: /data/runtimes/tiny-1.0-cuda
error: Request failed after 3 retries
  Caused by: Failed to fetch: `http://me:hidden@127.0.0.1:9/simple/tiny/`
  Caused by: error sending request for url (http://127.0.0.1:9/simple/tiny/)
  Caused by: tcp connect error: Connection refused (os error 111)"""
NO_WHEEL = """\
Using Python 3.11.7 environment at: /data/runtimes/tiny-1.0-cuda
Downloading other (1.0MiB)
  × No solution found when resolving dependencies:
  ╰─▶ Because tiny==1.0 has no usable wheels and you require tiny==1.0, we can
      conclude that your requirements are unsatisfiable."""
DISK_FULL = """\
error: Failed to install: torch-2.13.0-cp311-cp311-linux_x86_64.whl (torch==2.13.0)
  Caused by: failed to copy file from /c/libtorch.so to /r/libtorch.so: No space left on device \
(os error 28)"""


def test_the_reason_is_told_in_uvs_words(install: Install) -> None:
    assert message(install(saying(UNREACHABLE, 2))) == (
        "uv could not install it: Request failed after 3 retries "
        "Caused by: Failed to fetch: `http://127.0.0.1:9/simple/tiny/` "
        "Caused by: error sending request for url (http://127.0.0.1:9/simple/tiny/) "
        "Caused by: tcp connect error: Connection refused (os error 111)"
    )


def test_the_reason_begins_where_uv_begins_to_tell_it(install: Install) -> None:
    assert message(install(saying(NO_WHEEL))) == (
        "uv could not install it: No solution found when resolving dependencies: "
        "Because tiny==1.0 has no usable wheels and you require tiny==1.0, we can "
        "conclude that your requirements are unsatisfiable."
    )


def test_a_full_disk_is_told_as_such(install: Install) -> None:
    state = install(saying(DISK_FULL, 2))
    assert message(state).startswith("the disk is full: Failed to install: torch-2.13.0")
    assert isinstance(state, InstallFailed)
    assert state.hint == "free some space, then try again"


@pytest.mark.parametrize("script", ["exit 2", "kill -9 $$", saying("", 1)])
def test_an_end_without_a_word_is_told_too(install: Install, script: str) -> None:
    assert message(install(script)) == "uv could not install it: it gave no reason"


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hidden@index.example/simple/",
        "https://hidden@index.example/simple/",
        "https://me:a@hidden@index.example/simple/",
        "https://me:%40hidden:@index.example",
    ],
)
def test_no_password_is_told(install: Install, address: str) -> None:
    told = message(install(saying(f"error: Failed to fetch: `{address}`, {address}")))
    assert "hidden" not in told
    assert told.count("https://index.example") == 2


def test_what_uv_says_that_is_no_text_is_told_too(install: Install) -> None:
    told = message(install(r"printf 'error: a\377b\n' >&2; exit 1"))
    assert told == "uv could not install it: a\ufffdb"


def test_much_talk_is_not_all_kept(install: Install) -> None:
    told = message(install("for i in $(seq 5000); do echo line $i >&2; done; exit 1"))
    assert "line 5000" in told
    assert "line 4900" not in told


def test_a_missing_uv_is_a_failure_of_the_installation(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "find_uv_bin", lambda: "/no/such/uv")
    assert "tiny-1.0-cuda was not installed" in message(install(""))


def test_uv_learns_of_this_machines_package_settings_and_of_nothing_of_ours(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELRY_ADMIN_TOKEN", "hidden")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("PYTHONPATH", "hidden")
    monkeypatch.setenv("VIRTUAL_ENV", "hidden")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "7")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://of-the-machine/")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("no_proxy", "localhost")
    sources = PackageSources({"UV_DEFAULT_INDEX": "http://me:hidden-too@given/"})
    install(f'/usr/bin/env >> {tmp_path}/env; echo "$@" >> {tmp_path}/argv; exit 1', sources)
    text = (tmp_path / "env").read_text()
    given = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert [name for name in given if name.startswith("MODELRY_")] == []
    assert "hidden" not in given.values()
    assert given["UV_DEFAULT_INDEX"] == "http://me:hidden-too@given/"
    assert (given["UV_HTTP_TIMEOUT"], given["UV_NO_CONFIG"]) == ("7", "1")
    assert (given["HTTPS_PROXY"], given["no_proxy"]) == ("http://proxy:1", "localhost")
    assert "PATH" in given
    assert "hidden" not in (tmp_path / "argv").read_text()


def test_without_a_network_uv_is_told_to_use_none(install: Install, tmp_path: Path) -> None:
    script = f'echo "$@" >> {tmp_path}/argv; mkdir -p {tmp_path}/runtimes/tiny-1.0-cuda'
    install(script, PackageSources(offline=True))
    lines = (tmp_path / "argv").read_text().splitlines()
    assert len(lines) == 2
    assert all("--offline" in line.split() for line in lines)
    venv, packages = lines
    assert venv.startswith("venv ")
    for needed in ("--require-hashes", "--no-deps", "--only-binary :all:"):
        assert needed in packages


@pytest.mark.parametrize(
    ("missing", "flavour", "sources", "asked"),
    [
        ("torch", "cpu", PackageSources(), 2),
        ("torch", "cpu", PackageSources(offline=True), 1),
        ("torch", "cuda", PackageSources(), 1),
        ("other", "cpu", PackageSources(), 1),
    ],
)
def test_torch_for_processors_is_looked_for_on_its_own_index_too(
    install: Install,
    tmp_path: Path,
    missing: str,
    flavour: Flavour,
    sources: PackageSources,
    asked: int,
) -> None:
    script = f"""\
[ "$1" = venv ] && exec mkdir -p {tmp_path}/runtimes/tiny-1.0-{flavour}
echo "$@" >> {tmp_path}/argv
case "$*" in *--torch-backend*) exit 0;; esac
echo "error: {missing}==2.13.0+cpu was not found in the package registry" >&2
exit 1"""
    state = install(script, sources, flavour)
    lines = (tmp_path / "argv").read_text().splitlines()
    assert len(lines) == asked
    assert ["--torch-backend cpu" in line for line in lines] == [False, True][:asked]
    assert all("--require-hashes" in line for line in lines)
    if asked == 1:
        assert missing in message(state)
    else:
        assert (tmp_path / "runtimes" / "tiny-1.0-cpu" / "modelry.json").exists()


def test_sources_with_passwords_are_not_printed() -> None:
    sources = PackageSources({"UV_DEFAULT_INDEX": "http://me:hidden@given/"})
    assert "hidden" not in repr(sources)
