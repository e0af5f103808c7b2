"""What a node has: GPUs as NVIDIA's tool prints them, and the memory a container may use."""

import os
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.engines.inventory import GPU_QUERY, Gpu, parse_gpu_use, parse_gpus, usable_cores
from modelry.executors.inventory import read_inventory, used_memory_bytes

MIB = 1024 * 1024

# Printed by `nvidia-smi --query-gpu=index,name,memory.total --format=csv,noheader,nounits`.
ONE = "0, NVIDIA L4, 23034\n"
FOUR = """\
0, NVIDIA A100-SXM4-80GB, 81920
1, NVIDIA A100-SXM4-80GB, 81920
2, NVIDIA A100-SXM4-80GB, 81920
3, NVIDIA A100-SXM4-80GB, 81920
"""
MIXED = "0, NVIDIA GeForce RTX 4090, 24564\n1, NVIDIA GeForce RTX 3060, 12288\n"
SHARED_MEMORY = "0, NVIDIA GB10, [N/A]\n"
ONE_OF_TWO = "0, NVIDIA GB10, [N/A]\n1, NVIDIA RTX A6000, 49140\n"
WITHOUT_LEAVE = "0, NVIDIA A100-PCIE-40GB, [Insufficient Permissions]\n"
LOST = """\
Unable to determine the device handle for GPU0000:01:00.0: Unknown Error
"""
NO_DRIVER = """\
NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the \
latest NVIDIA driver is installed and running.
"""


@pytest.mark.parametrize(
    ("printed", "gpus"),
    [
        (ONE, [Gpu(0, "NVIDIA L4", 23034 * MIB)]),
        (FOUR, [Gpu(n, "NVIDIA A100-SXM4-80GB", 81920 * MIB) for n in range(4)]),
        (
            MIXED,
            [
                Gpu(0, "NVIDIA GeForce RTX 4090", 24564 * MIB),
                Gpu(1, "NVIDIA GeForce RTX 3060", 12288 * MIB),
            ],
        ),
        (ONE_OF_TWO, [Gpu(1, "NVIDIA RTX A6000", 49140 * MIB)]),
        (ONE.replace("\n", "\r\n"), [Gpu(0, "NVIDIA L4", 23034 * MIB)]),
        (SHARED_MEMORY, []),
        (WITHOUT_LEAVE, []),
        (LOST, []),
        (NO_DRIVER, []),
        ("No devices were found\n", []),
        ("", []),
        ("\n\n", []),
        ("index, name, memory.total [MiB]\n" + ONE, [Gpu(0, "NVIDIA L4", 23034 * MIB)]),
        ("0, NVIDIA L4, 23034 MiB\n", []),
        ("-1, NVIDIA L4, 23034\n", []),
        ("0, NVIDIA L4, -1\n", []),
    ],
)
def test_the_gpus_that_are_listed_with_memory_of_their_own(printed: str, gpus: list[Gpu]) -> None:
    assert parse_gpus(printed) == tuple(gpus)


@given(st.text(st.sampled_from("0\u00b2\u0663\u2460, \n"), min_size=3))
def test_what_only_looks_like_numbers_does_no_harm(printed: str) -> None:
    assert all(gpu.index >= 0 for gpu in parse_gpus(printed))
    assert all(index >= 0 and used >= 0 for index, used in parse_gpu_use(printed).items())


@pytest.mark.parametrize(
    ("printed", "used"),
    [
        ("0, 512\n1, 0\n", {0: 512 * MIB, 1: 0}),
        ("0, 512\r\n", {0: 512 * MIB}),
        ("0, [N/A]\n1, 7\n", {1: 7 * MIB}),
        ("0, 512 MiB\n", {}),
        ("index, memory.used [MiB]\n0, 512\n", {0: 512 * MIB}),
        (NO_DRIVER, {}),
        ("", {}),
    ],
)
def test_the_memory_of_gpus_that_is_in_use(printed: str, used: dict[int, int]) -> None:
    assert parse_gpu_use(printed) == used


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are bound on Linux alone")
def test_only_the_cores_that_we_may_run_on_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() == len(before)


# -- asking the tool -----------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def nvidia_smi(programs: Path, script: str) -> None:
    program = programs / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)


def test_without_a_driver_there_are_no_gpus(programs: Path) -> None:
    assert read_inventory().gpus == ()


