"""The engines that hear and speak: what they run, what they take, what their runner is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modelry.engines.base import Endpoint, Engine, ReplicaPlan
from modelry.engines.faster_whisper import FasterWhisper
from modelry.engines.inventory import Inventory, parse_gpus
from modelry.engines.options import Options, check_options
from modelry.engines.speech import Hibari, Kokoro
from modelry.errors import InvalidRequest
from modelry.runners.configuration import EXIT_UNLOADABLE

ENDPOINT = Endpoint("unix:/run/a.sock", "the secret")
ENGINES: tuple[Engine, ...] = (FasterWhisper(), Hibari(), Kokoro())
NO_GPU = Inventory(cores=2, memory_bytes=8 * 1024**3)
ONE_GPU = replace(NO_GPU, gpus=parse_gpus("0, NVIDIA L4, 23034\n"))


def plan(*arguments: str, gpus: tuple[int, ...] = (), runtime: Path | None = None) -> ReplicaPlan:
    return ReplicaPlan(
        replica_id="rep_0123456789abcdef",
        access_path="u-8105f7322477/test",
        weights=Path("/weights"),
        tasks=("speech",),
        slots=3,
        context_tokens=512,
        runtime=runtime or Path("/runtimes/one"),
        gpus=gpus,
        options=Options(arguments),
    )


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_a_replica_is_told_all_on_its_standard_input(engine: Engine) -> None:
    command = engine.command(plan(), ENDPOINT)
    told = json.loads(command.stdin)
    assert told["secret"] == "the secret"
    assert (told["alias"], told["weights"], told["slots"]) == ("u-8105f7322477/test", "/weights", 3)
    assert "the secret" not in " ".join(command.argv) + str(command.env)
    assert command.argv[0] == "/runtimes/one/bin/python"
    assert "rep_0123456789abcdef" in command.argv
    assert command.env["HF_HUB_OFFLINE"] == "1"


def test_each_runner_is_told_what_it_serves() -> None:
    said = [(engine.command(plan(), ENDPOINT)) for engine in ENGINES]
    assert [command.argv[-1] for command in said] == ["transcription", "speech", "speech"]
    options = [json.loads(command.stdin)["options"] for command in said]
    assert options == [{}, {"engine": "hibari"}, {"engine": "kokoro"}]


@pytest.mark.parametrize(
    ("engine", "arguments", "options"),
    [
        (FasterWhisper(), ("--beam-size", "1", "--vad"), {"beam_size": 1, "vad": True}),
        (FasterWhisper(), ("--compute-type=float32",), {"compute_type": "float32"}),
        (FasterWhisper(), ("--max-minutes=30",), {"max_minutes": 30}),
        (Kokoro(), ("--max-characters=9000",), {"engine": "kokoro", "max_characters": 9000}),
    ],
)
def test_arguments_reach_the_runner(
    engine: Engine, arguments: tuple[str, ...], options: dict[str, object]
) -> None:
    check_options(engine.name, engine.rules, Options(arguments), operator=False)
    engine.check(Options(arguments))
    assert json.loads(engine.command(plan(*arguments), ENDPOINT).stdin)["options"] == options


@pytest.mark.parametrize(
    ("engine", "arguments", "told"),
    [
        (FasterWhisper(), ("--beam-size=0",), "from 1 to 10"),
        (FasterWhisper(), ("--beam-size",), "from 1 to 10"),
        (FasterWhisper(), ("--beam-size=²",), "from 1 to 10"),
        (FasterWhisper(), ("--compute-type=int4",), "int8"),
        (FasterWhisper(), ("--vad=yes",), "no value"),
        (FasterWhisper(), ("--vad", "yes"), "belongs to no argument"),
        (Hibari(), ("--max-characters=many",), "from 1 to 100000"),
        (Hibari(), ("--beam-size=1",), "--beam-size"),
    ],
)
def test_an_argument_that_is_wrong_is_named(
    engine: Engine, arguments: tuple[str, ...], told: str
) -> None:
    def give() -> None:
        check_options(engine.name, engine.rules, Options(arguments), operator=True)
        engine.check(Options(arguments))

    with pytest.raises(InvalidRequest) as caught:
        give()
    assert told in caught.value.message
    assert caught.value.param == "engine_args"


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_no_environment_is_taken(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="engine_env"):
        engine.check(Options(environment={"OMP_NUM_THREADS": "1"}))


def test_each_runs_its_format_for_its_task() -> None:
    assert FasterWhisper().supports("ctranslate2", ("transcription",)) is None
    assert "safetensors" in str(FasterWhisper().supports("safetensors", ("transcription",)))
    assert "speech" in str(FasterWhisper().supports("ctranslate2", ("speech",)))
    assert Hibari().supports("onnx", ("speech",)) is None
    assert "embedding" in str(Kokoro().supports("onnx", ("speech", "embedding")))


@pytest.mark.parametrize("inherited", [None, "/opt/driver/lib:/opt/other"])
def test_libraries_of_cuda_are_found_before_those_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: str | None
) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    if inherited is not None:
        monkeypatch.setenv("LD_LIBRARY_PATH", inherited)
    on_gpu = plan(gpus=(1,), runtime=tmp_path)
    assert "LD_LIBRARY_PATH" not in FasterWhisper().command(on_gpu, ENDPOINT).env
    libraries = [tmp_path / f"lib/python3.11/site-packages/nvidia/{n}/lib" for n in ("a", "b")]
    for library in libraries:
        library.mkdir(parents=True)
    found = FasterWhisper().command(on_gpu, ENDPOINT).env["LD_LIBRARY_PATH"]
    own = ":".join(map(str, libraries))
    assert found == (own if inherited is None else f"{own}:{inherited}")
    on_cpu = plan(runtime=tmp_path)
    assert "LD_LIBRARY_PATH" not in FasterWhisper().command(on_cpu, ENDPOINT).env


def test_only_what_hears_takes_a_gpu(tmp_path: Path) -> None:
    assert [engine.gpus(ONE_GPU) for engine in ENGINES] == [1, 0, 0]
    assert [engine.gpus(NO_GPU) for engine in ENGINES] == [0, 0, 0]
    command = FasterWhisper().command(plan(gpus=(1,), runtime=tmp_path), ENDPOINT)
    assert command.env["CUDA_VISIBLE_DEVICES"] == "1"
    assert json.loads(command.stdin)["gpus"] == 1


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_weights_that_do_not_load_are_not_tried_again(engine: Engine) -> None:
    failure = engine.explain(EXIT_UNLOADABLE, ["INFO loading", "it is no voice"])
    assert failure.lasting
    assert failure.message.endswith("it is no voice")
    assert not engine.explain(1, ["MemoryError"]).lasting
