"""Searching one committed state of the full-text index."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import tantivy

from octavo._files import Directory
from octavo._text_analysis import TextAnalysis
from octavo.errors import CorruptCollectionError, ParameterError
from octavo.words import AllOf, AnyOf, Not, Phrase, Prefix, WordQuery, Words
from octavo.words.matching import allowed_typos, is_typo, needs_positions

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


def build_schema(*, positions: bool = False) -> tantivy.Schema:
    """Build the schema: the slot to filter, delete and return by; terms with frequencies; words with positions if asked."""
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("slot", indexed=True, fast=True)
    builder.add_text_field("text", tokenizer_name="octavo", index_option="freq")
    if positions:
        builder.add_text_field("words", tokenizer_name="octavo-words", index_option="position")
    return builder.build()


#: Words of queries whose other spellings are remembered.
_REMEMBERED: Final = 256

#: What a text gets that is found by one of very many words with a prefix, and not by the commonest of them.
_SOME_SCORE: Final = 1e-3


class TextSnapshot:
    """One committed state of a `TextIndex`: immutable, safe to search from many threads, unaffected by later commits.

    Parameters
    ----------
    searcher : tantivy.Searcher or None
        None for a state without texts.
    schema : tantivy.Schema
        Schema of the index.
    analysis : TextAnalysis
        What made terms of the texts.
    label : str
        How errors call the index.
    directory : Directory or None
        Where its files lie; None in memory.
    lengths : dict of str to int
        The files that are mapped, and how long they are.
    positions : bool, default=False
        Whether there are words beside terms.
    """

    def __init__(
        self,
        searcher: tantivy.Searcher | None,
        schema: tantivy.Schema,
        analysis: TextAnalysis,
        label: str,
        directory: Directory | None = None,
        lengths: Mapping[str, int] | None = None,
        *,
        positions: bool = False,
    ) -> None:
        self._searcher = searcher
        self._schema = schema
        self._analysis = analysis
        self._positions = positions
        self._label = label
        self._directory = directory
        self._lengths = dict(lengths or {})
        self._spellings: dict[str, list[tuple[str, int]]] = {}
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

    def search(self, query: str | WordQuery, k: int, *, alive: Mask | None = None) -> tuple[Slots, Scores]:
        """Find the `k` texts that match a bag of words, or a query of `octavo.words`, best.

        Every character of a string that is not part of a word separates words; there are no operators. A text
        matches that holds any of the words. Repeated words count as often as they occur. Of more than 1,024 distinct
        words the weightiest (rare, or often repeated) are used.

        Parameters
        ----------
        query : str or WordQuery
            The words; what asks for their order needs an index that has it.
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
        if needs_positions(query) and not self._positions:
            raise ParameterError(
                "expected an index with positions for phrases, prefixes and misspelt words, got one without"
            )
        try:
            return self._search(query, int(k), alive)
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

    def _search(self, asked: str | WordQuery, k: int, alive: Mask | None) -> tuple[Slots, Scores]:
        words = self._words(asked) if isinstance(asked, str) else self._tree(asked)
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
        counts = Counter(self._analysis.terms(query_text))
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

    def _tree(self, query: WordQuery) -> tantivy.Query | None:
        """Build the query for a node, out of terms alone; None where it asks for nothing."""
        if isinstance(query, Words):
            return self._misspelt(query.text) if query.typos else self._words(query.text)
        if isinstance(query, Phrase | Prefix):
            words = self._analysis.words(query.text)
            if not words:
                return None
            return self._phrase(words) if isinstance(query, Phrase) else self._prefix(words)
        if isinstance(query, AnyOf):
            return _any([built for part in query.parts if (built := self._tree(part)) is not None])
        assert isinstance(query, AllOf)  # Not stands in it alone
        must = [(tantivy.Occur.Must, self._tree(part)) for part in query.parts if not isinstance(part, Not)]
        clauses = [clause for clause in must if clause[1] is not None]
        may = _any([built for part in query.optional if (built := self._tree(part)) is not None])
        if may is not None:
            clauses.append((tantivy.Occur.Should if clauses else tantivy.Occur.Must, may))
        if not clauses:
            return None
        excluded = [self._tree(part.part) for part in query.parts if isinstance(part, Not)]
        clauses += [(tantivy.Occur.MustNot, built) for built in excluded if built is not None]
        return tantivy.Query.boolean_query(clauses)

    def _word(self, word: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, "words", word, "freq")

    def _phrase(self, words: Sequence[str]) -> tantivy.Query:
        return (
            tantivy.Query.phrase_query(self._schema, "words", list(words)) if len(words) > 1 else self._word(words[0])
        )

    def _prefix(self, words: Sequence[str]) -> tantivy.Query:
        """Build the query for words of which the last one goes on: the best of the phrases that it stands for."""
        *before, last = words
        assert self._searcher is not None  # there are texts
        known = self._searcher.terms_with_prefix("words", last, limit=MAX_TERMS + 1)
        whole = [self._phrase([*before, word]) for word, _ in known[:MAX_TERMS]]
        if not whole:
            return tantivy.Query.empty_query()
        best = tantivy.Query.disjunction_max_query(whole)
        if before or len(known) <= MAX_TERMS:
            return best
        rest = tantivy.Query.fuzzy_term_query(self._schema, "words", last, distance=0, prefix=True)
        return _any([best, tantivy.Query.const_score_query(rest, _SOME_SCORE)])

    def _misspelt(self, text: str) -> tantivy.Query | None:
        """Build the query for words that may be misspelt: each the best of its stem and of the words that are near."""
        words = self._analysis.words(text)
        clauses = []
        for word, term in zip(words, self._analysis.stem(words), strict=True):
            alternatives = [tantivy.Query.term_query(self._schema, "text", term, "freq")]
            for other, distance in self._near(word):
                alternatives.append(tantivy.Query.boost_query(self._word(other), 1 / (1 + distance)))
            clauses.append(tantivy.Query.disjunction_max_query(alternatives))
        return _any(clauses[:MAX_TERMS])

    def _near(self, word: str) -> list[tuple[str, int]]:
        """Return the words of the index that a word may be, with the places where they differ, nearest and commonest first."""
        most = allowed_typos(word)
        if not most or self._searcher is None:
            return []
        found = self._spellings.get(word)
        if found is None:
            letters = _letters(word)
            near: list[tuple[int, int, str]] = []
            for other, count in self._searcher.terms_with_prefix("words", word[0]):
                # cheap first: each place changes the length by one, and the set of letters by two
                if abs(len(other) - len(word)) <= most and (letters ^ _letters(other)).bit_count() <= 2 * most:
                    distance = is_typo(word, other)
                    if distance:
                        near.append((distance, -count, other))
            found = [(other, distance) for distance, _, other in sorted(near)[:MAX_TERMS]]
            if len(self._spellings) >= _REMEMBERED:
                self._spellings = {}
            self._spellings[word] = found
        return found

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


def _any(clauses: Sequence[tantivy.Query]) -> tantivy.Query | None:
    if len(clauses) < 2:
        return clauses[0] if clauses else None
    return tantivy.Query.boolean_query([(tantivy.Occur.Should, clause) for clause in clauses])


def _letters(word: str) -> int:
    """Return a set of letters as bits."""
    bits = 0
    for letter in word:
        bits |= 1 << (ord(letter) & 63)
    return bits