def test_the_tool_is_asked_for_what_is_read(programs: Path) -> None:
    nvidia_smi(programs, f'echo "$@" > {programs}/asked\nprintf "%s" "{FOUR}"')
    assert read_inventory().gpus == parse_gpus(FOUR)
    assert (programs / "asked").read_text().split() == list(GPU_QUERY)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (f'printf "%s" "{NO_DRIVER}"; exit 9', "couldn't communicate with the NVIDIA driver"),
        ('printf "%s" "0, NVIDIA L4, 23034"; exit 15', "0, NVIDIA L4"),
        ("echo it is broken >&2; exit 1", "it is broken"),
    ],
)
def test_a_tool_that_fails_is_told_and_no_gpu_used(
    programs: Path, caplog: pytest.LogCaptureFixture, script: str, told: str
) -> None:
    nvidia_smi(programs, script)
    assert read_inventory().gpus == ()
    assert told in caplog.text
    assert "no GPU is used" in caplog.text


def test_a_tool_that_prints_no_text_lists_no_gpu(programs: Path) -> None:
    nvidia_smi(programs, r"printf '0, \377\376, 1024\n1, NVIDIA L4, x\377\n'")
    assert [gpu.index for gpu in read_inventory().gpus] == [0]


def test_a_tool_that_cannot_be_started_is_told(
    programs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = programs / "nvidia-smi"
    program.write_text("#!/no/such/shell\n")
    program.chmod(0o700)
    assert read_inventory().gpus == ()
    assert "nvidia-smi does not answer" in caplog.text


def test_a_tool_that_hangs_is_not_waited_for(
    programs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As it does where the driver is stuck."""
    nvidia_smi(programs, f"echo $$ > {programs}/pid; exec /bin/sleep 600")
    begun = time.monotonic()
    assert read_inventory(query_timeout_s=0.5).gpus == ()
    assert time.monotonic() - begun < 10
    assert "nvidia-smi does not answer" in caplog.text
    assert not psutil.pid_exists(int((programs / "pid").read_text()))


# -- memory --------------------------------------------------------------------

TOTAL = psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("file", "text", "memory_bytes"),
    [
        ("memory.max", "536870912\n", 536870912),
        ("memory.max", "max\n", TOTAL),
        ("memory.max", "", TOTAL),
        ("memory.max", f"{TOTAL * 2}\n", TOTAL),
        ("memory/memory.limit_in_bytes", "268435456\n", 268435456),
        # "no limit", as version 1 says it
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", TOTAL),
        ("other", "1\n", TOTAL),
    ],
)
def test_a_container_has_the_memory_that_it_may_use(
    programs: Path, tmp_path: Path, file: str, text: str, memory_bytes: int
) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / file).write_text(text)
    inventory = read_inventory(tmp_path)
    assert inventory.memory_bytes == memory_bytes
    assert inventory.cores == usable_cores()


def test_both_versions_of_cgroups_are_looked_at(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("1048576\n")
    assert read_inventory(tmp_path).memory_bytes == 1048576


STAT = "anon 1024\ninactive_file 4096\nactive_file 7\n"


@pytest.mark.parametrize(
    ("limit", "files"),
    [
        ("memory.max", {"memory.current": "104857600\n", "memory.stat": STAT}),
        (
            "memory/memory.limit_in_bytes",
            {
                "memory/memory.usage_in_bytes": "104857600\n",
                "memory/memory.stat": f"inactive_file 1\ntotal_{STAT.splitlines()[1]}\n",
            },
        ),
    ],
)
def test_a_container_uses_what_its_own_processes_do(
    tmp_path: Path, limit: str, files: dict[str, str]
) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("536870912\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert used_memory_bytes(tmp_path) == 104857600 - 4096


@pytest.mark.parametrize("stat", ["", "inactive_file\n", "inactive_file many\n"])
def test_where_it_is_not_told_what_of_it_is_cached_all_counts(tmp_path: Path, stat: str) -> None:
    (tmp_path / "memory.max").write_text("536870912\n")
    (tmp_path / "memory.current").write_text("104857600\n")
    assert used_memory_bytes(tmp_path) == 104857600
    (tmp_path / "memory.stat").write_text(stat)
    assert used_memory_bytes(tmp_path) == 104857600


@pytest.mark.parametrize("limit", ["max\n", f"{TOTAL * 2}\n"])
def test_without_a_limit_the_machine_s_use_counts(tmp_path: Path, limit: str) -> None:
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("1\n")
    assert 1 < used_memory_bytes(tmp_path) < TOTAL
