"""Measures of retrieval quality, by the names that ir-measures gives them.

``nDCG@10``, ``R@100`` and ``RR@10`` mean what they mean everywhere because ir-measures computes them. A measure of your
own joins by `register_measure`, and so does a package's with an entry point in the group ``octavo.eval.measures`` whose
value is a pair of the function and its depth.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo._validation import check_integer
from octavo.errors import MissingExtraError, ParameterError

_ENTRY_POINTS = "octavo.eval.measures"

#: What is measured unless somebody says otherwise.
DEFAULT_MEASURES = ("nDCG@10", "R@100", "RR@10")

#: Documents that are retrieved for each query for measures that set no limit, and for the run file, at least.
MINIMUM_DEPTH = 100

#: From the grades of one query's documents and the ids found, best first, to a number; higher is better.
MeasureFunction = Callable[[Mapping[str, int], Sequence[str]], float]

#: For each query, the ids and scores found, best first.
Run = Mapping[str, Sequence[tuple[str, float]]]

_own: dict[str, tuple[MeasureFunction, int]] = {}


def register_measure(name: str, function: MeasureFunction, *, depth: int) -> None:
    """Add a measure of your own.

    Parameters
    ----------
    name : str
        What to call it, for instance ``"Hit@3"``.
    function : callable
        From ``{document id: grade}`` and the ids found, best first, to a float.
    depth : int
        How many documents it has to see.

    Examples
    --------
    >>> register_measure("First", lambda grades, ids: float(grades.get(ids[0], 0) > 0) if ids else 0.0, depth=1)
    >>> Measures(["First"]).depths
    {'First': 1}
    >>> unregister_measure("First")
    """
    if not name or any(character.isspace() for character in name):
        raise ParameterError(f"expected the name of a measure without spaces, got {name!r}")
    _own[name] = (function, check_integer(depth, "depth", least=1))


def _registered(name: str) -> bool:
    """Tell whether a measure is one of somebody's own, looking through installed packages if it is not known yet."""
    if name not in _own:
        for point in metadata.entry_points(group=_ENTRY_POINTS, name=name):
            function, depth = point.load()
            register_measure(name, function, depth=depth)
    return name in _own


def unregister_measure(name: str) -> None:
    """Take back a measure that `register_measure` added."""
    _own.pop(name, None)


@dataclass(frozen=True)
class Scores:
    """Means and single values: ``mean["nDCG@10"]`` and ``per_query["nDCG@10"][query_id]``."""

    mean: dict[str, float]
    per_query: dict[str, dict[str, float]]


class Measures:
    """A set of measures, each of which looks at a search for as many documents as it needs.

    What a search for 10 documents returns need not be the head of one for 100: rescoring and graph search look at more
    candidates when more is asked for. So ``nDCG@10`` is measured on a search with ``k=10``, as users would run it.

    Parameters
    ----------
    names : iterable of str
        Names; several may stand in one string, separated by spaces.

    Attributes
    ----------
    names : list of str
        Each once, as ir-measures spells it.
    depths : dict of str to int
        For each measure, the k that it is measured at.

    Raises
    ------
    MissingExtraError
        When ir-measures is needed and not installed.
    ParameterError
        For a name that nobody knows.

    Examples
    --------
    >>> register_measure("First", lambda grades, ids: float(grades.get(ids[0], 0) > 0) if ids else 0.0, depth=1)
    >>> Measures(["First"]).evaluate({"q": {"a": 1}}, {1: {"q": [("a", 0.5)]}}).mean
    {'First': 1.0}
    >>> unregister_measure("First")
    """

    def __init__(self, names: Iterable[str] = DEFAULT_MEASURES) -> None:
        words = [word for name in names for word in name.split()]
        if not words:
            raise ParameterError(f"expected at least one measure, such as {DEFAULT_MEASURES[0]}, got none")
        self._parsed: dict[str, Any] = {}
        self._own: dict[str, MeasureFunction] = {}
        self.depths: dict[str, int] = {}
        without: list[str] = []
        for word in words:
            if _registered(word):
                self._own[word], self.depths[word] = _own[word]
                continue
            measure = _parse(word)
            name = str(measure)
            self._parsed[name] = measure
            self.depths[name] = int(measure.params.get("cutoff") or 0)
            if not self.depths[name]:
                without.append(name)
        deepest = max(MINIMUM_DEPTH, *self.depths.values())
        self.depths.update(dict.fromkeys(without, deepest))
        self.names = list(self.depths)

    def evaluate(self, qrels: Mapping[str, Mapping[str, int]], runs: Mapping[int, Run]) -> Scores:
        """Measure a search.

        Parameters
        ----------
        qrels : mapping
            Judgements; exactly their queries count, and one without results counts 0.
        runs : mapping of int to run
            For each k in `depths`, what came back.
        """
        per_query: dict[str, dict[str, float]] = {name: dict.fromkeys(qrels, 0.0) for name in self.names}
        for depth, run in runs.items():
            measures = [self._parsed[name] for name in self._parsed if self.depths[name] == depth]
            scored = {
                query: {document: float(score) for document, score in hits} for query, hits in run.items() if hits
            }
            if measures and scored:
                for value in _ir_measures().iter_calc(measures, qrels, scored):
                    per_query[str(value.measure)][value.query_id] = float(value.value)
        for name, function in self._own.items():
            run = runs[self.depths[name]]
            for query, grades in qrels.items():
                per_query[name][query] = float(function(grades, [document for document, _ in run.get(query, ())]))
        return Scores({name: float(np.mean(list(values.values()))) for name, values in per_query.items()}, per_query)


