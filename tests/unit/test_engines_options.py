"""Extra arguments of an engine: who may give which, however they are spelt."""

import argparse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.engines.llama_cpp import LlamaCpp
from modelry.engines.options import (
    MAX_LENGTH,
    MAX_OPTIONS,
    OptionRules,
    Options,
    check_options,
)
from modelry.engines.vllm import Vllm
from modelry.errors import InvalidRequest, ModelryError, PermissionDenied

RULES = OptionRules(
    free=frozenset({"--seed", "--max-logprobs", "--port-names", "--override"}),
    reserved=frozenset({"--port", "--trust-remote-code", "--model"}),
    free_variables=frozenset({"LOG_LEVEL"}),
    reserved_variables=frozenset({"API_KEY"}),
)
KNOWN = OptionRules(free=frozenset({"--seed"}), known=frozenset({"--seed", "--threads"}))


def check(
    *arguments: str, operator: bool = False, rules: OptionRules = RULES, **environment: str
) -> None:
    check_options("engine", rules, Options(arguments, environment), operator=operator)


def check_variable(name: str, *, operator: bool) -> None:
    check_options("engine", RULES, Options((), {name: "x"}), operator=operator)


def error(kind: type[ModelryError], how: Callable[[], None]) -> ModelryError:
    with pytest.raises(kind) as caught:
        how()
    assert caught.type is kind
    return caught.value


# -- arguments -----------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--seed", "1"),
        ("--seed=1",),
        ("--seed", "-1"),
        ("--seed", "-1.5"),
        ("--seed", "-1e-3"),
        ("--seed=-1",),
        ("--max_logprobs", "5"),
        ("--max_logprobs=0.5",),
        ("--override.a_b.c", "1"),
        ("--override.a=-x",),
        ("--seed", "a b", "--max-logprobs", "1"),
        ("--seed", "model=--port"),
    ],
)
def test_everybody_may_give_what_is_free(arguments: tuple[str, ...]) -> None:
    check(*arguments)


def test_what_is_not_free_only_operators_may_give() -> None:
    refused = error(
        PermissionDenied, lambda: check("--seed", "1", "--chat-template", "/etc/passwd")
    )
    assert "only an operator may give engine --chat-template" in refused.message
    assert refused.param == "engine_args"
    assert "--max-logprobs, --override, --port-names, --seed" in (refused.hint or "")
    check("--seed", "1", "--chat-template", "/etc/passwd", operator=True)


@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize(
    "argument",
    [
        "--port",
        "--port=1",
        "--port.a",
        "--trust-remote-code",
        "--trust_remote_code",
        "--trust_remote-code=1",
        "--trust_remote_code=1.5",
        "--trust_remote_code.x",
        # Argparse takes these for what is reserved.
        "--por",
        "--trust",
        "--trust-remote-c=1",
        "--trust_remote_c",
        "--mode",
        "--m.x=1",
        "--t",
    ],
)
def test_nobody_may_give_what_modelry_gives_however_it_is_spelt(
    argument: str, operator: bool
) -> None:
    refused = error(InvalidRequest, lambda: check("--seed", "1", argument, operator=operator))
    assert "by Modelry itself" in refused.message
    assert argument.partition("=")[0].replace("_", "-") in refused.message


def test_a_free_argument_may_begin_as_a_reserved_one_does_or_be_the_beginning_of_one() -> None:
    check("--port-names", "a")
    rules = OptionRules(free=frozenset({"--port"}), reserved=frozenset({"--port-names"}))
    check("--port", "1", rules=rules)
    error(InvalidRequest, lambda: check("--por", "1", rules=rules))


@given(
    st.sampled_from(sorted(RULES.reserved)),
    st.integers(3, 40),
    st.text("-_", min_size=40, max_size=40),
    st.sampled_from(["", "=1", "=1.5", "=--seed"]),
    st.booleans(),
)
def test_whatever_argparse_takes_for_a_reserved_argument_is_refused(
    reserved: str, length: int, dashes: str, value: str, operator: bool
) -> None:
    """As vLLM's parser does, it takes `_` for `-`, and any beginning that is clear."""
    spelt = "--" + "".join(
        dash if each == "-" else each
        for each, dash in zip(reserved[2:length], dashes, strict=False)
    )
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument(reserved, nargs="?", const="yes")
    parsed = parser.parse_args([spelt.replace("_", "-") + value])
    assert vars(parsed)[reserved[2:].replace("-", "_")] is not None
    with pytest.raises(InvalidRequest):
        check(spelt + value, operator=operator)


@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        ("--seed", "-x"),
        ("--seed", "-tp", "2"),
        ("--seed", "-inf"),
        ("--seed", "-nan"),
        ("--seed", "--"),
        ("--seed", "---port"),
        ("--seed", "--Port"),
        ("--seed", "--port\u00e9"),
        ("--seed", "--1"),
        ("--seed", "-"),
        ("--override.",),
        ("--override.A",),
    ],
)
def test_short_and_odd_spellings_are_no_arguments(
    arguments: tuple[str, ...], operator: bool
) -> None:
    refused = error(InvalidRequest, lambda: check(*arguments, operator=operator))
    assert "is no argument" in refused.message
    assert refused.hint


