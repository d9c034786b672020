"""Measure one configuration on one data set: build a real collection, search it, weigh it, time it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

import octavo
from octavo import Collection, MultiVectorCollection
from octavo._arrays import Floats
from octavo._progress import progress_bar
from octavo._sparse_rows import SparseRows
from octavo.encoders.models import is_attribute, load_attribute
from octavo.encoders.sparse import SparseEncoder
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import ParameterError
from octavo.eval.baselines import encode_baseline, rank_all
from octavo.eval.configurations import WITHOUT_VECTORS, Configuration
from octavo.eval.datasets import Dataset
from octavo.eval.results import Agreement, Check, Speed, Storage
from octavo.eval.rivals import PREFIX, checked_search, rival_factory
from octavo.eval.running._checks import StoredFacts, check, check_files, check_halves
from octavo.eval.running._heat_maps import explain_match
from octavo.eval.running._maxsim import rank_by_maxsim
from octavo.eval.running.measures import strictly_decreasing
from octavo.eval.running.timing import Timing, time_searches, timed_queries
from octavo.store.documents import chunked
from octavo.store.info import CollectionInfo

if TYPE_CHECKING:
    from octavo.integrations.qdrant import QdrantCollection

#: What is searched.
Searched: TypeAlias = "Collection | QdrantCollection"

#: Documents of each ranking that are compared.
AGREEMENT_DEPTH = 10

#: Queries searched in one call where time does not count: what comes back with its documents has to fit in memory.
_BATCH = 256

#: Sparse vectors of documents and queries, by model and data set: configurations with and without vectors share them.
_SPARSE: dict[tuple[str, str, bool], tuple[SparseRows, SparseRows]] = {}
_SPARSE_KEPT = 2

#: Texts given to a sparse model at a time.
_ENCODED = 128

#: Documents that full text has to find by how they begin, and how much of it is asked for.
_OWN_WORDS, _OWN_CHARACTERS = 20, 300

Ranking = list[tuple[str, float]]
Rankings = dict[str, Ranking]


@dataclass
class Embedded:
    """A data set with the vectors of one model, and what exact float32 search finds with them.

    Parameters
    ----------
    dataset : Dataset
        Documents and queries.
    documents, queries : ndarray of float32, or list of ndarray of float32
        Their vectors, as the model gives them; for late interaction one matrix of token vectors each.
    tokens : TokenEncoder or None
        What made token vectors, to name the tokens of one match.
    context : str or None
        What becomes of titles; see `Configuration`.
    """

    dataset: Dataset
    documents: Any
    queries: Any
    tokens: TokenEncoder | None = None
    context: str | None = None
    _references: dict[tuple[Any, ...], Rankings] = field(default_factory=dict)

    @property
    def texts(self) -> Sequence[str]:
        """What is returned of each document."""
        return self.dataset.in_context(self.context)[0]

    @property
    def columns(self) -> dict[str, Any]:
        """What `Collection.add` is given of the documents beside their vectors."""
        returned, embedded = self.dataset.in_context(self.context)
        columns: dict[str, Any] = {"documents": returned, "ids": self.dataset.document_ids}
        return columns if embedded is returned else {**columns, "embed_texts": embedded, "embed_words": True}

    def unit(self, metric: str) -> tuple[Floats, Floats]:
        """Return the vectors as they are compared: of unit length for cosine."""
        if metric == "dot":
            return self.documents, self.queries
        documents, queries = (X / np.linalg.norm(X, axis=1, keepdims=True) for X in (self.documents, self.queries))
        return documents, queries

    def sparse(self, name: str) -> tuple[SparseRows, SparseRows]:
        """Return the learned sparse vectors of documents and queries that a model makes; the last ones are remembered."""
        embedded = self.dataset.in_context(self.context)[1]
        key = name, self.dataset.info.fingerprint, embedded is self.dataset.texts
        if key not in _SPARSE:
            encoder = SparseEncoder(load_attribute(name) if is_attribute(name) else name)
            parts = []
            for texts, encode in (
                (embedded, encoder.encode_documents),
                (self.dataset.queries, encoder.encode_queries),
            ):
                found = []
                with progress_bar(f"{self.dataset.name}: embed with {encoder.name}", len(texts)) as advance:
                    for part in chunked(texts, _ENCODED):
                        found.append(encode(part))
                        advance(len(part))
                parts.append(SparseRows.joined(found))
            while len(_SPARSE) >= _SPARSE_KEPT:
                _SPARSE.pop(next(iter(_SPARSE)))
            _SPARSE[key] = parts[0], parts[1]
        return _SPARSE[key]

    def reference(self, configuration: Configuration) -> Rankings:
        """Return what exact search over the float32 vectors finds in the same mode.

        For vectors alone, and for MaxSim over all tokens, this is plain numpy. What is fused with full text needs a
        collection, of float32.
        """
        key = tuple(
            getattr(configuration, name)
            for name in (
                "mode",
                "late",
                "metric",
                "alpha",
                "rank",
                "weights",
                "context",
                "sparse" if configuration.uses_sparse else "mode",
            )
        )
        if key not in self._references:
            if configuration.mode == "dense":
                depth = searched_depth(self.dataset, AGREEMENT_DEPTH)
                found = rank_all(*self.unit(configuration.metric), depth)
                self._references[key] = _named(self.dataset, *found, AGREEMENT_DEPTH)
            elif configuration.mode == "sparse":
                found = _rank_sparse(
                    *self.sparse(configuration.sparse or ""), searched_depth(self.dataset, AGREEMENT_DEPTH)
                )
                self._references[key] = _named(self.dataset, *found, AGREEMENT_DEPTH)
            elif configuration.mode == "late":
                found = rank_by_maxsim(self.documents, self.queries, searched_depth(self.dataset, AGREEMENT_DEPTH))
                self._references[key] = _named(self.dataset, *found, AGREEMENT_DEPTH)
            else:
                exact = Configuration(
                    codec="float32",
                    mode=configuration.mode,
                    metric=configuration.metric,
                    alpha=configuration.alpha,
                    exact=True,
                    pool_factor=1 if configuration.late else None,
                    rank=configuration.rank,
                    weights=configuration.weights,
                    context=configuration.context,
                    sparse=configuration.sparse if "sparse" in (configuration.rank_names or ()) else None,
                )
                with _open_new(None, exact, 0) as collection:
                    _fill(collection, exact, self)
                    self._references[key] = search_all(collection, self, exact, AGREEMENT_DEPTH)
        return self._references[key]


@dataclass(frozen=True)
class Measured:
    """What one configuration did on one data set."""

    runs: dict[int, Rankings]
    agreement: Agreement
    storage: Storage
    speed: Speed
    checks: list[Check]
    explanation: dict[str, Any] | None = None


# ---------------------------------------------------------------------- through the collection


def measure_collection(
    configuration: Configuration, data: Embedded, depths: Sequence[int], timing: Timing, seed: int
) -> Measured:
    """Build the collection on disk, open it again as a user would, and measure it."""
    with tempfile.TemporaryDirectory(prefix="octavo-eval-") as folder:
        path = Path(folder) / "collection"
        started = time.perf_counter()
        _build(path, configuration, data, seed)
        build_seconds = time.perf_counter() - started
        files = {file.name: file.stat().st_size for file in path.rglob("*") if file.is_file()}
        with octavo.open(path, must_exist=True) as collection:
            collection.flush()  # waits for the graph, which is read in the background
            info = collection.info()
            built = Built(
                seconds=build_seconds,
                facts=StoredFacts.of(info),
                storage=_storage(info, sum(files.values())),
                checks=[check_files(collection.verify().problems)],
            )
            measured = search_and_time(collection, built, configuration, data, depths, timing, seed)
        if configuration.late and data.tokens is not None:
            with octavo.open(path, data.tokens, must_exist=True, read_only=True) as tokens:
                assert isinstance(tokens, MultiVectorCollection)  # it was built as one
                explanation = explain_match(tokens, data.dataset, measured.runs[AGREEMENT_DEPTH])
            measured = replace(measured, explanation=explanation)
    return measured


@dataclass(frozen=True)
class Built:
    """What is known of a collection before it is searched.

    Parameters
    ----------
    seconds : float
        That building it took.
    kept : StoredFacts
        What the checks have to know.
    storage : Storage
        What it takes.
    checks : list of Check
        Those that only this kind of collection has.
    """

    seconds: float
    facts: StoredFacts
    storage: Storage
    checks: list[Check]


def search_and_time(
    collection: Searched,
    built: Built,
    configuration: Configuration,
    data: Embedded,
    depths: Sequence[int],
    timing: Timing,
    seed: int,
) -> Measured:
    """Search an open collection for every query, compare what it finds, and time it."""
    runs = {depth: search_all(collection, data, configuration, depth) for depth in depths}
    agreement = _agreement(collection, data, configuration, runs[AGREEMENT_DEPTH])
    halves = _halves(collection, data, configuration, built.facts, seed)
    speed = _time(collection, data, configuration, timing, seed, built.seconds)
    found = check(configuration, len(data.dataset.document_ids), built.facts, agreement)
    return Measured(runs, agreement, built.storage, speed, [*built.checks, *found, *halves])


def _build(path: Path, configuration: Configuration, data: Embedded, seed: int) -> None:
    with _open_new(path, configuration, seed) as collection:
        _fill(collection, configuration, data)
        if configuration.uses_words:
            collection.search(data.dataset.queries[0], 1, mode="text")  # the first search builds the full-text index
        collection.flush()


def _open_new(path: Path | None, configuration: Configuration, seed: int) -> Collection:
    # Full text alone compares no vectors, but a collection has some: one byte each stands in for them.
    shape = {"codec": configuration.codec or "int8", "seed": seed}
    if configuration.has_graph:
        shape |= {"index": "graph", "connectivity": configuration.connectivity}
    if configuration.late:
        return octavo.open_multi_vector(path, pool_factor=configuration.pool_factor, **shape)  # type: ignore[arg-type]
    return octavo.open(path, metric=configuration.metric, **shape)  # type: ignore[arg-type]


def _fill(collection: Collection, configuration: Configuration, data: Embedded) -> None:
    given = data.columns
    if configuration.sparse is not None:
        given["sparse_vectors"] = data.sparse(configuration.sparse)[0]
    if isinstance(collection, MultiVectorCollection):
        collection.add(token_vectors=data.documents, **given)
    else:
        collection.add(vectors=vectors_of(configuration, data), **given)
    collection.fit()  # a collection too small to be compressed by itself is compressed all the same


def vectors_of(configuration: Configuration, data: Embedded) -> Floats:
    """Return the documents' vectors; where none are compared, the ones that stand in for them."""
    return (
        data.documents
        if configuration.mode not in WITHOUT_VECTORS
        else np.ones((len(data.dataset.texts), 1), np.float32)
    )


