"""Hook of the documentation's site: the page of commands is written from the commands themselves, as their ``--help`` is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

PAGE = "reference/commands.md"

#: What the page has in the place of the commands.
MARK = "<!-- the commands -->"

_LITERAL = re.compile(r"\\\[(\w+)\]")
_SPECIAL = re.compile(r"([*_\[\]])")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Put the commands in."""
    return markdown.replace(MARK, commands()) if page.file.src_uri == PAGE else markdown


def commands() -> str:
    """Return all commands as Markdown, in the order of `octavo --help`."""
    import typer

    from octavo.cli import app

    return "\n".join(_group(typer.main.get_command(app), "octavo", 2))


def _group(group: Any, name: str, level: int) -> Iterator[str]:
    context = group.make_context(name, [], resilient_parsing=True)
    yield from _table(_records(group, context, "option"), "option")
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        if not command.hidden:
            yield from _command(command, f"{name} {each}", level)


def _command(command: Any, name: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} {name}\n"
    yield _prose(command.help or "") + "\n"
    if hasattr(command, "list_commands"):
        yield from _group(command, name, level + 1)
        return
    context = command.make_context(name, [], resilient_parsing=True)
    records = {kind: _records(command, context, kind) for kind in ("argument", "option")}
    named = [record[0].partition(" <")[0] for record in records["argument"]]
    yield f"```text\n{' '.join([name, *named, '[OPTIONS]'])}\n```\n"
    for kind, found in records.items():
        yield from _table(found, kind)


def _records(command: Any, context: Any, kind: str) -> list[tuple[str, str]]:
    found = [param.get_help_record(context) for param in command.params if param.param_type_name == kind]
    return [record for record in found if record is not None]


def _table(records: list[tuple[str, str]], kind: str) -> Iterator[str]:
    if records:
        yield f"| {kind} | |\n|---|---|"
        yield "\n".join(f"| `{_cell(names)}` | {_cell(_prose(said))} |" for names, said in records) + "\n"


def _prose(text: str) -> str:
    """Return a help text as Markdown: what is typed there with a meaning of its own is shown as it is."""
    return _SPECIAL.sub(r"\\\1", _LITERAL.sub(r"[\1]", inspect.cleandoc(text))).replace("<", "&lt;")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
