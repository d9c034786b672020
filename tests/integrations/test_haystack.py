"""Haystack's own tests of document stores, and what they do not ask: filters, policies, retrievers, pipelines, files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo.errors import InputTypeError, OctavoError, ParameterError
from serving_client import half_reencoded, mean_of_words, other_words

pytest.importorskip("haystack", reason="needs haystack-ai")
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.testing import document_store as sync_tests
from haystack.testing import document_store_async as async_tests

from octavo.integrations.haystack import (
    OctavoBM25Retriever,
    OctavoDocumentStore,
    OctavoEmbeddingRetriever,
    OctavoHybridRetriever,
    OctavoSparseEmbeddingRetriever,
)
from octavo.integrations.haystack._documents import UNEMBEDDED


@pytest.fixture(params=["memory", "directory", "qdrant"])
def make_store(request: Any, tmp_path: Path) -> Iterator[Callable[[int], OctavoDocumentStore]]:
    """Make a store for embeddings of a dimension, over each kind of collection."""
    made: list[OctavoDocumentStore] = []

    def make(dim: int) -> OctavoDocumentStore:
        if request.param == "qdrant":
            from octavo.integrations.qdrant import QdrantCollection

            made.append(OctavoDocumentStore.from_collection(QdrantCollection.create(path=tmp_path / "kb", dim=dim)))
        else:
            made.append(OctavoDocumentStore(tmp_path / "kb" if request.param == "directory" else None))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store_of_each_kind(make_store: Callable[[int], OctavoDocumentStore]) -> OctavoDocumentStore:
    return make_store(768)


def are_equal(received: list[Document], expected: list[Document]) -> None:
    """Compare documents; embeddings come back decoded from their codes and of unit length."""
    assert len(received) == len(expected)
    for one, other in zip(received, expected, strict=True):
        assert (one.embedding is None) == (other.embedding is None)
        if one.embedding is not None and other.embedding is not None:
            a, b = np.array(one.embedding), np.array(other.embedding)
            assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999
        plain = [{**document.to_dict(flatten=False), "embedding": None} for document in (one, other)]
        assert plain[0] == plain[1]


class TestDocumentStore(
    sync_tests.DocumentStoreBaseExtendedTests,
    sync_tests.CountDocumentsByFilterTest,
    sync_tests.CountUniqueMetadataByFilterTest,
    sync_tests.GetMetadataFieldsInfoTest,
    sync_tests.GetMetadataFieldMinMaxTest,
    sync_tests.GetMetadataFieldUniqueValuesTest,
):
    """Haystack's own tests, all of them."""

    @pytest.fixture
    def document_store(self, store_of_each_kind: OctavoDocumentStore) -> OctavoDocumentStore:
        return store_of_each_kind

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        are_equal(received, expected)

    def test_write_documents(self, document_store: Any) -> None:
        documents = [Document(content="test doc 1"), Document(content="test doc 2")]
        assert document_store.write_documents(documents) == 2
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents(documents)
        self.assert_documents_are_equal(document_store.filter_documents(), documents)


ASYNC = [
    each
    for name, each in vars(async_tests).items()
    if isinstance(each, type) and name.endswith("AsyncTest") and each.__module__ == async_tests.__name__
]


class TestDocumentStoreAsync(*ASYNC):  # type: ignore[misc]
    """The same for event loops."""

    @pytest.fixture
    def document_store(self, store_of_each_kind: OctavoDocumentStore) -> OctavoDocumentStore:
        return store_of_each_kind

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        are_equal(received, expected)

    async def test_write_documents_async(self, document_store: Any) -> None:
        assert await document_store.write_documents_async([Document(content="one")]) == 1


# ---------------------------------------------------------------------- filters

