"""Run configurations over data sets, one result file each, picking up where an earlier call stopped."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from octavo._files import write_atomically
from octavo._version import __version__
from octavo.errors import InputTypeError, ParameterError
from octavo.eval.configurations import WITHOUT_VECTORS, Configuration, as_configuration, digest
from octavo.eval.datasets import Dataset, load_dataset
from octavo.eval.results import CACHE_NAME, EXPLANATION_SUFFIX, ModelInfo, Result, ResultError
from octavo.eval.running._environment import describe_environment
from octavo.eval.running._measure import AGREEMENT_DEPTH, Embedded, Measured, measure_baseline, measure_collection
from octavo.eval.running.encodings import EmbeddingCache, TokenCache
from octavo.eval.running.measures import DEFAULT_MEASURES, MINIMUM_DEPTH, Measures, run_lines
from octavo.eval.running.models import load_model, model_name, written_name
from octavo.eval.running.timing import Timing, encoding_ms
from octavo.eval.vectors import READY, ReadyVectors, fingerprint

#: Environment variable that names a directory of embeddings for all runs.
CACHE_VARIABLE = "OCTAVO_CACHE"

Source = str | os.PathLike[str] | Dataset

_NO_VECTORS = np.zeros((0, 0), np.float32)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What all runs of a call have in common."""

    measures: Measures
    timing: Timing
    seed: int
    out: Path | None
    force: bool
    progress: bool
    command: str
    note: Callable[[str], None]
    cache: Path | None

    @property
    def depths(self) -> list[int]:
        return sorted({AGREEMENT_DEPTH, MINIMUM_DEPTH, *self.measures.depths.values()})