def _parse(name: str) -> Any:
    module = _ir_measures()
    try:
        return _measure(module, name)
    except (NameError, ValueError, SyntaxError, TypeError) as error:
        own = f", or your own: {', '.join(sorted(_own))}" if _own else ""
        raise ParameterError(
            f"expected a measure that ir-measures knows, such as {', '.join(DEFAULT_MEASURES)}{own}; got {name!r} ({error})"
        ) from error


def _measure(module: Any, name: str) -> Any:
    """Return the measure of a name such as ``R(rel=2)@100``.

    The library's own `parse_measure` (0.4.3) reads it with parts of `ast` that Python 3.13 warns about and 3.14 has not.

    Raises
    ------
    ValueError, SyntaxError, NameError, TypeError
        When it is not of that form, there is no such measure, or the measure has no such parameter.
    """
    node = ast.parse(name.strip(), mode="eval").body
    cutoff = None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        cutoff = ast.literal_eval(node.right)
        node = node.left
    parameters: dict[str, Any] = {}
    if isinstance(node, ast.Call):
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("parameters have names: R(rel=2)@100")
        parameters = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
        node = node.func
    if not isinstance(node, ast.Name):
        raise ValueError("a name is of the form nDCG@10 or R(rel=2)@100")
    measure = module.measures.registry.get(node.id)
    if measure is None:
        raise NameError(f"there is no {node.id}")
    if cutoff is not None:
        parameters[measure.AT_PARAM] = cutoff
    return measure(**parameters)


def _ir_measures() -> Any:
    try:
        return importlib.import_module("ir_measures")
    except ModuleNotFoundError as error:
        if error.name != "ir_measures":
            raise
        raise MissingExtraError(
            "measuring retrieval quality needs ir-measures. Install it: pip install 'octavo[eval]'"
        ) from None


def strictly_decreasing(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Lower tied scores by the last bit, so that whoever sorts them gets the order in which they were returned.

    TREC's tools break ties by document id, which would measure another ranking than the one that users see. They hold
    scores as float32.

    Examples
    --------
    >>> lowered = strictly_decreasing(np.array([0.5, 0.5, 0.25], np.float32))
    >>> bool(lowered[0] > lowered[1] > lowered[2]), lowered.round(6).tolist()
    (True, [0.5, 0.5, 0.25])
    """
    lowered = np.array(scores, np.float32)
    for place in range(1, len(lowered)):
        if lowered[place] >= lowered[place - 1]:
            lowered[place] = np.nextafter(lowered[place - 1], np.float32(-np.inf))
    return lowered


def run_lines(run: Run, tag: str) -> str:
    """Return a run in TREC's format: query, ``Q0``, document, rank, score, tag.

    White space (and ``%``) in an id, for which the format has no place, is written as in URLs.
    """
    lines = []
    for query, hits in run.items():
        for rank, (document, score) in enumerate(hits, 1):
            lines.append(f"{_word(query)} Q0 {_word(document)} {rank} {float(score)!r} {tag}")
    return "\n".join(lines) + "\n" if lines else ""


def _word(identifier: str) -> str:
    if "%" not in identifier and not any(character.isspace() for character in identifier):
        return identifier
    return "".join(
        "".join(f"%{byte:02X}" for byte in character.encode()) if character == "%" or character.isspace() else character
        for character in identifier
    )
