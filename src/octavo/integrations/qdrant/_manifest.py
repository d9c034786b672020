"""What a collection in Qdrant will be, and what it has to remember about itself: one point without vectors."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np

from octavo._text_analysis import (
    FUNCTION,
    Analyser,
    TextAnalysis,
    check_full_text,
    check_function,
    text_analysis,
)
from octavo._validation import check_choice, check_integer
from octavo.errors import CorruptCollectionError, ForeignCollectionError, MismatchError, ParameterError
from octavo.integrations.qdrant._client import ClientTransport, ServerOptions
from octavo.integrations.qdrant._filters import MANIFEST, NUMBER, TIME, number_key
from octavo.integrations.qdrant.edge import EdgeTransport
from octavo.integrations.qdrant.points import BM25Encoder, ClientCodec
from octavo.integrations.qdrant.transport import Point, Transport
from octavo.store.reencoding import Serve

FORMAT: Final = 1


@dataclass(frozen=True)
class Next:
    """A change of the model that is under way: the space that it fills.

    Parameters
    ----------
    space : int
        The number of the space, in the names of its vectors.
    identity : str
        32 hex digits, chosen at random: tells it from other changes.
    codec, metric : str
        Of the new vectors.
    dim : int
        Dimension of the new vectors as they come in.
    state : str
        The fitted reducers, in base64.
    late : dict or None
        As of `Manifest`.
    serve : {"both", "old"}
        What answers searches meanwhile.
    encoder : dict
        The new encoder's fingerprint.
    """

    space: int
    identity: str
    codec: str
    metric: Literal["cosine", "dot"]
    dim: int
    state: str
    late: dict[str, Any] | None
    serve: Serve
    encoder: dict[str, Any]

    @classmethod
    def read(cls, values: Any, place: str) -> Next:
        """Return what the description of the collection at a place says.

        Raises
        ------
        CorruptCollectionError
            When Octavo would not have written that.
        """
        try:
            found = cls(**values)
            good = (
                all(isinstance(number, int) and number > 0 for number in (found.space, found.dim))
                and all(isinstance(text, str) for text in (found.identity, found.codec, found.state))
                and found.metric in ("cosine", "dot")
                and found.serve in ("both", "old")
                and isinstance(found.late, dict | None)
                and isinstance(found.encoder.get("name"), str)
            )
        except (TypeError, AttributeError):
            good = False
        if not good:
            raise CorruptCollectionError(
                f"the description of the collection at {place} does not say how far its re-encoding is; bring it back from a "
                "backup"
            )
        return found


@dataclass(frozen=True)
class Manifest:
    """Settings and learned state of a collection.

    Parameters
    ----------
    codec, metric, full_text : str
        As in `octavo.open`.
    dim : int
        Dimension of the vectors as they come in.
    average_length : float
        Terms of a typical document, for BM25.
    encoder : dict or None
        The encoder's fingerprint.
    state : str
        The fitted reducers, in base64.
    late : dict or None
        Where documents have many vectors: how they are pooled, and what finds candidates.
    analysis : dict or None
        What made the words' weights, as `TextAnalysis.record` says; Qdrant keeps what came of it.
    sparse : dict or None
        Where they have learned sparse vectors: the fingerprint of the encoder, if one made them.
    space : int
        Number of the space that the vectors are in; rises with every change of the model.
    last_space : int
        The highest number that a space has had: none is given twice.
    next : Next or None
        A change of the model that is under way.
    dropped : dict or None
        The space that a change of the model has left (`space`, and whether it has `tokens`), while it is still being dropped.
    format : int
        Rises when what is stored changes its meaning.
    """

    codec: str
    metric: Literal["cosine", "dot"]
    full_text: str
    dim: int
    average_length: float
    encoder: dict[str, Any] | None
    state: str
    late: dict[str, Any] | None = None
    analysis: dict[str, Any] | None = None
    sparse: dict[str, Any] | None = None
    space: int = 0
    last_space: int = 0
    next: Next | None = None
    dropped: dict[str, Any] | None = None
    format: int = FORMAT

    def write(self, transport: Transport, *, keep_blueprint: bool = True) -> None:
        """Store it; without `keep_blueprint`, what a push has kept beside it goes, since it is not true any more."""
        values = asdict(self)
        for name in ("late", "sparse", "next", "dropped", "space", "last_space"):
            if not values[name] and (name != "sparse" or values[name] is None):  # {} says that there is room
                del values[name]  # as before there was such a thing
        text = json.dumps(values, sort_keys=True)
        there = transport.retrieve([MANIFEST], True)
        beside = there[0].payload if there else {}  # what a push keeps there
        if not keep_blueprint:
            beside = {name: value for name, value in beside.items() if not name.startswith("blueprint")}
        transport.upsert([Point(MANIFEST, beside | {"octavo": text, "sha256": _checksum(text)})])

    @classmethod
    def read(cls, transport: Transport) -> Manifest:
        """Read it back.

        Raises
        ------
        ForeignCollectionError
            When Octavo has not made this collection.
        CorruptCollectionError
            When it does not match its checksum.
        MismatchError
            When it has another format.
        """
        found = transport.retrieve([MANIFEST], True)
        if not found:
            raise ForeignCollectionError(
                f"expected a collection made by Octavo at {transport.place}, but it holds no description of one; was it made "
                "by another program, or was its creator killed at the first document? Delete it and create it anew"
            )
        text = found[0].payload.get("octavo")
        if not isinstance(text, str) or _checksum(text) != found[0].payload.get("sha256"):
            raise CorruptCollectionError(f"the description of the collection at {transport.place} is damaged")
        values = json.loads(text)
        if values.get("format") != FORMAT:
            raise MismatchError(
                f"expected format {FORMAT} of the collection at {transport.place}, got {values.get('format')!r}; open it with "
                "the version of Octavo that made it"
            )
        if "next" in values:
            values["next"] = Next.read(values["next"], transport.place)
        return cls(**values)

    @staticmethod
    def checksum_of(transport: Transport) -> Any:
        """Return the checksum of the stored description: another one says that there is another description."""
        found = transport.retrieve([MANIFEST], ["sha256"])
        return found[0].payload.get("sha256") if found else None

    def words(self, function: Analyser | None) -> TextAnalysis:
        """Return what makes terms of texts, the same that has made the stored weights.

        Raises
        ------
        MismatchError
            When this process would make other terms.
        """
        if self.full_text.startswith(FUNCTION) and function is not None:
            check_function(self.full_text, (self.analysis or {}).get("used", {}).get("function"), function)
        analysis = analysis_of(self.full_text, function)
        if self.analysis is not None and analysis.record != self.analysis:
            raise MismatchError(
                f"the words in Qdrant were made with {self.analysis!r}, and this process has {analysis.record!r}; install the "
                "versions named, or copy the documents into a new collection"
            )
        return analysis


def client_codec(state: str) -> ClientCodec:
    """Return fitted reducers that a manifest holds."""
    return ClientCodec.from_bytes(base64.b64decode(state))


def encode_state(codec: ClientCodec) -> str:
    """Return fitted reducers as the manifest holds them."""
    return base64.b64encode(codec.to_bytes()).decode("ascii")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


#: A server takes no longer vectors.
_MAX_DIM: Final = 65_536

#: Documents whose length tells the typical one, for BM25.
_LENGTH_SAMPLE = 1000


@dataclass(frozen=True)
class Plan:
    """What a collection will be, before its first document says the rest."""

    codec: str
    metric: Literal["cosine", "dot"]
    dim: int | None
    full_text: Any  # a specification or a function; from then on what `check_full_text` makes of it
    seed: int
    fit_after: int
    layout: dict[str, Any]
    sparse: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_choice(self.metric, "metric", ("cosine", "dot"))
        if callable(self.full_text) or not str(self.full_text).startswith(FUNCTION):
            object.__setattr__(self, "full_text", check_full_text(self.full_text))
        checked = {
            "seed": check_integer(self.seed, "seed", least=0),
            "fit_after": check_integer(self.fit_after, "fit_after", least=1),
        }
        if self.dim is not None:
            checked["dim"] = check_integer(self.dim, "dim", least=1, most=_MAX_DIM)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def transport_of(path: Any, url: str | None, name: str, options: ServerOptions) -> Transport:
    """Reach a place, whether there is a collection or not."""
    if (path is None) == (url is None):
        raise ParameterError("expected either path= (in this process) or url= (a server), got both or neither")
    if path is not None:
        return EdgeTransport(path)
    assert url is not None  # checked above
    return ClientTransport(url, name, options)


def layout_of(
    ranges: Sequence[str | Sequence[str]], connectivity: int, full_scan: int, indexing: int
) -> dict[str, Any]:
    """Return the options of `Layout` that the caller has given."""
    if isinstance(ranges, str):
        raise ParameterError(f"expected ranges as a list of fields, got the string {ranges!r}; write [{ranges!r}]")
    return {
        "hnsw_m": check_integer(connectivity, "connectivity", least=2, most=256),
        "full_scan_threshold": check_integer(full_scan, "full_scan_threshold", least=0),
        "indexing_threshold": check_integer(indexing, "indexing_threshold", least=0),
        "ranges": [
            f"number.{number_key([field] if isinstance(field, str) else field, kind)}"
            for field in ranges
            for kind in (NUMBER, TIME)
        ],
    }


def analysis_of(full_text: str, function: Analyser | None) -> TextAnalysis:
    """Return what a specification names, or a function does."""
    return TextAnalysis(full_text, function) if full_text.startswith(FUNCTION) else text_analysis(full_text)


def average_length(analysis: TextAnalysis, texts: Sequence[str]) -> float:
    """Return the terms of a typical document."""
    counts = [BM25Encoder(lambda: analysis, 1.0).count(text) for text in texts[:_LENGTH_SAMPLE] if text]
    return float(np.mean(counts)) if counts else 100.0