def run(
    datasets: Source | Iterable[Source],
    model: Any,
    configurations: Configuration | str | Mapping[str, Any] | Iterable[Configuration | str | Mapping[str, Any]],
    *,
    vectors: ReadyVectors | Sequence[ReadyVectors] | None = None,
    measures: Iterable[str] = DEFAULT_MEASURES,
    out: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    seed: int = 0,
    timing: Timing | None = None,
    force: bool = False,
    progress: bool = False,
    command: str = "octavo.eval.run(...)",
    note: Callable[[str], None] | None = None,
) -> list[Result]:
    """Measure every configuration on every data set, each in a collection of its own on disk.

    Parameters
    ----------
    datasets : str, path-like, Dataset, or several of them
        See `octavo.eval.load_dataset`.
    model : str, callable, object or None
        Whatever `octavo.open` takes as an encoder, and `octavo.TokenEncoder` for late interaction; ``module:attribute``
        names either. None for full text alone. With `vectors`, at most the name of what made them.
    configurations : Configuration, str, mapping, or several of them
        A codec string stands for a dense search with that codec.
    vectors : ReadyVectors, or several of them, optional
        In place of a model: one for each data set.
    measures : iterable of str
        Measures of ir-measures, or your own.
    out : str or path-like, optional
        Directory for result and run files; runs whose result is there already are not run again.
    cache : str or path-like, optional
        Directory for embeddings; by default the one that the environment variable ``OCTAVO_CACHE`` names, or ``.cache``
        in `out`.
    seed : int, default=0
        Seed of everything random.
    timing : Timing, optional
        How searches are timed.
    force : bool, default=False
        Run again what has been run.
    progress : bool, default=False
        Draw bars on stderr, if that is a terminal.
    command : str
        What results say reproduces them.
    note : callable, optional
        Told in a sentence what happens.

    Returns
    -------
    list of Result
        By data set, then in the order of the configurations.

    Raises
    ------
    ParameterError
        For an option that cannot be used.
    DatasetError
        When a data set cannot be read.

    Examples
    --------
    >>> data = Dataset(
    ...     name="tiny", document_ids=["a", "b"], texts=["red", "green"],
    ...     query_ids=["q"], queries=["red"], qrels={"q": {"a": 1}},
    ... )
    >>> encode = lambda texts: np.array([[text.count("r"), text.count("e"), len(text)] for text in texts], np.float32)
    >>> [result] = run(data, encode, "int8", measures=["RR@10"])
    >>> result.quality, result.storage.vector_bytes_per_document
    ({'RR@10': 1.0}, 3.0)
    """
    several = [datasets] if isinstance(datasets, str | os.PathLike | Dataset) else list(datasets)
    single = isinstance(configurations, str | Configuration | Mapping)
    wanted: list[Any] = [configurations] if single else list(configurations)  # type: ignore[arg-type]
    chosen = list(dict.fromkeys(as_configuration(one) for one in wanted))
    if not several or not chosen:
        raise ParameterError("expected at least one data set and one configuration, got none")
    ready = _ready(vectors, model, len(several), chosen)
    if model is None and not ready and (needy := [one.label for one in chosen if one.mode not in WITHOUT_VECTORS]):
        raise ParameterError(
            f"expected a model or ready vectors, because {needy[0]!r} compares vectors; only mode='text' and 'sparse' need none"
        )
    if any(one.store is not None for one in chosen):
        _import_qdrant()  # before hours of embedding
    place = Path(out).expanduser() if out is not None else None
    plan = _Plan(
        measures=Measures(measures),
        timing=timing or Timing(),
        seed=seed,
        out=place,
        force=force,
        progress=progress,
        command=command,
        note=note or (lambda message: None),
        cache=_cache(cache, place),
    )
    loaded = [load_dataset(one) for one in several]
    for dataset in loaded:
        for one in chosen:
            dataset.in_context(one.context)  # there are titles, before hours of embedding
    if len({_folder(dataset) for dataset in loaded}) < len(loaded):
        raise ParameterError("expected data sets of different names or splits; results of two with the same would mix")
    found: dict[tuple[int, Configuration], Result] = {}
    kinds = dict.fromkeys((one.layers, one.late) for one in chosen if one.mode not in WITHOUT_VECTORS)
    for number, (dataset, given) in enumerate(zip(loaded, ready, strict=False)):
        part = [one for one in chosen if one.mode not in WITHOUT_VECTORS]
        for configuration, result in _run_all(plan, dataset, _Given(given, dataset, model), part).items():
            found[number, configuration] = result
    # One model at a time is in memory, whatever the number of data sets.
    for layers, late in kinds if not ready else ():
        kind = TokenCache if late else EmbeddingCache
        embedded = kind(plan.cache, load_model(model, layers, tokens=late))
        source = _Model(plan, embedded, timed=any(cut is not None for cut, _ in kinds))
        part = [one for one in chosen if one.mode not in WITHOUT_VECTORS and (one.layers, one.late) == (layers, late)]
        for number, dataset in enumerate(loaded):
            for configuration, result in _run_all(plan, dataset, source, part).items():
                found[number, configuration] = result
    for number, dataset in enumerate(loaded):
        part = [one for one in chosen if one.mode in WITHOUT_VECTORS]
        for configuration, result in _run_all(plan, dataset, None, part).items():
            found[number, configuration] = result
    return [found[number, configuration] for number in range(len(loaded)) for configuration in chosen]


def _ready(vectors: Any, model: Any, datasets: int, configurations: Sequence[Configuration]) -> list[ReadyVectors]:
    """Return the ready vectors of each data set; none where a model makes them."""
    if vectors is None:
        return []
    ready = [vectors] if isinstance(vectors, ReadyVectors) else list(vectors)
    if other := [one for one in ready if not isinstance(one, ReadyVectors)]:
        raise InputTypeError(f"expected ReadyVectors, got {type(other[0]).__name__}")
    if len(ready) != datasets:
        raise ParameterError(
            f"expected ready vectors for each of {datasets} data sets, in their order, got {len(ready)}"
        )
    if model is not None and not isinstance(model, str):
        raise ParameterError("expected a model or ready vectors; beside vectors, model can only name what made them")
    for one in configurations:
        if one.late or one.layers is not None:
            what = "token vectors" if one.late else "a model's layers"
            raise ParameterError(f"{one.label!r} needs {what}: expected a model, got ready vectors")
        if one.context == "no-title" and one.mode not in WITHOUT_VECTORS:
            raise ParameterError(
                f"{one.label!r} needs vectors of texts without their titles: expected a model, got ready vectors, which are of "
                "titles and texts"
            )
    return ready


