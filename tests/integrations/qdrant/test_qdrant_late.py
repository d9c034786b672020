"""Late interaction on Qdrant's core: the same answers as numpy and as a local collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import (
    CodecError,
    CollectionClosedError,
    DocumentNotFoundError,
    InputTypeError,
    InvalidVectorsError,
    MismatchError,
    ParameterError,
)
from octavo.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection
from octavo.integrations.qdrant import _late_collection as late_collection
from octavo.retrievers.late_interaction import maxsim_scores

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")

N, DIM = 60, 16


def _unit(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def _tokens(n: int = N, dim: int = DIM, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(5, dim))
    return [_unit(rng.normal(size=(int(rng.integers(2, 9)), dim)) + topics[i % 5]) for i in range(n)]


def _query(seed: int = 1, dim: int = DIM) -> Any:
    return _unit(np.random.default_rng(seed).normal(size=(4, dim)))


TEXTS = [f"text number{i} colour{i % 4}" for i in range(N)]
IDS = [f"d{i}" for i in range(N)]
METADATA: list[dict[str, Any]] = [{"n": i, "tags": ["even" if i % 2 == 0 else "odd"]} for i in range(N)]

Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make collections in Qdrant's core, or with ``local=True`` local ones, closed at the end."""
    made: list[Any] = []

    def create(local: bool = False, **options: Any) -> Any:
        path = tmp_path / f"c{len(made)}"
        if local:
            made.append(octavo.open_multi_vector(path, **options))
        else:
            made.append(
                QdrantMultiVectorCollection.create(path=path, full_scan_threshold=1, indexing_threshold=1, **options)
            )
        return made[-1]

    yield create
    for collection in made:
        collection.close()


def fill(collection: Any, tokens: list[Any] | None = None) -> Any:
    collection.add(
        TEXTS,
        ids=IDS,
        metadata=METADATA,
        token_vectors=_tokens() if tokens is None else tokens,
        payloads=[f"p{i}" if i % 2 else None for i in range(N)],
    )
    return collection


@pytest.mark.parametrize("codec", ["float32", "float16", "int8", "binary", "rabitq:1", "rabitq:2", "rabitq:4"])
@pytest.mark.parametrize("built", [False, True])
def test_scores_are_those_of_numpy(make: Make, codec: str, built: bool) -> None:
    collection = fill(make(codec=codec, pool_factor=1))
    assert not built or collection.optimize()
    for seed in range(5):
        query = _query(seed)
        wanted = dict(zip(IDS, maxsim_scores(query, _tokens()), strict=True))
        for options in ({}, {"exact": True}, {"exact": False, "n_candidates": 30}):
            result = collection.search(query, 10, **options)
            np.testing.assert_allclose(result.scores, [wanted[each] for each in result.ids], rtol=0.01)
            assert list(result.scores) == sorted(result.scores, reverse=True)


@pytest.mark.parametrize("codec", ["float32", "int8", "svd:50%|float32", "pca:50%|float16"])
def test_answers_are_those_of_a_local_collection(make: Make, codec: str) -> None:
    options: dict[str, Any] = {"codec": codec, "pool_factor": 2, "fit_after": 20}
    here, there = fill(make(local=True, **options)), fill(make(**options))
    if "svd" not in codec and "pca" not in codec:  # where learned from more or fewer documents, vectors differ
        for a, b in zip(here.get_token_vectors(IDS), there.get_token_vectors(IDS), strict=True):
            np.testing.assert_allclose(a, b, atol=0.02)
    same = []
    for seed in range(10):
        a, b = here.search(_query(seed), 10, exact=True), there.search(_query(seed), 10, exact=True)
        same.append(len(set(a.ids) & set(b.ids)) / 10)
        if codec == "float32":
            assert a.ids == b.ids
            np.testing.assert_allclose(a.scores, b.scores, rtol=1e-5)
            a, b = here.search(_query(seed), 10), there.search(_query(seed), 10)
            assert a.ids == b.ids
            assert a.documents == b.documents
            assert a.payloads == b.payloads
    assert np.mean(same) > 0.9


