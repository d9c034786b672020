"""Options of a search, and the ranker of a collection of files: one snapshot, restricted by a filter."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo._validation import check_choice, check_flag, check_integer, check_number
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CorruptCollectionError, InvalidFilterError, ParameterError
from octavo.filters import Filter
from octavo.index import score_rows
from octavo.retrievers.dense import Counts, DenseOptions, count_cells, dense_search
from octavo.retrievers.results import Ranking, SearchResult
from octavo.store.database import document_crc, select_documents
from octavo.store.documents import Document, metadata_from_json
from octavo.store.metadata.index import select
from octavo.store.reencoding import SpaceChangedError
from octavo.store.snapshot import CellView, Mask, Slots, Snapshot, decode_rows
from octavo.store.sqlite import Connection
from octavo.store.store import Store
from octavo.store.text.files import TextFiles

Mode: TypeAlias = Literal["dense", "text", "hybrid"]
DocumentFilter: TypeAlias = Callable[[Document], bool]
FilterLike: TypeAlias = "Filter | dict[str, Any] | DocumentFilter | None"
Scores: TypeAlias = npt.NDArray[np.float32]

#: Bytes that remembered filter results may take.
_CACHE_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Everything that shapes a search but the query, the filter and k.

    Parameters
    ----------
    mode, alpha, fetch_k, lambda_mult, oversample, ef, n_probe, exact
        See `octavo.Collection.search`.
    threads : int, default=1
        Threads for a batch of queries; 0 means all cores.

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

    def __post_init__(self) -> None:
        check_choice(self.mode, "mode", get_args(Mode))
        for name in ("alpha", "lambda_mult"):
            self._keep(name, lambda value, name=name: check_number(value, name, least=0, most=1))  # type: ignore[misc]
        for name in ("fetch_k", "ef", "n_probe"):
            self._keep(name, lambda value, name=name: check_integer(value, name, least=1))  # type: ignore[misc]
        self._keep("oversample", lambda value: check_number(value, "oversample", least=1))
        self._keep("exact", lambda value: check_flag(value, "exact"))
        if self.mode != "hybrid" and self.alpha is not None:
            raise ParameterError(f"alpha belongs to mode='hybrid', got mode={self.mode!r}")
        if self.fetch_k is not None and self.lambda_mult is None and self.mode != "hybrid":
            raise ParameterError("fetch_k belongs to MMR (lambda_mult=...) or mode='hybrid'; without them use k")
        if self.mode == "text" and (self.oversample, self.ef, self.n_probe, self.exact) != (None,) * 4:
            raise ParameterError("oversample, ef, n_probe and exact shape the vector search; mode='text' has none")
        if self.exact and self.n_probe is not None:
            raise ParameterError("exact=True scores every document: n_probe does not apply")

    def _keep(self, name: str, check: Callable[[Any], Any]) -> None:
        """Check an option that was given; what numpy or another library calls a number is one of Python's from then on."""
        value = getattr(self, name)
        if value is not None:
            object.__setattr__(self, name, check(value))

    @property
    def vectors_alone(self) -> bool:
        """Whether the answer is the ranking by vectors, and no words take part in it."""
        return self.mode == "dense" or self.alpha == 1

    @property
    def words_alone(self) -> bool:
        """Whether the answer is the ranking by words, and no vectors take part in it."""
        return self.mode == "text" or self.alpha == 0

    @property
    def needs_words(self) -> bool:
        """Whether queries must come with words, and the full-text index takes part."""
        return self.mode != "dense"

    @property
    def needs_vectors(self) -> bool:
        """Whether queries must come with vectors."""
        return self.mode != "text" or self.lambda_mult is not None

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
    """A batch of queries: as vectors (one each, or of many tokens each) and as words, where the search needs them.

    Parameters
    ----------
    vectors, tokens, words
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
    words: Sequence[str] | None = None
    space: int | None = None
    next: Queries | None = None
    reencoding: str | None = None

    @property
    def encoded(self) -> bool:
        """Whether there are vectors of the model that the collection has."""
        return self.vectors is not None or self.tokens is not None

    def __len__(self) -> int:
        for given in (self.vectors, self.tokens, self.words):
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

    def of_space(self, connection: Connection, snapshot: Snapshot, mask: Mask | None) -> SnapshotRanker:
        """Return what ranks the documents of one space of a snapshot, without words."""
        return self._new_ranker(connection, snapshot, None, mask)

    @contextlib.contextmanager
    def ranker(
        self, where: Filter | DocumentFilter | None, ids: Sequence[str] | None, *, words: bool
    ) -> Iterator[SnapshotRanker]:
        """Yield what ranks the newest commit's documents; with `words`, the full-text index answers for the same commit."""
        while True:
            text = self._text.ready() if words else None
            with self._store.read() as (connection, snapshot):
                if text is not None and text.seq != snapshot.seq:
                    continue  # a commit came between; the text index has to follow first
                mask = self.mask(connection, snapshot, where)
                if ids is not None:
                    listed = mask_of_ids(connection, snapshot, ids)
                    mask = listed if mask is None else mask & listed
                yield self._new_ranker(connection, snapshot, text.snapshot if text is not None else None, mask)
                return

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
    """Ranks the documents of one snapshot that a filter lets through; see `octavo.collection.searching.Ranker`.

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
            slots, scores = self._dense(queries.vectors / lengths, k, options)
            scores *= lengths
        if len(slots) and (slots[:, -1:] >= 0).all():
            return list(zip(slots, scores, strict=True))
        return [(row[row >= 0], values[row >= 0]) for row, values in zip(slots, scores, strict=True)]

    def _dense(self, vectors: Floats, k: int, options: SearchOptions) -> tuple[Slots, Scores]:
        return dense_search(self._snapshot, vectors, k, self._mask, options.dense, self._searcher.count)

    def _check_space(self, queries: Queries) -> None:
        """Raise `SpaceChangedError` when the vectors are not of the space that is searched."""
        if queries.space is not None and (queries.space != self._snapshot.space or not queries.encoded):
            raise SpaceChangedError

    def scores(self, queries: Queries, number: int, slots: Slots) -> Scores:
        """Return what documents score for one query in the finest tier."""
        assert queries.vectors is not None  # the options ask for them
        finest, vector = self._snapshot.tiers[-1], queries.vectors[number : number + 1]
        finest.check(slots)
        lengths = self._searcher.query_lengths(self._snapshot, vector)
        codes = finest.pipeline.encode_queries(vector / lengths[:, None])
        values = score_rows(finest.layout, finest.codes, codes[0], slots)
        if finest.pipeline.shifts_queries:
            values = values + finest.pipeline.query_offset(vector / lengths[:, None])
        return np.asarray(values * lengths, np.float32)

    def by_words(self, words: Sequence[str], k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by BM25."""
        return self._full_text(words, k, self._mask)

    def _full_text(self, words: Sequence[str], k: int, mask: Mask | None) -> list[Ranking]:
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

    def by_words_of(self, words: Sequence[str], k: int, mask: Mask) -> list[Ranking]:
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
    for row in connection.execute("SELECT slot, id, text, metadata FROM documents"):
        mask[row[0]] = lets_through(where, Document(row[1], row[2], metadata_from_json(row[3])))
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


