"""``octavo eval``: the commands, mounted by the top-level command line as ``app.add_typer(app, name="eval")``."""

import typer

from octavo.eval.cli._data import inspect_command as _inspect
from octavo.eval.cli._data import make_command as _make
from octavo.eval.cli._migrate import migrate_command as _migrate
from octavo.eval.cli._results import compare_command as _compare
from octavo.eval.cli._results import pareto_command as _pareto
from octavo.eval.cli._results import report_command as _report
from octavo.eval.cli._run import run_command as _run

__all__ = ["app"]

app = typer.Typer(
    name="eval",
    no_args_is_help=True,
    help="Measure what each byte costs on your own data, and choose a configuration.",
    epilog="Exit codes: 0 success, 1 a check or condition failed, 2 wrong usage. Every command takes --json.",
)

_EPILOG = "Exit codes: 0 success, 1 failure, 2 wrong usage."

app.command("compare", epilog=_EPILOG)(_compare)
app.command("pareto", epilog="Exit codes: 0 success, 1 nothing fits or a file cannot be read, 2 wrong usage.")(_pareto)
app.command("report", epilog=_EPILOG)(_report)
app.command("inspect", epilog=_EPILOG)(_inspect)
app.command("make", epilog=_EPILOG)(_make)
app.command("migrate", epilog=_EPILOG)(_migrate)
app.command("run")(_run)
