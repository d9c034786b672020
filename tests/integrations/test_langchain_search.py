"""Scores, relevance, filters, diversity and options of the LangChain store."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery
from langchain_core.vectorstores import InMemoryVectorStore

from octavo.errors import InputTypeError, InvalidFilterError, ParameterError
from octavo.filters import parse_filter
from octavo.integrations.langchain import OctavoRetriever, OctavoTranslator, OctavoVectorStore
from octavo.integrations.langchain._vectorstore import (
    cosine_relevance,
    fraction_relevance,
    positive_relevance,
    unbounded_relevance,
)

EMBEDDING = DeterministicFakeEmbedding(size=16)
TEXTS = [f"document number {n} about {'apples' if n % 2 else 'pears'}" for n in range(40)]
METADATA = [
    {"n": n, "even": n % 2 == 0, "tag": "abc"[n % 3], "tags": ["x", "y"] if n % 4 else ["x"]} for n in range(40)
]
IDS = [f"id{n}" for n in range(40)]


@pytest.fixture(scope="module")
def store() -> Iterator[OctavoVectorStore]:
    with OctavoVectorStore.from_texts(TEXTS, EMBEDDING, METADATA, ids=IDS, codec="float32") as store:
        yield store


@pytest.fixture(scope="module")
def reference() -> InMemoryVectorStore:
    return InMemoryVectorStore.from_texts(TEXTS, EMBEDDING, METADATA, ids=IDS)


def ids_of(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


# ---------------------------------------------------------------------- scores


def test_scores_agree_with_langchains_own_store(store: OctavoVectorStore, reference: InMemoryVectorStore) -> None:
    for query in ("document", TEXTS[7], "something else"):
        ours, theirs = (s.similarity_search_with_score(query, k=10) for s in (store, reference))
        assert [d.id for d, _ in ours] == [d.id for d, _ in theirs]
        np.testing.assert_allclose([score for _, score in ours], [score for _, score in theirs], atol=1e-5)


def test_every_way_to_ask_gives_the_same(store: OctavoVectorStore) -> None:
    vector = EMBEDDING.embed_query(TEXTS[3])
    expected = store.similarity_search_with_score(TEXTS[3], k=5)
    assert store.similarity_search_with_score_by_vector(vector, k=5) == expected
    documents = [document for document, _ in expected]
    assert store.similarity_search(TEXTS[3], 5) == documents
    assert store.similarity_search_by_vector(vector, 5) == documents
    assert store.similarity_search_by_vector(np.array(vector), 5) == documents  # type: ignore[arg-type]
    assert store.search(TEXTS[3], "similarity", k=5) == documents
    assert ids_of(documents)[0] == "id3"


def test_scores_are_floats_and_fall(store: OctavoVectorStore) -> None:
    scores = [score for _, score in store.similarity_search_with_score("x", k=40)]
    assert all(type(score) is float for score in scores)
    assert scores == sorted(scores, reverse=True)


class Scaled(Embeddings):
    """Vectors that are far from unit length."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [self.factor * value for value in EMBEDDING.embed_query(text)]


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("factor", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize(
    ("codec", "fit_after"),
    [
        ("float32", 1000),
        ("float16", 1),
        ("float8", 1),
        ("int8", 1),
        ("binary > int8", 1),
        ("svd:50%|float8 > int8", 10),
    ],
)
def test_relevance_is_between_0_and_1_and_monotone(metric: str, factor: float, codec: str, fit_after: int) -> None:
    options: dict[str, Any] = {"metric": metric, "codec": codec, "fit_after": fit_after}
    with OctavoVectorStore.from_texts(TEXTS, Scaled(factor), **options) as store, warnings.catch_warnings():
        warnings.simplefilter("error")
        scored = store.similarity_search_with_score(TEXTS[0], k=40)
        relevant = store.similarity_search_with_relevance_scores(TEXTS[0], k=40)
        assert ids_of([d for d, _ in scored]) == ids_of([d for d, _ in relevant])
        values = [value for _, value in relevant]
        assert all(0 <= value <= 1 for value in values)
        assert values == sorted(values, reverse=True)
        pairs = list(zip([score for _, score in scored], values, strict=True))
        for (score, value), (next_score, next_value) in itertools.pairwise(pairs):
            assert (score > next_score) == (value > next_value)


def test_relevance_functions_keep_order_and_bounds() -> None:
    scores = np.unique(np.concatenate([np.linspace(-50, 50, 1001), [-1e6, 1e6]]))
    for function, strict in ((cosine_relevance, False), (unbounded_relevance, True), (positive_relevance, False)):
        values = np.array([function(score) for score in scores.tolist()])
        assert values.min() >= 0
        assert values.max() <= 1
        steps = np.diff(values)
        assert (steps > 0).all() if strict else (steps >= 0).all()
    assert fraction_relevance(1.0000001) == 1.0
    assert cosine_relevance(1.0000001) == 1.0


@pytest.mark.parametrize(
    "options", [{"mode": "text"}, {"mode": "hybrid"}, {"mode": "hybrid", "alpha": 0.4}, {"mode": "hybrid", "alpha": 0}]
)
def test_relevance_in_the_other_modes(store: OctavoVectorStore, options: dict[str, Any]) -> None:
    values = [value for _, value in store.similarity_search_with_relevance_scores("pears 4", k=10, **options)]
    assert len(values) == 10
    assert all(0 <= value <= 1 for value in values)
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.3  # not squeezed into a corner in which no threshold could tell results apart


def test_score_threshold(store: OctavoVectorStore) -> None:
    everything = store.similarity_search_with_relevance_scores(TEXTS[5], k=40)
    kept = store.similarity_search_with_relevance_scores(TEXTS[5], k=40, score_threshold=0.6)
    assert kept == [hit for hit in everything if hit[1] >= 0.6]
    assert 0 < len(kept) < len(everything)
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.6, "k": 40}
    )
    assert retriever.invoke(TEXTS[5]) == [document for document, _ in kept]