def read_documents(connection: Connection, slots: Sequence[int]) -> dict[int, tuple[Document, str | None]]:
    """Return the documents in these slots with their payloads, checked against their checksums.

    Raises
    ------
    CorruptCollectionError
        When a document's stored bytes do not match their checksum, or a slot has none.
    """
    documents: dict[int, tuple[Document, str | None]] = {}
    columns = "slot, id, text, metadata, payload, crc"
    for slot, identifier, text, metadata, payload, crc in select_documents(connection, columns, "slot", slots):
        if document_crc(identifier, text, metadata, payload) != crc:
            raise CorruptCollectionError(
                f"the stored document {identifier!r} is damaged (its checksum does not match); add it again or restore "
                "the collection from a backup"
            )
        documents[slot] = Document(identifier, text, metadata_from_json(metadata)), payload
    if len(documents) != len(set(slots)):
        raise CorruptCollectionError("a vector has no document; run verify() to see what else is damaged")
    return documents


def read_results(connection: Connection, rankings: Sequence[Ranking]) -> list[SearchResult]:
    """Put the documents beside their scores."""
    wanted = [slots.tolist() for slots, _ in rankings]
    if len(wanted) == 1:
        documents = read_documents(connection, wanted[0])
    else:
        documents = read_documents(connection, sorted({slot for slots in wanted for slot in slots}))
    results = []
    shared = len(wanted) > 1  # a document that several queries found must not be shared between their results
    for slots, (_, scores) in zip(wanted, rankings, strict=True):
        found = [fresh(documents[slot][0]) if shared else documents[slot][0] for slot in slots]
        payloads = [documents[slot][1] for slot in slots]
        results.append(SearchResult([document.id for document in found], scores, found, payloads))
    return results


def fresh(document: Document) -> Document:
    """Return an equal document that shares no mutable state with the given one."""
    return Document(document.id, document.text, copy.deepcopy(document.metadata))
