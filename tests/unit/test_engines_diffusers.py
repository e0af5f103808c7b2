"""Diffusers: what it runs, how a replica is started, and which arguments it takes."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from modelry.engines.base import Endpoint, ReplicaPlan
from modelry.engines.diffusers import Diffusers
from modelry.engines.inventory import Inventory
from modelry.engines.options import Options, check_options
from modelry.errors import InvalidRequest, PermissionDenied
from modelry.runners.configuration import EXIT_UNLOADABLE
from modelry.runners.image_settings import Settings

engine = Diffusers()
ENDPOINT = Endpoint("unix:/run/a.sock", "the secret")
PLAN = ReplicaPlan(
    replica_id="rep_0123456789abcdef",
    access_path="u-8105f7322477/test",
    weights=Path("/weights/pipeline"),
    tasks=("image",),
    slots=3,
    context_tokens=512,
    runtime=Path("/runtimes/diffusers-0.42.1-cpu"),
)


def test_it_makes_pictures_of_pipelines_and_nothing_else() -> None:
    assert engine.supports("diffusers", ("image",)) is None
    assert "safetensors" in str(engine.supports("safetensors", ("image",)))
    assert "chat" in str(engine.supports("diffusers", ("image", "chat")))


def test_a_replica_is_told_everything_on_its_standard_input() -> None:
    arguments = ("--default-steps", "30", "--default-steps=4", "--dtype", "float32")
    command = engine.command(replace(PLAN, options=Options(arguments)), ENDPOINT)
    assert command.argv[0] == "/runtimes/diffusers-0.42.1-cpu/bin/python"
    assert command.argv[-1] == "image"
    assert "rep_0123456789abcdef" in command.argv
    assert "the secret" not in " ".join((*command.argv, *command.env.values()))
    told = json.loads(command.stdin)
    assert (told["secret"], told["weights"]) == ("the secret", "/weights/pipeline")
    # The owner's come after the card's, and count.
    assert told["options"] == {"default_steps": 4, "dtype": "float32"}


def test_the_runner_knows_every_argument() -> None:
    known = {name.removeprefix("--").replace("-", "_") for name in engine.rules.known}
    assert known == {each.name for each in fields(Settings)}


@pytest.mark.parametrize(("said", "told"), [("7", 7.0), ("2.5", 2.5), ("0", 0.0), ("50.0", 50.0)])
def test_guidance_may_have_a_fraction(said: str, told: float) -> None:
    options = Options(("--default-guidance", said))
    engine.check(options)
    command = engine.command(replace(PLAN, options=options), ENDPOINT)
    assert json.loads(command.stdin)["options"] == {"default_guidance": told}


def test_an_argument_that_is_unknown_is_refused_with_those_that_are_not() -> None:
    with pytest.raises(InvalidRequest) as caught:
        engine.check(Options(("--unknown", "1")))
    assert all(name in str(caught.value.hint) for name in engine.rules.known)


def test_a_replica_gets_the_gpus_that_it_may_use() -> None:
    command = engine.command(replace(PLAN, gpus=(2,)), ENDPOINT)
    assert command.env["CUDA_VISIBLE_DEVICES"] == "2"
    assert json.loads(command.stdin)["gpus"] == 1
    assert engine.gpus(Inventory(cores=2, memory_bytes=1)) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--max-batch", "0"), ("--max-batch", "many"), ("--max-batch",), ("--dtype", "int8"),
        ("--default-guidance", "nan"), ("--offload=disk",), ("--safety-checker", "maybe"),
        ("--default-steps=1.5",), ("--max-side=9000",), ("--unknown", "1"),
        ("--default-guidance=50.5",), ("--default-guidance=-1",), ("--default-guidance",),
        ("--default-guidance=1_0",), ("--default-guidance=1e1",), ("--default-guidance=²",),
    ],
)  # fmt: skip
def test_a_value_that_it_cannot_take_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        engine.check(Options(arguments))
    assert arguments[0].partition("=")[0] in caught.value.message


def test_only_an_operator_says_whether_pictures_are_checked() -> None:
    options = Options(("--safety-checker=off",))
    check_options("diffusers", engine.rules, options, operator=True)
    with pytest.raises(PermissionDenied):
        check_options("diffusers", engine.rules, options, operator=False)
    check_options("diffusers", engine.rules, Options(("--max-batch=2",)), operator=False)


def test_an_adapter_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="adapter"):
        engine.command(replace(PLAN, adapter=Path("/adapter")), ENDPOINT)


def test_weights_that_do_not_load_are_not_tried_again() -> None:
    failure = engine.explain(EXIT_UNLOADABLE, ["INFO loading", "OSError: no file named x"])
    assert failure.lasting
    assert "OSError: no file named x" in failure.message
    assert not engine.explain(1, ["killed"]).lasting
