"""The application that the commands register with, its exit codes, and how errors are shown."""

from __future__ import annotations

import logging
import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from octavo._printing import echo, note
from octavo._version import __version__
from octavo.errors import InvalidFilterError, OctavoError, ParameterError

#: Exit codes. 0 is success.
FAILURE, USAGE = 1, 2


def _option(match: re.Match[str]) -> str:
    name = {"encoder": "model", "full_text": "language"}.get(match[1], match[1].replace("_", "-"))
    return f"--{name} "


#: Commands in the order in which one comes to need them; what is not named comes last.
_ORDER = (
    "index", "watch", "search", "serve", "mcp", "list", "get", "update", "delete", "stats", "duplicates", "info",
    "fit", "refit", "reencode", "tune", "compact", "verify", "snapshot", "restore", "export", "import", "push", "pull",
    "plan", "train", "eval", "demo",
)  # fmt: skip

#: What messages of the library say, and what the same is called here.
_WORDS = [
    (re.compile(pattern), words)
    for pattern, words in (
        (r"verify\(repair=True\)", "octavo verify --repair"),
        (r"open it with encoder=", "name its model with --model"),
        (r"compact\(secure=True\)", "octavo compact --secure"),
        (r"call (?:its )?fit\(\)(?: on the collection)? first", "run octavo fit first"),
        (r"\brefit\(\)", "octavo refit"),
        (r"\bclear\(\)", "octavo delete --all"),
        (r"\bmode='(\w+)'", r"--mode \1"),
        (r"\b(codec|encoder|metric|full_text|filter|fit_after)=(?=['\"\s,;.)]|$)", _option),
        (r"\b(collection|table|documents|(?:row|id|text)_field|(?:id|text|vector)_column)=(?=[;,]|$)", _option),
    )
]


def in_our_words(message: str) -> str:
    """Return a message of the library with what the command line calls its options.

    Examples
    --------
    >>> in_our_words("the collection was opened without an encoder; open it with encoder=")
    'the collection was opened without an encoder; name its model with --model'
    """
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    return message


class _Group(TyperGroup):
    """Shows the errors that Octavo raises on purpose as one line; anything else is a bug and keeps its traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order of use."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output has gone; the framework ends quietly
        except (OctavoError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            echo(f"error: {in_our_words(str(error))}", err=True)
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
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say on stderr what is being done.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    _show_log(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)


class _Handler(logging.Handler):
    """Prints what the library logs as remarks, without what a terminal would obey."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        note(f"{record.levelname.lower()}: {self.format(record)}")


def _show_log(level: int) -> None:
    logger = logging.getLogger("octavo")
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)  # of a command before, in the same process
    logger.addHandler(_Handler(level))
    logger.setLevel(level)


def main() -> None:
    """Run the command line (the entry point of the ``octavo`` command)."""
    app()