@pytest.mark.parametrize("first", ["1", "-1", "-x", "seed", ""])
def test_a_value_without_an_argument_is_refused(first: str) -> None:
    refused = error(InvalidRequest, lambda: check(first, "--seed", "1", operator=True))
    assert repr(first) in refused.message
    assert refused.hint


def test_an_engine_that_names_its_arguments_takes_no_others_from_operators_either() -> None:
    check("--seed", "1", rules=KNOWN)
    check("--threads", "1", rules=KNOWN, operator=True)
    error(PermissionDenied, lambda: check("--threads", "1", rules=KNOWN))
    refused = error(InvalidRequest, lambda: check("--see", "1", rules=KNOWN, operator=True))
    assert "takes no --see here" in refused.message
    assert refused.hint == "it takes --seed, --threads"


# -- variables -----------------------------------------------------------------


def test_everybody_may_set_the_free_variables_and_operators_others() -> None:
    check(LOG_LEVEL="DEBUG")
    refused = error(PermissionDenied, lambda: check(LD_PRELOAD="x.so"))
    assert "only an operator may set LD_PRELOAD for engine" in refused.message
    assert (refused.param, refused.hint) == ("engine_env", "you may set LOG_LEVEL")
    check(LD_PRELOAD="x.so", operator=True)


@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize("name", ["API_KEY", "MODELRY_ADMIN_TOKEN", "MODELRY_"])
def test_nobody_may_set_what_modelry_sets(name: str, operator: bool) -> None:
    refused = error(InvalidRequest, lambda: check_variable(name, operator=operator))
    assert f"{name} is set for engine by Modelry itself" in refused.message
    assert refused.param == "engine_env"


@pytest.mark.parametrize("name", ["", "a", "1A", "A=B", "A B", "A\0", "A" * 101, "\u00c4"])
def test_what_is_no_name_of_a_variable_is_refused(name: str) -> None:
    refused = error(InvalidRequest, lambda: check_variable(name, operator=True))
    assert "is no variable's name" in refused.message


# -- how much ------------------------------------------------------------------


def test_as_many_and_as_long_as_the_limits_say_and_no_more() -> None:
    check(*["--seed=1"] * MAX_OPTIONS)
    check("--seed=".ljust(MAX_LENGTH, "1"), LOG_LEVEL="x" * MAX_LENGTH)
    many = Options((), {f"A{n}": "" for n in range(MAX_OPTIONS + 1)})
    for how, param in (
        (lambda: check(*["--seed=1"] * (MAX_OPTIONS + 1)), "engine_args"),
        (lambda: check("--seed=".ljust(MAX_LENGTH + 1, "1")), "engine_args"),
        (lambda: check(LOG_LEVEL="x" * (MAX_LENGTH + 1)), "engine_env"),
        (lambda: check_options("engine", RULES, many, operator=True), "engine_env"),
    ):
        refused = error(InvalidRequest, how)
        assert refused.param == param
        assert refused.message.startswith(f"{param}: ")


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "\x1b[0m", "\ud800"])
def test_what_cannot_be_printed_is_refused(text: str) -> None:
    assert error(InvalidRequest, lambda: check("--seed", text)).param == "engine_args"
    assert error(InvalidRequest, lambda: check(LOG_LEVEL=text)).param == "engine_env"


# -- the engines' own rules ----------------------------------------------------


@pytest.mark.parametrize("engine", [Vllm(), LlamaCpp()], ids=lambda engine: engine.name)
def test_what_is_free_is_not_reserved_and_can_be_given(engine: Vllm | LlamaCpp) -> None:
    rules = engine.rules
    assert not rules.free & rules.reserved
    assert not rules.free_variables & rules.reserved_variables
    for argument in rules.free:
        check_options(engine.name, rules, Options((argument,)), operator=False)
    for variable in rules.free_variables:
        check_options(engine.name, rules, Options((), {variable: "1"}), operator=False)


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("--model", InvalidRequest),
        ("--api-k", InvalidRequest),
        ("--trust_remote_code", InvalidRequest),
        ("--enable-l", InvalidRequest),
        ("--conf", InvalidRequest),
        ("--chat-template", PermissionDenied),
        ("--middleware", PermissionDenied),
        ("--hf-overrides.a", PermissionDenied),
        ("--allowed-local-media-path", PermissionDenied),
    ],
)
def test_arguments_of_vllm_that_read_files_or_run_code_are_not_for_everybody(
    argument: str, kind: type[ModelryError]
) -> None:
    options = Options((argument, "x"))
    error(kind, lambda: check_options("vllm", Vllm.rules, options, operator=False))
    if kind is PermissionDenied:
        check_options("vllm", Vllm.rules, options, operator=True)
