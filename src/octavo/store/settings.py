"""What a collection is made with: asked for by the caller, fixed in the manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from octavo._text_analysis import (
    DEFAULT_LANGUAGE,
    FUNCTION,
    Analyser,
    TextAnalysis,
    check_full_text,
    check_function,
    digest_of,
    text_analysis,
)
from octavo._validation import check_choice, check_integer, check_number
from octavo.compression import Codec
from octavo.compression.candidates import CandidateEncoder, candidate_encoder_from_config
from octavo.compression.token_pooling import TokenPooling
from octavo.errors import CodecError, InputTypeError, MismatchError, ParameterError
from octavo.store._manifest import FORMAT_VERSION

#: Documents after which the codec is fitted, unless the caller says otherwise.
DEFAULT_FIT_AFTER = 1_000

#: The codec of the candidate vectors; their only purpose is to be close to the right order.
CANDIDATE_CODEC = "int8"

DEFAULT_POOLING: dict[str, Any] = TokenPooling(factor=2).get_config()
DEFAULT_CANDIDATES = "mean"

#: Beyond these, nothing can be stored or linked; the database holds 64 bits, and usearch less.
_LARGEST = {"dim": 2**24 - 1, "fit_after": 2**47, "seed": 2**63 - 1, "connectivity": 2**15}

#: Seconds; SQLite counts milliseconds in 31 bits.
_LONGEST_WAIT = 2_000_000.0

_METRICS = ("cosine", "dot")

#: What a change of the model may change.
_KIND = ("metric", "multi_vector", "pooling", "candidates", "candidate_codec")

#: What finds candidates in a large collection; the first is taken unless the caller says otherwise.
INDEXES = ("cells", "graph")

#: The same, and what finds candidates by tokens beside it: the names in `artifacts`, after the prefix of a space.
DERIVED = (*INDEXES, "token_cells")


@dataclass(frozen=True)
class Settings:
    """Options of `octavo.open`; None means "not asked": the default, or what the manifest says."""

    codec: str | None = None
    metric: str | None = None
    dim: int | None = None
    full_text: Any = None  # a specification or a function; from then on what `check_full_text` makes of it
    fit_after: int | None = None
    seed: int | None = None
    connectivity: int | None = None
    index: str | None = None
    read_only: bool = False
    must_exist: bool = False
    lock_timeout: float = 30.0
    multi_vector: bool | None = None
    pooling: dict[str, Any] | None = None  # multi-vector: configuration of the token pooling
    candidates: dict[str, Any] | None = None  # and of the candidate encoder
    candidate_codec: str | None = None
    analyser: Analyser | None = None  # the function that full_text was, if it was one
    full_text_digest: str | None = None  # and what tells it from others

    def __post_init__(self) -> None:
        if self.codec is not None:
            Codec.parse(self.codec)
            if self.multi_vector:
                check_token_codec(self.codec)
        if self.metric is not None and self.metric not in _METRICS:
            raise ParameterError(f"expected metric 'cosine' or 'dot', got {self.metric!r}")
        if self.index is not None:
            check_choice(self.index, "index", INDEXES)
        if self.full_text is not None:
            if callable(self.full_text):
                object.__setattr__(self, "analyser", self.full_text)
                object.__setattr__(self, "full_text_digest", digest_of(self.full_text))
            if callable(self.full_text) or not str(self.full_text).startswith(FUNCTION):
                object.__setattr__(self, "full_text", check_full_text(self.full_text))
        for name, least in (("dim", 1), ("fit_after", 1), ("seed", 0), ("connectivity", 2)):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check_integer(value, name, least=least, most=_LARGEST[name]))
        object.__setattr__(
            self, "lock_timeout", check_number(self.lock_timeout, "lock_timeout", least=0, most=_LONGEST_WAIT)
        )
        if self.codec is not None and self.dim is not None:
            Codec.parse(self.codec).check_dim(self.dim)

    def for_new_collection(self) -> Settings:
        """Return the settings with the defaults filled in."""
        if self.full_text is not None and self.full_text.startswith(FUNCTION) and self.full_text_digest is None:
            check_full_text(self.full_text.partition("|")[0])  # a name is no function
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
            full_text=self.full_text or DEFAULT_LANGUAGE,
            fit_after=self.fit_after or DEFAULT_FIT_AFTER,
            seed=self.seed or 0,
            connectivity=self.connectivity or 16,
            index=self.index or INDEXES[0],
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
        if self.multi_vector is not None and self.multi_vector != late and self.multi_vector != _coming_kind(manifest):
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
        stored.setdefault("index", "graph")  # of collections from before there were cells
        for name, advice in (
            ("metric", "open it without metric="),
            ("dim", "was the collection built with another model?"),
            ("full_text", "open it without full_text=, or change over with set_full_text"),
            ("seed", "open it without seed="),
            ("connectivity", "open it without connectivity="),
            ("index", "open it without index=, or build a new collection"),
            ("pooling", "open it without pool_factor= and pooling="),
            ("candidates", "open it without candidates="),
        ):
            value = getattr(self, name)
            if name == "full_text" and self.analyser is not None and str(stored[name]).startswith(FUNCTION):
                check_function(stored[name], stored.get("full_text_digest"), self.analyser)  # whatever its name is now
                continue
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
            full_text_digest=stored.get("full_text_digest"),
            fit_after=self.fit_after or stored["fit_after"],
            seed=stored["seed"],
            connectivity=stored["connectivity"],
            index=stored["index"],
            multi_vector=late,
            pooling=stored.get("pooling"),
            candidates=stored.get("candidates"),
            candidate_codec=stored.get("candidate_codec"),
        )

    def analysis(self) -> TextAnalysis:
        """Return what makes terms of texts.

        Raises
        ------
        ParameterError
            When it is a function that was not given.
        """
        if self.full_text is not None and self.full_text.startswith(FUNCTION):
            return TextAnalysis(self.full_text, self.analyser)
        return text_analysis(self.full_text or DEFAULT_LANGUAGE)

    @property
    def kind(self) -> dict[str, Any]:
        """What says which kind of vectors there are, and how they are compared."""
        return {name: getattr(self, name) for name in _KIND}

    def fixed(self) -> str:
        """Return the manifest's entry ``settings``."""
        names = ["metric", "full_text", "fit_after", "seed", "connectivity", "index"]
        if self.multi_vector:
            names += [name for name in _KIND if name not in names]
        fixed = {name: getattr(self, name) for name in names}
        if self.full_text_digest is not None:
            fixed["full_text_digest"] = self.full_text_digest
        return json.dumps(fixed)

    def to_manifest(self) -> dict[str, Any]:
        """Return the manifest of a new, empty collection."""
        return {
            "format_version": FORMAT_VERSION,
            "settings": self.fixed(),
            "codec": self.codec,
            "codec_state": b"",
            "fitted": 0,
            "seq": 0,
            "generation": 0,
            "slots": 0,
            "alive": 0,
            "dim": self.dim,
        }


