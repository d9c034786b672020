"""Conditions on results that a user's CI can fail on: ``nDCG@10=0.99x``, ``agreement=0.95``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.errors import ParameterError
from octavo.eval.results import Result


@dataclass(frozen=True)
class Gate:
    """The least value of a measure that is acceptable.

    Parameters
    ----------
    measure : str
        As `Result.value` takes it.
    least : float
        The value, or the share of float32's.
    relative : bool
        Whether it is a share.

    Examples
    --------
    >>> from octavo.eval import Dataset, ReadyVectors, run
    >>> data = Dataset(
    ...     name="tiny", document_ids=["a", "b"], texts=["red", "green"],
    ...     query_ids=["q"], queries=["red"], qrels={"q": {"a": 1}},
    ... )
    >>> vectors = ReadyVectors([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.2]])
    >>> results = run(data, None, ["float32", "int8"], vectors=vectors, measures=["RR@10"])
    >>> Gate("RR@10", least=0.99, relative=True).failures(results)
    []
    """

    measure: str
    least: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read ``MEASURE=VALUE`` or, relative to float32, ``MEASURE=VALUEx``.

        Parameters
        ----------
        text : str
            The condition.

        Raises
        ------
        ParameterError
            When it is neither.

        Examples
        --------
        >>> Gate.parse("nDCG@10=0.99x")
        Gate(measure='nDCG@10', least=0.99, relative=True)
        """
        measure, equals, value = (part.strip() for part in text.rpartition("="))
        relative = value.endswith("x")
        try:
            least = float(value.removesuffix("x"))
        except ValueError:
            least = math.nan
        if not measure or not equals or not math.isfinite(least):
            raise ParameterError(f"expected a condition such as 'nDCG@10=0.99x' or 'agreement=0.95', got {text!r}")
        return cls(measure, least, relative)

    def failures(self, results: Sequence[Result], known: Sequence[Result] | None = None) -> list[str]:
        """Return a sentence for each result that is below; baselines are not held to anything.

        Parameters
        ----------
        results : sequence of Result
            What is held to the condition.
        known : sequence of Result, optional
            Where float32 is looked for, `results` by default.

        Returns
        -------
        list of str
            Empty when all is well.

        Raises
        ------
        ParameterError
            When a result has no such measure, or a relative condition has no float32 result to refer to.
        """
        failed = []
        for result in results:
            if result.kind == "baseline":
                continue
            if self.measure.startswith("agreement") and result.configuration.mode == "text":
                continue  # compares no vectors, so there is nothing to agree with
            value, least = result.value(self.measure), self.least
            said = f"{least:g}"
            if self.relative:
                reference = _float32(result, known if known is not None else results).value(self.measure)
                least *= reference
                said = f"{least:.4f} ({self.least:g} of float32's {reference:.4f})"
            if value < least - 1e-12:
                failed.append(
                    f"{result.dataset.name}: {result.label}: {self.measure} {value:.4f}, expected at least {said}"
                )
        return failed


def _float32(result: Result, results: Sequence[Result]) -> Result:
    """Return the float32 result on the same data: in the same mode if there is one, otherwise dense; never cut short.

    A local collection's comes before one in another store: that is what a move is measured by.
    """
    same = [
        other
        for other in results
        if other.configuration.codec == "float32"
        and other.dataset.fingerprint == result.dataset.fingerprint
        and other.configuration.layers is None
        and other.configuration.mode in (result.configuration.mode, "dense")
    ]
    if not same:
        raise ParameterError(
            "a condition relative to float32 needs its result on the same data; add --codec float32, or give a value without x"
        )
    mode = result.configuration.mode
    return min(same, key=lambda other: (other.configuration.mode != mode, other.configuration.store is not None))
