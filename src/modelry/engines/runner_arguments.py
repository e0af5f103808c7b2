"""Arguments for the engines whose server is a runner of ours: a name, and what it takes. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelry.engines.options import OptionRules, Options
from modelry.errors import InvalidRequest


@dataclass(frozen=True)
class Flag:
    """Takes no value: it is on where it is given."""


@dataclass(frozen=True)
class Number:
    """A whole number."""

    least: int
    most: int


@dataclass(frozen=True)
class Real:
    """A number, with or without a fraction."""

    least: float
    most: float


@dataclass(frozen=True)
class Choice:
    values: tuple[str, ...]


Arguments = Mapping[str, Flag | Number | Real | Choice]


def rules(arguments: Arguments) -> OptionRules:
    """Everybody may give each of them, and nobody another."""
    names = frozenset(arguments)
    flags = frozenset(name for name, takes in arguments.items() if isinstance(takes, Flag))
    return OptionRules(free=names, flags=flags, known=names)


def check(engine: str, arguments: Arguments, options: Options) -> None:
    """Raises `InvalidRequest`."""
    if options.environment:
        raise InvalidRequest(f"engine_env: {engine} takes none here", param="engine_env")
    parse(arguments, options.arguments)


def parse(arguments: Arguments, given: tuple[str, ...]) -> dict[str, Any]:
    """`--beam-size 3` as `{"beam_size": 3}`. Raises `InvalidRequest` that says what is taken."""
    found: dict[str, Any] = {}
    rest = list(given)
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        takes = arguments.get(name)
        if takes is None:
            raise InvalidRequest(
                f"engine_args: {name!r} belongs to no argument",
                hint="it takes " + ", ".join(arguments),
                param=_PARAM,
            )
        if isinstance(takes, Flag):
            if has_value:
                raise InvalidRequest(f"engine_args: {name} takes no value", param=_PARAM)
            found[_key(name)] = True
            continue
        if not has_value:
            value = rest.pop(0) if rest else ""
        found[_key(name)] = _value(name, takes, value)
    return found


_PARAM = "engine_args"
_REAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?")


def _key(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def _value(name: str, takes: Number | Real | Choice, value: str) -> str | int | float:
    if isinstance(takes, Choice):
        if value in takes.values:
            return value
        wanted = "one of " + ", ".join(takes.values)
    elif isinstance(takes, Real):
        number = float(value) if _REAL.fullmatch(value) else math.nan
        if takes.least <= number <= takes.most:
            return number
        wanted = f"a number from {takes.least:g} to {takes.most:g}"
    else:
        if value.isdecimal() and len(value) < 12 and takes.least <= int(value) <= takes.most:
            return int(value)
        wanted = f"a whole number from {takes.least} to {takes.most}"
    raise InvalidRequest(f"engine_args: {name} takes {wanted}, not {value!r}", param=_PARAM)
