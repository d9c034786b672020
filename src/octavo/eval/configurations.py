"""What one run measures: a codec, a search mode, and everything else that a user could choose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from octavo._validation import check_choice, check_flag, check_integer, check_number
from octavo.compression import Codec
from octavo.errors import InputTypeError, ParameterError
from octavo.eval.baselines import check_baseline
from octavo.retrievers.late_interaction import LateOptions
from octavo.retrievers.search import SearchOptions

if TYPE_CHECKING:
    from octavo.integrations.qdrant.points import CodecMapping

Mode: TypeAlias = Literal["dense", "text", "sparse", "hybrid", "late"]
Metric: TypeAlias = Literal["cosine", "dot"]
Kind: TypeAlias = Literal["collection", "baseline"]

#: Where the documents that MaxSim scores come from.
Candidates: TypeAlias = Literal["vectors", "mean", "tokens", "text", "both", "sparse"]

#: What documents are embedded with and returned without.
Context: TypeAlias = Literal["title", "no-title"]

#: Options that belong to late interaction.
_LATE = ("n_candidates", "candidates")

#: Options that came later: those that do not have them leave them out of their JSON, which is as it was before.
_LEFT_OUT = (*_LATE, "store", "sparse", "rank", "weights", "context")

#: Modes that compare no vectors of a codec's.
WITHOUT_VECTORS = ("text", "sparse")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One choice of everything that shapes quality, bytes and speed.

    Parameters
    ----------
    codec : str or None
        Codec string. None for ``mode="text"`` and ``"sparse"``, which compare no such vectors, and for baselines. For late
        interaction, of one token vector.
    mode : {"dense", "text", "sparse", "hybrid", "late"}, default="dense"
        How the collection is searched. ``"late"`` keeps a vector for each token, or for several pooled, and scores by
        MaxSim; ``"hybrid"`` fuses words with one vector a document, or with MaxSim if there is a `pool_factor`.
    oversample : float or None
        Candidates rescored per result; None takes the collection's own default. Needs a codec of several tiers.
    ef : int or None
        Nodes that a graph search keeps in view; None takes the collection's own default. Given, or with another
        `connectivity`, the collection has a graph; otherwise it has cells.
    exact : bool or None
        Force the exact scan (True) or the index (False); None leaves it to the planner.
    alpha : float or None
        Hybrid: weight of the vectors; None fuses by reciprocal rank.
    connectivity : int, default=16
        Links per node of the graph.
    metric : {"cosine", "dot"}, default="cosine"
        How vectors are compared.
    layers : int or None
        Transformer layers to keep, for models trained to be cut short (2D-Matryoshka); None keeps all.
    pool_factor : int or None
        Late interaction: token vectors per pooled vector, 1 for none pooled; None takes the collection's own default.
    n_candidates : int or None
        Late interaction: documents scored by MaxSim; None takes the collection's own default.
    candidates : {"vectors", "mean", "tokens", "text", "both", "sparse"} or None
        Late interaction: where these come from; None takes the collection's own default, the candidate vectors.
    sparse : str or None
        What makes learned sparse vectors, where they take part: the name or folder of a model that
        ``sentence_transformers.SparseEncoder`` loads, or ``module:attribute``.
    rank : str or None
        Hybrid: the rankings that are fused, such as ``"dense,text,sparse"``; None fuses vectors and words.
    weights : str or None
        Hybrid: what each of them weighs, such as ``"0.5,0.2,0.3"``; None fuses by reciprocal rank.
    context : {"title", "no-title"} or None
        What becomes of titles: with ``"title"`` documents are embedded and found by words with theirs and returned without;
        with ``"no-title"`` they are left out; with None they are part of the texts, embedded and returned.
    baseline : str or None
        Name of a reference scheme outside the collection (see `octavo.eval.baselines`).
    store : {"qdrant"} or None
        What keeps the documents: None (or "local") for a local collection, ``"qdrant"`` for Qdrant's core in this process
        (package ``qdrant-edge-py``), always with its graph.

    Examples
    --------
    >>> Configuration(codec="binary > int8", oversample=5).label
    'binary > int8, oversample 5'
    >>> Configuration(mode="text").kind
    'collection'
    >>> Configuration(codec="int8", mode="late", pool_factor=4).label
    'int8, late, pool_factor 4'
    >>> Configuration(codec="int8", store="qdrant").label
    'int8, store qdrant'
    """

    codec: str | None = None
    mode: Mode = "dense"
    oversample: float | None = None
    ef: int | None = None
    exact: bool | None = None
    alpha: float | None = None
    connectivity: int = 16
    metric: Metric = "cosine"
    layers: int | None = None
    pool_factor: int | None = None
    n_candidates: int | None = None
    candidates: Candidates | None = None
    sparse: str | None = None
    rank: str | None = None
    weights: str | None = None
    context: Context | None = None
    baseline: str | None = None
    store: str | None = None

    @property
    def has_graph(self) -> bool:
        """Whether a local collection is searched by a graph rather than by cells: options of graphs ask for one."""
        return self.ef is not None or self.connectivity != 16

    def __post_init__(self) -> None:
        self._check_options()
        if self.store == "local":
            object.__setattr__(self, "store", None)
        if self.store is not None:
            _check_qdrant(self)

    def _check_options(self) -> None:
        check_choice(self.mode, "mode", get_args(Mode))
        if self.pool_factor is not None and self.mode not in ("late", "hybrid"):
            raise ParameterError(f"pool_factor belongs to mode='late' or 'hybrid', got mode={self.mode!r}")
        if self.candidates is not None:
            check_choice(self.candidates, "candidates", get_args(Candidates))
        if not self.late and (given := [name for name in _LATE if getattr(self, name) is not None]):
            raise ParameterError(
                f"{given[0]} belongs to mode='late', or to mode='hybrid' with a pool_factor, got mode={self.mode!r}"
            )
        check_choice(self.metric, "metric", get_args(Metric))
        for name, least in (("ef", 1), ("connectivity", 2), ("layers", 1), ("pool_factor", 1), ("n_candidates", 1)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_integer(getattr(self, name), name, least=least))
        for name, low, high in (("oversample", 1.0, None), ("alpha", 0.0, 1.0)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_number(getattr(self, name), name, least=low, most=high))
        if self.exact is not None:
            object.__setattr__(self, "exact", check_flag(self.exact, "exact"))
        if self.alpha is not None and self.mode != "hybrid":
            raise ParameterError(f"alpha belongs to mode='hybrid', got mode={self.mode!r}")
        if self.context is not None:
            check_choice(self.context, "context", get_args(Context))
        self._check_sparse()
        if self.baseline is not None:
            self._check_baseline()
        elif self.mode in WITHOUT_VECTORS:
            self._check_text()
        else:
            self._check_codec()

    def _check_sparse(self) -> None:
        if self.mode != "hybrid" and (self.rank is not None or self.weights is not None):
            raise ParameterError(f"rank and weights belong to mode='hybrid', got mode={self.mode!r}")
        if self.mode == "hybrid":
            kind = LateOptions if self.late else SearchOptions
            asked = kind(mode="hybrid", alpha=self.alpha, rank=self.rank_names, weights=self.weight_values)
            if "dense" not in asked.names:
                raise ParameterError(
                    f"a hybrid is measured against its vectors: expected rank with 'dense', got {self.rank!r}"
                )
        if self.sparse is not None and not isinstance(self.sparse, str):
            raise ParameterError(f"expected sparse as the name of a model, got {self.sparse!r}")
        if self.uses_sparse != (self.sparse is not None):
            what = "needs sparse=, the model that makes sparse vectors" if self.uses_sparse else "has no sparse vectors"
            raise ParameterError(f"mode={self.mode!r}{f' with rank={self.rank!r}' if self.rank else ''} {what}")
        if self.uses_sparse and self.store not in (None, "local"):
            raise ParameterError("sparse vectors are measured in local collections; leave store= out")

    @property
    def rank_names(self) -> tuple[str, ...] | None:
        """The rankings that a hybrid is asked for; None where it says nothing."""
        return tuple(name.strip() for name in self.rank.split(",")) if self.rank is not None else None

    @property
    def weight_values(self) -> tuple[float, ...] | None:
        """What each ranking weighs; None where it says nothing."""
        if self.weights is None:
            return None
        try:
            return tuple(float(each) for each in str(self.weights).split(","))
        except ValueError:
            raise ParameterError(
                f"expected weights as numbers with commas between them, got {self.weights!r}"
            ) from None

    @property
    def uses_sparse(self) -> bool:
        """Whether learned sparse vectors take part."""
        return self.mode == "sparse" or "sparse" in (self.rank_names or ()) or self.candidates == "sparse"

    @property
    def uses_words(self) -> bool:
        """Whether full text takes part."""
        hybrid = self.mode == "hybrid" and "text" in (self.rank_names or ("dense", "text"))
        return self.mode == "text" or hybrid or self.candidates in ("text", "both")

    def _check_baseline(self) -> None:
        given = [
            name
            for name in ("codec", "oversample", "ef", "exact", "alpha", "context")
            if getattr(self, name) is not None
        ]
        if given or self.mode != "dense" or self.connectivity != 16:
            raise ParameterError(
                f"a baseline is scanned outside any collection: expected no codec, mode, graph or rescoring options beside "
                f"baseline={self.baseline!r}, got {given or self.mode}"
            )
        object.__setattr__(self, "baseline", check_baseline(self.baseline or ""))

    def _check_text(self) -> None:
        shaping = ("codec", "oversample", "ef", "exact", "layers")
        if given := [name for name in shaping if getattr(self, name) is not None]:
            raise ParameterError(f"mode={self.mode!r} compares no vectors; expected no {', '.join(given)} with it")

    def _check_codec(self) -> None:
        if self.codec is None:
            raise ParameterError(f"mode={self.mode!r} compares vectors; expected a codec such as 'int8', got none")
        codec = Codec.parse(self.codec)
        object.__setattr__(self, "codec", str(codec))  # one spelling for one codec, so that equal runs are found equal
        if self.late:
            self._check_late(codec)
        elif self.oversample is not None and len(codec) == 1 and self.store in (None, "local"):
            raise ParameterError(f"oversample needs a codec of several tiers to rescore in, got {str(codec)!r}")

    def _check_late(self, codec: Codec) -> None:
        if len(codec) > 1:
            raise ParameterError(
                f"late interaction compresses a token once: expected a codec of one tier, got {str(codec)!r}; its candidate "
                "stage takes the place of a coarse tier"
            )
        if self.metric != "cosine":
            raise ParameterError(f"late interaction compares tokens by cosine, got metric={self.metric!r}")
        if self.oversample is not None:
            raise ParameterError("late interaction scores n_candidates documents; give these instead of oversample")
        if self.exact and (self.n_candidates is not None or self.candidates not in (None, "vectors")):
            raise ParameterError("exact=True scores every document: n_candidates and candidates do not apply")

    @property
    def late(self) -> bool:
        """Whether documents are kept as token vectors and scored by MaxSim, alone or fused with words."""
        return self.mode == "late" or (self.mode == "hybrid" and self.pool_factor is not None)

    @property
    def kind(self) -> Kind:
        """``"baseline"`` for reference schemes outside the collection, otherwise ``"collection"``."""
        return "baseline" if self.baseline is not None else "collection"

    @property
    def label(self) -> str:
        """What to call it in tables: the codec, then every option that is not at its default."""
        parts = [self.baseline or self.codec or ""] if self.mode not in WITHOUT_VECTORS else []
        if self.mode != "dense":
            parts.append(self.mode)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("codec", "mode", "baseline") and value != field.default:
                parts.append(f"{field.name} {value:g}" if _is_number(value) else f"{field.name} {value}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return every option as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in _LEFT_OUT}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Configuration:
        """Return the configuration that `to_dict` described.

        Parameters
        ----------
        values : mapping
            Options by name; those that are left out have their defaults.

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


def _check_qdrant(configuration: Configuration) -> None:
    """Check that a configuration can be measured in Qdrant; the rest is refused before anything is embedded."""
    if configuration.store != "qdrant":
        raise ParameterError(_other_store(configuration.store))
    if configuration.baseline is not None:
        raise ParameterError(
            f"a baseline is scanned outside any collection: expected no store beside baseline={configuration.baseline!r}"
        )
    mapping = _mapping_of(configuration)
    if mapping is None:
        return
    if configuration.exact:
        for name in ("ef", "oversample"):
            if (value := getattr(configuration, name)) is not None:
                raise ParameterError(
                    f"in Qdrant exact=True compares with every vector in full: expected no {name}, got {value:g}; leave one "
                    "of the two out"
                )
    if configuration.oversample is not None and mapping.quantization is None:
        raise ParameterError(
            f"Qdrant rescores what quantized vectors have found, and codec {configuration.codec!r} has none there: expected no "
            f"oversample, or a codec such as 'int8 > {mapping.datatype}', got oversample={configuration.oversample:g}"
        )


def _mapping_of(configuration: Configuration) -> CodecMapping | None:
    """Return what the codec is in Qdrant; None for full text alone."""
    from octavo.integrations.qdrant.late_points import map_token_codec  # local runs need none of it
    from octavo.integrations.qdrant.points import map_codec

    if configuration.codec is None:
        return None
    return map_token_codec(configuration.codec) if configuration.late else map_codec(configuration.codec)


def _other_store(store: object) -> str:
    from octavo.integrations.qdrant.location import EMBEDDED

    text = str(store)
    expected = "expected store 'local' or 'qdrant' (Qdrant's core in this process)"
    if text.startswith(EMBEDDED):
        return (
            f"{expected}, got {text!r}; every configuration is measured in a directory of its own, which is deleted "
            f"afterwards, so give {EMBEDDED.rstrip(':')!r} alone"
        )
    if text.startswith(("http://", "https://")):
        return (
            f"{expected}, got {text!r}; a server does not tell the bytes of a collection, and its network would be timed "
            "with it: measure codecs and graph with 'qdrant'"
        )
    return f"{expected}, got {store!r}"


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
