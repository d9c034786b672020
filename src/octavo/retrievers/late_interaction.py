"""Late interaction: candidates by their document vectors, then MaxSim over the stored token codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, finite_floats
from octavo._layout import CodeLayout
from octavo._validation import check_choice, check_integer
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CorruptCollectionError, InvalidVectorsError, ParameterError
from octavo.index import maxsim, planner, token_cells
from octavo.retrievers.dense import DenseOptions, dense_search
from octavo.retrievers.results import Ranking
from octavo.retrievers.search import Queries, Searcher, SearchOptions, SnapshotRanker
from octavo.store.snapshot import Mask, Slots, Snapshot
from octavo.store.sqlite import Connection
from octavo.store.tokens import TokenView

Scores: TypeAlias = npt.NDArray[np.float32]
CandidateSource: TypeAlias = Literal["vectors", "mean", "tokens", "text", "both", "sparse"]

_SOURCES = {
    "vectors": ("mean", "tokens"),
    "mean": ("mean",),
    "tokens": ("tokens",),
    "text": ("text",),
    "both": ("mean", "tokens", "text"),
    "sparse": ("sparse",),
}

#: Documents for which `limits.late_candidates` are as many candidates as are needed, and candidates for each result at least.
_CANDIDATES_FOR = 5_000
_CANDIDATE_FACTOR = 4

#: Their number grows with this power of the number of documents where token cells find half of them, otherwise with the root.
#: Measured: 100 of 1,400 abstracts hold 0.998 of the exhaustive ten, 100 of 60,000 sentences 0.988 and 200 of them 0.995.
_GROWTH_BY_TOKENS = 0.25


@dataclass(frozen=True, kw_only=True)
class LateOptions(SearchOptions):
    """Everything that shapes a search by late interaction but the query, the filter and k.

    Parameters
    ----------
    mode, alpha, rank, weights, fetch_k, lambda_mult, oversample, ef, n_probe, exact, n_candidates, candidates
        See `octavo.MultiVectorCollection.search`.
    threads : int, default=1
        Threads for a batch of queries; 0 means all cores.
    word_positions : bool, default=False
        As in `SearchOptions`.

    Raises
    ------
    ParameterError
        An option is not what it should be, or belongs to another mode.

    Examples
    --------
    >>> LateOptions(n_candidates=200).depth(k=10, n_documents=1_000_000)
    200
    """

    n_candidates: int | None = None
    candidates: CandidateSource = "vectors"

    _aliases: ClassVar[dict[str, str]] = {"late": "dense"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_candidates is not None:
            object.__setattr__(self, "n_candidates", check_integer(self.n_candidates, "n_candidates", least=1))
        check_choice(self.candidates, "candidates", get_args(CandidateSource))
        count = self.n_candidates
        if count is not None and self.oversample is not None:
            raise ParameterError("n_candidates and oversample say the same thing; give one of them")
        if "dense" not in self.names and (count is not None or self.candidates != "vectors"):
            raise ParameterError(f"n_candidates and candidates shape the search by tokens; {self._what} has none")
        if self.exact and (count is not None or self.oversample is not None or self.candidates != "vectors"):
            raise ParameterError(
                "exact=True scores every document: n_candidates, oversample and candidates do not apply"
            )

    @property
    def needs_words(self) -> bool:
        """Whether queries must come with words, and the full-text index takes part."""
        return super().needs_words or "text" in self.sources

    @property
    def needs_sparse(self) -> bool:
        """Whether queries must come with learned sparse vectors."""
        return super().needs_sparse or "sparse" in self.sources

    @property
    def sources(self) -> tuple[str, ...]:
        """Where candidates come from: "mean" (candidate vectors), "tokens" (their cells), "text", "sparse"."""
        return _SOURCES[self.candidates]

    def depth(self, k: int, n_documents: int, *, by_tokens: bool = False) -> int:
        """Return how many candidates out of so many documents are scored for k results.

        Parameters
        ----------
        k : int
            Results asked for.
        n_documents : int
            Documents that can match.
        by_tokens : bool, default=False
            Whether token cells find some of them: fewer are enough then.

        Returns
        -------
        int
            At least `k`.
        """
        if self.n_candidates is not None:
            return max(k, self.n_candidates)
        if self.oversample is not None:
            return max(k, round(self.oversample * k))
        growth, limits = max(1.0, n_documents / _CANDIDATES_FOR), planner.limits
        few = limits.late_candidates_by_tokens if by_tokens else limits.late_candidates
        grown = few * math.pow(growth, _GROWTH_BY_TOKENS if by_tokens else 0.5)
        return max(round(grown), _CANDIDATE_FACTOR * k)

    def scores_all(self, k: int, n_documents: int) -> bool:
        """Return whether so few documents can match that all of them are scored, unless the options say otherwise.

        Parameters
        ----------
        k : int
            Results asked for.
        n_documents : int
            Documents that can match.

        Returns
        -------
        bool
            Always True under ``exact=True`` and False under ``exact=False``.
        """
        few = n_documents <= max(self.depth(k, n_documents), planner.limits.few) and self.candidates == "vectors"
        return bool(self.exact) or (self.exact is None and few)


class LateSearcher(Searcher):
    """Opens rankers over the files of a multi-vector collection."""

    _filled: tuple[int, Mask | None] = (-2, None)  # commit, which documents have tokens (None: all)

    def _new_ranker(self, connection: Connection, snapshot: Snapshot, text: Any, mask: Mask | None) -> SnapshotRanker:
        return LateRanker(self, connection, snapshot, text, mask)

    def filled(self, snapshot: Snapshot, view: TokenView) -> Mask | None:
        """Return which slots belong to a document with tokens. None: every slot."""
        known = self._filled  # read once: other threads search other snapshots
        if known[0] != snapshot.seq:
            view.offset_guard.check_all(view.offset_rows)  # all at once: later searches need not look again
            alive = snapshot.alive & (np.diff(view.offsets) > 0)
            known = self._filled = snapshot.seq, None if alive.all() else alive
        return known[1]


class LateRanker(SnapshotRanker):
    """Ranks the documents of one snapshot of a multi-vector collection by MaxSim."""

    def __init__(
        self, searcher: LateSearcher, connection: Connection, snapshot: Snapshot, text: Any, mask: Mask | None
    ) -> None:
        super().__init__(searcher, connection, snapshot, text, mask)
        self._searcher: LateSearcher = searcher
        self.cosines = False  # scores are sums of cosines

    def by_vectors(self, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by MaxSim: all documents, or those that the candidate vectors or the words have found."""
        self._check_space(queries)
        assert queries.tokens is not None  # the options ask for them
        assert isinstance(options, LateOptions)  # which every search of a multi-vector collection has
        view = self._snapshot.tokens
        if view is None:
            return [_nothing() for _ in queries.tokens]
        eligible = self._eligible(view)
        matching = int(np.count_nonzero(eligible)) if eligible is not None else self._snapshot.n_slots
        if matching == 0:
            return [_nothing() for _ in queries.tokens]
        k = min(k, matching)
        codes = [view.codec.encode_queries(query) for query in queries.tokens]
        if options.scores_all(k, matching) or not self._snapshot.fitted:
            rankings = _exhaustive(view, codes, k, eligible, options.threads)
        else:
            found = self._candidates(queries, k, matching, eligible, options)
            rankings = _scored(view, codes, found, k, options.threads)
        offsets = [float(view.codec.query_offset(query).sum()) for query in queries.tokens]
        return [(slots, scores + np.float32(offset)) for (slots, scores), offset in zip(rankings, offsets, strict=True)]

    def scores(self, queries: Queries, number: int, slots: Slots) -> Scores:
        """Return the MaxSim of documents for one query; -inf for those without tokens."""
        view = self._snapshot.tokens
        assert queries.tokens is not None  # the options ask for them
        assert view is not None  # there are documents
        query = queries.tokens[number]
        offset = np.float32(view.codec.query_offset(query).sum())
        return _score(view, view.codec.encode_queries(query), slots) + offset

    def _eligible(self, view: TokenView) -> Mask | None:
        """Return which slots may come back: they match, belong to a document, and have tokens. None: every slot."""
        filled = self._searcher.filled(self._snapshot, view)
        if self._mask is None or filled is None:
            return filled if self._mask is None else self._mask
        return self._mask & filled

    def _candidates(
        self, queries: Queries, k: int, matching: int, eligible: Mask | None, options: LateOptions
    ) -> list[Slots]:
        """Return the slots to score for each query, in rising order."""
        found: list[list[Slots]] = [[] for _ in range(len(queries))]
        by_tokens = self._by_tokens(queries, k, matching, eligible, options)
        depth = min(options.depth(k, matching, by_tokens=by_tokens is not None), matching)
        if by_tokens is None:
            if (
                "mean" in options.sources or "tokens" in options.sources
            ):  # which are found by their means where none are in cells
                self._by_means(queries, depth, eligible, options, found)
        else:
            for parts, slots in zip(found, by_tokens, strict=True):
                parts.append(slots)
            if "mean" in options.sources:
                self._by_means(queries, max(k, -(-depth // 2)), eligible, options, found)
            self._beside_cells(queries, max(k, -(-depth // 2)), eligible, options, found)
        if "sparse" in options.sources:
            assert queries.sparse is not None  # the options ask for them
            for number, (row, _) in enumerate(self._sparse(queries.sparse, depth, eligible)):
                found[number].append(row)
        if "text" in options.sources:
            assert queries.words is not None  # the options ask for them
            for number, (row, _) in enumerate(self._full_text(queries.words, depth, eligible)):
                found[number].append(np.asarray(row, np.int64))
        return [np.unique(np.concatenate(parts)) for parts in found]

    def _by_tokens(
        self, queries: Queries, k: int, matching: int, eligible: Mask | None, options: LateOptions
    ) -> list[Slots] | None:
        """Return what token cells find, half of the candidates if others do, too; None where there are no (undamaged) cells."""
        cells, n_slots = self._snapshot.token_cells, self._snapshot.n_slots
        if "tokens" not in options.sources or cells is None or cells.damaged:
            return None
        assert queries.tokens is not None  # the caller has checked
        depth = min(options.depth(k, matching, by_tokens=True), matching)
        keep = max(k, -(-depth // 2)) if "mean" in options.sources else depth
        probes = token_cells.probes_for(matching / n_slots)

        def search(query: Floats) -> Slots:
            return cells.search_tokens(query, n_slots, keep, probes, eligible)

        try:
            if len(queries) == 1 or options.threads == 1:
                return [search(query) for query in queries.tokens]
            with ThreadPoolExecutor(options.threads or None) as pool:
                return list(pool.map(search, queries.tokens))
        except CorruptCollectionError:
            if not any(part.damaged for part in cells.parts):
                raise
            return None  # cells can be made again

    def _beside_cells(
        self, queries: Queries, depth: int, eligible: Mask | None, options: LateOptions, found: list[list[Slots]]
    ) -> None:
        """Add the best by their means of the documents that are in no token cell yet."""
        cells, snapshot = self._snapshot.token_cells, self._snapshot
        assert cells is not None  # they were searched
        if cells.covered < snapshot.n_slots:
            beside = snapshot.alive.copy() if eligible is None else eligible.copy()
            beside[: cells.covered] = False
            self._by_means(queries, depth, beside, options, found)

    def _by_means(
        self, queries: Queries, depth: int, eligible: Mask | None, options: LateOptions, found: list[list[Slots]]
    ) -> None:
        """Add the documents whose candidate vectors are nearest to those of the queries."""
        snapshot = self._snapshot
        assert queries.tokens is not None  # the caller has checked
        assert snapshot.tokens is not None
        vectors = snapshot.tokens.codec.query_vectors(queries.tokens)
        lengths = self._searcher.relative_lengths(snapshot, vectors)
        shape = DenseOptions(ef=options.ef, n_probe=options.n_probe, exact=options.exact, threads=options.threads)
        count = self._searcher.count
        slots, _ = dense_search(snapshot, finite_floats(vectors / lengths[:, None]), depth, eligible, shape, count)
        for number, row in enumerate(slots):
            found[number].append(row[row >= 0])

    def relevance(self, queries: Queries, number: int, ranking: Ranking, vectors: Floats) -> Floats:
        """Return the mean cosine of a query's tokens with their best matches."""
        view = self._snapshot.tokens
        assert queries.tokens is not None  # the options ask for them
        assert view is not None  # something was found
        query = queries.tokens[number]
        sums = _score(view, view.codec.encode_queries(query), ranking[0]) + view.codec.query_offset(query).sum()
        # a document without tokens, found by its words: as far from the query as can be
        mean: Floats = np.where(np.isfinite(sums), sums / len(query), np.float32(-1))
        return mean


def _nothing() -> Ranking:
    return np.zeros(0, np.int64), np.zeros(0, np.float32)


def _exhaustive(
    view: TokenView, codes: Sequence[npt.NDArray[np.uint8]], k: int, eligible: Mask | None, threads: int
) -> list[Ranking]:
    """Score every eligible document."""
    documents = np.flatnonzero(eligible) if eligible is not None else None
    view.check(documents)
    found, scores = maxsim.maxsim_search(
        view.layout, view.codes, view.offsets, codes, k, documents=documents, threads=threads
    )
    return [(row[row >= 0], values[row >= 0]) for row, values in zip(found, scores, strict=True)]


def _scored(
    view: TokenView, codes: Sequence[npt.NDArray[np.uint8]], found: Sequence[Slots], k: int, threads: int
) -> list[Ranking]:
    """Score each query's candidates and keep the k best, ties by slot."""

    def best(number: int) -> Ranking:
        slots = found[number]
        scores = _score(view, codes[number], slots)
        order = np.argsort(-scores, kind="stable")[:k]  # slots rise, so equal scores stay in their order
        return slots[order], scores[order]

    if threads == 1 or len(codes) == 1:
        return [best(number) for number in range(len(codes))]
    with ThreadPoolExecutor(threads or None) as pool:
        return list(pool.map(best, range(len(codes))))


def _score(view: TokenView, query: npt.NDArray[np.uint8], slots: Slots) -> Scores:
    """Return the MaxSim of some slots; what lies on a cold disk is read ahead while the first half is scored."""
    if len(slots) == 0:
        return np.zeros(0, np.float32)
    view.check_offsets(slots)
    halves = [slots]
    if view.file.prefetch(view.offsets[slots], view.offsets[slots + 1]):
        halves = np.array_split(slots, 2)
    scores = []
    for part in halves:
        view.check(part)
        scores.append(maxsim.maxsim_codes(view.layout, view.codes, view.offsets, query, part))
    return np.concatenate(scores)


def similarities(view: TokenView, query: Floats, slot: int) -> Floats:
    """Return the cosine of each query token with each stored token vector of one document, as they are scored.

    Returns
    -------
    ndarray of shape (n_query_tokens, n_document_tokens), float32
        The row maxima add up to the document's score.
    """
    view.check(np.array([slot]))
    matrix = maxsim.maxsim_explain(view.layout, view.codes, view.offsets, view.codec.encode_queries(query), slot)
    shifted: Floats = matrix + view.codec.query_offset(query)[:, None]
    return shifted


def maxsim_scores(query_tokens: npt.ArrayLike, documents: Sequence[npt.ArrayLike], *, threads: int = 1) -> Scores:
    """Score documents that are given as token matrices against a query, in float32 and without torch.

    Parameters
    ----------
    query_tokens : array-like of shape (n_query_tokens, dim)
        The query's token vectors, as they are: scale them to unit length for cosines.
    documents : sequence of array-like of shape (n_tokens, dim)
        The documents' token vectors.
    threads : int, default=1
        Threads to use; 0 means all cores.

    Returns
    -------
    ndarray of shape (len(documents),), float32
        The sum over the query's tokens of the largest dot product with any token of the document; -inf for documents
        without tokens.

    Raises
    ------
    InvalidVectorsError
        When matrices are not finite or not of one dimension, or the query has no tokens.

    Examples
    --------
    >>> maxsim_scores([[1, 0], [0, 1]], [[[1, 0], [0, 2]], [[1, 1]]]).tolist()
    [3.0, 2.0]
    """
    query = TokenMatrices.of([query_tokens])
    if not len(query.flat):
        raise InvalidVectorsError("expected a query of at least one token vector, got none")
    if not len(documents):
        return np.zeros(0, np.float32)
    tokens = TokenMatrices.of(documents, dim=query.dim)
    layout = CodeLayout("f32", query.dim)
    flat, rows = (np.ascontiguousarray(matrix).view(np.uint8) for matrix in (tokens.flat, query.flat))
    return maxsim.maxsim_codes(layout, flat, tokens.offsets, rows, threads=threads)
