"""What `pareto --budget` promises is what a collection made by hand from its recipe takes and finds."""

from __future__ import annotations

from pathlib import Path

import pytest

import octavo
from octavo.eval import Dataset, Timing, run
from octavo.eval.analysis.pareto import pareto
from octavo.eval.running.measures import Measures


@pytest.mark.parametrize("budget", [36, 80, 140])
def test_the_recommended_configuration_holds_when_rebuilt(
    tiny: Dataset, encoder: object, quick: Timing, tmp_path: Path, budget: int
) -> None:
    """Bytes within 2 %, quality within 0.5 %; 32 dimensions, so that each budget lets another codec in."""
    codecs = ["float32", "int8", "float16", "truncate:50%|int8"]
    results = run(tiny, encoder, codecs, measures=["nDCG@10", "RR@10"], timing=quick)
    choice = pareto(results, budget=budget * len(tiny.document_ids), where="ram", measure="nDCG@10")
    [promised] = [one for one in results if one.label == choice.recommended.label]
    assert promised.storage.ram_bytes_per_document <= budget

    path = tmp_path / "by-hand"
    names = {"octavo": octavo, "encoder": encoder}
    exec(choice.recipe.python.replace("'kb'", repr(str(path))), names)  # what a user pastes
    with names["kb"] as kb:  # type: ignore[attr-defined]
        kb.add(tiny.texts, ids=tiny.document_ids)
        kb.fit()
    with octavo.open(path, encoder, must_exist=True) as kb:
        taken = kb.info().ram_bytes_per_document
        found = kb.search_batch(tiny.queries, k=10)
        rankings = {
            query: list(zip(one.ids, map(float, one.scores), strict=True))
            for query, one in zip(tiny.query_ids, found, strict=True)
        }
    measured = Measures(["nDCG@10"]).evaluate(tiny.qrels, {10: rankings}).mean["nDCG@10"]
    assert taken == pytest.approx(promised.storage.ram_bytes_per_document, rel=0.02)
    assert measured == pytest.approx(promised.quality["nDCG@10"], rel=0.005)
