"""Late interaction: candidates by their document vectors, then MaxSim over the stored token codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo._layout import CodeLayout
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import InvalidVectorsError, ParameterError
from octavo.index import maxsim
from octavo.retrievers.dense import DenseOptions, dense_search
from octavo.retrievers.mmr import maximal_marginal_relevance
from octavo.retrievers.search import Queries, Searcher, SearchOptions, full_text
from octavo.store.snapshot import Mask, Slots, Snapshot, decode_rows
from octavo.store.tokens import TokenView

Scores: TypeAlias = npt.NDArray[np.float32]
CandidateSource: TypeAlias = Literal["vectors", "text", "both"]

#: Documents that are few enough to be scored by MaxSim at once, without candidates.
FEW = 1_024

#: Candidates scored by MaxSim for each query, unless asked otherwise: so many for as many documents as `_CANDIDATES_FOR`,
#: in proportion to the square root for more (measured: 400 of 5,183 and 800 of 20,000 lose 1 to 2 % of the ten best), and at
#: least so many times k.
DEFAULT_CANDIDATES = 400
_CANDIDATES_FOR = 5_000
_CANDIDATE_FACTOR = 4


@dataclass(frozen=True)
class LateOptions(SearchOptions):
    """What shapes a search of a multi-vector collection; see `MultiVectorCollection.search`."""

    n_candidates: int | None = None
    candidates: CandidateSource = "vectors"

    def __post_init__(self) -> None:
        super().__post_init__()
        count = self.n_candidates
        if count is not None and (isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1):
            raise ParameterError(f"expected n_candidates as an integer of at least 1, got {count!r}")
        if self.candidates not in get_args(CandidateSource):
            raise ParameterError(f"expected candidates out of 'vectors', 'text' and 'both', got {self.candidates!r}")
        if count is not None and self.oversample is not None:
            raise ParameterError("n_candidates and oversample say the same thing; give one of them")
        if self.mode == "text" and (count is not None or self.candidates != "vectors"):
            raise ParameterError("n_candidates and candidates shape the search by tokens; mode='text' has none")
        if self.exact and (count is not None or self.oversample is not None or self.candidates != "vectors"):
            raise ParameterError(
                "exact=True scores every document: n_candidates, oversample and candidates do not apply"
            )

    @property
    def needs_text(self) -> bool:
        """Whether the full-text index takes part."""
        return self.mode != "dense" or self.candidates != "vectors"

    def depth(self, k: int, n_documents: int) -> int:
        """Return how many candidates out of so many documents are scored for k results."""
        if self.n_candidates is not None:
            return max(k, int(self.n_candidates))
        if self.oversample is not None:
            return max(k, round(self.oversample * k))
        growth = math.sqrt(max(1.0, n_documents / _CANDIDATES_FOR))
        return max(round(DEFAULT_CANDIDATES * growth), _CANDIDATE_FACTOR * k)


@dataclass(frozen=True)
class LateQueries(Queries):
    """A batch of queries as token vectors of unit length, where the mode needs them."""

    tokens: TokenMatrices | None = None

    def __len__(self) -> int:
        return len(self.tokens) if self.tokens is not None else len(self.words or ())


class LateSearcher(Searcher):
    """The reading half of a multi-vector collection."""

    _filled: tuple[int, Mask | None] = (-2, None)  # commit, which documents have tokens (None: all)

    def _dense(
        self,
        snapshot: Snapshot,
        index: Any,
        queries: Queries,
        k: int,
        mask: Mask | None,
        options: SearchOptions,
    ) -> list[tuple[Slots, Scores]]:
        assert isinstance(queries, LateQueries)
        assert queries.tokens is not None  # the collection has encoded them
        assert isinstance(options, LateOptions)
        view = snapshot.tokens
        if view is None:
            return [_nothing() for _ in range(len(queries))]
        eligible = self._eligible(snapshot, view, mask)
        matching = int(np.count_nonzero(eligible)) if eligible is not None else snapshot.n_slots
        if matching == 0:
            return [_nothing() for _ in range(len(queries))]
        codes = [view.codec.encode_queries(query) for query in queries.tokens]
        depth = options.depth(k, matching)
        few = matching <= max(depth, FEW) and options.candidates == "vectors"
        if options.exact or (options.exact is None and few) or not snapshot.fitted:
            rankings = _exhaustive(view, codes, k, eligible, options.threads)
        else:
            found = self._candidates(snapshot, index, queries, min(depth, matching), eligible, options)
            rankings = _scored(view, codes, found, k, options.threads)
        offsets = [float(view.codec.query_offset(query).sum()) for query in queries.tokens]
        return [(slots, scores + np.float32(offset)) for (slots, scores), offset in zip(rankings, offsets, strict=True)]

    def _eligible(self, snapshot: Snapshot, view: TokenView, mask: Mask | None) -> Mask | None:
        """Return which slots may come back: they match, belong to a document, and have tokens. None: every slot."""
        known = self._filled  # read once: other threads search other snapshots
        if known[0] != snapshot.seq:
            view.offset_guard.check_all(view.offset_rows)  # all at once: later searches need not look again
            alive = snapshot.alive & (np.diff(view.offsets) > 0)
            known = self._filled = snapshot.seq, None if alive.all() else alive
        filled = known[1]
        if mask is None or filled is None:
            return filled if mask is None else mask
        return mask & filled

    def _candidates(
        self,
        snapshot: Snapshot,
        index: Any,
        queries: LateQueries,
        depth: int,
        eligible: Mask | None,
        options: LateOptions,
    ) -> list[Slots]:
        """Return the slots to score for each query, in rising order."""
        assert queries.tokens is not None  # the caller has checked
        assert snapshot.tokens is not None
        found: list[list[Slots]] = [[] for _ in range(len(queries))]
        if options.candidates != "text":
            vectors = snapshot.tokens.codec.query_vectors(queries.tokens)
            lengths = self._relative_lengths(snapshot, vectors)
            shape = DenseOptions(ef=options.ef, exact=options.exact, threads=options.threads)
            slots, _ = dense_search(snapshot, vectors / lengths[:, None], depth, eligible, shape)
            for number, row in enumerate(slots):
                found[number].append(row[row >= 0])
        if options.candidates != "vectors":
            for number, (row, _) in enumerate(full_text(snapshot, index, queries, depth, eligible)):
                found[number].append(np.asarray(row, np.int64))
        return [np.unique(np.concatenate(parts)) for parts in found]

    def _diversified(
        self,
        snapshot: Snapshot,
        queries: Queries,
        rankings: list[tuple[Slots, Scores]],
        k: int,
        options: SearchOptions,
    ) -> list[tuple[Slots, Scores]]:
        """Choose by maximal marginal relevance.

        Relevance is the mean cosine of the query's tokens with their best matches, similarity the cosine of two
        documents' candidate vectors.
        """
        assert isinstance(queries, LateQueries)
        assert options.lambda_mult is not None  # the caller asks only then
        view = snapshot.tokens
        if view is None:
            return rankings
        if queries.tokens is None:
            raise ParameterError("MMR (lambda_mult) needs a query's tokens: open the collection with an encoder")
        chosen = []
        for query, (slots, scores) in zip(queries.tokens, rankings, strict=True):
            relevance = _score(view, view.codec.encode_queries(query), slots) + view.codec.query_offset(query).sum()
            # a document without tokens, found by its words: as far from the query as can be
            relevance = np.where(np.isfinite(relevance), relevance / len(query), -1)
            picked = maximal_marginal_relevance(
                relevance, decode_rows(snapshot, slots), min(k, len(slots)), options.lambda_mult
            )
            chosen.append((slots[picked], scores[picked]))
        return chosen


def _nothing() -> tuple[Slots, Scores]:
    return np.zeros(0, np.int64), np.zeros(0, np.float32)


def _exhaustive(
    view: TokenView, codes: Sequence[npt.NDArray[np.uint8]], k: int, eligible: Mask | None, threads: int
) -> list[tuple[Slots, Scores]]:
    """Score every eligible document."""
    documents = np.flatnonzero(eligible) if eligible is not None else None
    view.check(documents)
    found, scores = maxsim.maxsim_search(
        view.layout, view.codes, view.offsets, codes, k, documents=documents, threads=threads
    )
    return [(row[row >= 0], values[row >= 0]) for row, values in zip(found, scores, strict=True)]


def _scored(
    view: TokenView, codes: Sequence[npt.NDArray[np.uint8]], found: Sequence[Slots], k: int, threads: int
) -> list[tuple[Slots, Scores]]:
    """Score each query's candidates and keep the k best, ties by slot."""

    def best(number: int) -> tuple[Slots, Scores]:
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
        scores.append(maxsim.maxsim_scores(view.layout, view.codes, view.offsets, query, part))
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
    return maxsim.maxsim_scores(layout, flat, tokens.offsets, rows, threads=threads)
