"""What one run measures: a codec, a search mode, and everything else that a user could choose."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeAlias, get_args

from quire.compression import Codec
from quire.errors import InputTypeError, ParameterError
from quire.eval.baselines import check_baseline

Mode: TypeAlias = Literal["dense", "text", "hybrid", "late"]
Kind: TypeAlias = Literal["collection", "baseline"]

#: Modes that `run` can measure. Late interaction has its place in the schema and is refused until it can be searched.
RUNNABLE_MODES = ("dense", "text", "hybrid")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One choice of everything that shapes quality, bytes and speed.

    Parameters
    ----------
    codec : str or None
        Codec string. None for ``mode="text"``, which compares no vectors, and for baselines.
    mode : {"dense", "text", "hybrid"}, default="dense"
        How the collection is searched.
    oversample : float or None
        Candidates rescored per result; None takes the collection's own default. Needs a codec of several tiers.
    ef : int or None
        Nodes that a graph search keeps in view; None takes the collection's own default.
    exact : bool or None
        Force the exact scan (True) or the graph (False); None leaves it to the planner.
    alpha : float or None
        Hybrid: weight of the vectors; None fuses by reciprocal rank.
    connectivity : int, default=16
        Links per node of the graph.
    metric : {"cosine", "dot"}, default="cosine"
        How vectors are compared.
    layers : int or None
        Transformer layers to keep, for models trained to be cut short (2D-Matryoshka); None keeps all.
    pool_factor : float or None
        Token vectors per pooled vector; belongs to late interaction.
    baseline : str or None
        Name of a reference scheme outside the collection (see `quire.eval.baselines`).

    Examples
    --------
    >>> Configuration(codec="binary > int8", oversample=5).label
    'binary > int8, oversample 5'
    >>> Configuration(mode="text").kind
    'collection'
    """

    codec: str | None = None
    mode: Mode = "dense"
    oversample: float | None = None
    ef: int | None = None
    exact: bool | None = None
    alpha: float | None = None
    connectivity: int = 16
    metric: Literal["cosine", "dot"] = "cosine"
    layers: int | None = None
    pool_factor: float | None = None
    baseline: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ParameterError(f"expected mode {', '.join(map(repr, RUNNABLE_MODES))}, got {self.mode!r}")
        if self.mode == "late":
            raise ParameterError(
                "mode='late' cannot be measured by this version of quire.eval; expected "
                f"{', '.join(map(repr, RUNNABLE_MODES))}"
            )
        if self.pool_factor is not None:
            raise ParameterError(f"pool_factor belongs to mode='late', got mode={self.mode!r}")
        if self.metric not in ("cosine", "dot"):
            raise ParameterError(f"expected metric 'cosine' or 'dot', got {self.metric!r}")
        for name, least in (("ef", 1), ("connectivity", 2), ("layers", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ParameterError(f"expected {name} as an integer of at least {least}, got {value!r}")
        for name, low, high in (("oversample", 1.0, math.inf), ("alpha", 0.0, 1.0)):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or not low <= value <= high or math.isinf(value)):
                raise ParameterError(f"expected {name} between {low:g} and {high:g}, got {value!r}")
        if self.exact not in (None, True, False):
            raise ParameterError(f"expected exact as True, False or None, got {self.exact!r}")
        if self.alpha is not None and self.mode != "hybrid":
            raise ParameterError(f"alpha belongs to mode='hybrid', got mode={self.mode!r}")
        if self.baseline is not None:
            self._check_baseline()
        elif self.mode == "text":
            self._check_text()
        else:
            self._check_codec()

    def _check_baseline(self) -> None:
        given = [name for name in ("codec", "oversample", "ef", "exact", "alpha") if getattr(self, name) is not None]
        if given or self.mode != "dense" or self.connectivity != 16:
            raise ParameterError(
                f"a baseline is scanned outside any collection: expected no codec, mode, graph or rescoring options beside "
                f"baseline={self.baseline!r}, got {given or self.mode}"
            )
        object.__setattr__(self, "baseline", check_baseline(self.baseline or ""))

    def _check_text(self) -> None:
        shaping = ("codec", "oversample", "ef", "exact", "layers")
        if given := [name for name in shaping if getattr(self, name) is not None]:
            raise ParameterError(f"mode='text' compares no vectors; expected no {', '.join(given)} with it")

    def _check_codec(self) -> None:
        if self.codec is None:
            raise ParameterError(f"mode={self.mode!r} compares vectors; expected a codec such as 'int8', got none")
        codec = Codec.parse(self.codec)
        object.__setattr__(self, "codec", str(codec))  # one spelling for one codec, so that equal runs are found equal
        if self.oversample is not None and len(codec) == 1:
            raise ParameterError(f"oversample needs a codec of several tiers to rescore in, got {str(codec)!r}")

    @property
    def kind(self) -> Kind:
        """``"baseline"`` for reference schemes outside the collection, otherwise ``"collection"``."""
        return "baseline" if self.baseline is not None else "collection"

    @property
    def label(self) -> str:
        """What to call it in tables: the codec, then every option that is not at its default."""
        parts = [self.baseline or self.codec or ""] if self.mode != "text" else []
        if self.mode != "dense":
            parts.append(self.mode)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("codec", "mode", "baseline") and value != field.default:
                parts.append(f"{field.name} {value:g}" if _is_number(value) else f"{field.name} {value}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return every option as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Configuration:
        """Return the configuration that `to_dict` described.

        Raises
        ------
        ParameterError
            For an option that there is not, or a value that cannot be used.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ParameterError(
                f"expected configuration options out of {', '.join(sorted(known))}, got {unknown[0]!r}"
            )
        return cls(**values)

    def with_layers(self, layers: int | None) -> Configuration:
        """Return the same configuration for a model cut to `layers` layers."""
        return replace(self, layers=layers)


def as_configuration(value: Configuration | str | Mapping[str, Any]) -> Configuration:
    """Return a configuration for a codec string, a mapping of options, or itself.

    Raises
    ------
    InputTypeError
        When it is none of these.
    """
    if isinstance(value, Configuration):
        return value
    if isinstance(value, str):
        return Configuration(codec=value)
    if isinstance(value, Mapping):
        return Configuration.from_dict(value)
    raise InputTypeError(
        f"expected a Configuration, a codec string or a mapping of options, got {type(value).__name__}"
    )


def digest(value: Any, length: int = 16) -> str:
    """Return a short hash of a JSON value that does not depend on the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
