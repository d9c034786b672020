"""LangChain, LlamaIndex, the command line and evaluation pass learned sparse vectors on."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import ParameterError

TEXTS = ["a red apple", "a green pear", "the blue sky", "zebras in the zoo"]


def letters(texts: list[str]) -> list[dict[int, float]]:
    return [{ord(letter): float(text.count(letter)) for letter in text if letter != " "} for text in texts]


# ---------------------------------------------------------------------- LangChain


@pytest.fixture
def store(tmp_path: Path) -> Any:
    pytest.importorskip("langchain_core")
    from langchain_core.embeddings import DeterministicFakeEmbedding

    from octavo.integrations.langchain import OctavoVectorStore

    store = OctavoVectorStore(DeterministicFakeEmbedding(size=8), tmp_path / "kb", sparse=letters)
    store.add_texts(TEXTS, ids=list("apsz"))
    yield store
    store.close()


def test_langchain_searches(store: Any) -> None:
    assert [hit.id for hit in store.similarity_search("zzz", k=1, mode="sparse")] == ["z"]
    ready = store.similarity_search_with_score("any", k=1, mode="sparse", sparse_vector={ord("k"): 2.0})
    assert [(hit.id, score) for hit, score in ready] == [("s", pytest.approx(2.0, abs=0.02))]
    names = ("dense", "text", "sparse")
    fused = store.similarity_search_with_relevance_scores("zebras", k=4, mode="hybrid", rank=names)
    assert fused[0][0].id == "z"
    assert all(0 <= score <= 1 for _, score in fused)
    first = store.collection.search("zebras", 4, mode="hybrid", rank=names).ids
    assert [hit.id for hit, _ in fused] == first
    alone = store.similarity_search("zzz", k=4, mode="hybrid", rank=("dense", "sparse"), weights=(0, 1))
    assert [hit.id for hit in alone] == ["z"]
    relevance = store.similarity_search_with_relevance_scores("zzz", k=1, mode="sparse")
    assert 0 < relevance[0][1] < 1


def test_langchain_retriever(store: Any) -> None:
    from octavo.integrations.langchain import OctavoRetriever

    assert [hit.id for hit in OctavoRetriever(vectorstore=store, mode="sparse", k=1).invoke("zz")] == ["z"]
    hybrid = OctavoRetriever(vectorstore=store, mode="hybrid", rank=("text", "sparse"), weights=(1, 3), k=1)
    assert [hit.id for hit in hybrid.invoke("zebras")] == ["z"]
    with pytest.raises(Exception, match="rank belongs to mode='hybrid'"):
        OctavoRetriever(vectorstore=store, mode="dense", rank=("dense", "sparse"))
    with pytest.raises(Exception, match="one weight for each"):
        OctavoRetriever(vectorstore=store, mode="hybrid", rank=("dense", "sparse"), weights=(1,))


def test_langchain_copies_keep_the_encoder(store: Any) -> None:
    for again in (pickle.loads(pickle.dumps(store)), copy.deepcopy(store)):
        with again:
            assert [hit.id for hit in again.similarity_search("zzz", k=1, mode="sparse")] == ["z"]


def test_langchain_merges_sparse_vectors(store: Any) -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    from octavo.integrations.langchain import OctavoVectorStore

    with OctavoVectorStore(DeterministicFakeEmbedding(size=8), sparse=letters) as other:
        other.add_texts(["quartz"], ids=["q"])
        store.merge_from(other)
    assert [hit.id for hit in store.similarity_search("q", k=1, mode="sparse")] == ["q"]


# ---------------------------------------------------------------------- LlamaIndex


def test_llama_index(tmp_path: Path) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

    from octavo.integrations.llama_index import OctavoVectorStore

    store = OctavoVectorStore(tmp_path / "kb", sparse=letters)
    store.add([TextNode(id_=i, text=t, embedding=[1.0, n]) for n, (i, t) in enumerate(zip("apsz", TEXTS, strict=True))])

    def ids(mode: Any, **options: Any) -> list[str]:
        vector_store_kwargs = options.pop("kwargs", {})
        query = VectorStoreQuery(query_str="zzz", query_embedding=[1.0, 0.0], mode=mode, **options)
        return store.query(query, **vector_store_kwargs).ids

    modes = VectorStoreQueryMode
    assert ids(modes.SPARSE, similarity_top_k=2) == ["z"]
    assert ids(modes.TEXT_SEARCH, similarity_top_k=2) == []  # by words: none of them is "zzz"
    assert ids(modes.HYBRID, similarity_top_k=4, alpha=0.0) == ["z"]
    assert set(ids(modes.HYBRID, similarity_top_k=2)) == {"a", "z"}
    assert ids(modes.HYBRID, similarity_top_k=2, sparse_top_k=1, alpha=0.1)[0] == "z"
    weighed = {"rank": ["dense", "sparse"], "weights": [0, 1]}
    assert ids(modes.HYBRID, similarity_top_k=4, kwargs=weighed) == ["z"]
    with pytest.raises(ParameterError, match="unknown option 'rank'"):
        ids(modes.DEFAULT, kwargs=weighed)
    again = pickle.loads(pickle.dumps(store))
    assert again.query(VectorStoreQuery(query_str="zzz", mode=modes.SPARSE, similarity_top_k=1)).ids == ["z"]
    again.close()
    store.close()


# ---------------------------------------------------------------------- command line and evaluation

MODULE = """
import numpy as np

