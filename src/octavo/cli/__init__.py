"""The command line: ``octavo index``, ``search``, ``info``, ``verify``, ``tune``, ``plan``, ``train``, the group ``eval``."""

from octavo.cli import (  # noqa: F401 - each registers its command
    _backup,
    _demo,
    _documents,
    _export,
    _import,
    _index,
    _info,
    _mcp,
    _plan,
    _reencode,
    _search,
    _serve,
    _stats,
    _train,
    _transfer,
    _tune,
    _upkeep,
    _verify,
    _watch,
)
from octavo.cli._app import app, main
from octavo.eval.cli import app as _evaluation

app.add_typer(_evaluation, name="eval")

__all__ = ["app", "main"]