VALUES = st.sampled_from([None, True, False, 0, 1, 1.0, 2, -3, "a", "1", [1], ["a", 2]])
FIELDS = st.sampled_from(["meta.a", "meta.b", "meta.c.d", "a"])
COMPARISONS = st.one_of(
    st.fixed_dictionaries({"field": FIELDS, "operator": st.sampled_from(["==", "!="]), "value": VALUES}),
    st.fixed_dictionaries(
        {
            "field": FIELDS,
            "operator": st.sampled_from([">", ">=", "<", "<="]),
            "value": st.sampled_from([0, 1.0, 2, None]),
        }
    ),
    st.fixed_dictionaries(
        {"field": FIELDS, "operator": st.sampled_from(["in", "not in"]), "value": st.lists(VALUES, max_size=3)}
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda each: st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(each, min_size=1, max_size=3)}
    ),
    max_leaves=6,
)
META = st.fixed_dictionaries(
    {}, optional={"a": VALUES, "b": VALUES, "c": st.fixed_dictionaries({}, optional={"d": VALUES})}
)


@given(st.lists(META, min_size=1, max_size=6), FILTERS)
@settings(max_examples=150, deadline=None)
def test_filters_are_haystacks(metas: list[dict[str, Any]], filters: dict[str, Any]) -> None:
    documents = [Document(id=str(n), content="x", meta=meta) for n, meta in enumerate(metas)]
    reference = InMemoryDocumentStore(shared=False)
    reference.write_documents(documents)
    try:
        expected = [document.id for document in reference.filter_documents(filters)]
    except (FilterError, TypeError):
        return  # it cannot compare these values, which we say are neither more nor less
    finally:
        reference.shutdown()
    store = OctavoDocumentStore()
    store.write_documents(documents)
    assert [document.id for document in store.filter_documents(filters)] == expected
    store.close()


def test_filters_by_id_and_content() -> None:
    store = OctavoDocumentStore()
    store.write_documents([Document(id="a", content="x"), Document(id="b", content="y", meta={"n": 1})])
    for filters, expected in [
        ({"field": "id", "operator": "in", "value": ["b", "c"]}, ["b"]),
        ({"field": "content", "operator": "==", "value": "x"}, ["a"]),
        (
            {
                "operator": "OR",
                "conditions": [
                    {"field": "id", "operator": "==", "value": "a"},
                    {"field": "meta.n", "operator": "==", "value": 1},
                ],
            },
            ["a", "b"],
        ),
    ]:
        assert [document.id for document in store.filter_documents(filters)] == expected
    assert store.bm25_retrieval("x y", filters={"field": "id", "operator": "==", "value": "b"})[0].id == "b"
    store.close()


def test_dates() -> None:
    store = OctavoDocumentStore()
    store.write_documents(
        [
            Document(id=str(month), content="x", meta={"day": datetime(2024, month, 1, tzinfo=UTC)})
            for month in (1, 5, 9)
        ]
    )
    for value in ("2024-05-01", "2024-05-01T00:00:00+00:00", datetime(2024, 5, 1, tzinfo=UTC)):
        found = store.filter_documents({"field": "meta.day", "operator": ">=", "value": value})
        assert [document.id for document in found] == ["5", "9"]
    store.close()


@pytest.mark.parametrize(
    "filters",
    [
        {"operator": "XOR", "conditions": []},
        {"operator": "AND", "conditions": {}},
        {"operator": "AND", "conditions": ["x"]},
        {"field": "", "operator": "==", "value": 1},
        {"field": 7, "operator": "==", "value": 1},
        {"field": "meta.a", "operator": "like", "value": 1},
        {"field": "meta.a", "operator": ">", "value": {"a": 1}},
        {"field": "meta.a", "operator": "==", "value": {1, 2}},
        "meta.a == 1",
        {"meta.a": 1},
    ],
)
def test_bad_filters(filters: Any) -> None:
    store = OctavoDocumentStore()
    store.write_documents([Document(content="x")])
    for ask in (store.filter_documents, store.count_documents_by_filter, store.delete_by_filter):
        with pytest.raises(FilterError):
            ask(filters)
    for ask in (store.delete_by_filter, lambda f: store.update_by_filter(f, {"a": 1})):
        with pytest.raises(FilterError, match="expected filters"):
            ask({})
    assert store.count_documents() == 1
    store.close()


# ---------------------------------------------------------------------- documents


