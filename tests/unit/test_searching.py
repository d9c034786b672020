"""Search as every collection has it: one documentation, one policy, nothing taken beyond what can match."""

from __future__ import annotations

import asyncio
import inspect
import re
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavo
from octavo.collection.searching import DenseSearch, LateSearch, NothingRanked, Where
from octavo.errors import InputTypeError, InvalidFilterError, ParameterError
from octavo.filters import And, Compare, Filter, Not, Or
from octavo.retrievers import LateOptions, SearchOptions
from octavo.retrievers.ranker import Ranker
from octavo.retrievers.results import Ranking, SearchResult
from octavo.retrievers.search import Queries
from strategies import filter_trees

HUGE = 2**31 - 1
MEGABYTE = 1 << 20


@pytest.fixture
def dense() -> Iterator[octavo.Collection]:
    with octavo.open(encoder=lambda texts: [[1.0, float(len(text))] for text in texts]) as kb:
        kb.add(["red", "green light"], ids=["r", "g"], metadata=[{"g": 1}, {"g": 2}])
        yield kb


@pytest.fixture
def late() -> Iterator[octavo.MultiVectorCollection]:
    with octavo.open_multi_vector(pool_factor=1) as kb:
        kb.add(["red", "green light"], ids=["r", "g"], token_vectors=[[[1.0, 0.0]], [[0.0, 1.0], [0.6, 0.8]]])
        yield kb


# ---------------------------------------------------------------------- one documentation


def collections() -> list[type]:
    found: list[type] = [octavo.Collection, octavo.MultiVectorCollection]
    try:
        from octavo.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection
    except ImportError:
        return found
    return [*found, QdrantCollection, QdrantMultiVectorCollection]


@pytest.mark.parametrize("kind", collections(), ids=lambda kind: kind.__name__)
def test_search_is_defined_once_and_documented_in_full(kind: type) -> None:
    owner = LateSearch if LateSearch in kind.__mro__ else DenseSearch
    for name in ("search", "search_batch"):
        method = getattr(kind, name)
        assert method is getattr(owner, name)
        text = inspect.getdoc(method) or ""
        for parameter in list(inspect.signature(method).parameters)[1:]:
            assert re.search(rf"(?m)^(\w+, )*{parameter}(, \w+)*( :|$)", text), f"{kind.__name__}.{name}: {parameter}"
        assert all(heading in text for heading in ("Returns\n---", "Raises\n---", "Examples\n---"))


def paragraphs(method: Callable[..., Any]) -> dict[str, str]:
    """Return what the documentation says of each parameter."""
    text = inspect.getdoc(method) or ""
    part = text[text.index("Parameters\n") : text.index("Returns\n")]
    entries = re.findall(r"(?m)^(\w+) : .*\n((?:    .*\n)+)", part)
    return {name: " ".join(words.split()) for name, words in entries}


def test_both_kinds_say_the_same_of_what_they_share() -> None:
    one, other = paragraphs(DenseSearch.search), paragraphs(LateSearch.search)
    assert set(other) - set(one) == {"n_candidates", "candidates"}
    for name in ("k", "filter", "ids", "fetch_k", "lambda_mult"):
        assert other[name].startswith(one[name]), name


# ---------------------------------------------------------------------- one policy