def test_a_relevance_function_of_the_callers() -> None:
    with OctavoVectorStore(EMBEDDING, relevance_score_fn=lambda score: 0.25) as store:
        store.add_texts(["one"])
        assert store.similarity_search_with_relevance_scores("one")[0][1] == 0.25
    with pytest.raises(InputTypeError):
        OctavoVectorStore(EMBEDDING, relevance_score_fn="cosine")  # type: ignore[arg-type]


# ---------------------------------------------------------------------- filters

FILTERS: list[dict[str, Any]] = [
    {"n": 3},
    {"n": {"$eq": 3}},
    {"n": {"$ne": 3}},
    {"n": {"$neq": 3}},
    {"n": {"$gt": 30}},
    {"n": {"$gte": 30, "$lt": 33}},
    {"n": {"$lte": 2}},
    {"tag": {"$in": ["a", "b"]}},
    {"tag": {"$nin": ["a", "b"]}},
    {"n": {"$between": [5, 9]}},
    {"missing": {"$exists": False}},
    {"tag": {"$like": "a%"}},
    {"tag": {"$ilike": "A%"}},
    {"tags": {"$contains": "y"}},
    {"$and": [{"even": True}, {"tag": "a"}]},
    {"$or": [{"n": 1}, {"n": 2}]},
    {"$not": {"even": True}},
    {"even": True, "tag": "b"},
]

MEANINGS = [
    lambda m: m["n"] == 3,
    lambda m: m["n"] == 3,
    lambda m: m["n"] != 3,
    lambda m: m["n"] != 3,
    lambda m: m["n"] > 30,
    lambda m: 30 <= m["n"] < 33,
    lambda m: m["n"] <= 2,
    lambda m: m["tag"] in "ab",
    lambda m: m["tag"] not in "ab",
    lambda m: 5 <= m["n"] <= 9,
    lambda m: True,
    lambda m: m["tag"] == "a",
    lambda m: m["tag"] == "a",
    lambda m: "y" in m["tags"],
    lambda m: m["even"] and m["tag"] == "a",
    lambda m: m["n"] in (1, 2),
    lambda m: not m["even"],
    lambda m: m["even"] and m["tag"] == "b",
]


@pytest.mark.parametrize(("where", "meaning"), list(zip(FILTERS, MEANINGS, strict=True)), ids=str)
def test_dict_filters_in_every_search(
    store: OctavoVectorStore, reference: InMemoryVectorStore, where: dict[str, Any], meaning: Any
) -> None:
    expected = ids_of(reference.similarity_search("q", k=40, filter=lambda d: meaning(d.metadata)))
    vector = EMBEDDING.embed_query("q")
    assert ids_of(store.similarity_search("q", 40, where)) == expected
    assert ids_of(store.similarity_search_by_vector(vector, 40, filter=where)) == expected
    assert ids_of([d for d, _ in store.similarity_search_with_relevance_scores("q", k=40, filter=where)]) == expected
    assert ids_of(store.similarity_search("q", 40, parse_filter(where))) == expected
    assert ids_of(store.similarity_search("q", 40, lambda document: meaning(document.metadata))) == expected
    assert ids_of(store.max_marginal_relevance_search("q", 40, 40, 1.0, where)) == expected
    assert set(ids_of(store.similarity_search("document", 40, where, mode="text"))) == set(expected)
    assert set(ids_of(store.similarity_search("document", 40, where, mode="hybrid"))) == set(expected)
    assert ids_of(store.as_retriever(search_kwargs={"k": 40, "filter": where}).invoke("q")) == expected
    assert len(store.similarity_search("q", 2, where)) == min(2, len(expected))