def sparse(texts):
    return [{ord(c): float(t.count(c)) for c in t if c != " "} for t in texts]

def dense(texts):
    return np.array([[len(t), t.count("e") + 1.0, t.count("a") + 0.5] for t in texts], np.float32)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "toy_sparse_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "toy_sparse_models"


def run(*arguments: object) -> Any:
    from typer.testing import CliRunner

    from octavo.cli import app

    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_the_command_line(tmp_path: Path, module: str) -> None:
    source = tmp_path / "docs.jsonl"
    lines = [json.dumps({"_id": i, "text": text}) for i, text in zip("apsz", TEXTS, strict=True)]
    source.write_text("\n".join(lines))
    place = tmp_path / "kb"
    run("index", source, "--path", place, "--model", f"{module}:dense", "--sparse", f"{module}:sparse")
    sparse = ("--sparse", f"{module}:sparse")
    found = json.loads(run("search", "zzz", "--path", place, "--mode", "sparse", *sparse, "--json").stdout)
    assert [hit["id"] for hit in found["hits"]] == ["z"]
    models = (*sparse, "--model", f"{module}:dense")
    fused = ("--mode", "hybrid", "--rank", "dense,sparse", "--weights", "0.1,0.9")
    found = json.loads(run("search", "zzz", "--path", place, *fused, *models, "--json").stdout)
    assert found["hits"][0]["id"] == "z"
    assert json.loads(run("info", place, "--json").stdout)["sparse"]["documents"] == 4


def test_evaluation(tmp_path: Path, module: str) -> None:
    pytest.importorskip("ir_measures")
    from octavo.eval import Configuration, Dataset
    from octavo.eval import run as measure
    from octavo.eval.running.timing import Timing

    texts = [f"{text} {number}" for number in range(10) for text in TEXTS]
    ids = [str(number) for number in range(len(texts))]
    data = Dataset(
        name="toy", document_ids=ids, texts=texts, query_ids=["z"], queries=["zebras 3"], qrels={"z": {"15": 1}}
    )
    name = f"{module}:sparse"
    wanted = [
        Configuration(mode="sparse", sparse=name),
        Configuration(codec="int8", mode="hybrid", rank="dense,text,sparse", sparse=name),
        Configuration(codec="int8", mode="hybrid", rank="dense,sparse", weights="0.3,0.7", sparse=name),
    ]
    results = measure(data, f"{module}:dense", wanted, measures=["R@100"], timing=Timing(queries=1, repeats=1))
    assert [result.configuration for result in results] == wanted
    for result in results:
        assert result.storage.disk["sparse"] > 0
        assert result.quality["R@100"] == 1.0
    assert results[0].model is None
    assert results[0].agreement.float32 == pytest.approx(1.0, abs=0.2)
    assert Configuration.from_dict(wanted[1].to_dict()) == wanted[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sparse"}, "needs sparse="),
        ({"codec": "int8", "sparse": "model"}, "has no sparse vectors"),
        ({"codec": "int8", "rank": "dense,text"}, "rank and weights belong"),
        ({"codec": "int8", "mode": "hybrid", "rank": "text,sparse", "sparse": "m"}, "rank with 'dense'"),
        ({"codec": "int8", "mode": "hybrid", "rank": "dense,words"}, "rank as one of"),
        ({"codec": "int8", "mode": "hybrid", "weights": "a,b"}, "weights as numbers"),
        ({"codec": "int8", "mode": "hybrid", "weights": "1"}, "one weight for each"),
        ({"codec": "int8", "mode": "sparse", "sparse": "m"}, "compares no vectors"),
        ({"mode": "sparse", "sparse": "m", "store": "qdrant"}, "local collections"),
    ],
)
def test_configurations_that_cannot_be(options: dict[str, Any], message: str) -> None:
    from octavo.eval import Configuration

    with pytest.raises(ParameterError, match=message):
        Configuration(**options)


def test_planning() -> None:
    from octavo.planning import Hardware, Workload, plan

    small, more = (plan(Workload(100_000, 384, sparse_terms=terms), Hardware(64e9)).local for terms in (0, 180))
    assert 300 < (more.disk_bytes - small.disk_bytes) / 100_000 < 420
