"""`modelry`: every command, in the order a newcomer meets them."""

import os
import sys

import typer
from typer.exceptions import TyperException

from modelry import __version__
from modelry.cli import (
    bundles,
    conformance,
    connect,
    deploying,
    engines,
    keys,
    models,
    nodes,
    services,
    session,
    tokens,
    up,
    uploads,
    usage,
    weights,
)
from modelry.cli.output import print_unexpected, print_usage_error, shown_errors

app = typer.Typer(
    name="modelry",
    help="Turn a model into a callable service: deploy once, call it with any OpenAI client.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options of `modelry` itself."""


up.register(app)
deploying.register(app)
services.register(app)
connect.register(app)
conformance.register(app)
models.register(app)
uploads.register()
app.add_typer(bundles.app, name="bundle")
weights.register()
usage.register(app)
nodes.register(app)
session.register(app)
app.add_typer(keys.app, name="keys")
app.add_typer(tokens.app, name="tokens")
app.add_typer(engines.app, name="engines")


def main() -> None:
    try:
        with shown_errors():
            code = app(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except typer.Abort:
        code = 1
    except TyperException as error:
        # A usage that is wrong: one line, like every other error.
        code = print_usage_error(error)
    except Exception as error:
        if os.environ.get("MODELRY_DEBUG"):
            raise
        code = print_unexpected(error)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
