"""Find results: by file, label or id, and grouped by configuration over data sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import ParameterError
from octavo.eval.results import Result, load_results


@dataclass(frozen=True)
class Group:
    """One configuration's results on every data set.

    Parameters
    ----------
    label : str
        What to call it; names the model where the results have several.
    results : tuple of Result
        One for each data set, in the order of the data sets' names.
    """

    label: str
    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """The result on the first data set."""
        return self.results[0]

    @property
    def is_baseline(self) -> bool:
        """Whether it is a reference scheme outside the collection."""
        return self.first.kind == "baseline"

    @property
    def is_float32(self) -> bool:
        """Whether it is the plain float32 search that others are measured against."""
        chosen = self.first.configuration
        return chosen.codec == "float32" and chosen.mode == "dense" and chosen.layers is None and not self.is_baseline

    def value(self, measure: str) -> float:
        """Return the mean of a measure over the data sets."""
        return sum(result.value(measure) for result in self.results) / len(self.results)


def newest(results: Iterable[Result]) -> list[Result]:
    """Return the newest result of each configuration, model and data set, in the order of first appearance."""
    kept: dict[tuple[str, str], Result] = {}
    for result in results:
        key = (result.configuration_key, result.dataset.fingerprint)
        old = kept.get(key)
        if old is None or result.environment.started >= old.environment.started:
            kept[key] = result
    return list(kept.values())


def with_earlier(results: Sequence[Result], earlier: Iterable[Result]) -> list[Result]:
    """Return results, and those of earlier calls that belong to the same data and models, each configuration once.

    An earlier result with vectors of a model that now gives others is left out, and so is one of another model; full text
    has no model, and belongs to every one.
    """
    data = {result.dataset.fingerprint for result in results}
    models = {result.model.name for result in results if result.model is not None}
    belonging = [
        result
        for result in with_all(results, earlier)[len(results) :]
        if result.dataset.fingerprint in data and (result.model is None or not models or result.model.name in models)
    ]
    return [*results, *belonging]


def with_all(results: Sequence[Result], earlier: Iterable[Result]) -> list[Result]:
    """Return results, and all others of earlier calls, each configuration once on each data set.

    What is left out are earlier results with vectors of a model that now gives others.
    """
    now = {_model_key(result): result.model.fingerprint for result in results if result.model is not None}
    known = {(result.configuration_key, result.dataset.fingerprint) for result in results}
    others = [
        result
        for result in earlier
        if (result.configuration_key, result.dataset.fingerprint) not in known
        and (result.model is None or now.get(_model_key(result), result.model.fingerprint) == result.model.fingerprint)
    ]
    return [*results, *newest(others)]


def _model_key(result: Result) -> tuple[str, int | None, bool, str]:
    """Return what fingerprints of one model can be compared within; ready vectors have another for each data set."""
    model = result.model
    assert model is not None  # the callers have looked
    return model.name, model.layers, result.configuration.late, result.dataset.fingerprint


def on_dataset(results: Sequence[Result], name: str | None) -> list[Result]:
    """Return the results on the data set called `name`; all of them for None.

    Raises
    ------
    ParameterError
        When there are none; the message lists the data sets there are.
    """
    chosen = [result for result in results if name is None or result.dataset.name == name]
    if not chosen:
        if not results:
            raise ParameterError("expected at least one result file; make some with octavo eval run --out DIR")
        there = sorted({result.dataset.name for result in results})
        raise ParameterError(f"expected a data set out of {', '.join(there)}, got {name!r}")
    return chosen


def group(results: Sequence[Result]) -> tuple[list[Group], list[str]]:
    """Return the configurations that were measured on every data set, and what was left out, in words."""
    models = {result.model.name for result in results if result.model is not None}
    data = sorted({(result.dataset.name, result.dataset.fingerprint) for result in results})
    by_key: dict[str, list[Result]] = defaultdict(list)
    for result in newest(results):
        by_key[result.configuration_key].append(result)
    groups, left_out = [], []
    for members in by_key.values():
        members.sort(key=lambda result: (result.dataset.name, result.dataset.fingerprint))
        label = label_of(members[0], several_models=len(models) > 1)
        broken = [
            f"{result.dataset.name}: {check.detail}" for result in members for check in result.checks if not check.ok
        ]
        if broken:
            left_out.append(f"{label}: a check of the index failed ({broken[0]})")
        elif len(members) < len(data):
            measured = ", ".join(result.dataset.name for result in members)
            left_out.append(f"{label}: measured on {measured} only, not on all {len(data)} data sets")
        else:
            groups.append(Group(label, tuple(members)))
    return groups, left_out


def label_of(result: Result, *, several_models: bool) -> str:
    """Return what to call a result, with its model where there are several."""
    if several_models and result.model is not None:
        return f"{result.label} ({result.model.name})"
    return result.label


def common_measures(results: Sequence[Result]) -> list[str]:
    """Return the quality measures that every result has, in the first one's order."""
    return [name for name in results[0].quality if all(name in result.quality for result in results)] if results else []


def find_result(name: str, directory: Path | None, *, dataset: str | None = None) -> Result:
    """Return the result that `name` means: a file, or a label or id among the results of a directory.

    Raises
    ------
    ParameterError
        When it means none of them, or several; the message lists what there is.
    """
    if Path(name).is_file():
        return load_results(name)[0]
    if directory is None:
        raise ParameterError(
            f"expected a result file, but there is none at {name!r}; to use the names of configurations, name their "
            "directory with --dir"
        )
    results = newest(on_dataset(load_results(directory), dataset))
    found = [result for result in results if name in (result.label, result.id, result.configuration.codec)]
    exact = [result for result in found if name in (result.label, result.id)]
    found = exact or found
    if len(found) == 1:
        return found[0]
    if not found:
        labels = ", ".join(sorted({repr(result.label) for result in results}))
        raise ParameterError(f"expected a result file or a configuration out of {labels}, got {name!r}")
    described = ", ".join(
        f"{result.id} ({result.dataset.name}, {result.model.name if result.model else 'no model'}, {result.label})"
        for result in found
    )
    raise ParameterError(f"{name!r} means several results; name one by its id, or the data set: {described}")
