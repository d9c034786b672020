"""One suite for the local collection and the one in Qdrant's core."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from octavo.errors import CollectionClosedError, DocumentNotFoundError, InvalidVectorsError, OctavoError, ParameterError

N = 40


@pytest.fixture
def vectors() -> Any:
    return np.random.default_rng(0).normal(size=(N, 8)).astype(np.float32)


@pytest.fixture
def filled(make: Any, vectors: Any) -> Any:
    collection = make(codec="float32")
    collection.add(
        [f"text number{i} colour{i % 4}" for i in range(N)],
        ids=[f"d{i}" for i in range(N)],
        metadata=[{"n": i, "tags": ["even" if i % 2 == 0 else "odd"], "deep": {"x.y": i / 2}} for i in range(N)],
        vectors=vectors,
        payloads=[f"p{i}" if i % 2 else None for i in range(N)],
    )
    return collection


def test_what_goes_in_comes_out(filled: Any, vectors: Any) -> None:
    first, second = filled.get(["d7", "nobody", "d3"])
    assert (first.id, first.text, first.metadata["deep"]) == ("d7", "text number7 colour3", {"x.y": 3.5})
    assert second.id == "d3"
    assert filled.get_payloads(["d1", "d2", "nobody"]) == ["p1", None, None]
    assert filled.contains(["d0", "nobody"]) == [True, False]
    assert "d0" in filled
    assert "nobody" not in filled
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(filled.get_vectors(["d5", "d1"]), unit[[5, 1]], atol=1e-6)
    assert filled.ids() == [f"d{i}" for i in range(N)]
    assert [document.id for document in filled.documents()] == filled.ids()
    with pytest.raises(DocumentNotFoundError):
        filled.get_vectors(["nobody"])


def test_info_tells_the_same_of_the_same_collection(make: Any, vectors: Any) -> None:
    collection = make(codec="truncate:4|int8", metric="dot", full_text="german")
    collection.add(["ein Text"] * N, ids=[f"d{i}" for i in range(N)], vectors=vectors)
    collection.delete(["d0"])
    info = collection.info()
    assert (info.documents, info.dim, info.codec, info.metric) == (N - 1, 8, "truncate:4|int8", "dot")
    assert (info.full_text, info.encoder) == ("german", None)
    assert json.loads(json.dumps(info.to_dict()))["documents"] == N - 1


def test_upsert_replaces_and_moves_to_the_end(filled: Any, vectors: Any) -> None:
    filled.add(["new"], ids=["d3"], vectors=vectors[:1])
    assert len(filled) == N
    assert filled.ids()[-1] == "d3"
    assert filled.get(["d3"])[0].text == "new"
    assert filled.get(["d3"])[0].metadata == {}
    assert filled.get_payloads(["d3"]) == [None]
    assert filled.count({"n": 3}) == 0


def test_delete(filled: Any) -> None:
    assert filled.delete(["d0", "nobody"]) == 1
    assert filled.delete(filter={"n": {"$lt": 5}}) == 4
    assert filled.delete(["d5", "d6"], filter={"n": 6}) == 1
    assert filled.delete([]) == 0
    assert len(filled) == N - 6
    for arguments in ({}, {"filter": {}}):
        with pytest.raises(ParameterError):
            filled.delete(**arguments)
    assert filled.clear() == N - 6
    assert len(filled) == 0
    assert filled.search(np.ones(8), 3).ids == []


def test_search_equals_numpy(filled: Any, vectors: Any) -> None:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    query = np.arange(8.0)
    scores = unit @ (query / np.linalg.norm(query))
    best = np.argsort(-scores)
    result = filled.search(query, 5, exact=True)
    assert result.ids == [f"d{i}" for i in best[:5]]
    np.testing.assert_allclose(result.scores, scores[best[:5]], atol=1e-5)
    assert result.documents[0] == filled.get(result.ids[:1])[0]
    assert result.payloads == filled.get_payloads(result.ids)
    even = [i for i in best if i % 2 == 0][:4]
    assert filled.search(query, 4, filter={"tags": {"$contains": "even"}}).ids == [f"d{i}" for i in even]
    assert filled.search(query, 4, filter=lambda d: d.metadata["n"] % 2 == 0).ids == [f"d{i}" for i in even]
    assert set(filled.search(query, 9, ids=["d1", "d2"]).ids) == {"d1", "d2"}
    assert filled.search(query, 9, ids=[]).ids == []
    many = filled.search_batch([query, -query], 3)
    assert many[0].ids == result.ids[:3]
    assert many[1].ids == [f"d{i}" for i in best[::-1][:3]]
    assert filled.search_batch([], 3) == []


def test_words_and_both(filled: Any, vectors: Any) -> None:
    assert filled.search("number7", 3, mode="text").ids == ["d7"]
    assert filled.search("nothing of this", 3, mode="text").ids == []
    assert filled.search("", 3, mode="text").ids == []
    hybrid = filled.search(vectors[7], 3, mode="hybrid", text="number7")
    assert hybrid.ids[0] == "d7"
    assert hybrid.scores[0] == pytest.approx(2 / 61)
    assert (
        filled.search(vectors[7], 5, mode="hybrid", text="number3", alpha=1.0).ids == filled.search(vectors[7], 5).ids
    )
    assert filled.search(vectors[7], 5, mode="hybrid", text="number3", alpha=0.0).ids == ["d3"]
    assert filled.search(vectors[7], 5, mode="hybrid", text="number3", alpha=0.4).ids[0] == "d3"


def test_mmr(filled: Any, vectors: Any) -> None:
    filled.add(["twin"], ids=["twin"], vectors=vectors[7:8])
    plain = filled.search(vectors[7], 2)
    assert set(plain.ids) == {"d7", "twin"}
    assert set(filled.search(vectors[7], 2, lambda_mult=0.3, fetch_k=20).ids) != {"d7", "twin"}
    np.testing.assert_allclose(filled.search(vectors[7], 2, lambda_mult=1.0).scores, plain.scores, atol=1e-6)


def test_errors_leave_it_as_it_was(filled: Any) -> None:
    for wrong in ([[np.nan] * 8], [[np.inf] * 8], [[1.0] * 7]):
        with pytest.raises(InvalidVectorsError):
            filled.add(["x"], ids=["x"], vectors=wrong)
    with pytest.raises(ParameterError):
        filled.add(["x"])
    for arguments in ({"k": 0}, {"mode": "other"}, {"alpha": 0.5}, {"filter": {"n": {"$nonsense": 1}}}):
        with pytest.raises(OctavoError):
            filled.search(np.ones(8), **arguments)
    assert len(filled) == N
    filled.close()
    filled.close()
    with pytest.raises(CollectionClosedError):
        filled.count()


def test_an_empty_collection(make: Any) -> None:
    collection = make(codec="int8")
    assert (len(collection), collection.ids(), collection.get(["a"])) == (0, [], [])
    assert collection.search([1.0, 2.0]).ids == []
    assert collection.delete(["a"]) == 0


def test_odd_ids_texts_and_numbers_come_back(make: Any) -> None:
    collection = make(codec="float32")
    metadata = [
        {"a": 2**70, "b": 0.1, "c": [1.0, {"d": None}], "": {"x": -(2**63)}},
        {"e.f": "\u00e9\U0001f600", "g": True},
    ]
    collection.add(["\u0000 \U0001f600", ""], ids=["", "a/b \n"], metadata=metadata, vectors=[[1.0, 0.0], [0.0, 1.0]])
    found = collection.get(["", "a/b \n"])
    assert [document.metadata for document in found] == metadata
    assert repr(found[0].metadata["c"]) == repr(metadata[0]["c"])
    assert [document.text for document in found] == ["\u0000 \U0001f600", ""]
