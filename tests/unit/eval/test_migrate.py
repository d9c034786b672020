"""What a change of the model does to searches, measured before it begins."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from octavo.errors import ParameterError
from octavo.eval.cli import app
from octavo.eval.datasets import Dataset
from octavo.eval.running.measures import register_measure, unregister_measure
from octavo.eval.running.migration import measure_migration


@pytest.fixture
def first() -> str:
    register_measure("First", lambda grades, ids: float(bool(ids) and grades.get(ids[0], 0) > 0), depth=1)
    yield "First"
    unregister_measure("First")


def data() -> tuple[Dataset, tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a set where the new model is always right, and the old one for the second half of the documents."""
    rng = np.random.default_rng(0)
    documents = rng.standard_normal((400, 32)).astype(np.float32)
    queries = documents[::10] + 0.1
    confused = documents.copy()
    confused[:200] = rng.standard_normal((200, 32))
    ids = [f"d{i}" for i in range(400)]
    names = [f"q{i}" for i in range(0, 400, 10)]
    dataset = Dataset(
        name="made",
        document_ids=ids,
        texts=[f"text {i}" for i in range(400)],
        query_ids=names,
        queries=[f"query {i}" for i in range(40)],
        qrels={name: {f"d{name[1:]}": 1} for name in names},
    )
    return dataset, (confused, queries), (documents, queries)


def test_quality_rises_from_the_old_models_to_the_new_ones(first: str) -> None:
    dataset, old, new = data()
    points = measure_migration(dataset, old, new, measure=first, shares=(0.25, 0.5, 0.75))
    assert [round(point.share, 2) for point in points] == [0, 0.25, 0.5, 0.75, 1]
    assert points[0].quality == pytest.approx(0.5, abs=0.05)
    assert points[-1].quality == 1
    assert [point.quality for point in points] == sorted(point.quality for point in points)
    assert points[0].above_old == 0
    assert points[-1].of_new == 1


@pytest.mark.parametrize("shares", [(0.5, 0.25), (0.0,), (1.0,), (0.5, 0.5)])
def test_shares_rise(shares: tuple[float, ...], first: str) -> None:
    dataset, old, new = data()
    with pytest.raises(ParameterError, match="share"):
        measure_migration(dataset, old, new, measure=first, shares=shares)


def test_the_command(tmp_path: Path) -> None:
    dataset, old, new = data()
    (tmp_path / "qrels").mkdir()
    records = zip(dataset.document_ids, dataset.texts, strict=True)
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in records))
    records = zip(dataset.query_ids, dataset.queries, strict=True)
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in records))
    judged = "".join(f"{q}\t{next(iter(grades))}\t1\n" for q, grades in dataset.qrels.items())
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    for name, (documents, queries) in (("old", old), ("new", new)):
        np.savez(tmp_path / f"{name}.npz", D=documents, Q=queries, did=dataset.document_ids, qid=dataset.query_ids)
    asked = ["migrate", "--data", str(tmp_path), "--from", str(tmp_path / "old.npz"), "--to", str(tmp_path / "new.npz")]
    result = CliRunner().invoke(app, [*asked, "--share", "0.5", "--json"])
    assert result.exit_code == 0, result.output
    points = json.loads(result.stdout)["points"]
    assert [point["share"] for point in points] == [0, 0.5, 1]
    assert points[-1]["of_new"] == 1
    shown = CliRunner().invoke(app, [*asked, "--share", "0.5"])
    assert "of the new model's" in shown.output
