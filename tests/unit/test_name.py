"""The old name is gone: it belongs to another package, and whoever follows a command with it installs that one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Put together here, so that this file does not find itself.
OLD = "qu" + "ire"
PATTERN = re.compile(rf"(?<![a-z]){OLD}|(?<![a-z]){OLD.upper()}|{OLD.title()}", re.MULTILINE)

#: What has to name it: the changelog tells users of the change.
ALLOWED = {"CHANGELOG.md"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: the files that belong to the project are not known")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_no_file_has_the_old_name() -> None:
    files = tracked()
    assert len(files) > 100  # it does look at something
    assert [str(path) for path in files if PATTERN.search(path.name)] == []
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files
        if path.is_file() and path.name not in ALLOWED
        for match in [PATTERN.search(path.read_bytes().decode("utf-8", "replace"))]
        if match
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "found"),
    [("import {}", True), ("{}[all]", True), ("my_{}_x", True), ("re{}d", False), ("ac{}", False), ("In{}y", False)],
)
def test_the_check_itself(text: str, found: bool) -> None:
    assert (PATTERN.search(text.format(OLD)) is not None) is found