def search_all(collection: Searched, data: Embedded, configuration: Configuration, k: int) -> Rankings:
    """Return the k best documents of every query."""
    found: Rankings = {}
    dataset = data.dataset
    for start in range(0, len(dataset.queries), _BATCH):
        block = slice(start, start + _BATCH)
        results = collection.search_batch(**_arguments(data, configuration, block), k=searched_depth(dataset, k))
        for identifier, result in zip(dataset.query_ids[block], results, strict=True):
            ranking = zip(result.ids, map(float, strictly_decreasing(result.scores)), strict=True)
            found[identifier] = _counted(dataset, identifier, ranking, k)
    return found


def searched_depth(dataset: Dataset, k: int) -> int:
    """Return how many documents are searched for if `k` count: one of them may be the query itself."""
    return k + dataset.ignore_identical_ids


def _counted(dataset: Dataset, query: str, ranking: Iterable[tuple[str, float]], k: int) -> Ranking:
    """Return the documents that count, at most `k`: where queries are documents, not the query itself."""
    own = query if dataset.ignore_identical_ids else None
    return [(name, score) for name, score in ranking if name != own][:k]


def _arguments(data: Embedded, configuration: Configuration, block: slice) -> dict[str, Any]:
    """Return what `Collection.search_batch` is called with for some of the queries."""
    words = list(data.dataset.queries[block])
    if configuration.mode == "text":
        return {"queries": words, "mode": "text"}
    sparse = {}
    if configuration.sparse is not None:
        queries = data.sparse(configuration.sparse)[1]
        sparse["sparse_vectors"] = queries.taken(np.arange(len(queries))[block])
    if configuration.mode == "sparse":
        return {"queries": words, "mode": "sparse", **sparse}
    # What a multi-vector collection calls dense is MaxSim.
    mode = "dense" if configuration.mode == "late" else configuration.mode
    arguments: dict[str, Any] = {"queries": data.queries[block], "mode": mode, **sparse}
    if configuration.rank is not None:
        arguments["rank"] = configuration.rank_names
    if configuration.weights is not None:
        arguments["weights"] = configuration.weight_values
    for name in ("oversample", "ef", "exact", "alpha", "n_candidates", "candidates"):
        value = getattr(configuration, name)
        if value is not None:
            arguments[name] = value
    if configuration.uses_words:
        arguments["texts"] = words
    return arguments


