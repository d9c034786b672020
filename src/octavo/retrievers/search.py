"""One search, whatever its mode: filter, rank, diversify, and read the documents that came out."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo.errors import CorruptCollectionError, InputTypeError, ParameterError
from octavo.filters import Filter, parse_filter
from octavo.retrievers.dense import DenseOptions, dense_search
from octavo.retrievers.fusion import convex_combination, reciprocal_rank_fusion
from octavo.retrievers.mmr import maximal_marginal_relevance
from octavo.retrievers.results import SearchResult
from octavo.store.database import document_crc, select_documents
from octavo.store.documents import Document, metadata_from_json
from octavo.store.metadata.index import select
from octavo.store.snapshot import Mask, Slots, Snapshot
from octavo.store.store import Store
from octavo.store.text.files import TextFiles
from octavo.store.writer import decode_rows

Mode: TypeAlias = Literal["dense", "text", "hybrid"]
FilterLike: TypeAlias = "Filter | dict[str, Any] | Callable[[Document], bool] | None"
Scores: TypeAlias = npt.NDArray[np.float32]

#: Depth of both rankings that a hybrid search fuses, unless `fetch_k` says otherwise, and at least this often k.
_HYBRID_DEPTH = 100
_HYBRID_FACTOR = 4

#: Candidates that MMR chooses from, unless `fetch_k` says otherwise: as LangChain, but never fewer than 4 k.
_MMR_DEPTH = 20
_MMR_FACTOR = 4

#: Bytes that remembered filter results may take.
_CACHE_BYTES = 16 << 20


@dataclass(frozen=True)
class SearchOptions:
    """Everything that shapes a search but the query, the filter and k; see `Collection.search`."""

    mode: Mode = "dense"
    alpha: float | None = None
    fusion: str = "rrf"
    fetch_k: int | None = None
    lambda_mult: float | None = None
    oversample: float | None = None
    ef: int | None = None
    exact: bool | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ParameterError(f"expected mode 'dense', 'text' or 'hybrid', got {self.mode!r}")
        if self.fusion not in ("rrf", "convex"):
            raise ParameterError(f"expected fusion 'rrf' or 'convex', got {self.fusion!r}")
        if self.mode != "hybrid" and (self.alpha is not None or self.fusion != "rrf"):
            raise ParameterError(f"alpha and fusion belong to mode='hybrid', got mode={self.mode!r}")
        if self.fusion == "convex" and self.alpha is None:
            raise ParameterError("fusion='convex' needs alpha between 0 (text only) and 1 (vectors only)")
        if self.fetch_k is not None and self.lambda_mult is None and self.mode != "hybrid":
            raise ParameterError("fetch_k belongs to MMR (lambda_mult=...) or mode='hybrid'; without them use k")
        for name in ("alpha", "lambda_mult"):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or not 0 <= value <= 1):
                raise ParameterError(f"expected {name} between 0 and 1, got {value!r}")
        for name in ("fetch_k", "ef"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ParameterError(f"expected {name} as an integer of at least 1, got {value!r}")
        if self.oversample is not None and (not _is_number(self.oversample) or not 1 <= self.oversample < np.inf):
            raise ParameterError(f"expected oversample as a number of at least 1, got {self.oversample!r}")
        if self.exact not in (None, True, False):
            raise ParameterError(f"expected exact as True, False or None, got {self.exact!r}")
        if self.mode == "text" and (self.oversample, self.ef, self.exact) != (None, None, None):
            raise ParameterError("oversample, ef and exact shape the vector search; mode='text' has none")

    @property
    def needs_text(self) -> bool:
        """Whether the full-text index takes part."""
        return self.mode != "dense"

    @property
    def dense(self) -> DenseOptions:
        """The part that shapes the search by vectors."""
        return DenseOptions(self.oversample, self.ef, self.exact, self.threads)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


@dataclass(frozen=True)
class Queries:
    """A batch of queries: vectors where the mode needs them, words where the mode needs them."""

    vectors: Floats | None
    words: Sequence[str] | None

    def __len__(self) -> int:
        return len(self.vectors) if self.vectors is not None else len(self.words or ())


class Searcher:
    """The reading half of a collection.

    Parameters
    ----------
    store : Store
        The collection's files.
    text : TextFiles
        Its full-text index.
    """

    def __init__(self, store: Store, text: TextFiles) -> None:
        self._store = store
        self._text = text
        self._masks: dict[tuple[int, Filter], Mask] = {}
        self._document_length = -1, 1.0  # generation, typical length

    def search(
        self, queries: Queries, k: int, where: FilterLike, ids: Sequence[str] | None, options: SearchOptions
    ) -> list[SearchResult]:
        """Return one result for each query, all from the same committed state."""
        tree = parse_filter(where) if not callable(where) else None
        while True:
            text = self._text.ready() if options.needs_text else None
            with self._store.read() as (connection, snapshot):
                if text is not None and text.seq != snapshot.seq:
                    continue  # a commit came between; the text index has to follow first
                mask = self._mask(connection, snapshot, tree)
                if callable(where):
                    mask = _and(mask, mask_of_callable(connection, snapshot, where))
                if ids is not None:
                    mask = _and(mask, mask_of_ids(connection, snapshot, ids))
                rankings = self._rank(snapshot, text.snapshot if text else None, queries, k, mask, options)
                return read_results(connection, rankings)

    def mask(self, connection: sqlite3.Connection, snapshot: Snapshot, where: FilterLike) -> Mask | None:
        """Return which slots match a filter; None when there is none."""
        if callable(where):
            return mask_of_callable(connection, snapshot, where)
        return self._mask(connection, snapshot, parse_filter(where))

    def _mask(self, connection: sqlite3.Connection, snapshot: Snapshot, tree: Filter | None) -> Mask | None:
        if tree is None:
            return None
        key = (snapshot.seq, tree)
        mask = self._masks.get(key)
        if mask is None:
            mask = select(connection, tree, snapshot.alive)
            keep = [old for old in self._masks.items() if old[0][0] == snapshot.seq]
            room = max(1, _CACHE_BYTES // max(1, snapshot.n_slots))
            self._masks = dict(keep[-(room - 1) :] if room > 1 else [])
            self._masks[key] = mask
        return mask

    # ------------------------------------------------------------------ ranking

    def _rank(
        self,
        snapshot: Snapshot,
        text_index: Any,
        queries: Queries,
        k: int,
        mask: Mask | None,
        options: SearchOptions,
    ) -> list[tuple[Slots, Scores]]:
        depth = k
        if options.lambda_mult is not None:
            depth = max(k, options.fetch_k or max(_MMR_DEPTH, _MMR_FACTOR * k))
        if options.mode == "dense":
            rankings = self._dense(snapshot, text_index, queries, depth, mask, options)
        elif options.mode == "text":
            rankings = full_text(snapshot, text_index, queries, depth, mask)
        else:
            rankings = self._hybrid(snapshot, text_index, queries, depth, mask, options)
        if options.lambda_mult is None:
            return rankings
        if options.lambda_mult == 1:  # relevance alone: the ranking as it is, whatever rounding would make of it
            return [(slots[:k], scores[:k]) for slots, scores in rankings]
        return self._diversified(snapshot, queries, rankings, k, options)

    def _diversified(
        self,
        snapshot: Snapshot,
        queries: Queries,
        rankings: list[tuple[Slots, Scores]],
        k: int,
        options: SearchOptions,
    ) -> list[tuple[Slots, Scores]]:
        if queries.vectors is None:
            raise ParameterError(
                "MMR (lambda_mult) needs a query vector: give one, or open the collection with an encoder"
            )
        assert options.lambda_mult is not None  # the caller asks only then
        cosines = options.mode == "dense" and self._store.settings.metric == "cosine"
        return [
            _diversify(snapshot, vector, slots, scores, k, options.lambda_mult, cosines=cosines)
            for vector, (slots, scores) in zip(queries.vectors, rankings, strict=True)
        ]

    def _dense(
        self,
        snapshot: Snapshot,
        index: Any,
        queries: Queries,
        k: int,
        mask: Mask | None,
        options: SearchOptions,
    ) -> list[tuple[Slots, Scores]]:
        assert queries.vectors is not None  # the collection has encoded them
        lengths = self.query_lengths(snapshot, queries.vectors)
        slots, scores = dense_search(snapshot, queries.vectors / lengths[:, None], k, mask, options.dense)
        scores *= lengths[:, None]
        if len(slots) and (slots[:, -1:] >= 0).all():
            return list(zip(slots, scores, strict=True))
        return [(row[row >= 0], values[row >= 0]) for row, values in zip(slots, scores, strict=True)]

    def _hybrid(
        self,
        snapshot: Snapshot,
        index: Any,
        queries: Queries,
        k: int,
        mask: Mask | None,
        options: SearchOptions,
    ) -> list[tuple[Slots, Scores]]:
        depth = max(k, options.fetch_k or max(_HYBRID_DEPTH, _HYBRID_FACTOR * k))
        # At either end the answer is one ranking alone, exactly: no deeper search may change it.
        if options.alpha == 1:
            return self._dense(snapshot, index, queries, k, mask, options)
        if options.alpha == 0:
            return full_text(snapshot, index, queries, k, mask)
        dense = self._dense(snapshot, index, queries, depth, mask, options)
        text = full_text(snapshot, index, queries, depth, mask)
        fused = []
        for by_vector, by_words in zip(dense, text, strict=True):
            if options.alpha is None:
                slots, scores = reciprocal_rank_fusion([by_vector, by_words])
            else:
                slots, scores = convex_combination(by_vector, by_words, options.alpha)
            fused.append((slots[:k], scores[:k].astype(np.float32)))
        return fused

    def query_lengths(self, snapshot: Snapshot, vectors: Floats) -> Scores:
        """Return what to divide queries by, so that they are as long as the documents and fill the codes' range.

        Documents and queries share one scale: under the metric 'dot' a query ten times as long as the documents would be
        clipped, and one a tenth as long would lose its digits.
        """
        if self._store.settings.metric == "cosine" or not snapshot.tiers or snapshot.n_slots == 0:
            return np.ones(len(vectors), np.float32)
        return self._relative_lengths(snapshot, vectors)

    def _relative_lengths(self, snapshot: Snapshot, vectors: Floats) -> Scores:
        """Return how many times as long as a typical document each query is."""
        if self._document_length[0] != snapshot.generation:
            sample = np.linspace(0, snapshot.n_slots - 1, min(snapshot.n_slots, 256)).astype(np.int64)
            lengths = np.linalg.norm(decode_rows(snapshot, sample), axis=1)
            self._document_length = snapshot.generation, float(np.median(lengths)) or 1.0
        lengths = np.linalg.norm(vectors, axis=1) / self._document_length[1]
        return np.where(lengths > 0, lengths, 1).astype(np.float32)


def full_text(
    snapshot: Snapshot, index: Any, queries: Queries, k: int, mask: Mask | None
) -> list[tuple[Slots, Scores]]:
    """Return the best slots for each query's words."""
    assert queries.words is not None  # the collection has checked it
    alive = mask if mask is not None else snapshot.alive
    return [index.search(words, k, alive=alive) for words in queries.words]


