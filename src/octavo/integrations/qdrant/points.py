"""Documents as Qdrant's points: what a codec becomes there, ids as UUIDs, words as sparse vectors."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from octavo._arrays import Floats
from octavo._text_analysis import TextAnalysis
from octavo.compression import Codec, Pipeline
from octavo.errors import CodecError, CorruptCollectionError
from octavo.integrations.qdrant._filters import describe
from octavo.integrations.qdrant.transport import Point, Quantization, Sparse
from octavo.store.database import EMBED_WORDS
from octavo.store.documents import Batch, Document, metadata_from_json, metadata_from_tagged
from octavo.words import WordQuery
from octavo.words.matching import matches_words

#: What the vectors that Qdrant keeps in full are stored as, by the finest quantizer of the codec.
_DATATYPES: Final[dict[str, Literal["float32", "float16"]]] = {
    "float32": "float32",
    "float16": "float16",
    "int8": "float16",
    "binary": "float16",
    "rabitq:1": "float16",
    "rabitq:2": "float16",
    "rabitq:4": "float16",
}

#: The quantization that Qdrant searches by, by the coarsest quantizer. TurboQuant is of the kind of `rabitq`: it turns vectors,
#: rounds them, and corrects the lengths; it takes the same bits.
_QUANTIZATIONS: Final[dict[str, Quantization | None]] = {
    "float32": None,
    "float16": None,
    "int8": "scalar",
    "binary": "binary",
    "rabitq:1": "turbo1",
    "rabitq:2": "turbo2",
    "rabitq:4": "turbo4",
}

#: Octavo's quantizers that have no counterpart, and the nearest that has.
_NEAREST: Final = {
    "bfloat16": "float16",
    "float8": "int8",
    "float8-e5m2": "int8",
    "int4": "rabitq:4",
    "int2": "rabitq:2",
    "rabitq:3": "rabitq:4",
}

#: Candidates rescored per result: the least of those measured that find as many of the exact ten best as a local collection
#: does (tables in docs/qdrant.md); for `rabitq:1`, on four models.
_OVERSAMPLING: Final[dict[str, float]] = {"binary": 20.0, "scalar": 2.0, "turbo1": 20.0, "turbo2": 5.0, "turbo4": 2.0}


@dataclass(frozen=True)
class CodecMapping:
    """A codec in Qdrant's terms; the reducers stay with Octavo and run before anything is sent.

    Parameters
    ----------
    codec : str
        The codec string.
    datatype : {"float32", "float16"}
        Of the vectors that are kept in full.
    quantization : {"scalar", "binary", "turbo1", "turbo2", "turbo4"} or None
        What is searched; the vectors kept in full rescore.
    oversampling : float or None
        Candidates rescored per result.
    """

    codec: str
    datatype: Literal["float32", "float16"]
    quantization: Quantization | None
    oversampling: float | None


def map_codec(text: str) -> CodecMapping:
    """Return what a codec string means for Qdrant.

    Raises
    ------
    CodecError
        When Qdrant has no counterpart; the message names the nearest codec that has one.

    Examples
    --------
    >>> map_codec("svd:50%|binary > svd:50%|int8")
    CodecMapping(codec='svd:50%|binary > svd:50%|int8', datatype='float16', quantization='binary', oversampling=20.0)
    >>> map_codec("rabitq:1 > int8").quantization
    'turbo1'
    """
    codec = Codec.parse(text)
    for tier in codec.tiers:
        name = tier.quantizer.token
        if name not in _DATATYPES:
            nearest = _NEAREST.get(name) or _NEAREST.get(tier.quantizer.step_id, "int8")
            raise CodecError(
                f"Qdrant has no counterpart of {name!r} in codec {str(codec)!r}; the nearest is {nearest!r}"
            )
    coarse, finest = codec.tiers[0], codec.tiers[-1]
    if len(codec) > 2 or any(tier.reducers != finest.reducers for tier in codec.tiers):
        raise CodecError(
            f"Qdrant keeps one vector and one quantization of it: expected at most two tiers with the same reducers, got "
            f"{str(codec)!r}; the nearest is {_nearest(finest)!r}"
        )
    quantization = _QUANTIZATIONS[coarse.quantizer.token]
    if len(codec) == 2 and quantization is None:
        raise CodecError(
            f"the first tier of two has to be 'rabitq', 'int8' or 'binary' for Qdrant, got {str(codec)!r}; the nearest is "
            f"{_nearest(finest)!r}"
        )
    datatype = _DATATYPES[finest.quantizer.token]
    return CodecMapping(str(codec), datatype, quantization, _OVERSAMPLING.get(quantization or ""))


def _nearest(finest: Pipeline) -> str:
    return "|".join([*(step.token for step in finest.reducers), finest.quantizer.token])


class ClientCodec:
    """The part of a codec that runs before vectors are sent: its reducers.

    Parameters
    ----------
    tier : Pipeline
        The reducers and `Float32`.
    """

    def __init__(self, tier: Pipeline) -> None:
        self._tier = tier

    @classmethod
    def of(cls, text: str) -> ClientCodec:
        """Return the unfitted reducers of a codec that `map_codec` accepts."""
        reducers: Sequence[Any] = Codec.parse(text).tiers[-1].reducers
        return cls(Pipeline(reducers) if reducers else Codec.parse("float32").tiers[0])

    @classmethod
    def from_bytes(cls, data: bytes) -> ClientCodec:
        """Restore what `to_bytes` gave."""
        return cls(Codec.from_bytes(data).tiers[0])

    def to_bytes(self) -> bytes:
        """Return what was learned."""
        return Codec([self._tier]).to_bytes()

    @property
    def learns(self) -> bool:
        """Whether `fit` looks at the vectors."""
        return self._tier.needs_fit

    def fit(self, sample: Floats, *, seed: int = 0) -> None:
        """Learn from vectors; those that learn nothing take a sample without rows."""
        self._tier.fit(sample, seed=seed)

    @property
    def out_dim(self) -> int:
        """Dimension of the vectors that are sent."""
        return self._tier.layout.dim

    def documents(self, vectors: Floats) -> Floats:
        """Return what to store."""
        return self._tier.encode(vectors).view(np.float32)

    def queries(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Return what to search for, and what to add to the scores."""
        return self._tier.encode_queries(vectors).view(np.float32), self._tier.query_offset(vectors)

    def decode(self, vectors: Floats) -> Floats:
        """Return stored vectors in the dimension they came in."""
        return self._tier.decode(np.ascontiguousarray(vectors, np.float32).view(np.uint8))


