"""The command line: ``quire index``, ``search``, ``info``, ``verify`` and ``demo``.

Further command groups are mounted on `app`: ``app.add_typer(other, name="eval")``.
"""

from quire.cli import _demo, _index, _info, _search, _verify  # noqa: F401 - each registers its command
from quire.cli._app import app, main

__all__ = ["app", "main"]
