"""The application that the commands register with, its exit codes, and how errors are shown."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from octavo._printing import echo
from octavo._version import __version__
from octavo.errors import InvalidFilterError, OctavoError, ParameterError

#: Exit codes. 0 is success.
FAILURE, USAGE = 1, 2


class _Group(TyperGroup):
    """Shows the errors that Octavo raises on purpose as one line; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output has gone; the framework ends quietly
        except (OctavoError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            echo(f"error: {error}", err=True)
            # A value that cannot be used is a mistake in the command; the rest went wrong while it ran.
            usage = isinstance(error, ParameterError | InvalidFilterError)
            raise typer.Exit(USAGE if usage else FAILURE) from None


app = typer.Typer(
    name="octavo",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keep a RAG collection small, fast and safe on one machine.",
    epilog="Exit codes: 0 success, 1 failure or problems found, 2 wrong usage. Every command takes --json.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(f"octavo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass  # both options have done their work: --version in its callback, --debug in _Group


def main() -> None:
    """Run the command line (the entry point of the ``octavo`` command)."""
    app()