#: Namespace of the UUIDs of documents; it never changes, or stored documents could not be found again.
_DOCUMENTS: Final = uuid.UUID("8f1c3b5e-52a5-5d07-9f0e-0f5d6f2f8a11")


def point_id(identifier: str) -> str:
    """Return the point of a document: the UUID5 of its id.

    Examples
    --------
    >>> point_id("a") == point_id("a") != point_id("b")
    True
    """
    return str(uuid.uuid5(_DOCUMENTS, identifier))


_K1: Final = 1.2
_B: Final = 0.75


class BM25Encoder:
    """Turns texts into sparse vectors, split and stemmed as the local collection's full text is.

    Parameters
    ----------
    analysis : callable
        Returns what makes terms of texts; asked only where there are texts.
    average_length : float
        Terms of a typical document.
    """

    def __init__(self, analysis: Callable[[], TextAnalysis], average_length: float) -> None:
        self.analysis = analysis
        self._average = max(average_length, 1.0)

    def count(self, text: str) -> int:
        """Return the number of terms."""
        return len(self.analysis().terms(text))

    def document(self, text: str) -> Sparse:
        """Return a document's terms with the share of BM25 that does not depend on other documents."""
        if not text:
            return [], []
        terms = self.analysis().terms(text)
        norm = _K1 * (1 - _B + _B * len(terms) / self._average)
        weights: dict[int, float] = {}
        for term, count in Counter(terms).items():
            number = _dimension(term)
            weights[number] = weights.get(number, 0.0) + count * (_K1 + 1) / (count + norm)
        return list(weights), list(weights.values())

    def query(self, text: str) -> Sparse:
        """Return a query's terms, each as often as it stands there."""
        counts = Counter(_dimension(term) for term in self.analysis().terms(text))
        return list(counts), [float(count) for count in counts.values()]

    def matches(self, query: WordQuery, text: str) -> bool:
        """Tell whether a text matches a query."""
        return matches_words(query, text, self.analysis())


