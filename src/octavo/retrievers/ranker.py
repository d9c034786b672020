"""What every kind of collection ranks by: the protocol between the policy of a search and those who know vectors and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from octavo._arrays import Floats
from octavo._sparse_rows import SparseRows
from octavo.retrievers.results import Ranking, SearchResult
from octavo.retrievers.search import Queries, SearchOptions
from octavo.words import WordQuery


class Ranker(Protocol):
    """Ranks those documents of one state of a collection that a search lets through.

    A ranking is a pair of arrays, best first: whole numbers that tell the documents apart (of equal scores the smaller
    comes first), and scores.
    """

    cosines: bool  # whether the scores of `by_vectors` are cosines

    def at_most(self, depth: int) -> int:
        """Return how many results there can be if `depth` are asked for: never more than documents that match."""
        ...

    def by_vectors(self, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Return the best documents for each query by its vectors; k is what `at_most` returned, above 0."""
        ...

    def by_words(self, words: Sequence[str | WordQuery], k: int, options: SearchOptions) -> list[Ranking]:
        """Return the best documents for each query by its words."""
        ...

    def by_sparse(self, queries: SparseRows, k: int, options: SearchOptions) -> list[Ranking]:
        """Return the best documents for each query by its learned sparse vector."""
        ...

    def vectors(self, ranking: Ranking) -> Floats:
        """Return a vector of each document, to tell how alike they are."""
        ...

    def relevance(self, queries: Queries, number: int, ranking: Ranking, vectors: Floats) -> Floats:
        """Return how good documents are for a query, as (mean) cosines; `vectors` are what `vectors` returned of them."""
        ...

    def results(self, rankings: Sequence[Ranking]) -> list[SearchResult]:
        """Put the documents beside their scores."""
        ...