def test_callables_see_whole_documents(store: OctavoVectorStore) -> None:
    def where(document: Document) -> bool:
        assert isinstance(document, Document)
        return document.id == "id8" or document.page_content.startswith("document number 9 ")

    assert set(ids_of(store.similarity_search("q", 40, where))) == {"id8", "id9"}


def test_structured_queries(store: OctavoVectorStore) -> None:
    directive = Operation(
        operator=Operator.AND,
        arguments=[
            Comparison(comparator=Comparator.GTE, attribute="n", value=10),
            Comparison(comparator=Comparator.EQ, attribute="tag", value="a"),
        ],
    )
    expected = {f"id{n}" for n in range(10, 40) if n % 3 == 0}
    query = StructuredQuery(query="pears", filter=directive, limit=None)
    text, extra = OctavoTranslator().visit_structured_query(query)
    assert text == "pears"
    assert set(ids_of(store.similarity_search(text, 40, **extra))) == expected
    assert set(ids_of(store.similarity_search("q", 40, directive))) == expected
    assert set(ids_of(store.similarity_search("q", 40, query))) == expected
    no_filter = StructuredQuery(query="pears", filter=None, limit=None)
    assert len(store.similarity_search("q", 40, no_filter)) == 40


@pytest.mark.parametrize("where", [{"n": {"$near": 3}}, {"$xor": []}, {"n": {"$in": 3}}, 7, ["n"]])
def test_filters_that_mean_nothing_raise(store: OctavoVectorStore, where: Any) -> None:
    for search in (store.similarity_search, store.max_marginal_relevance_search):
        with pytest.raises((InvalidFilterError, InputTypeError)):
            search("q", filter=where)
    with pytest.raises((InvalidFilterError, InputTypeError)):
        store.delete(filter=where)
    assert store.count() == 40


# ---------------------------------------------------------------------- diversity


@pytest.fixture(scope="module")
def clusters() -> Iterator[OctavoVectorStore]:
    """Two near-copies close to the query, and one other document further away."""
    rows = [
        ("near", [1.0, 0.1, 0.0]),
        ("near copy", [1.0, 0.11, 0.0]),
        ("other", [0.7, -0.7, 0.1]),
        ("far", [-1, 0, 0]),
    ]
    with OctavoVectorStore.from_embeddings(rows, metadatas=[{"n": n} for n in range(4)]) as store:
        yield store


def test_lambda_1_is_relevance_and_lambda_0_is_diversity(clusters: OctavoVectorStore) -> None:
    def chosen(lambda_mult: float, **options: Any) -> list[str]:
        found = clusters.max_marginal_relevance_search_by_vector([1.0, 0.1, 0.0], 2, 4, lambda_mult, **options)
        return [document.page_content for document in found]

    assert chosen(1.0) == ["near", "near copy"]
    assert chosen(0.5) == ["near", "other"]
    assert chosen(0.0) == ["near", "far"]
    assert chosen(0.0, filter={"n": {"$lt": 3}}) == ["near", "other"]


def test_mmr_agrees_with_langchains_own_store(store: OctavoVectorStore, reference: InMemoryVectorStore) -> None:
    for lambda_mult in (0.1, 0.5, 0.9):
        ours, theirs = (s.max_marginal_relevance_search("q", 6, 15, lambda_mult) for s in (store, reference))
        assert ids_of(ours) == ids_of(theirs)
    assert ids_of(store.search("q", "mmr", k=6, fetch_k=15)) == ids_of(reference.search("q", "mmr", k=6, fetch_k=15))
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 6, "fetch_k": 15, "lambda_mult": 0.1})
    assert ids_of(retriever.invoke("q")) == ids_of(reference.max_marginal_relevance_search("q", 6, 15, 0.1))


def test_mmr_with_scores(store: OctavoVectorStore) -> None:
    scored = store.max_marginal_relevance_search_with_score("q", 5)
    plain = {d.id: s for d, s in store.similarity_search_with_score("q", 40)}
    assert [document for document, _ in scored] == store.max_marginal_relevance_search("q", 5)
    for document, score in scored:
        assert score == pytest.approx(plain[document.id], abs=1e-6)


def test_mmr_finds_k_even_with_a_small_fetch_k(store: OctavoVectorStore) -> None:
    assert len(store.max_marginal_relevance_search("q", 10, fetch_k=3)) == 10


# ---------------------------------------------------------------------- modes and options