@pytest.mark.parametrize("candidates", ["mean", "fde", "random-features"])
def test_candidates_find_what_maxsim_ranks_high(make: Make, candidates: str) -> None:
    tokens = _tokens(400)
    collection = make(codec="float32", pool_factor=1, candidates=candidates, fit_after=200)
    collection.add([""] * 400, ids=[str(i) for i in range(400)], token_vectors=tokens)
    collection.optimize()
    assert collection.info().tokens["candidates"]["id"] == candidates
    found = []
    for seed in range(10):
        query = tokens[seed * 7]
        exact = collection.search(query, 5, exact=True).ids
        assert exact[0] == str(seed * 7)
        found.append(len(set(exact) & set(collection.search(query, 5, exact=False, n_candidates=100).ids)) / 5)
    assert np.mean(found) > 0.8


def test_the_graph_of_candidates_is_used_and_tokens_have_none(make: Make, tmp_path: Path) -> None:
    tokens = _tokens(1100)
    collection = make(codec="int8", pool_factor=1)
    collection.add([""] * 1100, ids=[str(i) for i in range(1100)], token_vectors=tokens)
    assert collection.optimize()
    assert collection.info().indexed >= 1100
    (links,) = {path.parent.name: path for path in tmp_path.rglob("vector_index-dense/links*.bin")}.values()
    (none,) = {path.parent.name: path for path in tmp_path.rglob("vector_index-tokens/links*.bin")}.values()
    assert none.stat().st_size < links.stat().st_size / 4  # where each node's links begin, and no links
    exact = collection.search_batch(tokens[:20], 10, exact=True)
    graph = collection.search_batch(tokens[:20], 10, exact=False, n_candidates=400, ef=400)
    assert [result.ids[0] for result in graph] == [str(i) for i in range(20)]
    assert np.mean([len(set(a.ids) & set(b.ids)) / 10 for a, b in zip(exact, graph, strict=True)]) > 0.8


def test_filters_and_ids(make: Make) -> None:
    collection = fill(make(codec="float32", pool_factor=1))
    query = _query()
    scores = maxsim_scores(query, _tokens())
    best = [int(i) for i in np.argsort(-scores)]
    even = [f"d{i}" for i in best if i % 2 == 0][:4]
    for options in ({}, {"exact": False, "n_candidates": N}):
        assert collection.search(query, 4, filter={"tags": {"$contains": "even"}}, **options).ids == even
        assert collection.search(query, 4, filter=lambda d: d.metadata["n"] % 2 == 0, **options).ids == even
        assert set(collection.search(query, 9, ids=["d1", "d2"], **options).ids) == {"d1", "d2"}
        assert collection.search(query, 9, filter={"n": 999}, **options).ids == []
    assert collection.search(query, 9, ids=[]).ids == []
    many = collection.search_batch([query, -query], 3)
    assert many[0].ids == [f"d{i}" for i in best[:3]]
    assert collection.search_batch([], 3) == []


def test_words_both_and_candidates_by_words(make: Make) -> None:
    options = {"codec": "float32", "pool_factor": 1, "fit_after": 20}
    here, there = (fill(make(local=local, **options)) for local in (True, False))
    tokens = _tokens()
    for collection in (here, there):
        assert collection.search("number7", 3, mode="text").ids == ["d7"]
        assert collection.search(tokens[7], 3, mode="hybrid", text="number7").ids[0] == "d7"
        assert collection.search(tokens[7], 5, mode="hybrid", text="number3", alpha=0.0).ids == ["d3"]
        by_words = collection.search(_query(), 20, candidates="text", text="colour1")
        assert set(by_words.ids) == {f"d{i}" for i in range(N) if i % 4 == 1}
        assert collection.search(_query(), 5, candidates="text", text="nowhere").ids == []
        means = collection.search(_query(), 5, candidates="mean", exact=False, n_candidates=30)
        assert means.ids == collection.search(_query(), 5, exact=False, n_candidates=30).ids
        if not isinstance(collection, octavo.MultiVectorCollection):
            with pytest.raises(ParameterError, match="token cells"):
                collection.search(_query(), 5, candidates="tokens")
        both = collection.search(_query(), 30, candidates="both", text="colour1", exact=False, n_candidates=30)
        assert len(both.ids) == 30
        assert len(set(both.ids)) == 30
    a, b = (c.search(_query(), 20, candidates="text", text="colour1") for c in (here, there))
    assert a.ids == b.ids
    with pytest.raises(ParameterError):
        there.search(_query(), 5, mode="hybrid")
    with pytest.raises(ParameterError):
        there.search(_query(), 5, exact=True, n_candidates=9)


