"""Which runtimes there are to install, which is taken, and that every package is pinned."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from modelry.engines.inventory import Inventory, parse_gpus
from modelry.engines.runtimes import Runtime, default_runtime, shipped_runtimes

SHIPPED = shipped_runtimes()

NO_GPU = Inventory(cores=2, memory_bytes=8 * 1024**3)
# As nvidia-smi printed it on a machine with two cards.
TWO_GPUS = Inventory(
    cores=32,
    memory_bytes=128 * 1024**3,
    gpus=parse_gpus("0, NVIDIA GeForce RTX 4090, 24564\n1, NVIDIA GeForce RTX 4090, 24564\n"),
)

# The packages that only GPUs of NVIDIA have a use for. `triton-cpu` would be another.
FOR_GPUS = re.compile(r"nvidia-.*|cuda-.*|cupy.*|triton|flashinfer-.*|pynvml")

# What a marker can ask, on x86-64 Linux.
LINUX = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "extra": "",
}
PYTHONS = ("3.11", "3.12", "3.13")

_HASH = re.compile(r"--hash=(\S+)")


def runtimes_of(folder: Path, *names: str) -> dict[str, Runtime]:
    for name in names:
        (folder / name).write_text("")
    return shipped_runtimes(folder)


def requirements(file: Path) -> list[tuple[Requirement, list[str]]]:
    """Each requirement with its hashes. Raises where a line is no requirement with hashes alone."""
    lines = file.read_text().replace("\\\n", " ").splitlines()
    return [
        (Requirement(_HASH.sub("", line).strip()), _HASH.findall(line))
        for line in lines
        if line.strip() and not line.startswith("#")
    ]


# -- names and order -----------------------------------------------------------


def test_the_name_of_a_file_says_engine_version_and_flavour(tmp_path: Path) -> None:
    found = runtimes_of(tmp_path, "vllm-0.32.0-cuda.txt", "gguf-converter-0.1.1-cpu.txt")
    assert [(each.engine, each.version, each.flavour) for each in found.values()] == [
        ("gguf-converter", "0.1.1", "cpu"),
        ("vllm", "0.32.0", "cuda"),
    ]
    assert found["vllm-0.32.0-cuda"].requirements == tmp_path / "vllm-0.32.0-cuda.txt"
    assert list(found) == [each.id for each in found.values()]


@pytest.mark.parametrize(
    "name",
    [
        "README.md", "vllm-0.32.0.txt", "vllm-0.32.0-rocm.txt", "vllm-cpu.txt", "0.32.0-cpu.txt",
        "Vllm-0.32.0-cpu.txt", "vllm-0.32.0-cpu.txt.new", "vllm-0.32.0-cpu.in", "vllm-v1-cpu.txt",
    ],
)  # fmt: skip
def test_a_file_of_another_name_is_no_runtime(tmp_path: Path, name: str) -> None:
    assert runtimes_of(tmp_path, name) == {}


def test_of_each_engine_the_newest_comes_first_and_old_ones_stay(tmp_path: Path) -> None:
    found = runtimes_of(
        tmp_path,
        "vllm-0.9.2-cpu.txt",
        "vllm-0.10.0-cpu.txt",
        "vllm-0.10.0-cuda.txt",
        "vllm-0.10.0.1-cpu.txt",
        "alpha-2.0-cpu.txt",
        "alpha-10.0-cpu.txt",
    )
    assert list(found) == [
        "alpha-10.0-cpu",
        "alpha-2.0-cpu",
        "vllm-0.10.0.1-cpu",
        "vllm-0.10.0-cuda",
        "vllm-0.10.0-cpu",
        "vllm-0.9.2-cpu",
    ]


# -- the one that is taken -----------------------------------------------------


@pytest.mark.parametrize(
    ("names", "inventory", "taken"),
    [
        (["vllm-0.9.2-cpu", "vllm-0.10.0-cpu"], NO_GPU, "vllm-0.10.0-cpu"),
        (["vllm-0.10.0-cpu", "vllm-0.9.2-cpu"], NO_GPU, "vllm-0.10.0-cpu"),
        (["vllm-0.10.0-cuda", "vllm-0.9.2-cpu"], NO_GPU, "vllm-0.9.2-cpu"),
        (["vllm-0.10.0-cpu", "vllm-0.9.2-cuda"], TWO_GPUS, "vllm-0.9.2-cuda"),
        (["vllm-0.10.0-cpu"], TWO_GPUS, "vllm-0.10.0-cpu"),
        (["vllm-0.10.0-cuda"], NO_GPU, None),
        (["other-0.10.0-cpu"], NO_GPU, None),
        ([], TWO_GPUS, None),
    ],
)
def test_the_newest_that_suits_the_machine_is_taken(
    tmp_path: Path, names: list[str], inventory: Inventory, taken: str | None
) -> None:
    found = runtimes_of(tmp_path, *(f"{name}.txt" for name in names))
    chosen = default_runtime(found.values(), "vllm", inventory)
    assert (None if chosen is None else chosen.id) == taken


def test_what_comes_with_modelry_serves_machines_with_gpus_and_without() -> None:
    for inventory, flavour in ((NO_GPU, "cpu"), (TWO_GPUS, "cuda")):
        chosen = default_runtime(SHIPPED.values(), "vllm", inventory)
        assert chosen is not None
        assert chosen.flavour == flavour
        assert default_runtime(SHIPPED.values(), "gguf-converter", inventory) is not None


# -- what they install ---------------------------------------------------------


@pytest.mark.parametrize("runtime", SHIPPED.values(), ids=SHIPPED.keys())
def test_every_package_has_one_version_and_a_hash_and_comes_from_an_index(
    runtime: Runtime,
) -> None:
    found = requirements(runtime.requirements)
    assert len(found) > 10
    for requirement, hashes in found:
        assert requirement.url is None, requirement
        operators = [each.operator for each in requirement.specifier]
        assert operators == ["=="], requirement
        assert "*" not in str(requirement.specifier), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement


@pytest.mark.parametrize("runtime", SHIPPED.values(), ids=SHIPPED.keys())
def test_a_requirements_file_has_neither_options_nor_addresses(runtime: Runtime) -> None:
    text = runtime.requirements.read_text()
    assert "://" not in text
    assert " @ " not in text
    for line in text.splitlines():
        assert not line.startswith("-"), line
        assert set(re.findall(r"(?<!\S)--?[a-z-]+", line)) <= {"--hash"}, line


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("runtime", SHIPPED.values(), ids=SHIPPED.keys())
def test_each_package_has_one_version_on_each_python(runtime: Runtime, python: str) -> None:
    names = names_on_linux(runtime, python)
    assert len(set(names)) == len(names)
    assert names


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    "runtime",
    [each for each in SHIPPED.values() if each.flavour == "cpu"],
    ids=lambda each: each.id,
)
def test_a_machine_without_gpus_gets_nothing_that_is_for_them(
    runtime: Runtime, python: str
) -> None:
    assert [name for name in names_on_linux(runtime, python) if FOR_GPUS.fullmatch(name)] == []


def test_a_machine_with_gpus_gets_what_is_for_them() -> None:
    chosen = default_runtime(SHIPPED.values(), "vllm", TWO_GPUS)
    assert chosen is not None
    names = names_on_linux(chosen, "3.12")
    assert any(name.startswith("nvidia-cublas") for name in names)
    assert "triton" in names


def names_on_linux(runtime: Runtime, python: str) -> list[str]:
    environment = {**LINUX, "python_version": python, "python_full_version": f"{python}.4"}
    return [
        requirement.name
        for requirement, _ in requirements(runtime.requirements)
        if requirement.marker is None or requirement.marker.evaluate(environment)
    ]
