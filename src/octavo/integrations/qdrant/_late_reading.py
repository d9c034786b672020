"""The reading half of a multi-vector collection in Qdrant: candidates and MaxSim in one request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from octavo._arrays import Floats
from octavo.collection.searching import LateSearch, Ranker
from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import DocumentNotFoundError
from octavo.integrations.qdrant._filters import Condition
from octavo.integrations.qdrant._ids import point_id
from octavo.integrations.qdrant._ranker import QdrantLateRanker
from octavo.integrations.qdrant._reading import ReadingMethods
from octavo.integrations.qdrant.late_codec import LateCodec, map_token_codec
from octavo.integrations.qdrant.mapping import Mapping
from octavo.integrations.qdrant.transport import TOKENS
from octavo.store.documents import check_ids, chunked

#: Documents whose token vectors are asked for in one request: 100 vectors of 384 numbers each make 15 MB of JSON.
_DOCUMENTS_AT_ONCE = 32


class LateReadingMethods(LateSearch, ReadingMethods):
    """What `QdrantMultiVectorCollection` does without writing."""

    _token_encoder: TokenEncoder | None
    _late: LateCodec | None

    # ------------------------------------------------------------------ documents

    def get_token_vectors(self, ids: Iterable[str]) -> list[Floats]:
        """Return the stored token vectors of documents: pooled, decoded, of unit length (nearly).

        Returns
        -------
        list of ndarray of shape (n_vectors, dim), float32
            In the order asked.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.
        """
        return [self._learned().decode(stored) for stored in self._stored(check_ids(ids))]

    def _stored(self, ids: Sequence[str]) -> list[Floats]:
        """Return the token vectors of documents as Qdrant keeps them."""
        found = {
            point.id: point.tokens
            for part in chunked(ids, _DOCUMENTS_AT_ONCE)
            for point in self._retrieve(part, False, vectors=[TOKENS])
        }
        points = [point_id(identifier) for identifier in ids]
        for identifier, point in zip(ids, points, strict=True):
            if point not in found:
                raise DocumentNotFoundError(
                    f"expected ids of stored documents, but {identifier!r} is not in the collection"
                )
        return [self._matrix(found[point]) for point in points]

    def _matrix(self, tokens: Sequence[Sequence[float]] | None) -> Floats:
        return np.array(tokens or [], np.float32).reshape(-1, self._learned().token_dim)

    def _decoded(self, vectors: Sequence[Sequence[float] | None]) -> Floats:
        """Return stored candidate vectors as they are; zero for documents without tokens."""
        nothing = [0.0] * self._learned().candidate_dim
        return np.array([nothing if vector is None else vector for vector in vectors], np.float32)

    # ------------------------------------------------------------------ search

    def _new_ranker(self, condition: Condition) -> Ranker:
        return QdrantLateRanker(
            self._transport, condition, self._words(), self._mapping.oversampling, codec=self._learned()
        )

    def _similarities(self, tokens: TokenMatrices, id: str) -> tuple[Floats, Floats, str]:
        # computed here, with the vectors that Qdrant keeps in full
        (stored,) = self._stored([id])
        codec = self._learned()
        sent, _, _ = codec.queries(tokens)
        similarities: Floats = sent.flat @ stored.T + codec.token_offsets(tokens.flat)[:, None]
        (document,) = self.get([id])
        return similarities, codec.decode(stored), document.text

    # ------------------------------------------------------------------ inside

    @property
    def _mapping(self) -> Mapping:
        assert self._manifest is not None
        return map_token_codec(self._manifest.codec)

    def _learned(self) -> LateCodec:
        assert self._late is not None  # there are documents, so there is one
        return self._late
