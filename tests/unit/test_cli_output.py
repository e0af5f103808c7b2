"""How the command line writes."""

import io
import json
import os
import subprocess
import sys

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from modelry.cli import output
from modelry.errors import NotFound, SettingsError

COLUMNS = ["NAME", "STATE", "MODEL", "NOTE"]
ROWS = [
    ["a-service", "[green]running[/]", "smollm2-135m-instruct", "-"],
    ["b", "failed", "qwen3-0.6b", "it has no weights"],
]

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (98_362_432, "98.4 MB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (5_000_000_000, "5.0 GB"),
        (7 * 10**12, "7.0 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_a_size_is_in_a_unit_that_people_read(number: int | None, text: str) -> None:
    assert output.size(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (4096, "4.1k"),
        (786_432, "786.4k"),
        (999_999, "1.0M"),
        (12_582_912, "12.6M"),
        (7 * 10**9, "7.0G"),
        (10**16, "10,000.0T"),
    ],
)
def test_a_number_that_may_be_huge_is_short(number: int, text: str) -> None:
    assert output.short(number) == text


@given(st.integers(0, 10**15))
def test_a_size_is_right_to_its_last_digit_and_never_a_thousand_of_a_unit(number: int) -> None:
    shown, unit = output.size(number).split()
    assert float(shown) * UNITS[unit] == pytest.approx(number, abs=0.051 * UNITS[unit])
    assert unit == "TB" or float(shown) < 1000


def test_a_time_is_shown_in_this_machines_zone() -> None:
    assert output.when(None) == "-"
    shown = output.when("2026-01-02T03:04:05Z")
    assert len(shown) == len("2026-01-02 03:04:05")
    assert shown == output.when("2026-01-02T05:04:05+02:00")


def test_a_state_is_shown_as_it_is() -> None:
    assert "running" in output.state_text("running")
    assert "unheard-of" in output.state_text("unheard-of")
    # Square brackets would be markup.
    assert output.state_text("[red]") != output.state_text("red")


def test_json_is_printed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"name": "é", "value": None})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"name": "é", "value": None}
    assert "é" in printed


def table(monkeypatch: pytest.MonkeyPatch, width: int, *spare: str) -> list[str]:
    """What a terminal of that width shows."""
    told = io.StringIO()
    monkeypatch.setattr(output, "out", Console(file=told, highlight=False, width=width))
    output.print_table(COLUMNS, ROWS, "None.", as_json=None, json_flag=False, spare=spare)
    return [line.rstrip() for line in told.getvalue().splitlines()]


WHOLE = [
    "NAME       STATE    MODEL                  NOTE",
    "a-service  running  smollm2-135m-instruct  -",
    "b          failed   qwen3-0.6b             it has no weights",
]


@pytest.mark.parametrize("width", [60, 200])
def test_a_table_has_a_line_for_each_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    assert table(monkeypatch, width, "NOTE") == WHOLE
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("colours", [{}, {"FORCE_COLOR": "1"}])
def test_what_goes_to_a_pipe_is_whole(colours: dict[str, str]) -> None:
    program = """
from modelry.cli.output import print_table
print_table(["NAME", "NOTE"], [["a", "word " * 40 + "end"]], "", as_json=None, json_flag=False)
"""
    left_out = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "TERM": "xterm", **colours},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
    ).stdout
    head, row = told.splitlines()
    assert "NOTE" in head
    assert row.rstrip() == "a     " + "word " * 40 + "end"


def test_a_narrow_terminal_does_without_what_can_be_spared_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = io.StringIO()
    monkeypatch.setattr(output, "err", Console(file=told, highlight=False, width=59))
    assert table(monkeypatch, 59, "NOTE", "STATE") == [line[:42].rstrip() for line in WHOLE]
    assert "without NOTE: " in told.getvalue()
    assert table(monkeypatch, 40, "NOTE", "STATE")[1] == "a-service  smollm2-135m-instruct"
    assert "without STATE, NOTE: " in told.getvalue()


def test_a_terminal_that_is_too_narrow_for_that_shows_each_row_in_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert table(monkeypatch, 30, "NOTE", "STATE") == [
        "a-service",
        "  STATE running",
        "  MODEL smollm2-135m-instruct",
        "b",
        "  STATE failed",
        "  MODEL qwen3-0.6b",
        "  NOTE  it has no weights",
    ]


@given(st.integers(1, 120))
def test_no_cell_is_broken_however_narrow_the_terminal_is(width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shown = "\n".join(table(patch, width))
    for cell in ("a-service", "running", "smollm2-135m-instruct", "it has no weights"):
        assert cell in shown


@pytest.mark.parametrize(
    ("error", "status"), [(SettingsError("MODELRY_PORT: no"), 2), (NotFound("no service"), 1)]
)
def test_an_error_ends_a_command_with_its_status(
    error: NotFound | SettingsError, status: int
) -> None:
    with pytest.raises(typer.Exit) as caught, output.shown_errors():
        raise error
    assert caught.value.exit_code == status


def test_an_interrupted_command_ends_as_shells_expect() -> None:
    with pytest.raises(typer.Exit) as caught, output.shown_errors():
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130


def test_an_error_of_the_program_itself_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), output.shown_errors():
        raise ZeroDivisionError