def _agreement(collection: Searched, data: Embedded, configuration: Configuration, found: Rankings) -> Agreement:
    if configuration.mode == "text":
        return Agreement(depth=AGREEMENT_DEPTH, float32=None, same_codes=None, codes_float32=None)
    if configuration.mode == "sparse":  # every list is added up: there is nothing but the weights' 8 bits to lose by
        loss = shared(found, data.reference(configuration))
        return Agreement(
            depth=AGREEMENT_DEPTH,
            float32=float(np.mean(list(loss.values()))),
            same_codes=None,
            codes_float32=None,
            per_query={"float32": loss},
        )
    free = dict.fromkeys(("ef", "oversample", "n_candidates", "candidates"))
    if configuration.candidates == "sparse" and "sparse" not in (configuration.rank_names or ()):
        free["sparse"] = None
    forced = Configuration(**{**configuration.to_dict(), **free, "exact": True})
    exact = search_all(collection, data, forced, AGREEMENT_DEPTH)
    reference = data.reference(configuration)
    return _three(shared(found, reference), shared(found, exact), shared(exact, reference))


def _halves(
    collection: Searched, data: Embedded, configuration: Configuration, facts: StoredFacts, seed: int
) -> list[Check]:
    """Look at vectors and words apart: fused, one hides the other, and words alone have nothing to agree with."""
    vectors = words = None
    if configuration.mode == "hybrid":
        alone = Configuration(
            codec=configuration.codec,
            mode="late" if configuration.late else "dense",
            metric=configuration.metric,
            pool_factor=configuration.pool_factor,
            exact=True,
            store=configuration.store,
            context=configuration.context,
        )
        found = shared(search_all(collection, data, alone, AGREEMENT_DEPTH), data.reference(alone))
        vectors = float(np.mean(list(found.values())))
    if configuration.uses_words and configuration.mode in ("text", "hybrid"):
        texts, ids = data.texts, data.dataset.document_ids
        rows = [row for row in np.random.default_rng(seed).permutation(len(ids)).tolist() if texts[row].strip()]
        rows = rows[:_OWN_WORDS]
        found_again = [
            ids[row] in collection.search(texts[row][:_OWN_CHARACTERS], AGREEMENT_DEPTH, mode="text").ids
            for row in rows
        ]
        words = float(np.mean(found_again)) if found_again else None
    return check_halves(configuration, facts, vectors, words)


