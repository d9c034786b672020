"""The vectors of one model in Qdrant: how they are made of an encoder's, kept, compared and ranked.

A collection has those of one space, and while its model is being changed those of two (docs/change-model.md).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from octavo._arrays import Floats, as_matrix, unit_rows
from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.tokens import encode_pooled, pooled
from octavo.integrations.qdrant._filters import Condition
from octavo.integrations.qdrant._manifest import Manifest, Next, client_codec
from octavo.integrations.qdrant._ranker import QdrantDenseRanker, QdrantLateRanker
from octavo.integrations.qdrant.late_points import LateCodec, candidate_mapping, map_token_codec
from octavo.integrations.qdrant.points import BM25Encoder, ClientCodec, CodecMapping, map_codec, point_id
from octavo.integrations.qdrant.transport import DENSE, TOKENS, Layout, Point, TokenLayout, Transport
from octavo.store.tokens import mean_vectors

#: Numbers sent in one request, about 10 MB as JSON: a server takes 32 MB.
NUMBERS_AT_ONCE = 500_000

#: Bytes that a value takes in either datatype, and in what is searched by.
_BYTES = {"float32": 4.0, "float16": 2.0}
_SEARCHED = {None: 0.0, "scalar": 1.0, "binary": 1 / 8, "turbo1": 1 / 8, "turbo2": 2 / 8, "turbo4": 4 / 8}


@dataclass(frozen=True)
class DenseSpace:
    """One vector a document.

    Parameters
    ----------
    number : int
        Of the space.
    codec_text, metric, dim
        What the vectors are kept by, how they are compared, and their dimension as they come in.
    codec : ClientCodec
        What runs before they are sent.
    """

    number: int
    codec_text: str
    metric: Literal["cosine", "dot"]
    dim: int
    codec: ClientCodec

    late: ClassVar[bool] = False

    @property
    def mapping(self) -> CodecMapping:
        """What the codec is in Qdrant."""
        return map_codec(self.codec_text)

    def layout(self, *, sparse: bool) -> Layout:
        """Return how Qdrant stores them."""
        return Layout(self.codec.out_dim, self.mapping.datatype, self.mapping.quantization, sparse=sparse)

    @property
    def bytes_each(self) -> float:
        """Bytes that a document takes, about."""
        return self.codec.out_dim * (_BYTES[self.mapping.datatype] + _SEARCHED[self.mapping.quantization])

    def encoded(self, encoder: Any, texts: Sequence[str]) -> Floats:
        """Return an encoder's vectors of documents, ready to be sent."""
        return encoded_rows(encoder, texts, self.dim, self.metric)

    def points(self, documents: Sequence[Point], vectors: Any) -> list[Point]:
        """Return points with nothing but these vectors, for `Transport.fill`."""
        stored = self.codec.documents(vectors)
        return [
            Point(point.id, {"order": point.payload["order"]}, row.tolist(), space=self.number)
            for point, row in zip(documents, stored, strict=True)
        ]

    def ranker(self, transport: Transport, where: Condition, words: BM25Encoder, *, sparse: bool) -> QdrantDenseRanker:
        """Return what ranks by these vectors."""
        cosines, oversampling = self.metric == "cosine", self.mapping.oversampling
        return QdrantDenseRanker(
            transport, where, words, oversampling, codec=self.codec, cosines=cosines, sparse=sparse, space=self.number
        )

    def compared(self, transport: Transport, ids: Sequence[str]) -> Floats:
        """Return one vector for each document by which models are told apart; of zeros where there is none."""
        found = _by_id(transport, ids, DENSE, self.number)
        nothing = [0.0] * self.codec.out_dim
        rows = [nothing if point is None or point.dense is None else point.dense for point in found]
        return self.codec.decode(np.array(rows, np.float32).reshape(len(rows), -1))

    def as_stored(self, vectors: Any) -> Floats:
        """Return what is left of an encoder's vectors, in the same form."""
        matrix = as_matrix(vectors, self.dim, "vectors of the encoder")
        ready = unit_rows(matrix, keep_zeros=True) if self.metric == "cosine" else matrix
        return self.codec.decode(self.codec.documents(ready))


