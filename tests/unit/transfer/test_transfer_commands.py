"""``octavo push`` and ``octavo pull`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import octavo
from octavo.cli import app
from octavo.ingest.transfer import ids_checksum


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def kb(tmp_path: Path, source: octavo.Collection) -> Path:
    source.copy(tmp_path / "kb").close()
    return tmp_path / "kb"


def test_there_and_back(kb: Path, tmp_path: Path) -> None:
    pushed = json.loads(run("push", kb, "--to", tmp_path / "there", "--batch-size", 50, "--json").stdout)
    assert (pushed["copied"], pushed["present"], pushed["documents"], pushed["compared"]) == (300, 0, 300, 256)
    pulled = json.loads(run("pull", tmp_path / "there", tmp_path / "back", "--json").stdout)
    assert pulled["ids_sha256"] == pushed["ids_sha256"]
    with octavo.open(kb) as one, octavo.open(tmp_path / "back", must_exist=True) as other:
        ids = one.ids()
        assert ids == other.ids()
        assert ids_checksum(ids) == pushed["ids_sha256"]
        assert one.get(ids) == other.get(ids)
        assert one.get_payloads(ids) == other.get_payloads(ids)
        assert np.array_equal(one.get_vectors(ids), other.get_vectors(ids))
        for query in np.random.default_rng(1).standard_normal((10, 24)):
            assert one.search(query, 10).ids == other.search(query, 10).ids


def test_again_and_prune(kb: Path, tmp_path: Path) -> None:
    run("push", kb, "--to", tmp_path / "there")
    assert "0 documents copied, 300 there already; now 300" in run("push", kb, "--to", tmp_path / "there").stdout
    with octavo.open(kb) as collection:
        collection.delete(["id/0 ü", "id/1 ü"])
    refused = run("push", kb, "--to", tmp_path / "there", code=2)
    assert "2 of its documents are not in the source" in refused.stderr
    assert "2 removed; now 298" in run("push", kb, "--to", tmp_path / "there", "--prune").stdout


def test_failures_leave_nothing_behind(kb: Path, tmp_path: Path) -> None:
    assert "no collection at" in run("push", tmp_path / "nothing", "--to", tmp_path / "there", code=1).stderr
    assert "no collection at" in run("pull", tmp_path / "nothing", tmp_path / "there", code=1).stderr
    assert not (tmp_path / "there").exists()
    with octavo.open(tmp_path / "other", codec="int8") as other:
        other.add(["x"], vectors=np.ones((1, 24)))
    assert "made with codec 'int8'" in run("push", kb, "--to", tmp_path / "other", code=1).stderr