class Recorder(NothingRanked):
    """A ranker of `n` documents that notes how deep it was asked to look; vectors prefer the first, words the last."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.asked: list[tuple[str, int]] = []

    def at_most(self, depth: int) -> int:
        return min(depth, self.n)

    def _ranking(self, keys: Sequence[int]) -> Ranking:
        return np.array(keys, np.int64), np.linspace(1, 0.5, len(keys), dtype=np.float32)

    def by_vectors(self, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        self.asked.append(("vectors", k))
        return [self._ranking(range(k))] * len(queries)

    def by_words(self, words: Sequence[str], k: int, options: SearchOptions) -> list[Ranking]:
        self.asked.append(("words", k))
        return [self._ranking(range(self.n - 1, self.n - 1 - k, -1))] * len(words)

    def vectors(self, ranking: Ranking) -> Any:
        return np.eye(len(ranking[0]), dtype=np.float32)

    def relevance(self, queries: Queries, number: int, ranking: Ranking, vectors: Any) -> Any:
        return np.linspace(1, 0, len(ranking[0]), dtype=np.float32)

    def results(self, rankings: Sequence[Ranking]) -> list[SearchResult]:
        documents = [[octavo.Document(str(key), "") for key in keys.tolist()] for keys, _ in rankings]
        return [
            SearchResult([document.id for document in found], scores, found, [None] * len(found))
            for found, (_, scores) in zip(documents, rankings, strict=True)
        ]


class Plain(DenseSearch):
    """The least that a collection has to supply in order to be searched."""

    dim, metric, encoder = 2, "cosine", None

    def __init__(self, n: int) -> None:
        self.ranker = Recorder(n)

    def _require_open(self) -> None:
        pass

    @contextmanager
    def _ranker(self, where: Where, ids: Sequence[str] | None, options: SearchOptions) -> Iterator[Ranker]:
        yield self.ranker


@pytest.mark.parametrize(
    ("options", "asked", "n_results"),
    [
        ({}, [("vectors", 10)], 10),
        ({"mode": "text"}, [("words", 10)], 10),
        ({"mode": "hybrid"}, [("vectors", 100), ("words", 100)], 10),
        ({"mode": "hybrid", "alpha": 0.5, "fetch_k": 7}, [("vectors", 10), ("words", 10)], 10),
        ({"mode": "hybrid", "alpha": 0}, [("words", 10)], 10),
        ({"mode": "hybrid", "alpha": 1}, [("vectors", 10)], 10),
        ({"lambda_mult": 0.5}, [("vectors", 40)], 10),
        ({"lambda_mult": 0.5, "k": 2}, [("vectors", 20)], 2),
        ({"lambda_mult": 0.5, "fetch_k": np.int64(15)}, [("vectors", 15)], 10),
        ({"lambda_mult": 1, "fetch_k": 3}, [("vectors", 10)], 10),
        ({"lambda_mult": 0.5, "mode": "hybrid"}, [("vectors", 160), ("words", 160)], 10),
        ({"k": HUGE}, [("vectors", 500)], 500),
        ({"k": HUGE, "mode": "hybrid"}, [("vectors", 500), ("words", 500)], 500),
        ({"k": np.uint8(200), "lambda_mult": 0.5}, [("vectors", 500)], 200),
    ],
)
def test_how_deep_a_search_looks(options: dict[str, Any], asked: list[tuple[str, int]], n_results: int) -> None:
    kb = Plain(500)
    text = {} if options.get("mode", "dense") == "dense" else {"text": "words"}
    assert len(kb.search([1.0, 0.0], **options, **text)) == n_results
    assert kb.ranker.asked == asked


def test_nothing_is_ranked_where_nothing_matches() -> None:
    kb = Plain(0)
    assert kb.search([1.0, 0.0], HUGE, mode="hybrid", text="a", lambda_mult=0.5).ids == []
    assert [found.ids for found in kb.search_batch(np.eye(2), 3)] == [[], []]
    assert kb.ranker.asked == []


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"queries": "words"}, InputTypeError, "single str"),
        ({"queries": iter([[1.0, 0.0]])}, InputTypeError, "sequence of queries"),
        ({"queries": ["a", [1.0, 0.0]]}, InputTypeError, "mixture"),
        ({"queries": [], "k": 0}, ParameterError, "k as an integer"),
        ({"queries": [], "filter": {"a": {"$near": 1}}}, InvalidFilterError, "near"),
        ({"queries": np.eye(2), "mode": "text", "texts": ["one"]}, ParameterError, "one text for each of 2"),
    ],
)
def test_a_batch_is_checked_even_where_it_is_empty(arguments: dict[str, Any], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        Plain(5).search_batch(**arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "rrf"},
        {"mode": "text", "nprobe": 3},
    ],
)
def test_an_option_that_nothing_reads_is_refused(dense: octavo.Collection, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        dense.search("red", **options)


# ---------------------------------------------------------------------- nothing beyond what can match


def peak(call: Callable[[], object]) -> int:
    """Return the most memory that a call takes; the first one builds what later ones keep."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "text"},
        {"mode": "hybrid"},
        {"mode": "hybrid", "fetch_k": HUGE},
        {"lambda_mult": 0.5},
        {"lambda_mult": 0.5, "fetch_k": HUGE},
        {"oversample": 1e300},
        {"n_probe": HUGE},
        {"exact": True},
        {"exact": False},
        {"filter": {"g": 1}},
        {"ids": ["g"]},
    ],
)
def test_more_results_than_documents_cost_nothing(dense: octavo.Collection, options: dict[str, Any]) -> None:
    expected = 1 if options.keys() & {"filter", "ids"} or options.get("mode") == "text" else 2
    assert len(dense.search("red", HUGE, **options)) == expected
    assert peak(lambda: dense.search("red", HUGE, **options)) < MEGABYTE
    assert peak(lambda: dense.search_batch(["red", "light"], HUGE, **options)) < MEGABYTE


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "hybrid", "text": "red"},
        {"lambda_mult": 0.5},
        {"lambda_mult": 0.5, "fetch_k": HUGE},
        {"n_candidates": HUGE},
        {"n_candidates": HUGE, "exact": False},
        {"oversample": 1e300, "exact": False},
        {"candidates": "both", "text": "red"},
        {"exact": True},
    ],
)
def test_late_as_well(late: octavo.MultiVectorCollection, options: dict[str, Any]) -> None:
    query = [[1.0, 0.0]]
    assert len(late.search(query, HUGE, **options)) == 2
    assert peak(lambda: late.search(query, HUGE, **options)) < MEGABYTE
    late.fit()
    assert len(late.search(query, HUGE, **options)) == 2
    assert peak(lambda: late.search(query, HUGE, **options)) < MEGABYTE


