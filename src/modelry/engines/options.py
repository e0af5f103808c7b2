"""Extra arguments and environment for an engine: which of them who may give.

An engine's arguments can read files, open ports and run programs. So whoever is no
operator gives only those that are known to do neither, and nobody those that Modelry
itself gives. Pure.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from modelry.errors import InvalidRequest, PermissionDenied

_ARGUMENT = re.compile(r"--[a-z][a-z0-9-]*(\.[a-z0-9_.-]+)?")
_NUMBER = re.compile(r"-[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
MAX_OPTIONS = 64
MAX_LENGTH = 2000


@dataclass(frozen=True)
class Options:
    """`arguments`: as on the engine's command line, `--name value` or `--name=value`."""

    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OptionRules:
    """`free`: arguments that everybody may give, of which `flags` take no value. `reserved`:
    those that nobody may, as Modelry gives them. What is neither, only operators may. `known`:
    the engine takes these alone, if any are named. The same for variables.
    """

    free: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    reserved: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    free_variables: frozenset[str] = frozenset()
    reserved_variables: frozenset[str] = frozenset()


def check_options(engine: str, rules: OptionRules, options: Options, *, operator: bool) -> None:
    """Raises `InvalidRequest` or `PermissionDenied` that names the option."""
    _check_texts("engine_args", options.arguments)
    _check_texts("engine_env", options.environment.values())
    if options.arguments and not options.arguments[0].startswith("--"):
        raise InvalidRequest(
            f"engine_args: {options.arguments[0]!r} belongs to no argument",
            hint='give a list such as ["--seed", "1"]',
            param="engine_args",
        )
    for name in _names(options.arguments):
        _check_argument(engine, rules, name, operator)
    if not operator:
        _refuse_loose_words(rules, options.arguments)
    for name in options.environment:
        _check_variable(engine, rules, name, operator)


def _refuse_loose_words(rules: OptionRules, arguments: tuple[str, ...]) -> None:
    """Some parsers take a word that belongs to no argument for the model's path."""
    takes_value = False
    for each in arguments:
        if each.startswith("-") and not _is_number(each):
            takes_value = "=" not in each and _name(each) not in rules.flags
        elif takes_value:
            takes_value = False
        else:
            raise InvalidRequest(
                f"engine_args: {each!r} belongs to no argument",
                hint="write a value behind its argument, such as --seed=1",
                param="engine_args",
            )


def _check_texts(param: str, texts: Collection[str]) -> None:
    if len(texts) > MAX_OPTIONS:
        raise InvalidRequest(f"{param}: {MAX_OPTIONS} at most", param=param)
    if any(len(text) > MAX_LENGTH or not text.isprintable() for text in texts):
        raise InvalidRequest(
            f"{param}: each must be printable, {MAX_LENGTH} characters at most", param=param
        )


def _names(arguments: Iterable[str]) -> list[str]:
    return [_name(each) for each in arguments if each.startswith("-") and not _is_number(each)]


def _name(argument: str) -> str:
    base, dot, rest = argument.partition("=")[0].partition(".")
    # Engines that use Python's argparse take `_` for `-` as well.
    return base.replace("_", "-") + dot + rest


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _check_argument(engine: str, rules: OptionRules, name: str, operator: bool) -> None:
    if not _ARGUMENT.fullmatch(name):
        raise InvalidRequest(
            f"engine_args: {name!r} is no argument",
            hint="arguments are written in full, such as --max-num-batched-tokens",
            param="engine_args",
        )
    base = name.partition(".")[0]
    # Argparse takes the beginning of a name for the whole.
    shortened = base not in rules.free and any(each.startswith(base) for each in rules.reserved)
    if base in rules.reserved:
        raise InvalidRequest(
            f"engine_args: {name} is given to {engine} by Modelry itself", param="engine_args"
        )
    if shortened:
        raise InvalidRequest(
            f"engine_args: {name} begins one that is given to {engine} by Modelry itself",
            hint="write arguments in full",
            param="engine_args",
        )
    if rules.known and base not in rules.known:
        raise InvalidRequest(
            f"engine_args: {engine} takes no {name} here",
            hint="it takes " + ", ".join(sorted(rules.known)),
            param="engine_args",
        )
    if not operator and base not in rules.free:
        raise PermissionDenied(
            f"engine_args: only an operator may give {engine} {name}",
            hint="you may give " + (", ".join(sorted(rules.free)) or "none"),
            param="engine_args",
        )


def _check_variable(engine: str, rules: OptionRules, name: str, operator: bool) -> None:
    if not _VARIABLE.fullmatch(name):
        raise InvalidRequest(f"engine_env: {name!r} is no variable's name", param="engine_env")
    if name in rules.reserved_variables or name.startswith("MODELRY_"):
        raise InvalidRequest(
            f"engine_env: {name} is set for {engine} by Modelry itself", param="engine_env"
        )
    if not operator and name not in rules.free_variables:
        raise PermissionDenied(
            f"engine_env: only an operator may set {name} for {engine}",
            hint="you may set " + (", ".join(sorted(rules.free_variables)) or "none"),
            param="engine_env",
        )