def _three(float32: dict[str, float], same_codes: dict[str, float], codes_float32: dict[str, float]) -> Agreement:
    per_query = {"float32": float32, "same_codes": same_codes, "codes_float32": codes_float32}
    means = {level: float(np.mean(list(values.values()))) for level, values in per_query.items()}
    return Agreement(depth=AGREEMENT_DEPTH, per_query=per_query, **means)


def shared(a: Rankings, b: Rankings) -> dict[str, float]:
    """Return, for each query, the share of b's documents that a has as well; 1 where b has none."""
    return {
        query: len({name for name, _ in a[query]} & {name for name, _ in found}) / len(found) if found else 1.0
        for query, found in b.items()
    }


def _storage(info: CollectionInfo, file_bytes: int) -> Storage:
    index = sum(
        size
        for part, size in info.disk.items()
        if part in ("cells", "graph", "tokens", "token cells", "sparse") or part.startswith("tier ")
    )
    texts = {part: size for part, size in info.disk.items() if part == "full text"}
    # What the parts do not name is the database; it is weighed when closed, without the journal of an open one.
    disk = {part: size for part, size in info.disk.items() if part != "documents"}
    disk["documents"] = file_bytes - index - sum(texts.values())
    return Storage(
        measured=True,
        documents=info.documents,
        vector_bytes_per_document=info.vector_bytes_per_document,
        ram_bytes_per_document=info.ram_bytes_per_document,
        index_bytes_per_document=index / info.documents,
        disk_bytes_per_document=file_bytes / info.documents,
        ram=dict(info.ram),
        disk=disk,
    )


def _time(
    collection: Searched,
    data: Embedded,
    configuration: Configuration,
    timing: Timing,
    seed: int,
    build_seconds: float,
) -> Speed:
    total = len(data.dataset.queries)
    size = min(total, _BATCH)
    arguments = _arguments(data, configuration, slice(0, size))

    def search(number: int) -> Callable[[], Any]:
        single = _single(data, configuration, number)
        return lambda: collection.search(**single, k=timing.k)

    calls = [search(number) for number in timed_queries(total, timing, seed)]
    return time_searches(calls, lambda: collection.search_batch(**arguments, k=timing.k), size, timing, build_seconds)


def _single(data: Embedded, configuration: Configuration, number: int) -> dict[str, Any]:
    """Return what `Collection.search` is called with for one query."""
    arguments = _arguments(data, configuration, slice(number, number + 1))
    single = {"query": arguments.pop("queries")[0], **arguments}
    if "texts" in single:
        single["text"] = single.pop("texts")[0]
    if "sparse_vectors" in single:
        single["sparse_vector"] = single.pop("sparse_vectors")[0]
    return single