def _cache(cache: str | os.PathLike[str] | None, out: Path | None) -> Path | None:
    named = os.fspath(cache) if cache is not None else os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    return out / CACHE_NAME if out is not None else None


class _Source(Protocol):
    """Where the vectors of a data set come from."""

    @property
    def info(self) -> ModelInfo:
        """What results say about it."""
        ...

    def embed(self, dataset: Dataset, context: str | None) -> Embedded:
        """Return the data set with its vectors, those of its documents in a context."""
        ...


class _Model:
    """From a model, by way of the cache."""

    def __init__(self, plan: _Plan, cache: EmbeddingCache, *, timed: bool) -> None:
        self._plan, self._cache = plan, cache
        self.info = cache.model.info(cache.fingerprint)
        self._time = timed

    def embed(self, dataset: Dataset, context: str | None) -> Embedded:
        texts = dataset.in_context(context)[1]
        cache, shown = self._cache, self._plan.progress
        if self._time:  # with the first data set that has to be measured
            self._time = False
            self.info = replace(self.info, query_ms=encoding_ms(cache.model, dataset.queries, self._plan.seed))
        what = f"{dataset.name}: embed with {cache.model.name}"
        if isinstance(cache, TokenCache):
            return Embedded(
                dataset,
                cache.embed_tokens(texts, "documents", progress=shown, description=f"{what}, tokens"),
                cache.embed_tokens(dataset.queries, "queries", progress=shown, description=f"{what}, queries"),
                cache.model.tokens,
            )
        documents = cache.embed(texts, "documents", progress=shown, description=f"{what}, documents")
        queries = cache.embed(dataset.queries, "queries", progress=shown, description=f"{what}, queries")
        return Embedded(dataset, documents, queries)


class _Given:
    """Ready: nothing has to be made."""

    def __init__(self, vectors: ReadyVectors, dataset: Dataset, model: str | None) -> None:
        self._documents, self._queries = vectors.of(dataset)
        self.info = ModelInfo(
            name=model_name(model) if model is not None else READY,
            fingerprint=fingerprint(self._documents, self._queries),
            dim=self._documents.shape[1],
            encoder=written_name(model) if model is not None else None,
        )

    def embed(self, dataset: Dataset, context: str | None) -> Embedded:
        return Embedded(dataset, self._documents, self._queries)


def _run_all(
    plan: _Plan, dataset: Dataset, source: _Source | None, configurations: Sequence[Configuration]
) -> dict[Configuration, Result]:
    model = source.info if source is not None else None
    results: dict[Configuration, Result] = {}
    embedded: dict[bool, Embedded] = {}  # with titles, and without
    for configuration in configurations:
        path = _path(plan, dataset, model, configuration)
        earlier = _earlier(plan, path)
        if earlier is not None:
            plan.note(f"{dataset.name}: {configuration.label}: measured before")
            results[configuration] = earlier
            continue
        titled = configuration.context != "no-title"
        if titled not in embedded:  # not before something has to be measured
            embedded[titled] = (
                source.embed(dataset, configuration.context)
                if source is not None
                else Embedded(dataset, _NO_VECTORS, _NO_VECTORS)
            )
        data = replace(embedded[titled], context=configuration.context)
        plan.note(f"{dataset.name}: {configuration.label}")
        model = source.info if source is not None else None
        results[configuration] = _run_one(plan, data, model, configuration, path)
    return results


