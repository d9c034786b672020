"""Every command of the guide, top to bottom."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]

GUIDE = Path(__file__).parents[3] / "docs" / "command-line.md"


def test_the_guide_runs_top_to_bottom(run: Run) -> None:
    for name, text in {
        "notes/backups.md": "# Backups\n\nWe back up on Mondays.",
        "notes/deploy.md": "Deploy after lunch.",
        "notes/drafts/later.md": "Not yet.",
        "notes/table.csv": "a,b\n1,2\n",
        "handbook/leave.md": "---\nowner: HR\n---\nEvery employee has thirty days of annual leave.",
        "handbook/old.md": "What was true once.",
        "handbook/pay.md": "Salaries are paid on the last day of the month.",
        "people.csv": "name,role,age\nAda,engineer,45\nBob,writer,30\n",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    blocks = re.findall(r"```console\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 40
    for line in lines:
        assert line.startswith("$ "), line
        command, *arguments = shlex.split(line[2:])
        if command == "rm":
            Path(arguments[0]).unlink()
            continue
        assert command == "octavo"
        run(*arguments)
    commands = {shlex.split(line[2:])[1] for line in lines}
    documented = set(run("--help").stdout.split()) & {
        "fit",
        "refit",
        "tune",
        "compact",
        "stats",
        "duplicates",
        "list",
        "get",
    }
    assert documented <= commands