def _diversify(
    snapshot: Snapshot,
    vector: Any,
    slots: Slots,
    scores: Scores,
    k: int,
    lambda_mult: float,
    *,
    cosines: bool,
) -> tuple[Slots, Scores]:
    """Choose k of the candidates by maximal marginal relevance; `cosines` tells that the scores are cosines already."""
    if len(slots) == 0:
        return slots, scores
    vectors = decode_rows(snapshot, slots)
    relevance = scores
    if not cosines:
        # Relevance must be a cosine as the similarity between documents is, for the two to be weighed against each other.
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
        relevance = (vectors @ vector) / np.where(lengths > 0, lengths, 1)
    chosen = maximal_marginal_relevance(relevance, vectors, min(k, len(slots)), lambda_mult)
    return slots[chosen], scores[chosen]


# ---------------------------------------------------------------------- masks and documents


def _and(a: Mask | None, b: Mask) -> Mask:
    return b if a is None else a & b


def mask_of_ids(connection: sqlite3.Connection, snapshot: Snapshot, ids: Sequence[str]) -> Mask:
    """Return which slots hold these ids."""
    mask = np.zeros(snapshot.n_slots, np.bool_)
    mask[list(slots_of_ids(connection, ids).values())] = True
    return mask


def mask_of_callable(connection: sqlite3.Connection, snapshot: Snapshot, where: Callable[[Document], bool]) -> Mask:
    """Ask a function about every document; as slow as it sounds."""
    mask = np.zeros(snapshot.n_slots, np.bool_)
    for row in connection.execute("SELECT slot, id, text, metadata FROM documents"):
        mask[row[0]] = bool(where(Document(row[1], row[2], metadata_from_json(row[3]))))
    return mask


def slots_of_ids(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    """Return the slot of each id that is there."""
    return dict(select_documents(connection, "id, slot", "id", ids))


def read_documents(connection: sqlite3.Connection, slots: Sequence[int]) -> dict[int, tuple[Document, str | None]]:
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


def read_results(connection: sqlite3.Connection, rankings: Sequence[tuple[Slots, Scores]]) -> list[SearchResult]:
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


def check_k(k: Any) -> int:
    """Return k as an integer of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise InputTypeError(f"expected k as an integer, got {k!r} ({type(k).__name__})")
    if k < 1:
        raise ParameterError(f"expected k of at least 1, got {k}")
    return int(k)