@dataclass(frozen=True)
class LateSpace:
    """Many vectors a document.

    Parameters
    ----------
    number : int
        Of the space.
    codec_text, dim
        See `DenseSpace`.
    pooling : dict
        How the tokens of a document are pooled.
    codec : LateCodec
        What runs before they are sent.
    """

    number: int
    codec_text: str
    dim: int
    pooling: dict[str, Any]
    codec: LateCodec

    late: ClassVar[bool] = True
    metric: ClassVar[Literal["cosine", "dot"]] = "cosine"

    @property
    def mapping(self) -> CodecMapping:
        """What the token codec is in Qdrant."""
        return map_token_codec(self.codec_text)

    def layout(self, *, sparse: bool) -> Layout:
        """See `DenseSpace.layout`."""
        candidates = candidate_mapping()
        tokens = TokenLayout(self.codec.token_dim, self.mapping.datatype, self.mapping.quantization)
        datatype, quantization = candidates.datatype, candidates.quantization
        return Layout(self.codec.candidate_dim, datatype, quantization, sparse=sparse, tokens=tokens)

    @property
    def bytes_each(self) -> float:
        """Bytes that a document takes, about: as if it had 64 vectors."""
        token = self.codec.token_dim * (_BYTES[self.mapping.datatype] + _SEARCHED[self.mapping.quantization])
        return 64 * token + 3 * self.codec.candidate_dim

    def encoded(self, encoder: Any, texts: Sequence[str]) -> TokenMatrices:
        """See `DenseSpace.encoded`."""
        return encode_pooled(encoder, list(texts), self.pooling, self.dim)

    def points(self, documents: Sequence[Point], vectors: Any) -> list[Point]:
        """See `DenseSpace.points`; a candidate vector of zeros says that a document has no tokens, and is done."""
        tokens, candidates = self.codec.documents(vectors)
        return [
            Point(
                point.id,
                {"order": point.payload["order"]},
                candidate.tolist(),
                tokens=matrix.tolist() if len(matrix) else None,
                space=self.number,
            )
            for point, candidate, matrix in zip(documents, candidates, tokens, strict=True)
        ]

    def ranker(self, transport: Transport, where: Condition, words: BM25Encoder, *, sparse: bool) -> QdrantLateRanker:
        """See `DenseSpace.ranker`."""
        oversampling = self.mapping.oversampling
        return QdrantLateRanker(
            transport, where, words, oversampling, codec=self.codec, sparse=sparse, space=self.number
        )

    def compared(self, transport: Transport, ids: Sequence[str]) -> Floats:
        """See `DenseSpace.compared`."""
        matrices = [
            self.codec.decode(
                np.array((point.tokens if point else None) or [], np.float32).reshape(-1, self.codec.token_dim)
            )
            for point in _by_id(transport, ids, TOKENS, self.number)
        ]
        return mean_vectors(TokenMatrices.of(matrices, dim=self.dim))

    def as_stored(self, vectors: Any) -> Floats:
        """See `DenseSpace.as_stored`."""
        tokens, _ = self.codec.documents(pooled(vectors, self.pooling, self.dim))
        return mean_vectors(TokenMatrices(self.codec.decode(tokens.flat), tokens.offsets))


Space: TypeAlias = DenseSpace | LateSpace


def space_of(about: Manifest | Next) -> Space:
    """Return the space that a description, or a change of the model, says."""
    if about.late is not None:
        codec = LateCodec.from_state(about.state, about.late["state"])
        return LateSpace(about.space, about.codec, about.dim, about.late["pooling"], codec)
    return DenseSpace(about.space, about.codec, about.metric, about.dim, client_codec(about.state))


def encoded_rows(encoder: Any, texts: Sequence[str], dim: int | None, metric: str) -> Floats:
    """Return an encoder's vectors of documents as rows, checked, of unit length where cosines are compared."""
    matrix = as_matrix(encoder.encode_documents(list(texts)), dim, f"the vectors of encoder {encoder.name!r}")
    return unit_rows(matrix, keep_zeros=True) if metric == "cosine" else matrix


def _by_id(transport: Transport, ids: Sequence[str], kind: str, space: int) -> list[Point | None]:
    points = [point_id(identifier) for identifier in ids]
    found = {point.id: point for point in transport.retrieve(points, False, vectors=[kind], space=space)}
    return [found.get(point) for point in points]


class Description:
    """What a collection in Qdrant says of itself, as this process knows it.

    Parameters
    ----------
    transport : Transport
        The collection.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.RLock()
        self._sum: Any = None
        self.manifest: Manifest | None = None
        self.space: Space | None = None
        self.next: Space | None = None

    def read(self) -> None:
        """Read it; there is one."""
        with self._lock:
            self._sum = Manifest.checksum_of(self._transport)
            self._take(Manifest.read(self._transport))

    def create(self, manifest: Manifest) -> None:
        """Write the first one."""
        with self._lock:
            manifest.write(self._transport)
            self._sum = Manifest.checksum_of(self._transport)
            self._take(manifest)

    def refresh(self) -> bool:
        """Read it again if others have written another one; tells whether the model, or a change of it, is another."""
        with self._lock:
            before = _state(self.manifest)
            if self.manifest is not None and Manifest.checksum_of(self._transport) != self._sum:
                self.read()
            return _state(self.manifest) != before

    def edit(self, *, keep_blueprint: bool = True, **changes: Any) -> None:
        """Change entries of the newest one."""
        with self._lock:
            self.refresh()
            assert self.manifest is not None  # there is a collection
            changed = replace(self.manifest, **changes)
            changed.write(self._transport, keep_blueprint=keep_blueprint)
            self._sum = Manifest.checksum_of(self._transport)
            self._take(changed)

    def _take(self, manifest: Manifest) -> None:
        before, self.manifest = self.manifest, manifest
        if before is None or (before.space, before.state, before.late) != (
            manifest.space,
            manifest.state,
            manifest.late,
        ):
            self.space = space_of(manifest)
        if manifest.next is None:
            self.next = None
        elif before is None or before.next != manifest.next:
            self.next = space_of(manifest.next)


def _state(manifest: Manifest | None) -> tuple[int, str] | None:
    if manifest is None:
        return None
    return manifest.space, manifest.next.identity if manifest.next is not None else ""