def test_late_diversity_without_a_hit(late: octavo.MultiVectorCollection) -> None:
    assert late.search([[1.0, 0.0]], 5, lambda_mult=0.5, filter={"g": 2}).ids == []
    assert late.search([[1.0, 0.0]], 5, lambda_mult=0.5, mode="text", text="nowhere").ids == []


@pytest.mark.parametrize("number", [np.int64(1), np.uint8(1), np.int32(1)])
def test_integers_of_numpy(dense: octavo.Collection, late: octavo.MultiVectorCollection, number: Any) -> None:
    assert len(dense.search("red", number, lambda_mult=np.float32(0.5), fetch_k=number, n_probe=number)) == 1
    assert len(late.search([[1.0, 0.0]], number, n_candidates=number, n_probe=number, exact=np.False_)) == 1
    assert type(SearchOptions(ef=number).ef) is int
    assert type(SearchOptions(n_probe=number).n_probe) is int
    assert type(LateOptions(n_candidates=number).n_candidates) is int


# ---------------------------------------------------------------------- filters that are functions


async def _anything(document: octavo.Document) -> bool:
    return True


class _AsyncCall:
    async def __call__(self, document: octavo.Document) -> bool:
        return True


@pytest.mark.parametrize("where", [_anything, _AsyncCall(), lambda document: _anything(document)])
def test_a_filter_cannot_be_awaited(dense: octavo.Collection, where: Any) -> None:
    for use in (dense.search, dense.count, dense.delete):
        with pytest.raises(InvalidFilterError, match="awaited"):
            use("red", filter=where) if use == dense.search else use(filter=where)  # type: ignore[operator]
    assert len(dense) == 2


def test_a_future_is_no_answer(dense: octavo.Collection) -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(InvalidFilterError, match="Future"):
            dense.count(lambda document: loop.create_future())  # type: ignore[arg-type, return-value]
    finally:
        loop.close()


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_filter_must_not_use_its_collection(tmp_path: Path, on_disk: bool) -> None:
    with octavo.open(tmp_path / "kb" if on_disk else None, lock_timeout=0.5) as kb, octavo.open() as other:
        kb.add(["red"], ids=["r"], vectors=[[1.0, 0.0]])
        other.add(["blue"], ids=["r"], vectors=[[1.0, 0.0]])
        wrong: list[Callable[[octavo.Document], bool]] = [
            lambda document: bool(kb.search([1.0, 0.0])),
            lambda document: len(kb) > 0,
            lambda document: bool(kb.add(["x"], vectors=[[0.0, 1.0]])),
            lambda document: bool(kb.delete(["r"])),
        ]
        for where in wrong:
            for use in (kb.count, kb.delete, lambda filter: kb.search([1.0, 0.0], filter=filter)):
                with pytest.raises(ParameterError, match="a filter function must not"):
                    use(filter=where)
        assert kb.ids() == ["r"]
        assert kb.search([1.0, 0.0], filter=lambda document: document.id in other).ids == [
            "r"
        ]  # another one may be used


def test_a_joined_write_must_not_use_its_collection(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.join_writes(lambda connection, added, deleted: kb.clear() and None)
        with pytest.raises(ParameterError, match="join_writes must not"):
            kb.add(["red"], vectors=[[1.0, 0.0]])
        assert len(kb) == 0


# ---------------------------------------------------------------------- what a deletion names

_LEAF = Compare("g", "==", 1)


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"$and": [{}]},
        {"$and": [{"g": 1}, {}]},
        {"$or": [{}, {"g": 1}]},
        {"$not": {}},
        {"$not": {"$and": [{}]}},
        And(),
        Or(),
        Not(And()),
        And(_LEAF, Or()),
        Or(_LEAF, Not(And())),
    ],
)
def test_an_empty_condition_deletes_nothing(dense: octavo.Collection, where: Any) -> None:
    with pytest.raises(ParameterError, match="clear"):
        dense.delete(filter=where)
    with pytest.raises(ParameterError, match="clear"):
        dense.delete(["r"], filter=where)
    assert len(dense) == 2
    dense.count(where)  # only a deletion is that strict


@given(filter_trees(st.just(_LEAF)))
def test_which_trees_have_an_empty_part(tree: Filter) -> None:
    empty = re.search(r"(And|Or)\(\)", repr(tree)) is not None
    with octavo.open() as kb:
        if empty:
            with pytest.raises(ParameterError, match="clear"):
                kb.delete(filter=tree)
        else:
            assert kb.delete(filter=tree) == 0


def test_the_right_conditions_still_delete(dense: octavo.Collection) -> None:
    assert dense.delete(filter={"$and": [{"g": 1}]}) == 1
    assert dense.delete(filter=lambda document: document.id == "g") == 1
    assert dense.delete([]) == 0


@pytest.mark.parametrize("questions", [["red", "light"], ("red",), [["red"], "light"]])
def test_several_questions_at_once_are_told_where_they_belong(
    dense: octavo.Collection, late: octavo.MultiVectorCollection, questions: Any
) -> None:
    for collection in (dense, late):
        for asked in (lambda kb: kb.search(questions), lambda kb: kb.search_batch([questions])):
            with pytest.raises(InputTypeError, match="search_batch asks several at once"):
                asked(collection)
