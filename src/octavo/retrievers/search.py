"""Options of a search, and the ranker of a collection of files: one snapshot, restricted by a filter."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from octavo._arrays import Floats, Scores, finite_floats
from octavo._sparse_rows import SparseRows
from octavo._validation import check_choice, check_flag, check_integer, check_number
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CorruptCollectionError, InvalidFilterError, ParameterError
from octavo.filters import Filter
from octavo.index import score_rows
from octavo.index.sparse import best
from octavo.retrievers.dense import Counts, DenseOptions, count_cells, dense_search
from octavo.retrievers.results import Ranking, SearchResult
from octavo.store.database import ROW, document_crc, select_documents
from octavo.store.documents import Document, each_of
from octavo.store.metadata.index import select
from octavo.store.reencoding import SpaceChangedError
from octavo.store.snapshot import CellView, Mask, Slots, Snapshot, decode_rows
from octavo.store.sparse import NONE_WAIT, Waiting, read_waiting
from octavo.store.sqlite import Connection
from octavo.store.store import Store
from octavo.store.text.files import TextFiles
from octavo.words import WordQuery

Mode: TypeAlias = Literal["dense", "text", "sparse", "hybrid"]

#: What documents can be ranked by; the vectors of a multi-vector collection answer to "late" as well.
RANKINGS = ("dense", "text", "sparse")

#: What a hybrid search fuses unless it says otherwise.
_DEFAULT_RANK = ("dense", "text")

DocumentFilter: TypeAlias = Callable[[Document], bool]
FilterLike: TypeAlias = "Filter | dict[str, Any] | DocumentFilter | None"

#: Bytes that remembered filter results may take.
_CACHE_BYTES = 16 << 20


_MODES = get_args(Mode)

#: How each option is checked, where it is given.
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("alpha", "lambda_mult"), partial(check_number, least=0, most=1)),
    **dict.fromkeys(("fetch_k", "ef", "n_probe"), partial(check_integer, least=1)),
    "oversample": partial(check_number, least=1),
    "exact": check_flag,
}


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Everything that shapes a search but the query, the filter and k.

    Parameters
    ----------
    mode, alpha, rank, weights, fetch_k, lambda_mult, oversample, ef, n_probe, exact
        See `octavo.Collection.search`.
    threads : int, default=1
        Threads for a batch of queries; 0 means all cores.
    word_positions : bool, default=False
        Words are compared in their order, or before stemming; a search finds this out from its queries.

    Raises
    ------
    ParameterError
        An option is not what it should be, or belongs to another mode.

    Examples
    --------
    >>> SearchOptions(mode="hybrid", alpha=0.5).alpha
    0.5
    >>> SearchOptions(alpha=0.5)
    Traceback (most recent call last):
    octavo.errors.ParameterError: alpha belongs to mode='hybrid', got mode='dense'
    """

    mode: Mode = "dense"
    alpha: float | None = None
    fetch_k: int | None = None
    lambda_mult: float | None = None
    oversample: float | None = None
    ef: int | None = None
    n_probe: int | None = None
    exact: bool | None = None
    threads: int = 1
    word_positions: bool = False
    rank: Sequence[str] | None = None
    weights: Sequence[float] | None = None

    #: Other names of rankings.
    _aliases: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        check_choice(self.mode, "mode", _MODES)
        for name, check in _CHECKS.items():
            if (value := getattr(self, name)) is not None:
                # what numpy or another library calls a number is one of Python's from then on
                object.__setattr__(self, name, check(value, name))
        if self.rank is not None:
            object.__setattr__(self, "rank", self._checked_rank(self.rank))
        if self.weights is not None:
            object.__setattr__(self, "weights", self._checked_weights(self.weights))
        if self.mode != "hybrid" and self.alpha is not None:
            raise ParameterError(f"alpha belongs to mode='hybrid', got mode={self.mode!r}")
        if self.fetch_k is not None and self.lambda_mult is None and self.mode != "hybrid":
            raise ParameterError("fetch_k belongs to MMR (lambda_mult=...) or mode='hybrid'; without them use k")
        if "dense" not in self.names and (self.oversample, self.ef, self.n_probe, self.exact) != (None,) * 4:
            raise ParameterError(f"oversample, ef, n_probe and exact shape the vector search; {self._what} has none")
        if self.alpha is not None and set(self.names) != set(_DEFAULT_RANK):
            raise ParameterError(f"alpha weighs vectors against words; give weights= for rank={self.names!r}")
        if self.alpha is not None and self.weights is not None:
            raise ParameterError("alpha and weights say the same thing; give one of them")
        if self.exact and self.n_probe is not None:
            raise ParameterError("exact=True scores every document: n_probe does not apply")

    def _checked_rank(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ParameterError(f"expected rank as a sequence of rankings, such as ('dense', 'sparse'), got {value!r}")
        allowed = (*RANKINGS, *self._aliases)
        names = tuple(self._aliases.get(each, each) for each in (check_choice(each, "rank", allowed) for each in value))
        if len(names) < 2 or len(set(names)) < len(names):
            raise ParameterError(
                f"expected rank as two or more different rankings, got {tuple(value)!r}; one alone is a mode"
            )
        if self.mode != "hybrid":
            raise ParameterError(f"rank belongs to mode='hybrid', got mode={self.mode!r}")
        return names

    def _checked_weights(self, value: Any) -> tuple[float, ...]:
        if isinstance(value, str) or not hasattr(value, "__len__"):
            raise ParameterError(
                f"expected weights as a sequence of numbers, one for each ranking of rank=, got {value!r}"
            )
        weights = tuple(check_number(each, "weights", least=0) for each in value)
        if self.mode != "hybrid":
            raise ParameterError(f"weights belong to mode='hybrid', got mode={self.mode!r}")
        if len(weights) != len(self.names) or not sum(weights) > 0:
            raise ParameterError(
                f"expected one weight for each of rank={self.names!r}, one of them above 0, got {weights!r}"
            )
        return weights

    @property
    def _what(self) -> str:
        return f"mode={self.mode!r}" if self.mode != "hybrid" else f"rank={self.names!r}"

    @property
    def names(self) -> tuple[str, ...]:
        """The rankings that the search is asked for: "dense", "text", "sparse"."""
        if self.mode != "hybrid":
            return (self.mode,)
        return tuple(self.rank) if self.rank is not None else _DEFAULT_RANK

    @property
    def parts(self) -> dict[str, float | None]:
        """The rankings that take part, and what each weighs; None where they are fused by rank.

        Of one ranking alone the answer is that ranking, exactly, and no deeper search may change it.
        """
        if self.alpha is not None:
            shares: Sequence[float] = [self.alpha if name == "dense" else 1 - self.alpha for name in self.names]
        elif self.weights is not None:
            shares = self.weights
        else:
            return dict.fromkeys(self.names)
        return {name: share for name, share in zip(self.names, shares, strict=True) if share > 0}

    @property
    def vectors_alone(self) -> bool:
        """Whether the answer is the ranking by vectors, and nothing else takes part in it."""
        return tuple(self.parts) == ("dense",)

    @property
    def needs_words(self) -> bool:
        """Whether queries must come with words, and the full-text index takes part."""
        return "text" in self.names

    @property
    def needs_vectors(self) -> bool:
        """Whether queries must come with vectors."""
        return "dense" in self.names or self.lambda_mult is not None

    @property
    def needs_sparse(self) -> bool:
        """Whether queries must come with learned sparse vectors."""
        return "sparse" in self.names

    @property
    def dense(self) -> DenseOptions:
        """The part that shapes the search by vectors."""
        return DenseOptions(self.oversample, self.ef, self.exact, self.threads, self.n_probe)

    def check_index(self, index: str | None) -> None:
        """Raise `ParameterError` when an option belongs to another index than a collection has: "cells" or "graph"."""
        if index == "cells" and self.ef is not None:
            raise ParameterError(
                "ef belongs to index='graph', and this collection has index='cells': look harder with n_probe= or oversample="
            )
        if index == "graph" and self.n_probe is not None:
            raise ParameterError(
                "n_probe belongs to index='cells', and this collection has index='graph': look harder with ef= or oversample="
            )


@dataclass(frozen=True)
class Queries:
    """A batch of queries in the forms that the search needs: vectors (of one or many tokens each), words, sparse vectors.

    Parameters
    ----------
    vectors, tokens, words, sparse
        The queries.
    space : int or None
        The number of the space that the vectors are of, where an encoder of the collection has made them.
    next : Queries or None
        The same queries by the model that the collection is being changed to.
    reencoding : str or None
        Which change of the model that is.
    """

    vectors: Floats | None = None
    tokens: TokenMatrices | None = None
    words: Sequence[str | WordQuery] | None = None
    sparse: SparseRows | None = None
    space: int | None = None
    next: Queries | None = None
    reencoding: str | None = None

    @property
    def encoded(self) -> bool:
        """Whether there are vectors of the model that the collection has."""
        return self.vectors is not None or self.tokens is not None

    def __len__(self) -> int:
        for given in (self.vectors, self.tokens, self.words, self.sparse):
            if given is not None:
                return len(given)
        return len(self.next) if self.next is not None else 0


class Searcher:
    """Opens rankers over a collection of files, and remembers what the next ones can use.

    Parameters
    ----------
    store : Store
        The collection's files.
    text : TextFiles
        Its full-text index.
    metric : str, optional
        How vectors are compared, if not as the collection's settings say.
    """

    def __init__(self, store: Store, text: TextFiles, metric: str | None = None) -> None:
        self._store = store
        self._text = text
        self._metric = metric or store.settings.metric
        self._masks: dict[tuple[int, Filter], Mask] = {}
        self._counts: list[tuple[Mask, CellView, Counts]] = []
        self._document_length = -1, 1.0  # generation, typical length
        self._waiting: tuple[tuple[int, int], int, Waiting] = (-1, -1), -1, NONE_WAIT  # generation and sealed; commit

    def of_space(self, connection: Connection, snapshot: Snapshot, mask: Mask | None) -> SnapshotRanker:
        """Return what ranks the documents of one space of a snapshot, without words."""
        return self._new_ranker(connection, snapshot, None, mask)

    @contextlib.contextmanager
    def ranker(
        self,
        where: Filter | DocumentFilter | None,
        ids: Sequence[str] | None,
        *,
        words: bool,
        positions: bool = False,
    ) -> Iterator[SnapshotRanker]:
        """Yield what ranks the newest commit's documents; with `words`, the full-text index answers for the same commit."""
        reading = self._text.reading(positions=positions) if words else self._store.read()
        with reading as (connection, snapshot, *text):
            mask = self.mask(connection, snapshot, where)
            if ids is not None:
                listed = mask_of_ids(connection, snapshot, ids)
                mask = listed if mask is None else mask & listed
            yield self._new_ranker(connection, snapshot, text[0].snapshot if text else None, mask)

    def _new_ranker(self, connection: Connection, snapshot: Snapshot, text: Any, mask: Mask | None) -> SnapshotRanker:
        return SnapshotRanker(self, connection, snapshot, text, mask)

    @property
    def cosines(self) -> bool:
        """Whether vectors are compared by cosine."""
        return self._metric == "cosine"

    def mask(self, connection: Connection, snapshot: Snapshot, where: Filter | DocumentFilter | None) -> Mask | None:
        """Return which slots match a filter; None when there is none."""
        if where is None:
            return None
        if not isinstance(where, Filter):
            with self._store.database.calling("a filter function"):
                return mask_of_callable(connection, snapshot, where)
        key = (snapshot.seq, where)
        mask = self._masks.get(key)
        if mask is None:
            mask = select(connection, where, snapshot.alive)
            keep = [old for old in self._masks.items() if old[0][0] == snapshot.seq]
            room = max(1, _CACHE_BYTES // max(1, snapshot.n_slots))
            self._masks = dict(keep[-(room - 1) :] if room > 1 else [])
            self._masks[key] = mask
        return mask

    def count(self, mask: Mask, view: CellView) -> Counts:
        """Return how many rows of each cell a mask lets through; the last ones are remembered, as masks are."""
        for known, cells, counts in self._counts:  # read once: other threads replace the list
            if known is mask and cells is view:
                return counts
        counts = count_cells(mask, view)
        size = mask.nbytes + sum(each.nbytes for each in counts)
        self._counts = [(mask, view, counts), *self._counts[: max(0, min(8, _CACHE_BYTES // max(1, size)) - 1)]]
        return counts

    def waiting(self, connection: Connection, snapshot: Snapshot) -> Waiting:
        """Return the sparse vectors that are in no segment yet; those that were read before are not read again."""
        assert snapshot.sparse is not None  # the caller has looked
        key = snapshot.generation, snapshot.sparse.sealed
        known, seq, waiting = self._waiting  # read once: other threads replace it
        if known != key or seq > snapshot.seq:
            waiting = read_waiting(connection, snapshot.sparse)
        elif seq < snapshot.seq:
            waiting = read_waiting(connection, snapshot.sparse, waiting)
        self._waiting = key, snapshot.seq, waiting
        return waiting

    def query_lengths(self, snapshot: Snapshot, vectors: Floats) -> Scores:
        """Return what to divide queries by, so that they are as long as the documents and fill the codes' range.

        Documents and queries share one scale: under the metric 'dot' a query ten times as long as the documents would be
        clipped, and one a tenth as long would lose its digits.
        """
        if self.cosines or not snapshot.tiers or snapshot.n_slots == 0:
            return np.ones(len(vectors), np.float32)
        return self.relative_lengths(snapshot, vectors)

    def relative_lengths(self, snapshot: Snapshot, vectors: Floats) -> Scores:
        """Return how many times as long as a typical document each query is."""
        if self._document_length[0] != snapshot.generation:
            sample = np.linspace(0, snapshot.n_slots - 1, min(snapshot.n_slots, 256)).astype(np.int64)
            lengths = np.linalg.norm(decode_rows(snapshot, sample), axis=1)
            self._document_length = snapshot.generation, float(np.median(lengths)) or 1.0
        lengths = np.linalg.norm(vectors, axis=1) / self._document_length[1]
        return np.where(lengths > 0, lengths, 1).astype(np.float32)


class SnapshotRanker:
    """Ranks the documents of one snapshot that a filter lets through; see `octavo.retrievers.ranker.Ranker`.

    Parameters
    ----------
    searcher : Searcher
        Whose collection it is.
    connection : Connection
        Inside a read transaction that sees the snapshot's commit.
    snapshot : Snapshot
        What to search.
    text : TextSnapshot or None
        The full-text index of the same commit, where words are asked for.
    mask : ndarray of bool, shape (n_slots,), or None
        Which slots may come back; None means every document.
    """

    def __init__(
        self, searcher: Searcher, connection: Connection, snapshot: Snapshot, text: Any, mask: Mask | None
    ) -> None:
        self._searcher = searcher
        self._connection = connection
        self._snapshot = snapshot
        self._text = text
        self._mask = mask
        self._matching = int(np.count_nonzero(mask)) if mask is not None else snapshot.n_alive
        self.cosines = searcher.cosines

    @property
    def snapshot(self) -> Snapshot:
        """What is searched."""
        return self._snapshot

    def beside(self, searcher: Searcher) -> SnapshotRanker:
        """Return what ranks, among the same documents, those that have a vector of the model that is coming."""
        following = self._snapshot.next
        assert following is not None  # the caller has looked
        mask = self._mask[: following.n_slots] if self._mask is not None else None
        return searcher.of_space(self._connection, following, mask)

    def at_most(self, depth: int) -> int:
        """Return how many results there can be."""
        return min(depth, self._matching)

    def by_vectors(self, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by the vectors of the finest tier."""
        self._check_space(queries)
        assert queries.vectors is not None  # the options ask for them
        if self.cosines:
            slots, scores = self._dense(queries.vectors, k, options)
        else:
            lengths = self._searcher.query_lengths(self._snapshot, queries.vectors)[:, None]
            slots, scores = self._dense(finite_floats(queries.vectors / lengths), k, options)
            scores *= lengths
        if len(slots) and (slots[:, -1:] >= 0).all():
            return list(zip(slots, scores, strict=True))
        return [(row[row >= 0], values[row >= 0]) for row, values in zip(slots, scores, strict=True)]

    def _dense(self, vectors: Floats, k: int, options: SearchOptions) -> tuple[Slots, Scores]:
        return dense_search(
            self._snapshot, vectors, k, self._mask, options.dense, self._searcher.count, matching=self._matching
        )

    def _check_space(self, queries: Queries) -> None:
        """Raise `SpaceChangedError` when the vectors are not of the space that is searched."""
        if queries.space is not None and (queries.space != self._snapshot.space or not queries.encoded):
            raise SpaceChangedError

    def scores(self, queries: Queries, number: int, slots: Slots) -> Scores:
        """Return what documents score for one query in the finest tier."""
        assert queries.vectors is not None  # the options ask for them
        row: Scores = self.scores_of_rows(queries.vectors[number : number + 1], slots)[0]
        return row

    def scores_of_rows(self, vectors: Floats, slots: Slots) -> Scores:
        """Return what documents score for queries in the finest tier, one row each."""
        finest = self._snapshot.tiers[-1]
        finest.check(slots)
        lengths = self._searcher.query_lengths(self._snapshot, vectors)[:, None]
        codes = finest.pipeline.encode_queries(vectors / lengths)
        values = np.array([score_rows(finest.layout, finest.codes, code, slots) for code in codes], np.float32)
        if finest.pipeline.shifts_queries:
            values = values + finest.pipeline.query_offset(vectors / lengths)[:, None]
        return np.asarray(values * lengths, np.float32)

    def by_words(self, words: Sequence[str | WordQuery], k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by BM25."""
        return self._full_text(words, k, self._mask)

    def by_sparse(self, queries: SparseRows, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by the inner product of learned sparse vectors."""
        return self._sparse(queries, k, self._mask)

    def _sparse(self, queries: SparseRows, k: int, mask: Mask | None) -> list[Ranking]:
        snapshot = self._snapshot
        if snapshot.sparse is None:
            raise ParameterError(
                "the collection holds no sparse vectors: add documents with sparse_vectors=, or to a collection that was "
                "opened with sparse="
            )
        waiting = self._searcher.waiting(self._connection, snapshot)
        eligible = mask if mask is not None else (snapshot.alive if snapshot.dead else None)
        return [
            best(snapshot.sparse.scores(terms, weights, snapshot.n_slots, waiting), k, eligible)
            for terms, weights in queries
        ]

    def _full_text(self, words: Sequence[str | WordQuery], k: int, mask: Mask | None) -> list[Ranking]:
        alive = mask if mask is not None else self._snapshot.alive
        return [self._text.search(each, k, alive=alive) for each in words]

    @property
    def knows_words(self) -> bool:
        """Whether the full-text index takes part."""
        return self._text is not None

    def beyond(self, first: int) -> Mask:
        """Return which slots from `first` on may come back."""
        mask = np.array(self._mask if self._mask is not None else self._snapshot.alive)
        mask[:first] = False
        return mask

    def by_words_of(self, words: Sequence[str | WordQuery], k: int, mask: Mask) -> list[Ranking]:
        """Rank those documents by BM25 that a mask lets through."""
        return self._full_text(words, k, mask)

    @property
    def dim(self) -> int:
        """Dimension of what `vectors` returns."""
        assert self._snapshot.codec is not None  # there are vectors
        return self._snapshot.codec.in_dim

    def vectors(self, ranking: Ranking) -> Floats:
        """Decode the vectors of the finest tier."""
        return decode_rows(self._snapshot, ranking[0])

    def relevance(self, queries: Queries, number: int, ranking: Ranking, vectors: Floats) -> Floats:
        """Return the cosines of a query with documents."""
        assert queries.vectors is not None  # the options ask for them
        return cosines(vectors, queries.vectors[number])

    def results(self, rankings: Sequence[Ranking]) -> list[SearchResult]:
        """Read the documents."""
        return read_results(self._connection, rankings)


def cosines(vectors: Floats, query: Floats) -> Floats:
    """Return the cosine of each row with a vector; a row without a length has none."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    return np.asarray((vectors @ query) / np.where(lengths > 0, lengths, 1), np.float32)


# ---------------------------------------------------------------------- masks and documents


def mask_of_ids(connection: Connection, snapshot: Snapshot, ids: Sequence[str]) -> Mask:
    """Return which slots hold these ids."""
    mask = np.zeros(snapshot.n_slots, np.bool_)
    mask[list(slots_of_ids(connection, ids).values())] = True
    return mask


def mask_of_callable(connection: Connection, snapshot: Snapshot, where: DocumentFilter) -> Mask:
    """Ask a function about every document; as slow as it sounds."""
    mask = np.zeros(snapshot.n_slots, np.bool_)
    for row in connection.execute("SELECT slot, id, text, metadata, embed_text, flags FROM documents"):
        mask[row[0]] = lets_through(where, Document.stored(*row[1:]))
    return mask


def lets_through(where: DocumentFilter, document: Document) -> bool:
    """Ask a filter function about a document.

    Raises
    ------
    InvalidFilterError
        When the answer has to be awaited: it would count as true for every document.
    """
    answer: Any = where(document)
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise InvalidFilterError(
            f"expected a filter function that returns True or False, got one that returns {type(answer).__name__}; filters "
            "cannot be awaited"
        )
    return bool(answer)


def slots_of_ids(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Return the slot of each id that is there."""
    return dict(select_documents(connection, "id, slot", "id", ids))


def stored_slots(connection: Connection, snapshot: Snapshot, ids: Sequence[str]) -> Slots:
    """Return the slot of each id, in their order.

    Raises
    ------
    DocumentNotFoundError
        When one of them is not there.
    CorruptCollectionError
        When a document lies where there is no row.
    """
    slots = np.array(each_of(slots_of_ids(connection, ids), ids), np.int64)
    if len(slots) and not 0 <= int(slots.min()) <= int(slots.max()) < snapshot.n_slots:
        raise CorruptCollectionError("octavo.db is damaged: a document lies beyond the last row; run verify()")
    return slots


def read_documents(
    connection: Connection, key: Literal["slot", "id"], values: Sequence[Any]
) -> dict[Any, tuple[Document, str | None]]:
    """Return the documents with these slots or ids, and their payloads, checked against their checksums.

    Parameters
    ----------
    connection : Connection
        Inside a read transaction.
    key : {"slot", "id"}
        What they are looked up by.
    values : sequence of int or str
        Slots, all of which have a document, or ids; those that are not there are left out.

    Raises
    ------
    CorruptCollectionError
        When a document's stored bytes do not match their checksum, or a slot has none.
    """
    rows = _read_rows(connection, key, values)
    return {value: (Document.stored(*row[:3], *row[4:]), row[3]) for value, row in rows.items()}


def read_results(connection: Connection, rankings: Sequence[Ranking]) -> list[SearchResult]:
    """Put the documents beside their scores."""
    wanted = [slots.tolist() for slots, _ in rankings]
    distinct = wanted[0] if len(wanted) == 1 else sorted({slot for slots in wanted for slot in slots})
    rows = _read_rows(connection, "slot", distinct)
    results = []
    for slots, (_, scores) in zip(wanted, rankings, strict=True):
        found = [rows[slot] for slot in slots]
        # a document that several queries found is made for each of them, so that they share nothing
        documents = [Document.stored(*row[:3], *row[4:]) for row in found]
        results.append(SearchResult([row[0] for row in found], scores, documents, [row[3] for row in found]))
    return results


def _read_rows(
    connection: Connection, key: Literal["slot", "id"], values: Sequence[Any]
) -> dict[Any, tuple[str, str, str, str | None, str | None, int]]:
    """Return what `ROW` names, but for the checksum, of documents by slot or id; see `read_documents`."""
    rows = {}
    for value, *row, crc in select_documents(connection, f"{key}, {ROW}", key, values):
        if document_crc(*row) != crc:
            raise CorruptCollectionError(
                f"the stored document {row[0]!r} is damaged (its checksum does not match); add it again or restore "
                "the collection from a backup"
            )
        rows[value] = row
    if key == "slot" and len(rows) != len(values) and len(rows) != len(set(values)):
        raise CorruptCollectionError("a vector has no document; run verify() to see what else is damaged")
    return rows