def test_text_and_hybrid(store: OctavoVectorStore) -> None:
    found = store.similarity_search("the pear 4", k=3, mode="text")
    assert found[0].id == "id4"
    assert store.similarity_search(TEXTS[7], 1, mode="hybrid")[0].id == "id7"
    assert store.similarity_search(TEXTS[7], 9, mode="hybrid", alpha=1) == store.similarity_search(TEXTS[7], 9)
    words = store.similarity_search(TEXTS[7], 9, mode="text")
    assert store.similarity_search(TEXTS[7], 9, mode="hybrid", alpha=0) == words
    by_vector = store.similarity_search_by_vector(EMBEDDING.embed_query("q"), 3, mode="text", text="pear 4")
    assert by_vector == store.similarity_search("pear 4", 3, mode="text")
    assert store.similarity_search("q", 3, mode="text", text="pear 4") == by_vector


def test_text_search_embeds_nothing() -> None:
    class Silent(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise AssertionError("not needed")

        def embed_query(self, text: str) -> list[float]:
            raise AssertionError("not needed")

    with OctavoVectorStore(Silent()) as store:
        store.add_embeddings([("pear", [1.0, 2.0])])
        assert store.similarity_search("pears", mode="text")[0].page_content == "pear"


def test_ids_and_exact(store: OctavoVectorStore) -> None:
    assert set(ids_of(store.similarity_search("q", ids=["id1", "id2", "nope"]))) == {"id1", "id2"}
    assert store.similarity_search("q", exact=True) == store.similarity_search("q")


@pytest.mark.parametrize("options", [{"nprobe": 3}, {"fusion": "rrf"}, {"filters": {"n": 1}}])
def test_unknown_options_raise_everywhere(store: OctavoVectorStore, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ParameterError), match=next(iter(options))):
        store.similarity_search("q", **options)
    with pytest.raises((TypeError, ParameterError), match=next(iter(options))):
        store.similarity_search_by_vector([0.0] * 16, **options)
    with pytest.raises((TypeError, ParameterError), match=next(iter(options))):
        store.max_marginal_relevance_search("q", **options)
    with pytest.raises((TypeError, ParameterError), match=next(iter(options))):
        store.as_retriever(search_kwargs=options).invoke("q")


@pytest.mark.parametrize("options", [{"fetch_k": 3}, {"lambda_mult": 0.1}, {"score_threshold": 0.99}])
def test_options_of_langchains_other_search_types_have_no_effect(
    store: OctavoVectorStore, options: dict[str, Any]
) -> None:
    """A retriever whose search type is configured at run time passes them all."""
    everything = {"fetch_k": 30, "lambda_mult": 0.5, "score_threshold": 0.1} | options
    assert store.similarity_search("q", **everything) == store.similarity_search("q")
    assert store.as_retriever(search_kwargs=everything).invoke("q") == store.similarity_search("q")
    diverse = store.as_retriever(search_type="mmr", search_kwargs=everything)
    assert diverse.invoke("q") == store.max_marginal_relevance_search(
        "q", 4, everything["fetch_k"], everything["lambda_mult"]
    )
    good = store.as_retriever(search_type="similarity_score_threshold", search_kwargs=everything)
    assert good.invoke("q") == [
        document
        for document, score in store.similarity_search_with_relevance_scores("q")
        if score >= everything["score_threshold"]
    ]
    assert store.similarity_search("text", mode="hybrid", fetch_k=7) == [
        document for document, _ in store.similarity_search_with_score("text", mode="hybrid", fetch_k=7)
    ]


def test_options_of_another_mode_raise(store: OctavoVectorStore) -> None:
    for options in ({"alpha": 0.5}, {"text": "x"}, {"mode": "best"}, {"mode": "hybrid", "fetch_k": 0}):
        with pytest.raises(ParameterError):
            store.similarity_search("q", **options)


def test_bad_queries_and_k_raise(store: OctavoVectorStore) -> None:
    for bad in (None, 3, ["q"], [0.1] * 16):
        with pytest.raises(InputTypeError, match="query"):
            store.similarity_search(bad)  # type: ignore[arg-type]
    for k in (-1, 1.5, "3", True):
        with pytest.raises((ParameterError, InputTypeError)):
            store.similarity_search("q", k=k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dimension"):
        store.similarity_search_by_vector([1.0, 2.0])


def test_k_of_0_gives_nothing(store: OctavoVectorStore) -> None:
    assert store.similarity_search("q", k=0) == []
    assert store.similarity_search("q", k=np.int64(0), mode="hybrid") == []
    assert store.max_marginal_relevance_search("q", k=0) == []
    assert store.similarity_search_with_relevance_scores("q", k=0) == []
    assert store.as_retriever(search_kwargs={"k": 0}).invoke("q") == []
    assert OctavoRetriever(vectorstore=store, k=0).invoke("q") == []


def test_more_than_there_is(store: OctavoVectorStore) -> None:
    assert len(store.similarity_search("q", k=1000)) == 40


def test_search_type_must_exist(store: OctavoVectorStore) -> None:
    with pytest.raises(ValueError, match="search_type"):
        store.search("q", "best")
    with pytest.raises(ValueError, match="search_type"):
        store.as_retriever(search_type="best")
