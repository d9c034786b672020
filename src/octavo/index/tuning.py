"""How hard to look in one particular collection, as measured on it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Self

from octavo.errors import CorruptCollectionError


@dataclass(frozen=True)
class Tuning:
    """What a search of one collection should use in place of the planner's constants.

    Measured by `Collection.tune` and stored with the collection. It holds for the codec it was measured with, and grows with
    the number of rows and of results asked for.

    Parameters
    ----------
    codec : str
        Codec of the collection when it was measured.
    k, rows : int
        Results asked for and rows in the graph when it was measured.
    ef : int or None
        Candidates that the graph explored; None if the collection has cells.
    oversample : float or None
        Candidates rescored per result; None if nothing is rescored.
    recall : float
        Share of the exact best `k` that was found.
    target : float
        Share that was asked for.
    scan, gather, graph : float
        Time measured against the time that the planner expects, for a scan in order, a scan of listed rows and a walk
        through the graph, or a look at cells.
    probed : int or None
        Rows in cells that were looked at; None if the collection has a graph.

    Examples
    --------
    >>> tuning = Tuning(codec="int8", k=10, rows=100_000, ef=64, oversample=None, recall=0.96, target=0.95)
    >>> tuning.ef_for(10, rows=100_000, step=16), tuning.ef_for(10, rows=200_000, step=16)
    (64, 80)
    """

    codec: str
    k: int
    rows: int
    ef: int | None
    oversample: float | None
    recall: float
    target: float
    scan: float = 1.0
    gather: float = 1.0
    graph: float = 1.0
    probed: int | None = None

    def ef_for(self, count: int, rows: int, step: int) -> int:
        """Return how many candidates to explore for `count` results of a graph of `rows`.

        Parameters
        ----------
        count : int
            Results wanted.
        rows : int
            Rows in the graph.
        step : int
            How many more are explored for each doubling of the rows. For more results there are proportionally more.

        Returns
        -------
        int
            `count` at least.
        """
        assert self.ef is not None  # only asked where there is a graph
        wider = count / max(1.0, self.k * (self.oversample or 1.0))
        ef = self.ef * max(1.0, wider)
        if rows > self.rows:
            ef += step * math.log2(rows / self.rows)
        return max(count, round(ef))

    def to_json(self) -> str:
        """Return it as JSON, for the manifest."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            JSON.

        Raises
        ------
        CorruptCollectionError
            If it is not that.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            tuning = cls(**values)
            numbers = (tuning.recall, tuning.target, tuning.scan, tuning.gather, tuning.graph, tuning.oversample or 1.0)
            (effort,) = [value for value in (tuning.ef, tuning.probed) if value is not None]
            sound = min(tuning.k, tuning.rows, effort) >= 1 and all(0 < float(value) < math.inf for value in numbers)
        except (TypeError, ValueError, AttributeError) as error:
            raise CorruptCollectionError(_DAMAGED) from error
        if not sound:
            raise CorruptCollectionError(_DAMAGED)
        return tuning


_DAMAGED = "the stored tuning is damaged; run tune() again, or forget_tuning() to go back to the defaults"