def _run_one(
    plan: _Plan, data: Embedded, model: ModelInfo | None, configuration: Configuration, path: Path | None
) -> Result:
    started = datetime.now(UTC)
    measured = _measure_of(configuration)(configuration, data, plan.depths, plan.timing, plan.seed)
    dataset = data.dataset
    scores = plan.measures.evaluate(dataset.qrels, measured.runs)
    result = Result(
        id=_identity(plan, dataset, model, configuration),
        label=configuration.label,
        kind=configuration.kind,
        configuration=configuration,
        dataset=dataset.info,
        model=model,
        quality=scores.mean,
        per_query=scores.per_query,
        agreement=measured.agreement,
        storage=measured.storage,
        speed=measured.speed,
        checks=measured.checks,
        environment=describe_environment(started=started, seed=plan.seed, command=plan.command),
        depth=max(plan.depths),
        run_file="",
        runs={},
    )
    if path is None:
        return result
    return _write(result, measured, path)


def _measure_of(configuration: Configuration) -> Callable[..., Measured]:
    if configuration.kind == "baseline":
        return measure_baseline
    return measure_collection if configuration.store is None else _import_qdrant()


def _import_qdrant() -> Callable[..., Measured]:
    from octavo.eval.running._qdrant import measure_qdrant, require_core

    require_core()
    return measure_qdrant


def _write(result: Result, measured: Measured, path: Path) -> Result:
    """Write the runs, then the result that names them: a result that is there is complete."""
    names = {depth: f"{path.stem}{'' if depth == result.depth else f'.k{depth}'}.run" for depth in measured.runs}
    for depth, rankings in measured.runs.items():
        write_atomically(path.with_name(names[depth]), run_lines(rankings, path.stem))
    if measured.explanation:
        explained = json.dumps(measured.explanation, ensure_ascii=False)
        write_atomically(path.with_name(f"{path.stem}{EXPLANATION_SUFFIX}"), explained)
    result = replace(result, run_file=names[result.depth], runs={str(depth): name for depth, name in names.items()})
    result.write(path)
    return result


def _identity(plan: _Plan, dataset: Dataset, model: ModelInfo | None, configuration: Configuration) -> str:
    return digest(
        {
            "dataset": [dataset.name, dataset.split, dataset.info.fingerprint],
            "model": model.fingerprint if model is not None else None,
            "configuration": configuration.to_dict(),
            "seed": plan.seed,
            "octavo": __version__,
        }
    )


def _folder(dataset: Dataset) -> str:
    name = dataset.name if dataset.split in ("all", "test") else f"{dataset.name}-{dataset.split}"
    return _slug(name)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.%]+", "-", text).strip("-.").replace("%", "pc")[:80] or "unnamed"


def _path(plan: _Plan, dataset: Dataset, model: ModelInfo | None, configuration: Configuration) -> Path | None:
    if plan.out is None:
        return None
    identity = _identity(plan, dataset, model, configuration)
    return plan.out / _folder(dataset) / f"{_slug(configuration.label)}-{identity[:8]}.json"


def _earlier(plan: _Plan, path: Path | None) -> Result | None:
    """Return the result of the same run, if it is there, complete, and has every measure that is asked for."""
    if path is None or plan.force or not path.is_file():
        return None
    try:
        result = Result.read(path)
    except (ResultError, OSError):
        return None
    complete = all((path.parent / name).is_file() for name in result.runs.values())
    same_timing = result.speed.timed_queries == 0 or (  # reference schemes are not timed
        (result.speed.k, result.speed.repeats, result.speed.warmup)
        == (plan.timing.k, plan.timing.repeats, plan.timing.warmup)
        and result.speed.timed_queries == min(plan.timing.queries, result.dataset.queries)
    )
    wanted = set(plan.measures.names) <= set(result.quality) and max(plan.depths) <= result.depth
    return result if complete and same_timing and wanted else None
