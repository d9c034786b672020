"""A retriever in DSPy programs: as a module, as the retrieval model, copied by optimisers, written to files."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo.errors import InputTypeError, ParameterError
from serving_client import TEXTS, fill, mean_of_words
from toy_models import words

dspy = pytest.importorskip("dspy", reason="needs dspy")
from octavo.integrations.dspy import OctavoRetriever  # noqa: E402


@pytest.fixture
def kb() -> Iterator[octavo.Collection]:
    with octavo.open(encoder=mean_of_words) as kb:
        fill(kb)
        yield kb


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_it_is_the_collections_search(kb: octavo.Collection, mode: Any) -> None:
    found = OctavoRetriever(kb, 2, mode=mode)("ripe apple")
    expected = kb.search("ripe apple", 2, mode=mode)
    assert found.ids == expected.ids
    assert found.scores == expected.scores.tolist()
    assert found.passages == [TEXTS[id] for id in expected.ids]
    assert found.metadata == [hit.metadata for hit in expected]
    assert [passage.long_text for passage in found] == found.passages


def test_as_the_retrieval_model(kb: octavo.Collection) -> None:
    with dspy.context(rm=OctavoRetriever(kb)):
        found = dspy.Retrieve(k=2)("ripe apple")
    assert found.passages == [TEXTS[id] for id in kb.search("ripe apple", 2).ids]


def test_filters_and_options(kb: octavo.Collection) -> None:
    retrieve = OctavoRetriever(kb, filter={"kind": "fruit"}, lambda_mult=0.5, fetch_k=6)
    assert sorted(retrieve("ripe").ids) == ["apple", "pear"]
    assert retrieve("ripe", filter={"kind": "sport"}).ids == ["running"]
    assert len(retrieve("ripe", k=1)) == 1
    expected = kb.search("ripe", 3, filter={"kind": "fruit"}, lambda_mult=0.5, fetch_k=6)
    assert retrieve("ripe").ids == expected.ids


class Program(dspy.Module):  # type: ignore[misc]
    def __init__(self, kb: Any) -> None:
        super().__init__()
        self.retrieve = OctavoRetriever(kb, k=2)

    def forward(self, question: str) -> Any:
        return dspy.Prediction(context=self.retrieve(question).passages)


def test_a_program_is_copied_and_written_down(kb: octavo.Collection, tmp_path: Path) -> None:
    program = Program(kb)
    for other in (copy.deepcopy(program), program.deepcopy(), program.reset_copy()):
        assert other.retrieve is not program.retrieve
        assert other.retrieve.collection is kb
        assert other("ripe apple").context == program("ripe apple").context
    program.retrieve.k = 1
    program.save(str(tmp_path / "program.json"))
    again = Program(kb)
    again.load(str(tmp_path / "program.json"))
    assert len(again("ripe apple").context) == 1


def test_late_interaction_and_qdrant(tmp_path: Path) -> None:
    from octavo.integrations.qdrant import QdrantCollection

    with octavo.open_multi_vector(encoder=words, pool_factor=1) as kb:
        fill(kb)
        assert OctavoRetriever(kb)("ripe apple").ids[0] == "apple"
    kb = QdrantCollection.create(path=tmp_path / "kb", encoder=mean_of_words)
    fill(kb)
    assert OctavoRetriever(kb, mode="hybrid")("ripe apple").ids[0] == "apple"
    kb.close()


def test_bad_options(kb: octavo.Collection) -> None:
    with pytest.raises(InputTypeError, match="collection"):
        OctavoRetriever("kb")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="k"):
        OctavoRetriever(kb, 0)
    with pytest.raises(ParameterError, match="mode"):
        OctavoRetriever(kb, mode="magic")("x")  # type: ignore[arg-type]
    for query in (None, 7, ["a", "b"]):
        with pytest.raises(InputTypeError, match="query"):
            OctavoRetriever(kb)(query)
