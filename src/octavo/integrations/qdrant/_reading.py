"""The reading half of a Qdrant collection: documents, filters, searches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from octavo._arrays import Floats
from octavo.collection.searching import DenseSearch, NothingRanked, Ranker, Where, check_filter
from octavo.encoders.dense import Encoder
from octavo.errors import CollectionClosedError, DocumentNotFoundError
from octavo.filters import Filter, matches
from octavo.integrations.qdrant._documents import FIELDS, document_of
from octavo.integrations.qdrant._filters import DOCUMENTS, NOTHING, Condition, all_of, any_of, none_of, translate
from octavo.integrations.qdrant._ids import point_id
from octavo.integrations.qdrant._manifest import Manifest
from octavo.integrations.qdrant._ranker import QdrantDenseRanker
from octavo.integrations.qdrant._words import Words
from octavo.integrations.qdrant.mapping import ClientCodec, Mapping, map_codec
from octavo.integrations.qdrant.transport import DENSE, Point, Transport
from octavo.retrievers.search import FilterLike, SearchOptions, lets_through
from octavo.store.documents import Document, check_ids, chunked

_CHUNK = 256


class ReadingMethods(DenseSearch):
    """What `QdrantCollection` does without writing."""

    _transport: Transport
    _manifest: Manifest | None
    _codec: ClientCodec | None
    _encoder: Encoder | None
    _closed: bool

    # ------------------------------------------------------------------ documents

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids, in the order asked; unknown ids are left out."""
        listed = check_ids(ids)
        found = {point.id: point.payload for point in self._retrieve(listed, FIELDS)}
        points = [point_id(identifier) for identifier in listed]
        return [document_of(found[point]) for point in points if point in found]

    def get_payloads(self, ids: Iterable[str]) -> list[str | None]:
        """Return the payloads of these ids, in the order asked; None where there is no document or no payload."""
        listed = check_ids(ids)
        found = {point.id: point.payload.get("payload") for point in self._retrieve(listed, ["payload"])}
        return [found.get(point_id(identifier)) for identifier in listed]

    def get_vectors(self, ids: Iterable[str]) -> Floats:
        """Return the stored vectors, in the dimension they came in.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.
        """
        listed = check_ids(ids)
        found = {point.id: point.dense for point in self._retrieve(listed, False, vectors=[DENSE])}
        points = [point_id(identifier) for identifier in listed]
        for identifier, point in zip(listed, points, strict=True):
            if point not in found:
                raise DocumentNotFoundError(
                    f"expected ids of stored documents, but {identifier!r} is not in the collection"
                )
        if not listed:
            return np.zeros((0, self.dim or 0), np.float32)
        return self._decoded([found[point] for point in points])

    def contains(self, ids: Iterable[str]) -> list[bool]:
        """Tell for each id whether it is there."""
        listed = check_ids(ids)
        found = {point.id for point in self._retrieve(listed, False)}
        return [point_id(identifier) in found for identifier in listed]

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and self.contains([identifier])[0]

    def __len__(self) -> int:
        return self.count()

    def count(self, filter: FilterLike = None) -> int:
        """Return the number of documents (that match)."""
        self._require_open()
        return self._transport.count(self._where(filter)) if self._manifest else 0

    def ids(self, filter: FilterLike = None) -> list[str]:
        """Return the ids of all documents (that match), oldest version first."""
        self._require_open()
        found = [
            (point.payload["order"], point.payload["id"])
            for point in self._scroll(self._where(filter), ["id", "order"])
        ]
        return [identifier for _, identifier in sorted(found)]

    def documents(self, filter: FilterLike = None) -> Iterator[Document]:
        """Yield all documents (that match), oldest version first, a few hundred in memory at a time."""
        for part in chunked(self.ids(filter), _CHUNK):
            yield from self.get(part)

    # ------------------------------------------------------------------ search

    @contextlib.contextmanager
    def _ranker(self, where: Where, ids: Sequence[str] | None, options: SearchOptions) -> Iterator[Ranker]:
        if self._manifest is None:
            yield NothingRanked()
            return
        condition = self._where(where)
        if ids is not None:
            condition = all_of(condition, {"has_id": [point_id(each) for each in ids]} if ids else NOTHING)
        yield self._new_ranker(condition)

    def _new_ranker(self, condition: Condition) -> Ranker:
        return QdrantDenseRanker(
            self._transport,
            condition,
            self._words(),
            self._mapping.oversampling,
            codec=self._fitted(),
            cosines=self.metric == "cosine",
        )

    @property
    def local(self) -> None:
        """None: the documents lie in Qdrant."""
        return None

    @property
    def late(self) -> None:
        """None: it keeps one vector a document."""
        return None

    # ------------------------------------------------------------------ inside

    @property
    def _mapping(self) -> Mapping:
        assert self._manifest is not None
        return map_codec(self._manifest.codec)

    def _fitted(self) -> ClientCodec:
        assert self._codec is not None  # there are documents, so there is one
        return self._codec

    def _decoded(self, vectors: Sequence[Sequence[float] | None]) -> Floats:
        """Return stored vectors in the dimension they came in."""
        return self._fitted().decode(np.array(vectors, np.float32))

    def _words(self) -> Words:
        assert self._manifest is not None
        return Words(self._manifest.full_text, self._manifest.average_length)

    def _require_open(self) -> None:
        if self._closed:
            raise CollectionClosedError("the collection is closed; open it again")

    def _retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | bool, *, vectors: Sequence[str] = ()
    ) -> Iterator[Point]:
        self._require_open()
        if self._manifest is None:
            return
        points = list(dict.fromkeys(map(point_id, ids)))
        for part in chunked(points, _CHUNK):
            yield from self._transport.retrieve(part, fields, vectors=vectors)

    def _scroll(self, where: Condition, fields: Sequence[str]) -> Iterator[Point]:
        offset: str | None = None
        while self._manifest is not None:
            page, offset = self._transport.scroll(where, fields, offset)
            yield from page
            if offset is None:
                return

    def _where(self, filter: FilterLike) -> Condition:
        """Return a filter that lets exactly the wanted documents through."""
        tree = check_filter(filter)
        if tree is None:
            return DOCUMENTS
        if not isinstance(tree, Filter):
            return self._chosen(DOCUMENTS, tree)
        bounds = translate(tree)
        if bounds.exact:
            return all_of(DOCUMENTS, bounds.lower)
        between = all_of(DOCUMENTS, bounds.upper, none_of(bounds.lower))
        some = self._chosen(between, lambda document: matches(tree, document.metadata))
        return all_of(DOCUMENTS, bounds.lower if some is NOTHING else any_of(bounds.lower, some))

    def _chosen(self, where: Condition, wanted: Callable[[Document], bool]) -> Condition:
        """Look at documents one by one, and return a filter for those that are wanted."""
        found = [point.id for point in self._scroll(where, FIELDS) if lets_through(wanted, document_of(point.payload))]
        return {"has_id": found} if found else NOTHING