# ---------------------------------------------------------------------- outside of it


def measure_baseline(
    configuration: Configuration, data: Embedded, depths: Sequence[int], timing: Timing, seed: int
) -> Measured:
    """Measure a reference scheme (exhaustive numpy search, computed bytes, no latency) or another index library."""
    name = configuration.baseline
    if name is None:
        raise ParameterError(f"expected the configuration of a baseline, got {configuration.label!r}")
    if name.startswith(PREFIX):
        return _measure_rival(name, configuration, data, depths, timing, seed)
    started = time.perf_counter()
    encoded = encode_baseline(name, *data.unit(configuration.metric), seed=seed)
    build_seconds = time.perf_counter() - started
    rows, scores = rank_all(encoded.documents, encoded.queries, searched_depth(data.dataset, max(depths)))
    runs = {depth: _named(data.dataset, rows, scores, depth) for depth in depths}
    loss = shared(runs[AGREEMENT_DEPTH], data.reference(configuration))
    return Measured(
        runs=runs,
        agreement=_three(loss, dict.fromkeys(loss, 1.0), loss),
        storage=_computed("codes (computed)", encoded.row_bytes * len(encoded.documents), data),
        speed=Speed(
            build_seconds=build_seconds,
            latency_ms=None,
            queries_per_second=None,
            k=timing.k,
            timed_queries=0,
            warmup=0,
            repeats=0,
        ),
        checks=[],
    )


def _measure_rival(
    name: str, configuration: Configuration, data: Embedded, depths: Sequence[int], timing: Timing, seed: int
) -> Measured:
    documents, queries = data.unit(configuration.metric)
    started = time.perf_counter()
    rival = rival_factory(name)(documents.shape[1])
    rival.add(documents)
    build_seconds = time.perf_counter() - started
    n = len(documents)
    runs = {
        depth: _named(
            data.dataset, *checked_search(rival, queries, min(searched_depth(data.dataset, depth), n), n), depth
        )
        for depth in depths
    }
    chosen = timed_queries(len(queries), timing, seed)

    def search(number: int) -> Callable[[], Any]:
        return lambda: rival.search(queries[number : number + 1], timing.k)

    block = queries[:_BATCH]
    speed = time_searches(
        [search(number) for number in chosen], lambda: rival.search(block, timing.k), len(block), timing, build_seconds
    )
    loss = shared(runs[AGREEMENT_DEPTH], data.reference(configuration))
    total = _three(loss, loss, loss)
    return Measured(
        runs=runs,
        # What it keeps and how it looks cannot be told apart from outside.
        agreement=Agreement(
            depth=total.depth,
            float32=total.float32,
            same_codes=None,
            codes_float32=None,
            per_query={"float32": loss},
        ),
        storage=_computed("index (by its own account)", rival.memory_bytes, data),
        speed=speed,
        checks=[],
    )


def _computed(part: str, total: int, data: Embedded) -> Storage:
    each = total / len(data.documents)
    return Storage(
        measured=False,
        documents=len(data.documents),
        vector_bytes_per_document=each,
        ram_bytes_per_document=each,
        index_bytes_per_document=each,
        disk_bytes_per_document=each,
        ram={part: total},
        disk={part: total},
    )


def _rank_sparse(documents: SparseRows, queries: SparseRows, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Rank by inner products of the weights as the model gave them, without any index."""
    known, columns = np.unique(documents.terms, return_inverse=True)  # terms may be hashes, anywhere below 2^32
    owners = np.repeat(np.arange(len(documents)), documents.lengths)
    rows = np.empty((len(queries), min(k, len(documents))), np.int64)
    scores = np.empty(rows.shape, np.float32)
    for number, (terms, weights) in enumerate(queries):
        query = np.zeros(len(known) + 1)
        places = np.searchsorted(known, terms)
        there = (
            (places < len(known)) & (known[np.minimum(places, len(known) - 1)] == terms) if len(known) else places < 0
        )
        query[places[there]] = weights[there]
        products = np.bincount(owners, query[columns] * documents.weights, minlength=len(documents))
        rows[number] = np.argsort(-products, kind="stable")[: rows.shape[1]]
        scores[number] = products[rows[number]]
    return rows, scores


def _named(dataset: Dataset, rows: npt.NDArray[np.int64], scores: Floats, k: int) -> Rankings:
    return {
        query: _counted(
            dataset,
            query,
            (
                (dataset.document_ids[row], float(score))
                for row, score in zip(found, strictly_decreasing(values), strict=True)
            ),
            k,
        )
        for query, found, values in zip(dataset.query_ids, rows.tolist(), scores, strict=True)
    }
