"""Query modes, and what restricts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from octavo.errors import InvalidFilterError, InvalidVectorsError, ParameterError
from octavo.integrations.llama_index import OctavoVectorStore

MakeStore = Callable[..., OctavoVectorStore]

MODES = ["default", "text_search", "sparse", "hybrid", "mmr"]


def where(key: str, value: Any, operator: str = "==") -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))])


class Asker:
    """Ask a store in words; the embedding of the words goes with them."""

    def __init__(self, store: OctavoVectorStore, embedding: BaseEmbedding) -> None:
        self.store, self.embedding = store, embedding

    def __call__(self, words: str = "apple engine", k: int = 4, **fields: Any) -> VectorStoreQueryResult:
        options = fields.pop("options", {})
        fields.setdefault("query_embedding", self.embedding.get_query_embedding(words))
        query = VectorStoreQuery(query_str=words, similarity_top_k=k, **fields)
        return self.store.query(query, **options)


@pytest.fixture
def ask(store: OctavoVectorStore, embedding: BaseEmbedding, library: list[TextNode]) -> Asker:
    """A filled store, for each codec, in memory and on disk."""
    store.add(library)
    return Asker(store, embedding)


@pytest.fixture
def exact(make_store: MakeStore, embedding: BaseEmbedding, library: list[TextNode]) -> Asker:
    """A filled store without compression."""
    store = make_store(codec="float32")
    store.add(library)
    return Asker(store, embedding)


def agree(found: VectorStoreQueryResult) -> bool:
    assert found.nodes is not None
    assert found.ids is not None
    assert found.similarities is not None
    assert [node.node_id for node in found.nodes] == found.ids
    assert len(found.similarities) == len(found.ids) == len(set(found.ids))
    assert all(isinstance(value, float) for value in found.similarities)
    return True


# ---------------------------------------------------------------------- modes


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_returns_nodes_scores_and_ids(ask: Asker, mode: str) -> None:
    found = ask(mode=VectorStoreQueryMode(mode))
    assert agree(found)
    assert found.ids
    if mode != "mmr":
        assert found.similarities == sorted(found.similarities, reverse=True)


def test_default_agrees_with_the_frameworks_own_store(exact: Asker, library: list[TextNode]) -> None:
    reference = SimpleVectorStore()
    reference.add(library)
    for words in ("apple pie", "steam engine", "solo piano"):
        query = VectorStoreQuery(query_embedding=exact.embedding.get_query_embedding(words), similarity_top_k=5)
        expected, found = reference.query(query), exact.store.query(query)
        assert found.ids == expected.ids
        np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)


def test_asking_for_more_than_there_is(ask: Asker) -> None:
    assert len(ask(k=1000).ids) == 12
    assert len(ask(k=1000, mode=VectorStoreQueryMode.MMR).ids) == 12
    assert len(ask(k=1000, mode=VectorStoreQueryMode.HYBRID).ids) == 12
    assert set(ask(k=1000, mode=VectorStoreQueryMode.TEXT_SEARCH).ids) == {"n0", "n1", "n4", "n5", "n6"}


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_store_has_no_answers(make_store: MakeStore, embedding: BaseEmbedding, mode: str) -> None:
    found = Asker(make_store(), embedding)(mode=VectorStoreQueryMode(mode))
    assert (found.nodes, found.similarities, found.ids) == ([], [], [])


@pytest.mark.parametrize("mode", ["text_search", "sparse"])
def test_text_modes_go_by_words_and_need_no_embedding(ask: Asker, mode: str) -> None:
    found = ask("cellos", mode=VectorStoreQueryMode(mode), query_embedding=None)
    assert found.ids == ["n9"]  # stemmed
    assert found.similarities[0] > 0
    assert ask("zeppelin", mode=VectorStoreQueryMode(mode)).ids == []
    assert len(ask("apple engine", mode=VectorStoreQueryMode(mode), sparse_top_k=2).ids) == 2
    assert ask('"engine: (steam* AND', mode=VectorStoreQueryMode(mode)).ids[0] == "n4"


def test_text_index_follows_changes(ask: Asker, library: list[TextNode]) -> None:
    assert ask("violin", mode=VectorStoreQueryMode.TEXT_SEARCH).ids == ["n8"]
    changed = library[0].model_copy(update={"text": "violin maker"})
    ask.store.add([changed])
    ask.store.delete("d2")
    assert ask("violin", mode=VectorStoreQueryMode.TEXT_SEARCH).ids == ["n0"]


def test_text_is_searched_without_metadata(exact: Asker) -> None:
    assert exact("machines", mode=VectorStoreQueryMode.TEXT_SEARCH).ids == []


def test_hybrid_at_either_end_is_one_ranking_alone(ask: Asker) -> None:
    dense, text = ask(k=6), ask(k=6, mode=VectorStoreQueryMode.TEXT_SEARCH)
    for sparse in (None, 3):
        vectors = ask(k=6, mode=VectorStoreQueryMode.HYBRID, alpha=1.0, sparse_top_k=sparse)
        assert (vectors.ids, vectors.similarities) == (dense.ids, dense.similarities)
    words = ask(k=6, mode=VectorStoreQueryMode.HYBRID, alpha=0.0)
    assert (words.ids, words.similarities) == (text.ids, text.similarities)
    assert ask(k=6, mode=VectorStoreQueryMode.HYBRID, alpha=0, query_embedding=None).ids == text.ids
    query = VectorStoreQuery(
        query_embedding=ask.embedding.get_query_embedding("apple engine"), similarity_top_k=6, alpha=1, mode="hybrid"
    )
    assert ask.store.query(query).ids == dense.ids


def test_hybrid_finds_what_either_finds(exact: Asker) -> None:
    # The embedding points to music, the words to machines.
    vector = exact.embedding.get_query_embedding("piano concerto with orchestra")
    for alpha in (None, 0.5):
        found = exact("diesel", k=12, mode=VectorStoreQueryMode.HYBRID, alpha=alpha, query_embedding=vector)
        assert set(found.ids[:2]) == {"n6", "n10"}


def test_hybrid_depths(exact: Asker) -> None:
    hybrid = VectorStoreQueryMode.HYBRID
    assert len(exact(k=2, mode=hybrid, hybrid_top_k=7).ids) == 7
    assert len(exact(k=7, mode=hybrid, hybrid_top_k=2).ids) == 2
    vector = exact.embedding.get_query_embedding("jazz piano improvisation lessons")
    found = exact("apple", k=1, mode=hybrid, sparse_top_k=1, hybrid_top_k=10, query_embedding=vector)
    assert set(found.ids) == {"n11", found.ids[0], found.ids[1]}
    assert len(found.ids) == 2
    assert agree(found)
    wider = exact("apple", k=1, mode=hybrid, sparse_top_k=2, hybrid_top_k=10, query_embedding=vector, alpha=0.5)
    assert set(wider.ids) == {"n11", "n0", "n1"}
    assert agree(wider)


def test_alpha_moves_the_weight(exact: Asker) -> None:
    vector = exact.embedding.get_query_embedding("jazz piano improvisation lessons")

    def first(alpha: float) -> str:
        found = exact("diesel", mode=VectorStoreQueryMode.HYBRID, alpha=alpha, query_embedding=vector)
        return str(found.ids[0])

    assert first(0.1) == "n6"
    assert first(0.9) == "n11"


# ---------------------------------------------------------------------- MMR


def test_mmr_threshold_one_is_relevance(ask: Asker) -> None:
    dense = ask(k=5)
    by_query = ask(k=5, mode=VectorStoreQueryMode.MMR, mmr_threshold=1.0)
    by_option = ask(k=5, mode=VectorStoreQueryMode.MMR, options={"mmr_threshold": 1.0})
    assert by_query.ids == by_option.ids == dense.ids
    assert by_query.similarities == dense.similarities


def mmr_by_hand(query: np.ndarray, vectors: np.ndarray, k: int, threshold: float) -> list[int]:
    relevance = vectors @ query
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < k:
        left = [row for row in range(len(vectors)) if row not in chosen]
        gain = [threshold * relevance[row] - (1 - threshold) * max(vectors[chosen] @ vectors[row]) for row in left]
        chosen.append(left[int(np.argmax(gain))])
    return chosen


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("given", ["query", "option"])
def test_mmr_agrees_with_the_definition(exact: Asker, library: list[TextNode], threshold: float, given: str) -> None:
    fields: dict[str, Any] = (
        {"mmr_threshold": threshold} if given == "query" else {"options": {"mmr_threshold": threshold}}
    )
    found = exact("engine for small boats", k=5, mode=VectorStoreQueryMode.MMR, **fields)
    vectors = np.array([node.embedding for node in library])
    query = np.array(exact.embedding.get_query_embedding("engine for small boats"))
    assert found.ids == [f"n{row}" for row in mmr_by_hand(query, vectors, 5, threshold)]


def test_mmr_first_two_agree_with_the_frameworks_function(exact: Asker, library: list[TextNode]) -> None:
    vector = exact.embedding.get_query_embedding("apple juice")
    _, expected = get_top_k_mmr_embeddings(
        vector, [node.embedding for node in library], similarity_top_k=2, embedding_ids=[n.node_id for n in library]
    )
    assert exact("apple juice", k=2, mode=VectorStoreQueryMode.MMR).ids == expected


def test_mmr_threshold_of_zero_is_not_the_default(exact: Asker) -> None:
    zero = exact("apple pie", k=4, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.0)
    default = exact("apple pie", k=4, mode=VectorStoreQueryMode.MMR)
    half = exact("apple pie", k=4, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.5)
    assert default.ids == half.ids != zero.ids
    option = exact("apple pie", k=4, mode=VectorStoreQueryMode.MMR, mmr_threshold=1.0, options={"mmr_threshold": 0.0})
    assert option.ids == zero.ids


def test_mmr_candidates(exact: Asker) -> None:
    best = exact("apple pie", k=4).ids
    by_number = exact("apple pie", k=2, mode="mmr", mmr_threshold=0.0, options={"mmr_prefetch_k": 4})
    by_factor = exact("apple pie", k=2, mode="mmr", mmr_threshold=0.0, options={"mmr_prefetch_factor": 2.0})
    assert by_number.ids == by_factor.ids
    assert set(by_number.ids) <= set(best)
    with pytest.raises(ParameterError, match="both"):
        exact(mode="mmr", options={"mmr_prefetch_k": 4, "mmr_prefetch_factor": 2})
    for wrong in (0.5, float("inf"), True, "4"):
        with pytest.raises(ParameterError, match="mmr_prefetch_factor"):
            exact(mode="mmr", options={"mmr_prefetch_factor": wrong})
    with pytest.raises(ParameterError):
        exact(mode="mmr", mmr_threshold=1.5)


def scores_of(found: VectorStoreQueryResult) -> dict[str, float]:
    return dict(zip(found.ids or [], found.similarities or [], strict=True))


def test_a_similarity_cutoff_means_similarity_under_mmr(exact: Asker, library: list[TextNode]) -> None:
    by_id = {node.node_id: node for node in library}
    similar = scores_of(exact("apple pie", k=12))
    found = scores_of(exact("apple pie", k=6, mode="mmr", mmr_threshold=0.5))
    assert found == pytest.approx({name: similar[name] for name in found}, abs=1e-6)
    hits = [NodeWithScore(node=by_id[name], score=score) for name, score in found.items()]
    kept = [hit.node_id for hit in SimilarityPostprocessor(similarity_cutoff=0.3).postprocess_nodes(hits)]
    assert kept == [name for name in found if similar[name] >= 0.3]
    assert kept[0] == "n0"
    # core's store returns what the choice was made by instead: at the first place half of the similarity
    reference = SimpleVectorStore()
    reference.add(library)
    query = VectorStoreQuery(
        query_embedding=exact.embedding.get_query_embedding("apple pie"), similarity_top_k=6, mode="mmr"
    )
    expected = reference.query(query)
    assert expected.similarities[0] == pytest.approx(0.5 * similar["n0"], abs=1e-6)


# ---------------------------------------------------------------------- nothing to rank by


@pytest.mark.parametrize("mode", ["default", "mmr"])
def test_a_zero_query_returns_what_the_filters_leave(ask: Asker, mode: str) -> None:
    zeros = [0.0] * 32
    found = ask(k=20, mode=mode, query_embedding=zeros, filters=where("topic", "music"))
    assert (found.ids, found.similarities) == (["n8", "n9", "n10", "n11"], [0.0] * 4)
    assert agree(found)
    assert ask(k=2, mode=mode, query_embedding=zeros, filters=where("topic", "music")).ids == ["n8", "n9"]
    assert ask(k=20, mode=mode, query_embedding=zeros, node_ids=["n4", "n1"]).ids == ["n1", "n4"]
    assert ask(k=20, mode=mode, query_embedding=zeros, doc_ids=["d1"]).ids == ["n3", "n4", "n5"]
    assert ask(k=0, mode=mode, query_embedding=zeros).ids == []
    assert len(ask(k=20, mode=mode, query_embedding=zeros).ids) == 12


def test_a_zero_query_leaves_hybrid_to_the_words(ask: Asker) -> None:
    zeros = [0.0] * 32
    words = ask("apple engine", k=6, mode="text_search")
    for alpha in (None, 0.5, 0.0):
        assert ask("apple engine", k=6, mode="hybrid", alpha=alpha, query_embedding=zeros).ids == words.ids
    found = ask("apple engine", k=3, mode="hybrid", alpha=1.0, query_embedding=zeros)
    assert (found.ids, found.similarities) == (["n0", "n1", "n2"], [0.0] * 3)


# ---------------------------------------------------------------------- restrictions


@pytest.mark.parametrize("mode", MODES)
def test_filters_documents_and_nodes_intersect(ask: Asker, mode: str) -> None:
    restricted = {
        "filters": where("topic", ["food", "machines"], "in"),
        "doc_ids": ["d0", "d1", "d2"],
        "node_ids": ["n0", "n1", "n4", "n5", "n6", "n8", "n11"],
    }
    words = "apple engine violin jazz"
    everything = ask(words, k=12, mode=VectorStoreQueryMode(mode))
    assert len(everything.ids) > 5
    found = ask(words, k=12, mode=VectorStoreQueryMode(mode), **restricted)
    assert set(found.ids) == {"n0", "n1", "n4", "n5", "n6"}
    assert agree(found)


@pytest.mark.parametrize("mode", MODES)
def test_empty_filters_and_core_s_empty_list_of_nodes_restrict_nothing(ask: Asker, mode: str) -> None:
    free = ask(mode=VectorStoreQueryMode(mode))
    found = ask(mode=VectorStoreQueryMode(mode), node_ids=[], filters=MetadataFilters(filters=[]))
    assert found.ids == free.ids  # `index.as_retriever()` passes node_ids=[] with every query


@pytest.mark.parametrize("mode", MODES)
def test_an_access_list_that_is_empty_lets_nothing_through(ask: Asker, mode: str) -> None:
    found = ask(mode=VectorStoreQueryMode(mode), doc_ids=[])
    assert (found.nodes, found.similarities, found.ids) == ([], [], [])


def test_unknown_ids_find_nothing(ask: Asker) -> None:
    assert ask(node_ids=["no such node"]).ids == []
    assert ask(doc_ids=["no such document"]).ids == []
    assert ask(filters=where("topic", "sports")).ids == []


@pytest.mark.parametrize("number", range(12))
def test_a_filter_never_starves_a_query(exact: Asker, number: int) -> None:
    assert exact("violin sonata", k=1, filters=where("number", number)).ids == [f"n{number}"]


def test_nested_filters(exact: Asker) -> None:
    tree = MetadataFilters(
        filters=[
            MetadataFilters(filters=[where("topic", "food"), where("topic", "music")], condition=FilterCondition.OR),
            MetadataFilters(filters=[where("number", 2, "<"), where("number", 9, ">")], condition=FilterCondition.NOT),
        ]
    )
    assert set(exact(k=12, filters=tree).ids) == {"n2", "n3", "n8", "n9"}


def test_filters_on_lists_and_missing_keys(exact: Asker) -> None:
    assert set(exact(k=12, filters=where("tags", "c", "contains")).ids) == {"n3", "n9"}
    assert set(exact(k=12, filters=where("tags", ["a", "v"], "any")).ids) == {"n0", "n1", "n8"}
    assert len(exact(k=12, filters=where("missing", None, "is_empty")).ids) == 12
    assert len(exact(k=12, filters=where("missing", "x", "!=")).ids) == 12
    assert exact(k=12, filters=where("missing", "x")).ids == []


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize("mode", ["semantic_hybrid", "svm", "logistic_regression", "linear_regression"])
def test_other_modes_raise(exact: Asker, mode: str) -> None:
    with pytest.raises(ParameterError, match=rf"text_search.*{mode}"):
        exact(mode=VectorStoreQueryMode(mode))


def test_a_mode_that_nobody_knows_raises(exact: Asker) -> None:
    with pytest.raises(ParameterError, match="telepathy"):
        exact(mode="telepathy")


@pytest.mark.parametrize("mode", ["default", "mmr", "hybrid"])
def test_modes_that_need_an_embedding(exact: Asker, mode: str) -> None:
    with pytest.raises(ParameterError, match="query_embedding"):
        exact(mode=VectorStoreQueryMode(mode), query_embedding=None)


@pytest.mark.parametrize("mode", ["text_search", "sparse", "hybrid"])
@pytest.mark.parametrize("words", [None, ""])
def test_modes_that_need_words(exact: Asker, mode: str, words: str | None, library: list[TextNode]) -> None:
    query = VectorStoreQuery(
        query_embedding=library[0].embedding, query_str=words, mode=VectorStoreQueryMode(mode), similarity_top_k=3
    )
    with pytest.raises(ParameterError, match="query_str"):
        exact.store.query(query)


def test_options_are_checked(exact: Asker) -> None:
    assert exact(options={"oversample": 5, "exact": True}).ids == exact().ids
    with pytest.raises(ParameterError, match=r"'mmr_threshold'.*default"):
        exact(options={"mmr_threshold": 0.5})
    with pytest.raises(ParameterError, match="unknown option 'top_p'"):
        exact(options={"top_p": 1})
    with pytest.raises(ParameterError, match="unknown option 'exact'"):
        exact(mode="text_search", options={"exact": True})
    with pytest.raises(ParameterError, match="output_fields"):
        exact(output_fields=["text"])
    with pytest.raises(ParameterError, match="alpha"):
        exact(mode="hybrid", alpha=2.0)
    for k in (-1, 1.5, True, "3"):
        with pytest.raises(ParameterError, match="similarity_top_k"):
            exact(k=k)
    assert exact(k=np.int64(2)).ids == exact(k=2).ids


@pytest.mark.parametrize("mode", MODES)
def test_no_results_wanted(ask: Asker, mode: str) -> None:
    found = ask(k=0, mode=VectorStoreQueryMode(mode))
    assert (found.nodes, found.similarities, found.ids) == ([], [], [])
    with pytest.raises(ParameterError, match="unknown option"):  # what is wrong stays wrong
        ask(k=0, mode=VectorStoreQueryMode(mode), options={"top_p": 1})


def test_bad_query_embeddings(exact: Asker) -> None:
    for bad, words in (([1.0, 2.0], "dimension 32"), ([float("nan")] * 32, "NaN"), ([0.0] * 7, "dimension 32")):
        with pytest.raises(InvalidVectorsError, match=words):
            exact(query_embedding=bad)


def test_bad_filters(exact: Asker) -> None:
    broken = MetadataFilter.model_construct(key="topic", value="food", operator="resembles")
    with pytest.raises(InvalidFilterError, match="resembles"):
        exact(filters=MetadataFilters.model_construct(filters=[broken], condition=FilterCondition.AND))
