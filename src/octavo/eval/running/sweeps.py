"""Many configurations from a few lines: lists of options multiply, flags and YAML files alike.

An entry is a mapping from options to a value or a list of values; every combination becomes a configuration::

    codec: [float32, int8, "binary > int8"]     codecs as they are
    dims: [64, 128, "50%"]                      or made of a reducer and a quantizer: dims x quantizers
    reducer: [truncate, svd]
    quantizers: [int8, "binary > int8"]
    layers: [2, 4, 6]                           transformer layers kept
    grid: Starbucks                             layers and dims from the literature instead
    oversample: [5, 10]                         only for codecs that rescore
    mode: [dense, hybrid, text, late]
    pool_factor: [1, 2, 4]                      late interaction; with hybrid, fuses MaxSim with words

    store: [local, qdrant]                      what keeps the documents
    context: [title, no-title]                  titles embedded and not returned, or left out

and ``ef``, ``exact``, ``alpha``, ``connectivity``, ``metric``, ``n_candidates``, ``candidates`` and ``baseline``. An option
is applied to the configurations that can have it, and is an error if there are none.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from octavo.compression import Codec
from octavo.errors import MissingExtraError, ParameterError
from octavo.eval.configurations import WITHOUT_VECTORS, Configuration

#: Shares of the layers, and steps of the dimensions, that both grids are made of.
_STEPS = 6

GRIDS = ("2DMSE", "Starbucks")

_BUILT = ("dims", "reducer", "quantizers", "grid")
_OPTIONS = tuple(field.name for field in fields(Configuration))

#: Keys of a plan file beside ``configurations``; they say the same as the flags of that name.
PLAN_KEYS = (
    "data",
    "split",
    "corpus",
    "ignore_identical_ids",
    "model",
    "vectors",
    "measures",
    "out",
    "seed",
    "baselines",
    "configurations",
)


@dataclass(frozen=True)
class Shape:
    """Layers and dimensions of the model that a grid is laid over, found out when a grid first asks.

    Parameters
    ----------
    measure : callable
        Returns both.
    """

    measure: Callable[[], tuple[int, int]]

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Layers and dimensions."""
        return self.measure()


def grid_points(name: str, layers: int, dim: int) -> list[tuple[int, int]]:
    """Return the pairs of layers and dimensions that a grid has for a model.

    Layers are sixths of the model's. Dimensions are the whole and the five powers of two below it. The 2DMSE grid
    combines each with each; the Starbucks grid grows both together.

    Raises
    ------
    ParameterError
        When there is no such grid, or the model is too small for it.

    References
    ----------
    Li et al., "2D Matryoshka Sentence Embeddings", 2024. Zhuang et al., "Starbucks: Improved Training for 2D Matryoshka
    Embeddings", 2024.

    Examples
    --------
    >>> grid_points("Starbucks", 12, 768)
    [(2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768)]
    >>> len(grid_points("2DMSE", 6, 384))
    36
    """
    known = {grid.lower(): grid for grid in GRIDS}
    if name.lower() not in known:
        raise ParameterError(f"expected a grid out of {', '.join(GRIDS)}, got {name!r}")
    if layers < _STEPS or dim < 2**_STEPS:
        raise ParameterError(
            f"a grid needs a model of at least {_STEPS} layers and {2**_STEPS} dimensions, got {layers} and {dim}; "
            "list layers and dims instead"
        )
    depths = [round(layers * step / _STEPS) for step in range(1, _STEPS + 1)]
    largest = math.ceil(math.log2(dim)) - 1
    widths = [2**power for power in range(largest - _STEPS + 2, largest + 1)] + [dim]
    if known[name.lower()] == "Starbucks":
        return list(zip(depths, widths, strict=True))
    return list(itertools.product(depths, widths))