def _dimension(term: str) -> int:
    """Return a term's dimension; of a hundred thousand different terms, about one pair shares one."""
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=4).digest(), "little")


# ---------------------------------------------------------------------- documents as payloads

#: The fields of a payload that make up a document.
FIELDS: Final = ("id", "text", "metadata", "json", "payload", "embed_text", "flags")

#: Beyond this an integer does not survive every JSON reader.
_SAFE_INTEGER: Final = 2**53


def payload_of(batch: Batch, row: int, order: int) -> dict[str, Any]:
    """Return the payload of a document of a batch; `order` tells which of two was written later."""
    fields = describe(batch.parsed[row])
    payload: dict[str, Any] = {"id": batch.ids[row], "text": batch.texts[row], "order": order, **fields}
    metadata = json.loads(batch.metadata[row])
    if _plain(metadata):
        payload["metadata"] = metadata
    else:  # Qdrant would not give it back as it was
        payload["json"] = batch.metadata[row]
    if batch.payloads[row] is not None:
        payload["payload"] = batch.payloads[row]
    if batch.embed_texts[row] is not None:
        payload["embed_text"] = batch.embed_texts[row]
    if batch.flags[row]:
        payload["flags"] = batch.flags[row]
    return payload


def flags_of(point: Point) -> int:
    """Return the flags of the document that a point stands for, as `octavo.store.database` has them."""
    return int(point.payload.get("flags", 0))


def id_of(point: Point) -> str:
    """Return the id of the document that a point stands for.

    Raises
    ------
    CorruptCollectionError
        When the payload has been lost, or is another point's.
    """
    identifier = point.payload.get("id")
    if not isinstance(identifier, str) or point_id(identifier) != point.id:
        raise CorruptCollectionError(
            f"point {point.id} in Qdrant has lost its document, or has another's: its payload says {identifier!r}; bring the "
            "collection back from a backup"
        )
    return identifier


def order_of(point: Point) -> int:
    """Return what tells which of two documents was written later.

    Raises
    ------
    CorruptCollectionError
        When the payload has been lost.
    """
    order = point.payload.get("order")
    if not isinstance(order, int):
        raise CorruptCollectionError(
            f"point {point.id} in Qdrant has lost a part of its document; bring the collection back from a backup"
        )
    return order


def document_of(point: Point) -> Document:
    """Return the document that a point holds, which has come with `FIELDS` of its payload.

    Raises
    ------
    CorruptCollectionError
        When the payload has been lost, or is another point's.
    """
    text = point.payload.get("json")
    metadata = (
        metadata_from_json(text) if text is not None else metadata_from_tagged(point.payload.get("metadata") or {})
    )
    words = bool(flags_of(point) & EMBED_WORDS)
    return Document(id_of(point), point.payload.get("text", ""), metadata, point.payload.get("embed_text"), words)


def _plain(value: Any) -> bool:
    """Tell whether a JSON value comes back from Qdrant as it was: floats may lose their last bit, long integers more."""
    if isinstance(value, Mapping):
        return all(_valid(key) and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, float):
        return False
    if isinstance(value, int):
        return abs(value) <= _SAFE_INTEGER
    return not isinstance(value, str) or _valid(value)


def _valid(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
