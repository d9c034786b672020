"""Searching one committed state of the full-text index."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import tantivy

from octavo._files import Directory
from octavo._text_analysis import normalise
from octavo.errors import CorruptCollectionError, ParameterError

Slots: TypeAlias = npt.NDArray[np.int64]
Scores: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]

#: A query keeps this many distinct terms, those that weigh most. 1,000 take about 20 ms on 50,000 documents.
MAX_TERMS: Final = 1024

#: How much more than expected is fetched when a mask thins the results, so that one attempt nearly always does.
_MARGIN: Final = 1.5

_GROWTH: Final = 8

# Measured at 100,000 short texts, in microseconds: a hit fetched; a slot allowed by a term query of its own; a slot
# allowed by a set of terms, for which tantivy first walks through the dictionary of all slots.
_HIT_COST: Final = 0.6
_TERM_COST: Final = 3.0
_SET_COST: Final = 0.5
_DICTIONARY_COST: Final = 0.05

#: Longer ties for the last place are not read to their end (3 ms), so that a common word alone stays quick.
_MAX_TIED: Final = 5000

#: Up to this many allowed slots become term queries, more become a set.
_MAX_SLOT_TERMS: Final = 2000


def build_schema() -> tantivy.Schema:
    """Build the schema: the slot to filter, delete and return by, the text with frequencies and without positions."""
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("slot", indexed=True, fast=True)
    builder.add_text_field("text", tokenizer_name="octavo", index_option="freq")
    return builder.build()


class TextSnapshot:
    """One committed state of a `TextIndex`: immutable, safe to search from many threads, unaffected by later commits.

    Parameters
    ----------
    searcher : tantivy.Searcher or None
        None for a state without texts.
    schema : tantivy.Schema
        Schema of the index.
    analyzer : tantivy.TextAnalyzer
        What the texts were analysed with.
    label : str
        How errors call the index.
    directory : Directory or None
        Where its files lie; None in memory.
    lengths : dict of str to int
        The files that are mapped, and how long they are.
    """

    def __init__(
        self,
        searcher: tantivy.Searcher | None,
        schema: tantivy.Schema,
        analyzer: tantivy.TextAnalyzer,
        label: str,
        directory: Directory | None = None,
        lengths: Mapping[str, int] | None = None,
    ) -> None:
        self._searcher = searcher
        self._schema = schema
        self._analyzer = analyzer
        self._label = label
        self._directory = directory
        self._lengths = dict(lengths or {})
        self._len: int = 0 if searcher is None else searcher.num_docs

    def __len__(self) -> int:
        """Number of texts."""
        return self._len

    @property
    def whole(self) -> bool:
        """Whether each mapped file still has its length (or was deleted, which leaves the map as it is).

        Reading beyond the end of a file that another program has made shorter would kill the process.
        """
        if self._directory is None:
            return True
        found = ((self._directory.stat(name), length) for name, length in self._lengths.items())
        return all(now is None or now.st_size >= length for now, length in found)

    def search(self, query_text: str, k: int, *, alive: Mask | None = None) -> tuple[Slots, Scores]:
        """Find the `k` texts that match a bag of words best.

        Every character of the query that is not part of a word separates words; there are no operators. A text
        matches that holds any of the words. Repeated words count as often as they occur. Of more than 1,024 distinct
        words the weightiest (rare, or often repeated) are used.

        Parameters
        ----------
        query_text : str
            The words.
        k : int
            How many slots to return at most.
        alive : bool ndarray of shape (n_slots,) or None, default=None
            Only slots marked True are returned, slots of `n_slots` and above are not; None allows all. If n texts
            match and are allowed, min(k, n) come back.

        Returns
        -------
        slots : int64 ndarray of shape (n_results,)
            Best first; equal scores by smaller slot. Only if thousands of texts in several segments of the index tie
            for the last place, tantivy picks among them, and picks the same ones in every search of a snapshot.
        scores : float32 ndarray of shape (n_results,)
            BM25 [1]_ with k1 = 1.2 and b = 0.75, above 0.

        Raises
        ------
        ParameterError
            `k` is below 1.
        CorruptCollectionError
            The index cannot be read.

        References
        ----------
        .. [1] S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", Foundations and
           Trends in Information Retrieval 3(4), 2009.
        """
        if k < 1:
            raise ParameterError(f"expected k of 1 or more, got {k}")
        try:
            return self._search(query_text, int(k), alive)
        except ValueError as err:
            raise self._damage(err) from err
        except BaseException as err:
            if type(err).__name__ != "PanicException":  # Rust's panics arrive beside Exception
                raise
            raise self._damage(err) from None

    def _damage(self, err: BaseException) -> CorruptCollectionError:
        return CorruptCollectionError(
            f"the full-text index {self._label} could not be searched: {err}; rebuild it from the documents"
        )

    def _search(self, query_text: str, k: int, alive: Mask | None) -> tuple[Slots, Scores]:
        words = self._words(query_text)
        n_allowed = self._len if alive is None else int(np.count_nonzero(alive))
        k = min(k, n_allowed, self._len)
        if not words or k == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        assert self._searcher is not None  # k > 0: there are texts

        # Two ways to honour the mask: fetch more hits and drop what is not allowed, or have tantivy intersect with the
        # allowed slots, which is exact at once. One hit more than wanted shows whether the last place is tied.
        query, limit = words, k + 1
        restriction_cost = math.inf
        if alive is not None and n_allowed < self._len:
            limit = math.ceil(_MARGIN * limit * self._len / n_allowed)
            restriction_cost = self._restriction_cost(n_allowed)
        # Segments are sorted by slot, and tantivy prefers the earlier text of a segment but also the earlier one of
        # several segments: then a tie for the last place has to be seen whole.
        settled = self._searcher.num_segments == 1
        drop = alive
        while True:
            if alive is not None and drop is not None and restriction_cost < _HIT_COST * limit:
                query, limit, drop = self._restricted(words, alive), k + 1, None
            limit = min(limit, self._len)
            hits = self._searcher.search(query, limit, count=False).hits
            slots = np.array(self._searcher.fast_field_values("slot", [at for _, at in hits]), dtype=np.int64)
            scores = np.fromiter((score for score, _ in hits), np.float32, len(hits))
            exhausted = len(hits) < limit or limit == self._len
            last = scores[-1] if len(hits) else np.float32(0)
            if drop is not None:
                keep = slots < len(drop)
                keep[keep] = drop[slots[keep]]
                slots, scores = slots[keep], scores[keep]
            if exhausted or (len(slots) >= k and (settled or limit >= _MAX_TIED or last < scores[k - 1])):
                break
            limit *= _GROWTH
        order = np.lexsort((slots, -scores))[:k]
        return slots[order], scores[order]

    def _words(self, query_text: str) -> tantivy.Query | None:
        """Build the query for a bag of words, without tantivy's query language; None for no words."""
        counts = Counter(self._analyzer.analyze(normalise(query_text)))
        if len(counts) > MAX_TERMS and self._searcher is not None:
            found = {term: self._searcher.doc_freq("text", term) for term in counts}
            weight = {
                term: count * math.log1p((self._len + 1) / found[term]) for term, count in counts.items() if found[term]
            }
            best = sorted(weight, key=lambda term: (-weight[term], term))[:MAX_TERMS]
            counts = Counter({term: counts[term] for term in best})
        clauses = []
        for term, count in counts.items():
            clause = tantivy.Query.term_query(self._schema, "text", term, "freq")
            clauses.append((tantivy.Occur.Should, clause if count == 1 else tantivy.Query.boost_query(clause, count)))
        return tantivy.Query.boolean_query(clauses) if clauses else None

    def _restricted(self, words: tantivy.Query, alive: Mask) -> tantivy.Query:
        """Add to a query that the slot must be among the allowed ones, without changing the scores."""
        slots = np.flatnonzero(alive).tolist()
        if len(slots) <= _MAX_SLOT_TERMS:
            terms = [tantivy.Query.term_query(self._schema, "slot", slot, "basic") for slot in slots]
            allowed = tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
        else:
            allowed = tantivy.Query.term_set_query(self._schema, "slot", slots)
        return tantivy.Query.boolean_query(
            [
                (tantivy.Occur.Must, words),
                (tantivy.Occur.Must, tantivy.Query.const_score_query(allowed, 0.0)),
            ]
        )

    def _restriction_cost(self, n_allowed: int) -> float:
        """Return about how many microseconds it takes to intersect with `n_allowed` slots."""
        if n_allowed <= _MAX_SLOT_TERMS:
            return _TERM_COST * n_allowed
        return _DICTIONARY_COST * self._len + _SET_COST * n_allowed