def test_everything_that_a_document_has(make_store: Callable[[int], OctavoDocumentStore]) -> None:
    document_store = make_store(2)
    documents = [
        Document(id="text", content="a text", meta={"a": {"b": [1, None]}}, embedding=[1.0, 0.0]),
        Document(id="empty", content=""),
        Document(id="blob", blob=ByteStream(b"\x00\xff", meta={"x": 1}, mime_type="image/png"), embedding=[0.0, 1.0]),
        Document(id="sparse", content="s", sparse_embedding=SparseEmbedding([1, 5], [0.5, 0.25])),
    ]
    document_store.write_documents(documents)
    are_equal(document_store.filter_documents(), documents)
    assert set(document_store.get_metadata_fields_info()) == {"a"}  # what is kept beside is not shown


def test_documents_without_embedding_are_not_found_by_embedding(
    make_store: Callable[[int], OctavoDocumentStore],
) -> None:
    document_store = make_store(2)
    document_store.write_documents(
        [Document(id=f"plain {n}", content="word") for n in range(20)]
        + [Document(id=f"{n}", content="word", embedding=[-1.0, n / 10]) for n in range(5)]
    )
    found = document_store.embedding_retrieval([1.0, 0.0], top_k=10)
    assert sorted(document.id for document in found) == ["0", "1", "2", "3", "4"]
    assert all(document.score is not None and document.score < 0 for document in found)
    where = {"field": "content", "operator": "==", "value": "word"}
    assert len(document_store.embedding_retrieval([1.0, 0.0], filters=where)) == 5
    where = {"field": "meta.none", "operator": "==", "value": None}
    assert len(document_store.embedding_retrieval([1.0, 0.0], filters=where)) == 5
    assert len(document_store.bm25_retrieval("word", top_k=100)) == 25
    both = document_store.hybrid_retrieval("word", [1.0, 0.0], top_k=25)
    assert {document.id for document in both[:5]} == {"0", "1", "2", "3", "4"}  # in both rankings
    assert len(both) == 25


def test_no_embeddings_at_all() -> None:
    store = OctavoDocumentStore()
    assert store.embedding_retrieval([1.0, 0.0]) == []
    store.write_documents([Document(id="a", content="red apple")])
    assert store.embedding_retrieval([1.0, 0.0]) == []
    assert [document.id for document in store.hybrid_retrieval("apple", [1.0, 0.0])] == ["a"]
    with pytest.raises(DocumentStoreError, match="embedding_dim="):
        store.write_documents([Document(content="b", embedding=[1.0, 0.0])])
    assert store.update_by_filter({"field": "meta.a", "operator": "==", "value": None}, {"a": 1}) == 1
    store.close()
    store = OctavoDocumentStore(embedding_dim=2)
    store.write_documents([Document(id="a", content="red apple")])
    store.write_documents([Document(id="b", content="b", embedding=[1.0, 0.0])])
    assert [document.id for document in store.embedding_retrieval([1.0, 0.0])] == ["b"]
    store.close()


def test_no_embeddings_in_qdrant(tmp_path: Path) -> None:
    from octavo.integrations.qdrant import QdrantCollection

    store = OctavoDocumentStore.from_collection(QdrantCollection.create(path=tmp_path / "kb"))
    with pytest.raises(DocumentStoreError, match="dim="):
        store.write_documents([Document(content="x")])
    store.close()


def test_policies() -> None:
    store = OctavoDocumentStore()
    twice = [Document(id="1", content="first"), Document(id="1", content="second")]
    with pytest.raises(DuplicateDocumentError):
        store.write_documents([Document(id="2", content="x"), *twice])
    assert store.count_documents() == 0  # all or nothing
    assert store.write_documents(twice, DuplicatePolicy.SKIP) == 1
    assert store.filter_documents()[0].content == "first"
    assert store.write_documents(twice, DuplicatePolicy.OVERWRITE) == 2
    assert store.filter_documents()[0].content == "second"
    assert store.write_documents([]) == 0
    store.close()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document(content="x", embedding=[1.0]), "dimension 2"),
        (Document(content="x", embedding=[1.0, float("nan")]), "finite|NaN"),
        (Document(content="x", embedding=[1.0, 0.0], meta={UNEMBEDDED: 1}), "sets itself"),
    ],
)
def test_bad_documents(document: Document, message: str) -> None:
    store = OctavoDocumentStore()
    store.write_documents([Document(id="good", content="x", embedding=[1.0, 0.0])])
    with pytest.raises(ValueError, match=message):
        store.write_documents([document])
    assert store.count_documents() == 1
    store.close()


