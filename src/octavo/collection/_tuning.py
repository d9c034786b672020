"""Finding out how hard to look in a collection, and remembering it."""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo._arrays import Floats
from octavo.collection._reading import ReadingMethods
from octavo.errors import InputTypeError, ParameterError
from octavo.retrievers import tuning
from octavo.retrievers.search import SearchOptions, check_k
from octavo.retrievers.tuning import TuningReport


class TuningMethods(ReadingMethods):
    """`tune` and its opposite."""

    def tune(
        self, recall: float = 0.95, k: int = 10, *, queries: Any = None, n_queries: int = 200, seed: int = 0
    ) -> TuningReport:
        """Measure how hard to look for a wanted recall, and use it in every search that does not say otherwise.

        Tries values of `oversample` and `ef`, one query at a time, and stores the quickest pair that finds the share
        `recall` of what an exact search of the finest codes finds; beside it, how quick scans and graph are on this
        machine, from which searches with a filter choose between them. What the codec itself costs is not seen here:
        ``octavo eval`` measures that. Meant for collections that have a graph; run it again after the collection has
        grown much or moved to another machine.

        Parameters
        ----------
        recall : float, default=0.95
            Share of the exact best `k` to find, above 0 and at most 1.
        k : int, default=10
            Results. Searches for more look harder in proportion.
        queries : sequence of str, or array-like of shape (m, dim), optional
            Real queries, which are the better sample. None makes queries from stored documents, moved off so far that
            they are about as hard to answer as questions.
        n_queries : int, default=200
            How many to make, if none are given.
        seed : int, default=0
            For making them.

        Returns
        -------
        TuningReport
            ``.tuning`` is None if there is no graph: a small collection is searched exactly, and nothing is stored.

        Raises
        ------
        ParameterError
            If a value is out of range, the collection is empty, or nothing that was tried finds that much; nothing is
            stored then.

        Examples
        --------
        >>> import numpy as np, octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(vectors=np.eye(8))
        >>> kb.tune(0.9).tuning is None  # eight documents need no graph
        True
        >>> kb.close()
        """
        if isinstance(recall, bool) or not isinstance(recall, int | float | np.floating):
            raise InputTypeError(f"expected recall as a number, got {recall!r}")
        if not 0 < recall <= 1:
            raise ParameterError(f"expected recall above 0 and at most 1, got {recall!r}")
        if isinstance(n_queries, bool) or not isinstance(n_queries, int | np.integer) or n_queries < 1:
            raise ParameterError(f"expected n_queries as an integer of at least 1, got {n_queries!r}")
        k = check_k(k)
        self._store.require_open()
        self._graph.wait()
        self._graph.catch_up(tail=0)
        with self._store.read() as (_, snapshot):
            pass
        if snapshot.n_alive < 2 or not snapshot.tiers:
            raise ParameterError(f"expected at least two documents to try searches on, got {snapshot.n_alive}")
        if queries is None:
            vectors = tuning.sample_queries(snapshot, int(n_queries), seed)
        else:
            vectors = self._given_queries(queries)
        vectors = vectors / self._searcher.query_lengths(snapshot, vectors)[:, None]
        report = tuning.tune(snapshot, vectors, k, float(recall))
        if report.tuning is not None:
            self._writer.set_tuning(report.tuning)
        return report

    def forget_tuning(self) -> None:
        """Go back to the defaults that `tune` replaced."""
        self._writer.set_tuning(None)

    def _given_queries(self, queries: Any) -> Floats:
        if isinstance(queries, str) or len(queries) == 0:
            raise ParameterError("expected a sequence of queries with at least one in it")
        vectors = self._queries(queries, None, SearchOptions()).vectors
        assert vectors is not None  # a dense search always has vectors
        return vectors