def expand_sweep(entry: Mapping[str, Any], shape: Shape | None = None) -> list[Configuration]:
    """Return every combination that an entry stands for.

    Parameters
    ----------
    entry : mapping
        See the module's description.
    shape : Shape, optional
        Of the model; needed for a grid.

    Returns
    -------
    list of Configuration
        Each once; baselines last.

    Raises
    ------
    ParameterError
        For an option that there is not, that applies to nothing, or that contradicts another.

    Examples
    --------
    >>> [one.label for one in expand_sweep({"codec": ["int8", "binary > int8"], "oversample": [5, 10]})]
    ['int8', 'binary > int8, oversample 5', 'binary > int8, oversample 10']
    >>> [one.codec for one in expand_sweep({"dims": [64, 128], "quantizers": "binary > int8"})]
    ['truncate:64|binary > truncate:64|int8', 'truncate:128|binary > truncate:128|int8']
    """
    if not isinstance(entry, Mapping):
        raise ParameterError(f"expected a mapping of options, such as codec: int8, got {entry!r}")
    if unknown := [key for key in entry if key not in (*_OPTIONS, *_BUILT)]:
        raise ParameterError(f"expected options out of {', '.join((*_OPTIONS, *_BUILT))}, got {unknown[0]!r}")
    lists = {key: _listed(value) for key, value in entry.items() if value is not None}
    if empty := [key for key, values in lists.items() if not values]:
        raise ParameterError(f"expected at least one value for {empty[0]!r}, got an empty list")
    baselines = [Configuration(baseline=name) for name in lists.pop("baseline", [])]
    if not lists and baselines:
        return baselines
    modes = lists.pop("mode", ["dense"])
    stores = lists.pop("store", [None])
    codecs = _codecs(lists, shape)
    if set(modes) <= set(WITHOUT_VECTORS) and (codecs or "layers" in lists):
        raise ParameterError(f"mode={modes[0]!r} compares no vectors; expected no codec, dims or layers with it")
    rest = {key: values for key, values in lists.items() if key not in (*_BUILT, "codec", "layers")}
    if not codecs and not set(modes) <= set(WITHOUT_VECTORS):
        raise ParameterError("expected a codec, or dims and quantizers, for modes that compare vectors; got none")
    found: list[Configuration] = []
    used: set[str] = set()
    for mode in modes:
        for (codec, layers), store in itertools.product(_of_mode(mode, codecs, "pool_factor" in rest), stores):
            pooled = "pool_factor" in rest
            usable = {key: values for key, values in rest.items() if _applies(key, mode, codec, pooled, store)}
            used.update(usable)
            for values in itertools.product(*usable.values()):
                options = dict(zip(usable, values, strict=True))
                if mode == "hybrid" and "sparse" not in str(options.get("rank", "")):
                    options.pop("sparse", None)
                found.append(Configuration(codec=codec, mode=mode, layers=layers, store=store, **options))
    if unused := [key for key in rest if key not in used]:
        raise ParameterError(f"{unused[0]} applies to none of these configurations")
    return list(dict.fromkeys([*found, *baselines]))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _codecs(lists: Mapping[str, list[Any]], shape: Shape | None) -> list[tuple[str, int | None]]:
    """Return codecs with the layers they go with."""
    layers: list[int | None] = lists.get("layers", [None])
    quantizers = lists.get("quantizers", ["float32"] if "dims" in lists or "grid" in lists else [])
    reducers = lists.get("reducer", ["truncate"])
    if "reducer" in lists and not quantizers:
        raise ParameterError("expected dims or a grid with reducer, got neither")
    if "quantizers" in lists and "dims" not in lists and "grid" not in lists:
        raise ParameterError("expected dims or a grid with quantizers; for codecs as they are, use codec")
    found = [(codec, count) for count in layers for codec in lists.get("codec", [])]
    for count, dim in itertools.product(layers, lists.get("dims", [])):
        found += [(_reduced(r, dim, q), count) for r in reducers for q in quantizers]
    for name in lists.get("grid", []):
        if "dims" in lists or "layers" in lists:
            raise ParameterError("a grid chooses layers and dims itself; expected no others beside it")
        if shape is None:
            raise ParameterError("a grid needs to know the model's layers and dimensions; expected a model")
        total, whole = shape.sizes
        for count, dim in grid_points(str(name), *shape.sizes):
            for reducer, quantizer in itertools.product(reducers, quantizers):
                codec = _reduced(reducer, dim, quantizer) if dim < whole else quantizer
                found.append((codec, count if count < total else None))
    return found


def _reduced(reducer: str, dim: int | str, quantizer: str) -> str:
    """Return a codec whose every tier begins with the reducer."""
    return str(Codec.parse(" > ".join(f"{reducer}:{dim}|{tier.strip()}" for tier in str(quantizer).split(">"))))


def _of_mode(mode: str, codecs: list[tuple[str, int | None]], pooled: bool) -> Sequence[tuple[str | None, int | None]]:
    """Return the codecs that a mode can have: none without vectors, and of one tier for token vectors, if there are any."""
    if mode in WITHOUT_VECTORS:
        return [(None, None)]
    single = [(codec, layers) for codec, layers in codecs if len(Codec.parse(codec)) == 1]
    return single if single and (mode == "late" or (mode == "hybrid" and pooled)) else codecs


def _applies(option: str, mode: str, codec: str | None, pooled: bool, store: str | None) -> bool:
    late = mode == "late" or (mode == "hybrid" and pooled)
    if option == "oversample":
        return codec is not None and not late and _rescores(codec, store)
    if option == "pool_factor":
        return mode in ("late", "hybrid")
    if option in ("n_candidates", "candidates"):
        return late
    if option in ("alpha", "rank", "weights"):
        return mode == "hybrid"
    if option == "sparse":
        return mode in ("sparse", "hybrid")
    if option == "metric":
        return mode not in WITHOUT_VECTORS and not late
    if option in ("ef", "exact", "connectivity"):
        return mode not in WITHOUT_VECTORS
    return True


def _rescores(codec: str, store: str | None) -> bool:
    if store == "qdrant":
        from octavo.integrations.qdrant.points import map_codec  # not needed for local runs

        return map_codec(codec).quantization is not None
    return len(Codec.parse(codec)) > 1


def read_plan(path: Path) -> dict[str, Any]:
    """Read a YAML file of what to run; see `PLAN_KEYS` and the module's description.

    Raises
    ------
    MissingExtraError
        When PyYAML is not installed.
    ParameterError
        When the file is not there, is not YAML, or says something that is not understood.
    """
    try:
        yaml: Any = importlib.import_module("yaml")
    except ModuleNotFoundError as error:
        if error.name != "yaml":
            raise
        raise MissingExtraError("reading a sweep needs PyYAML. Install it: pip install 'octavo[eval]'") from None
    try:
        plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"expected a YAML file, but there is none at {str(path)!r}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(plan, dict) or not isinstance(plan.get("configurations"), list):
        raise ParameterError(f"{path.name}: expected a mapping with a list of 'configurations'")
    if unknown := [str(key) for key in plan if key not in PLAN_KEYS]:
        raise ParameterError(f"{path.name}: expected keys out of {', '.join(PLAN_KEYS)}, got {unknown[0]!r}")
    return plan


def expand_all(entries: Iterable[Any], shape: Shape | None = None) -> list[Configuration]:
    """Return the configurations of several entries, each once; a plain string is a codec."""
    found: list[Configuration] = []
    for entry in entries:
        found += expand_sweep({"codec": entry} if isinstance(entry, str) else entry, shape)
    return list(dict.fromkeys(found))