# ---------------------------------------------------------------------- retrievers


@pytest.fixture
def filled() -> Iterator[OctavoDocumentStore]:
    store = OctavoDocumentStore(codec="float32")
    rng = np.random.default_rng(0)
    store.write_documents(
        [
            Document(id=str(n), content=f"word{n % 7} text", embedding=rng.standard_normal(8).tolist(), meta={"n": n})
            for n in range(60)
        ]
    )
    yield store
    store.close()


def test_the_nearest(filled: OctavoDocumentStore) -> None:
    query = np.random.default_rng(1).standard_normal(8)
    found = OctavoEmbeddingRetriever(filled, top_k=5).run(query_embedding=query.tolist())["documents"]
    matrix = np.array([document.embedding for document in filled.filter_documents()])
    cosines = matrix @ query / np.linalg.norm(query)
    best = np.argsort(-cosines)[:5]
    assert [document.id for document in found] == [str(n) for n in best]
    assert [document.score for document in found] == pytest.approx(cosines[best].tolist(), abs=1e-5)
    scaled = OctavoEmbeddingRetriever(filled, top_k=5, scale_score=True).run(query_embedding=query.tolist())[
        "documents"
    ]
    assert [document.score for document in scaled] == pytest.approx(((cosines[best] + 1) / 2).tolist(), abs=1e-5)


def test_words(filled: OctavoDocumentStore) -> None:
    found = OctavoBM25Retriever(filled, top_k=3).run(query="word3")["documents"]
    assert all("word3" in (document.content or "") for document in found)
    scaled = OctavoBM25Retriever(filled, top_k=3, scale_score=True).run(query="word3")["documents"]
    assert [document.id for document in scaled] == [document.id for document in found]
    assert all(0 < (document.score or 0) < 1 for document in scaled)


def test_both(filled: OctavoDocumentStore) -> None:
    query = np.random.default_rng(1).standard_normal(8).tolist()
    found = OctavoHybridRetriever(filled, top_k=4).run(query="word3", query_embedding=query)["documents"]
    expected = filled.collection.search(query, 4, text="word3", mode="hybrid")
    assert [document.id for document in found] == expected.ids
    assert [document.score for document in found] == pytest.approx(expected.scores.tolist())


def test_filter_policies(filled: OctavoDocumentStore) -> None:
    own = {"field": "meta.n", "operator": "<", "value": 30}
    asked = {"field": "meta.n", "operator": ">=", "value": 20}
    query = [1.0] * 8
    for policy, expected in (
        (FilterPolicy.REPLACE, range(20, 60)),
        ("replace", range(20, 60)),
    ):
        retriever = OctavoEmbeddingRetriever(filled, filters=own, top_k=60, filter_policy=policy)
        found = retriever.run(query_embedding=query, filters=asked)["documents"]
        assert sorted(document.meta["n"] for document in found) == list(expected)
        found = retriever.run(query_embedding=query)["documents"]
        assert sorted(document.meta["n"] for document in found) == list(range(30))
    merged = OctavoBM25Retriever(filled, filters=own, top_k=60, filter_policy="merge")
    other = {"field": "meta.none", "operator": "==", "value": None}
    assert len(merged.run(query="text", filters=other)["documents"]) == 30


@pytest.mark.parametrize("retriever", [OctavoEmbeddingRetriever, OctavoBM25Retriever, OctavoHybridRetriever])
def test_options_of_retrievers(filled: OctavoDocumentStore, retriever: Any) -> None:
    with pytest.raises(TypeError, match="OctavoDocumentStore"):
        retriever(InMemoryDocumentStore(shared=False))
    with pytest.raises(ValueError, match="top_k"):
        retriever(filled, top_k=0)
    with pytest.raises(ValueError, match="Policy"):
        retriever(filled, filter_policy="both")