def _coming_kind(manifest: dict[str, Any]) -> bool | None:
    """Return whether a change of the model that is under way leads to many vectors a document; None where there is none."""
    try:
        return bool(json.loads(manifest["next"])["kind"]["multi_vector"])
    except (KeyError, ValueError, TypeError):
        return None


# ---------------------------------------------------------------------- many vectors a document


def pooling_config(pool_factor: int | None, pooling: TokenPooling | None) -> dict[str, Any] | None:
    """Return what was asked of pooling as JSON data; None when nothing was.

    Raises
    ------
    ParameterError
        When both were given, or the factor cannot be used.
    """
    if pooling is None:
        return TokenPooling(factor=pool_factor).get_config() if pool_factor is not None else None
    if pool_factor is not None:
        raise ParameterError(f"expected pool_factor or pooling, got both ({pool_factor!r} and {pooling!r})")
    if not isinstance(pooling, TokenPooling):
        raise InputTypeError(f"expected pooling as an octavo TokenPooling, got {type(pooling).__name__}")
    return pooling.get_config()


def candidates_config(candidates: str | CandidateEncoder | None) -> dict[str, Any] | None:
    """Return the configuration of the asked candidate encoder; None when nothing was asked.

    Raises
    ------
    ParameterError
        When there is no such encoder.
    """
    if candidates is None:
        return None
    if isinstance(candidates, str):
        encoder = candidate_encoder_from_config({"id": candidates})
    elif isinstance(candidates, CandidateEncoder):
        encoder = candidates
    else:
        raise InputTypeError(
            f"expected candidates as the name of a candidate encoder or such an encoder, got {type(candidates).__name__}"
        )
    return encoder.get_config()


def check_token_codec(text: str) -> None:
    """Raise `CodecError` unless a codec has one tier: MaxSim reads the tokens once."""
    codec = Codec.parse(text)
    if len(codec.tiers) > 1:
        raise CodecError(
            f"expected a token codec of one tier, such as 'int8' or 'svd:128|int8', got {text!r}; the candidate stage "
            "takes the place of a coarse tier"
        )