def test_mmr_is_that_of_a_local_collection(make: Make) -> None:
    here, there = (fill(make(local=local, codec="float32", pool_factor=1)) for local in (True, False))
    for collection in (here, there):
        collection.add(["twin", "empty number7"], ids=["twin", "e"], token_vectors=[_tokens()[7], []])
    diverse = there.search(_tokens()[7], 5, lambda_mult=0.4, fetch_k=30)
    plain = there.search(_tokens()[7], 2)
    assert set(plain.ids) == {"d7", "twin"}
    assert len({"d7", "twin"} & set(diverse.ids)) < 2
    rivals = here.search(_tokens()[7], 5, lambda_mult=0.4, fetch_k=30).ids
    assert {diverse.ids[0], rivals[0]} <= {"d7", "twin"}  # equally good
    assert diverse.ids[1:] == rivals[1:]


def test_explain_adds_up_to_the_score(make: Make) -> None:
    def letters(texts: Any) -> Any:
        return [np.eye(128)[[ord(letter) % 128 for letter in text]] for text in texts]

    here, there = (make(local=local, codec="float32", pool_factor=1, encoder=letters) for local in (True, False))
    for collection in (here, there):
        collection.add(["ink", "paper"], ids=["i", "p"])
        result = collection.search("pin", 2)
        for hit in result:
            assert collection.explain("pin", hit.id).score == pytest.approx(hit.score, rel=1e-5)
        with pytest.raises(DocumentNotFoundError):
            collection.explain("pin", "nobody")
    a, b = here.explain("pin", "p"), there.explain("pin", "p")
    np.testing.assert_allclose(a.similarities, b.similarities, atol=1e-6)
    assert (a.best == b.best).all()


def test_upsert_delete_and_documents_without_tokens(make: Make) -> None:
    collection = fill(make(codec="float16", pool_factor=1))
    tokens = _tokens()
    collection.add(["new words"], ids=["d3"], token_vectors=[[]])
    assert len(collection) == N
    assert collection.ids()[-1] == "d3"
    assert collection.get(["d3"])[0].text == "new words"
    assert collection.get_token_vectors(["d3", "d4"])[0].shape == (0, DIM)
    assert not collection.get_vectors(["d3"]).any()
    assert "d3" not in collection.search(tokens[3], N).ids
    assert collection.search("new words", 1, mode="text").ids == ["d3"]
    np.testing.assert_allclose(collection.get_token_vectors(["d4"])[0], tokens[4], atol=1e-3)
    assert collection.delete(["d4", "nobody"]) == 1
    assert collection.delete(filter={"n": {"$lt": 3}}) == 3
    assert "d4" not in collection.search(tokens[4], N).ids
    assert collection.count() == N - 4
    assert collection.clear() == N - 4
    assert collection.search(tokens[4], 3).ids == []
    with pytest.raises(DocumentNotFoundError):
        collection.get_token_vectors(["d4"])


