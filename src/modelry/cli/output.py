"""How the command line writes: tables for people, JSON for programs, errors in one line."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from typer.exceptions import TyperException

from modelry.errors import ModelryError, SettingsError

_PIPE_WIDTH = 10_000


def _console(*, stderr: bool) -> Console:
    """Of a pipe nobody knows how wide it is: a row stays a line, for `grep` and its likes.

    Rich takes it for 80 columns, and prints nothing wider than its console, whatever the call says.
    """
    console = Console(stderr=stderr, highlight=False)
    if not console.file.isatty() and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


out = _console(stderr=False)
err = _console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

STATE_STYLES = {
    "running": "green",
    "ready": "green",
    "supported": "green",
    "done": "green",
    "skipped": "dim",
    "failed": "red",
    "stopped": "dim",
    "deleting": "dim",
}


@contextmanager
def shown_errors() -> Iterator[None]:
    """Turn an expected error into one line with its hint and an exit status."""
    try:
        yield
    except ModelryError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has seen enough.
        sys.stderr.close()
        raise typer.Exit(0) from None


def fail(error: ModelryError) -> None:
    """Print the error and exit: 2 for a setting that is wrong, 1 otherwise."""
    print_error(error)
    raise typer.Exit(2 if isinstance(error, SettingsError) else 1)


def print_error(error: ModelryError) -> None:
    """One line: what went wrong, and the next step."""
    hint = f" ({error.hint})" if error.hint else ""
    err.print(f"[red]error:[/] {escape(error.message + hint)}", soft_wrap=True)


def print_usage_error(error: TyperException) -> int:
    """One line, with where to read on. Returns the exit status."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    path = context.command_path if context is not None else "modelry"
    problem = message[:1].lower() + message[1:].rstrip(".")
    print_error(ModelryError(problem, hint=f"`{path} --help` explains it"))
    return 2


def print_unexpected(error: Exception) -> int:
    """A mistake of ours, in one line all the same. Returns the exit status."""
    kind = type(error).__name__
    hint = "set MODELRY_DEBUG=1 for the whole story, and please report it"
    with contextlib.suppress(OSError):
        print_error(ModelryError(f"something unexpected happened: {kind}: {error}", hint=hint))
    return 1


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    empty: str,
    *,
    as_json: Any,
    json_flag: bool,
    spare: Sequence[str] = (),
) -> None:
    """`as_json` if `json_flag`, a table otherwise; `empty` where there is no row.

    A terminal that is too narrow does without columns of `spare`, the first of them first; where
    that is not enough, each row gets lines of its own.
    """
    if json_flag:
        print_json(as_json)
        return
    if not rows:
        out.print(empty)
        return
    for count in range(len(spare) + 1):
        left_out = spare[:count]
        kept = [at for at, column in enumerate(columns) if column not in left_out]
        table = _table([columns[at] for at in kept], [[row[at] for at in kept] for row in rows])
        if _width(table) <= out.width:
            out.print(table)
            if left_out:
                told = ", ".join(column for column in columns if column in left_out)
                hint = "a wider terminal shows more, and --json all"
                err.print(f"  [dim]without {told}: {hint}[/]", soft_wrap=True)
            return
    for row in rows:
        _print_lines(columns, row)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    return table


def _width(table: Table) -> int:
    """What it takes so that no cell is broken."""
    options = out.options.update(width=_PIPE_WIDTH)
    return Measurement.get(out, options, table).maximum


def _print_lines(columns: Sequence[str], row: Sequence[str]) -> None:
    """A row as a heading with a line for each column. A terminal breaks what is too long: it is
    copied in one piece all the same.
    """
    out.print(f"[bold]{row[0]}[/]", soft_wrap=True)
    width = max(map(len, columns))
    for column, value in zip(columns[1:], row[1:], strict=True):
        if value not in ("", "-"):
            out.print(f"  [dim]{column:<{width}}[/] {value}", soft_wrap=True)


def state_text(state: str) -> str:
    style = STATE_STYLES.get(state, "yellow")
    return f"[{style}]{escape(state)}[/]"


def when(text: str | None) -> str:
    """A time of the API in this machine's zone."""
    if text is None:
        return "-"
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def short(number: int) -> str:
    """A number that may be huge, in three or four digits: `4.1k`, `786.4k`, `12.6M`."""
    if number < 1000:
        return str(number)
    value = float(number)
    for unit in "kMG":
        value /= 1000
        if value < 999.95:
            return f"{value:.1f}{unit}"
    return f"{value / 1000:,.1f}T"


def size(number: int | None) -> str:
    """Bytes in a unit that people read."""
    if number is None:
        return "-"
    if number < 1000:
        return f"{number} B"
    value = float(number)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        # What rounds up to 1000.0 is the next unit's 1.0.
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"