@pytest.mark.parametrize("retriever", [OctavoEmbeddingRetriever, OctavoBM25Retriever, OctavoHybridRetriever])
async def test_retrievers_in_an_event_loop(filled: OctavoDocumentStore, retriever: Any) -> None:
    asked: dict[str, Any] = {}
    if retriever is not OctavoEmbeddingRetriever:
        asked["query"] = "word3"
    if retriever is not OctavoBM25Retriever:
        asked["query_embedding"] = [1.0] * 8
    one = retriever(filled, top_k=3)
    assert (await one.run_async(**asked))["documents"] == one.run(**asked)["documents"]
    assert one.run(**asked, top_k=0)["documents"] == []
    assert len(one.run(**asked, top_k=1)["documents"]) == 1


# ---------------------------------------------------------------------- pipelines and files


def test_a_pipeline_written_down_and_read(tmp_path: Path) -> None:
    store = OctavoDocumentStore(
        tmp_path / "kb", codec="float16", metric="dot", full_text="plain", return_embedding=False
    )
    writing = Pipeline()
    writing.add_component("writer", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
    writing.run({"writer": {"documents": [Document(id="r", content="red", embedding=[2.0, 0.0])]}})
    pipeline = Pipeline()
    where = {"field": "meta.a", "operator": "==", "value": None}
    pipeline.add_component("dense", OctavoEmbeddingRetriever(store, where, 3, True, True, FilterPolicy.MERGE))
    pipeline.add_component("words", OctavoBM25Retriever(store, dict(where), 4, True, "merge"))
    pipeline.add_component("both", OctavoHybridRetriever(store, dict(where), 5, False, "merge"))
    text = pipeline.dumps()
    store.close()
    assert "octavo.integrations.haystack.Octavo" in text
    assert "._" not in text  # a pipeline in a file names nothing private
    again = Pipeline.loads(text, allowed_modules=["octavo.integrations.haystack"])
    assert again.dumps() == text
    found = again.run(
        {
            "dense": {"query_embedding": [1.0, 0.0]},
            "words": {"query": "red"},
            "both": {"query": "red", "query_embedding": [1.0, 0.0]},
        }
    )
    assert {name: [document.id for document in each["documents"]] for name, each in found.items()} == {
        "dense": ["r"],
        "words": ["r"],
        "both": ["r"],
    }
    component = again.get_component("dense")
    assert component.document_store.collection.codec == "float16"
    assert component.document_store.collection.metric == "dot"
    for name in ("dense", "words", "both"):
        again.get_component(name).document_store.close()


def test_writing_down_opens_nothing(tmp_path: Path) -> None:
    store = OctavoDocumentStore(tmp_path / "kb")
    again = OctavoDocumentStore.from_dict(store.to_dict())
    assert again.path == str(tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def test_from_collection(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(["red"], ids=["r"], vectors=[[1.0, 0.0]], payloads=["of another adapter"])
        store = OctavoDocumentStore.from_collection(kb)
        assert store.filter_documents()[0].content == "red"
        assert store.to_dict()["init_parameters"]["path"] == str(tmp_path / "kb")
    with octavo.open() as kb, pytest.raises(DocumentStoreError, match="no directory"):
        OctavoDocumentStore.from_collection(kb).to_dict()


def test_late_interaction_is_refused(tmp_path: Path) -> None:
    with octavo.open_multi_vector(tmp_path / "kb") as kb:
        kb.add(["red"], token_vectors=[[[1.0, 0.0]]])
        with pytest.raises(ParameterError, match="late interaction"):
            OctavoDocumentStore.from_collection(kb)
    with pytest.raises(ParameterError, match="late interaction"):
        OctavoDocumentStore(tmp_path / "kb").count_documents()


def test_closed_and_opened_again(tmp_path: Path) -> None:
    store = OctavoDocumentStore(tmp_path / "kb")
    store.write_documents([Document(content="red", embedding=[1.0, 0.0])])
    store.close()
    store.close()
    assert store.count_documents() == 1
    store.close()


@pytest.mark.parametrize("options", [{"embedding_dim": 0}, {"embedding_dim": "x"}, {"return_embedding": 2}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(OctavoError):
        OctavoDocumentStore(**options)


@pytest.mark.parametrize("options", [{"codec": "magic"}, {"metric": "manhattan"}, {"full_text": "klingon"}])
def test_options_of_the_collection(options: dict[str, Any]) -> None:
    with pytest.raises(OctavoError):
        OctavoDocumentStore(**options).count_documents()


def test_sparse_embeddings(tmp_path: Path) -> None:
    """Documents come with or without either embedding; each ranking is over those that have what it goes by."""
    documents = [
        Document(id="a", content="red", embedding=[1.0, 0.0], sparse_embedding=SparseEmbedding([9, 5], [0.5, 1.0])),
        Document(id="b", content="green", embedding=[0.0, 1.0]),
        Document(id="c", content="blue", sparse_embedding=SparseEmbedding([5], [0.25]), meta={"n": 1}),
    ]
    query = SparseEmbedding([5, 9], [1.0, 1.0])
    with contextlib.closing(OctavoDocumentStore(tmp_path / "kb", embedding_dim=2)) as store:
        assert OctavoSparseEmbeddingRetriever(store).run(query_sparse_embedding=query)["documents"] == []
        store.write_documents(documents)
        store.write_documents([Document(id="d", content="none of them")])  # nor does it need one
    with contextlib.closing(OctavoDocumentStore(tmp_path / "kb")) as store:
        retriever = OctavoSparseEmbeddingRetriever(store, top_k=5)
        found = retriever.run(query_sparse_embedding=query)["documents"]
        assert [document.id for document in found] == ["a", "c"]
        np.testing.assert_allclose([document.score for document in found], [1.5, 0.25], atol=0.01)
        assert found[0].sparse_embedding == documents[0].sparse_embedding  # as it was given
        only = retriever.run(
            query_sparse_embedding=query, filters={"field": "meta.n", "operator": "==", "value": 1}, top_k=1
        )
        assert [document.id for document in only["documents"]] == ["c"]
        hybrid = OctavoHybridRetriever(store, top_k=4)
        fused = hybrid.run(query="green", query_embedding=[1.0, 0.0], query_sparse_embedding=query)["documents"]
        expected = {"a": 1 / 61 + 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62}
        assert {document.id: pytest.approx(document.score) for document in fused} == expected
        assert [document.id for document in fused] == ["a", "b", "c"]
        same = asyncio.run(hybrid.run_async(query="green", query_embedding=[1.0, 0.0], query_sparse_embedding=query))[
            "documents"
        ]
        assert [document.id for document in same] == ["a", "b", "c"]
        assert len(asyncio.run(retriever.run_async(query_sparse_embedding=query))["documents"]) == 2
        with pytest.raises(InputTypeError, match="SparseEmbedding"):
            retriever.run(query_sparse_embedding=[1.0])  # type: ignore[arg-type]


# ---------------------------------------------------------------------- another model for a collection in use


def test_embeddings_are_compared_with_the_old_vectors_until_the_model_is_changed(tmp_path: Path) -> None:
    half_reencoded(tmp_path / "kb").close()
    store = OctavoDocumentStore(tmp_path / "kb")
    old = [float(value) for value in mean_of_words(["apple w130 w65"])[0]]
    assert store.embedding_retrieval(old, top_k=1)[0].id == "130"
    assert store.write_documents([Document(id="new", content="pear", embedding=old)]) == 1
    assert {found.id for found in store.hybrid_retrieval("pear", old, top_k=2)} >= {"new"}
    with octavo.open(tmp_path / "kb", other_words) as kb:
        kb.reencode(other_words)
    new = [float(value) for value in other_words(["apple w130 w65"])[0]]
    for embedding in (old, new):  # the pipeline's embedder is the old one, whatever its dimension
        with pytest.raises(DocumentStoreError, match="was changed to 'other_words'"):
            store.embedding_retrieval(embedding)
        with pytest.raises(DocumentStoreError, match="open the store anew"):
            store.hybrid_retrieval("apple", embedding)
        with pytest.raises(DocumentStoreError, match="open the store anew"):
            store.write_documents([Document(id="x", content="pear", embedding=embedding)])
    assert store.bm25_retrieval("w130", top_k=1)[0].id == "130"
    store.close()
    assert store.embedding_retrieval(new, top_k=1)[0].id == "130"
    assert store.embedding_retrieval(other_words(["pear"])[0].tolist(), top_k=1)[0].id == "new"
    store.close()