def test_pooled_tokens_are_taken_as_they_are(make: Make) -> None:
    first = fill(make(codec="float32", pool_factor=2))
    stored = first.get_token_vectors(IDS)
    assert sum(map(len, stored)) < sum(map(len, _tokens()))
    second = make(codec="float32", pool_factor=2)
    second.add(TEXTS, ids=IDS, token_vectors=stored, pooled=True)
    for a, b in zip(stored, second.get_token_vectors(IDS), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("codec", ["int8", "svd:50%|float16"])
def test_reopened_it_answers_the_same(tmp_path: Path, codec: str) -> None:
    options = {"path": tmp_path / "q", "full_scan_threshold": 1, "indexing_threshold": 1}
    with QdrantMultiVectorCollection.create(
        codec=codec, pool_factor=3, candidates="fde", fit_after=50, **options
    ) as made:
        fill(made)
        made.optimize()
        before = made.search(_query(), 10, exact=False)
        about = made.info()
    with QdrantMultiVectorCollection.open(path=tmp_path / "q") as again:
        after = again.search(_query(), 10, exact=False)
        assert after.ids == before.ids
        np.testing.assert_array_equal(after.scores, before.scores)
        assert again.info() == about
        assert about.tokens is not None
        assert about.tokens["pooling"]["factor"] == again.pooling.factor == 3
        again.add(["more"], ids=["more"], token_vectors=[_query()])
        assert again.search(_query(), 1).ids == ["more"]
    with pytest.raises(CollectionClosedError):
        again.search(_query(), 1)
    with pytest.raises(ParameterError, match=r"QdrantMultiVectorCollection\.open"):
        QdrantMultiVectorCollection.create(**options)


def test_one_kind_is_not_opened_as_the_other(tmp_path: Path) -> None:
    with QdrantCollection.create(path=tmp_path / "dense", dim=4):
        pass
    with QdrantMultiVectorCollection.create(path=tmp_path / "late") as late:
        late.add(["a"], token_vectors=[[[1.0, 0.0]]])
    with pytest.raises(MismatchError, match=r"one vector a document; open it with QdrantCollection\.open"):
        QdrantMultiVectorCollection.open(path=tmp_path / "dense")
    with pytest.raises(MismatchError, match=r"many vectors a document; open it with QdrantMultiVectorCollection\.open"):
        QdrantCollection.open(path=tmp_path / "late")
    QdrantCollection.open(path=tmp_path / "dense").close()  # neither attempt has kept the directory
    QdrantMultiVectorCollection.open(path=tmp_path / "late").close()


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    class OneVector:
        def embed_documents(self, texts: Any) -> Any:
            return np.ones((len(texts), 3))

        def embed_query(self, text: str) -> Any:
            return np.ones(3)

    def one(texts: Any) -> Any:
        return [np.eye(3)[:2] for _ in texts]

    def other(texts: Any) -> Any:
        return [np.eye(3)[1:] for _ in texts]

    with QdrantMultiVectorCollection.create(path=tmp_path / "q", encoder=one) as collection:
        collection.add(["a"])
        assert len(collection.search("a", 1)) == 1
    with QdrantMultiVectorCollection.open(path=tmp_path / "q", encoder=other) as collection:
        for ask in (lambda: collection.search("a"), lambda: collection.add(["b"])):
            with pytest.raises(MismatchError, match="stored document"):
                ask()
        assert len(collection) == 1
    with pytest.raises(MismatchError, match="many vectors"):
        QdrantMultiVectorCollection.open(path=tmp_path / "q", encoder=OneVector())
    with pytest.raises(InputTypeError):
        QdrantMultiVectorCollection.open(path=tmp_path / "q", encoder=7)
    with QdrantMultiVectorCollection.open(path=tmp_path / "q", encoder=one) as again:
        assert again.encoder is not None


@pytest.mark.parametrize(
    ("codec", "message"),
    [("bfloat16", "'float16'"), ("rotate|int4", "'rabitq:4'"), ("float8", "'int8'"), ("binary > int8", "one tier")],
)
def test_what_has_no_counterpart_names_the_nearest(tmp_path: Path, codec: str, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        QdrantMultiVectorCollection.create(path=tmp_path / "q", codec=codec)
    assert not (tmp_path / "q").exists()


def test_wrong_input_leaves_it_as_it_was(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = make(codec="svd:50%|int8")
    with pytest.raises(ParameterError, match="at least 1000"):
        fill(empty)
    assert len(empty) == 0
    assert empty.search(_query(), 3).ids == []
    collection = fill(make(codec="int8"))
    good = _query()
    for wrong in ([np.full((2, DIM), np.nan)], [np.zeros((2, DIM))], [np.ones((2, 3))], [np.ones(DIM)]):
        with pytest.raises(InvalidVectorsError):
            collection.add(["good", "bad"], ids=["g", "b"], token_vectors=[good, *wrong], batch_size=1)
    with pytest.raises(ParameterError):
        collection.add(["x"], ids=["x"])
    with pytest.raises(ParameterError):
        collection.add(["x"], ids=["x"], vectors=[[1.0] * DIM])
    with pytest.raises(ParameterError):
        collection.add(["x", "y"], token_vectors=[good])
    monkeypatch.setattr(late_collection, "_MOST_NUMBERS", 3 * DIM)
    with pytest.raises(InvalidVectorsError, match="'x'"):
        collection.add(["x"], ids=["x"], token_vectors=[np.concatenate(_tokens(8))])
    for wrong_query in ([[np.nan] * DIM], [[0.0] * DIM], [[1.0] * 3], np.zeros((0, DIM)), "words"):
        with pytest.raises((InvalidVectorsError, ParameterError)):
            collection.search(wrong_query)
    assert collection.ids() == IDS


def test_long_batches_are_sent_in_parts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = make(codec="float32", pool_factor=1)
    monkeypatch.setattr(late_collection, "NUMBERS_AT_ONCE", 12 * DIM)
    sent = []
    upsert = collection._transport.upsert
    monkeypatch.setattr(collection._transport, "upsert", lambda points: (sent.append(len(points)), upsert(points)))
    fill(collection)
    assert sum(sent) == N + 1  # the description of the collection, too
    assert max(sent) <= 5
    assert collection.ids() == IDS


def test_a_sample_is_learned_from_before_there_are_documents(make: Make) -> None:
    collection = make(codec="svd:50%|float32", sample=_tokens(30), fit_after=30)
    assert collection.dim == DIM
    assert collection.info().tokens["stored_dim"] == DIM // 2
    collection.add(["a"], ids=["a"], token_vectors=[_query()])
    assert collection.search(_query(), 1).ids == ["a"]
    assert collection.info().tokens["candidates"]["centre"] is True


@pytest.mark.filterwarnings("ignore::UserWarning")  # the emulation says that it has no payload indexes
def test_the_client_calls_agree_with_the_core(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client", reason="needs qdrant-client")
    answers = []
    places: list[dict[str, Any]] = [{"path": tmp_path / "q"}, {"url": ":memory:"}]
    for place in places:
        with QdrantMultiVectorCollection.create(codec="float32", pool_factor=1, ranges=["n"], **place) as collection:
            fill(collection)
            assert collection.delete(filter={"n": {"$gte": 50}}) == 10
            answers.append(
                (
                    collection.search(_query(), 5).ids,
                    collection.search(_query(), 5, exact=False, n_candidates=20).ids,
                    collection.search(_query(), 5, exact=False, n_candidates=20, filter={"n": {"$gt": 20}}).ids,
                    collection.search(_query(), 5, candidates="text", text="colour1").ids,
                    collection.search("number7", 5, mode="text").ids,
                    collection.search(_query(), 5, mode="hybrid", text="number7").ids,
                    collection.search(_query(), 5, lambda_mult=0.5).ids,
                    collection.get_token_vectors(["d9"])[0].round(5).tolist(),
                    collection.search(_query(), 5).scores.round(4).tolist(),
                    len(collection),
                )
            )
    assert answers[0] == answers[1]
