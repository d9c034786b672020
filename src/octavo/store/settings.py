"""What a collection is made with: asked for by the caller, fixed in the manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from octavo._text_analysis import check_language
from octavo.compression import Codec
from octavo.errors import MismatchError, ParameterError
from octavo.store._manifest import FORMAT_VERSION
from octavo.store.late_settings import (
    CANDIDATE_CODEC,
    DEFAULT_CANDIDATES,
    DEFAULT_POOLING,
    candidates_config,
    check_token_codec,
)

#: Documents after which the codec is fitted, unless the caller says otherwise.
DEFAULT_FIT_AFTER = 1_000

_METRICS = ("cosine", "dot")


@dataclass(frozen=True)
class Settings:
    """Options of `octavo.open`; None means "not asked": the default, or what the manifest says."""

    codec: str | None = None
    metric: str | None = None
    dim: int | None = None
    full_text: str | None = None
    fit_after: int | None = None
    seed: int | None = None
    connectivity: int | None = None
    read_only: bool = False
    must_exist: bool = False
    lock_timeout: float = 30.0
    multi_vector: bool | None = None
    pooling: dict[str, Any] | None = None  # multi-vector: configuration of the token pooling
    candidates: dict[str, Any] | None = None  # and of the candidate encoder
    candidate_codec: str | None = None

    def __post_init__(self) -> None:
        if self.codec is not None:
            Codec.parse(self.codec)
            if self.multi_vector:
                check_token_codec(self.codec)
        if self.metric is not None and self.metric not in _METRICS:
            raise ParameterError(f"expected metric 'cosine' or 'dot', got {self.metric!r}")
        if self.full_text is not None:
            check_language(self.full_text)
        for name, low in (("dim", 1), ("fit_after", 1), ("seed", 0), ("connectivity", 2)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
                raise ParameterError(f"expected {name} as an integer of at least {low}, got {value!r}")
        if (
            isinstance(self.lock_timeout, bool)
            or not isinstance(self.lock_timeout, int | float)
            or self.lock_timeout < 0
        ):
            raise ParameterError(f"expected lock_timeout in seconds, 0 or more, got {self.lock_timeout!r}")
        if self.codec is not None and self.dim is not None:
            Codec.parse(self.codec).check_dim(self.dim)

    def for_new_collection(self) -> Settings:
        """Return the settings with the defaults filled in."""
        if self.multi_vector:
            if self.metric == "dot":
                raise ParameterError("a multi-vector collection compares tokens by cosine; leave metric= out")
            late = replace(
                self,
                pooling=self.pooling or DEFAULT_POOLING,
                candidates=self.candidates or candidates_config(DEFAULT_CANDIDATES),
                candidate_codec=CANDIDATE_CODEC,
            )
        else:
            late = replace(self, multi_vector=False)
        return replace(
            late,
            codec=str(Codec.parse(self.codec or "int8")),
            metric=self.metric or "cosine",
            full_text=self.full_text or "english",
            fit_after=self.fit_after or DEFAULT_FIT_AFTER,
            seed=self.seed or 0,
            connectivity=self.connectivity or 16,
        )

    def for_existing_collection(self, manifest: dict[str, Any]) -> Settings:
        """Return the stored settings, after comparing them with what was asked.

        Raises
        ------
        MismatchError
            When the collection was made with another codec, metric, dimension or text language.
        """
        stored = json.loads(manifest["settings"]) | {"codec": manifest["codec"], "dim": manifest.get("dim")}
        late = bool(stored.get("multi_vector"))
        if self.multi_vector is not None and self.multi_vector != late:
            kinds = ("one vector a document", "many vectors a document (late interaction)")
            raise MismatchError(
                f"the collection was made for {kinds[late]}, got an encoder or options for {kinds[not late]}; open it with "
                "an encoder of its kind, or build a new collection"
            )
        asked = str(Codec.parse(self.codec)) if self.codec is not None else None
        if asked is not None and asked != stored["codec"]:
            raise MismatchError(
                f"the collection was made with codec {stored['codec']!r}, got {asked!r}; open it without codec=, "
                f"or convert it with refit({asked!r})"
            )
        for name, advice in (
            ("metric", "open it without metric="),
            ("dim", "was the collection built with another model?"),
            ("full_text", "open it without full_text="),
            ("seed", "open it without seed="),
            ("connectivity", "open it without connectivity="),
            ("pooling", "open it without pool_factor= and pooling="),
            ("candidates", "open it without candidates="),
        ):
            value = getattr(self, name)
            if value is not None and stored.get(name) is not None and value != stored[name]:
                raise MismatchError(f"the collection was made with {name}={stored[name]!r}, got {value!r}; {advice}")
        if stored["dim"] is None and self.dim is not None:
            Codec.parse(stored["codec"]).check_dim(self.dim)
        return replace(
            self,
            codec=stored["codec"],
            metric=stored["metric"],
            dim=stored["dim"] if stored["dim"] is not None else self.dim,
            full_text=stored["full_text"],
            fit_after=self.fit_after or stored["fit_after"],
            seed=stored["seed"],
            connectivity=stored["connectivity"],
            multi_vector=late,
            pooling=stored.get("pooling"),
            candidates=stored.get("candidates"),
            candidate_codec=stored.get("candidate_codec"),
        )

    def to_manifest(self) -> dict[str, Any]:
        """Return the manifest of a new, empty collection."""
        names = ["metric", "full_text", "fit_after", "seed", "connectivity"]
        if self.multi_vector:
            names += ["multi_vector", "pooling", "candidates", "candidate_codec"]
        fixed = {name: getattr(self, name) for name in names}
        return {
            "format_version": FORMAT_VERSION,
            "settings": json.dumps(fixed),
            "codec": self.codec,
            "codec_state": b"",
            "fitted": 0,
            "seq": 0,
            "generation": 0,
            "slots": 0,
            "alive": 0,
            "dim": self.dim,
        }
