"""The collections that `upsert` writes into: a directory, a place in Qdrant, or whatever a callable opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from octavo import Collection
from octavo.collection.model_check import prompts_of
from octavo.collection.rebuild import Blueprint, add_stored, open_from_blueprint
from octavo.compression import Codec
from octavo.encoders.dense import Encoder, as_encoder, fingerprint
from octavo.errors import CollectionNotFoundError, ForeignCollectionError, MismatchError, ParameterError
from octavo.integrations.qdrant import QdrantCollection
from octavo.integrations.qdrant import transfer as qdrant
from octavo.integrations.qdrant.location import Location
from octavo.integrations.ray._checkpoint import Checkpoint
from octavo.integrations.ray._rows import codec_tag, decoded
from octavo.store.documents import Document

if TYPE_CHECKING:
    from octavo._arrays import Codes


class Codecs:
    """Finds the codec that a table was made with.

    Parameters
    ----------
    given : Codec or None
        What the caller gave.
    checkpoint : Checkpoint or None
        Where there are others.
    """

    def __init__(self, given: Codec | None, checkpoint: Checkpoint | None) -> None:
        self._given, self._checkpoint = given, checkpoint
        self._found: dict[str, Codec] = {}

    def of(self, tag: str) -> Codec:
        """Return the codec of a tag.

        Raises
        ------
        MismatchError
            When it is another than the one given.
        ParameterError
            When none was given, and there is none in the checkpoint.
        """
        if tag not in self._found:
            metric = tag.partition(":")[0]
            codec = self._given
            if codec is not None and codec_tag(codec, metric) != tag:
                raise MismatchError(
                    f"the dataset was encoded with another codec than the given {codec!r}, or one that has learned something "
                    "else; give the very codec that encode() was given"
                )
            if codec is None and self._checkpoint is not None:
                codec = self._checkpoint.load_codec(tag)
            if codec is None:
                raise ParameterError(
                    "expected codec=, or the checkpoint= that encode() was given, to read the codes with"
                )
            self._found[tag] = codec
        return self._found[tag]

    def blueprint_of(self, tag: str) -> Blueprint:
        """Return what a new collection for tables of this tag needs."""
        codec = self.of(tag)
        settings = {"metric": tag.partition(":")[0], "full_text": "english"}
        return Blueprint(settings, str(codec), codec.in_dim, codec_state=codec.to_bytes())


class Target(Protocol):
    """What `BlockWriter` writes into."""

    def for_tag(self, tag: str, texts: Sequence[str]) -> Any:
        """Return the collection for tables of this tag; `texts` are some of those to come."""

    def close(self) -> None:
        """Close the collection, if it was opened."""


class LocalTarget:
    """A local collection, created for the first documents."""

    def __init__(self, path: Path, encoder: Any, codecs: Codecs) -> None:
        self._path, self._encoder, self._codecs = path, encoder, codecs
        self._collection: Collection | None = None

    def for_tag(self, tag: str, texts: Sequence[str]) -> Collection:
        if self._collection is None:
            self._collection = open_from_blueprint(self._path, self._codecs.blueprint_of(tag), self._encoder)
        return self._collection

    def close(self) -> None:
        if self._collection is not None:
            self._collection.close()


class QdrantTarget:
    """A collection at a place in Qdrant, created for the first documents with what the codec has learned."""

    def __init__(self, location: Location, encoder: Any, codecs: Codecs) -> None:
        self._location, self._encoder, self._codecs = location, encoder, codecs
        self._collection: QdrantCollection | None = None

    def for_tag(self, tag: str, texts: Sequence[str]) -> QdrantCollection:
        if self._collection is None:
            self._collection = self._open(self._codecs.blueprint_of(tag), texts)
        return self._collection

    def _open(self, blueprint: Blueprint, texts: Sequence[str]) -> QdrantCollection:
        options = self._location.options()
        encoder = as_encoder(self._encoder) if self._encoder is not None else None
        try:
            there = QdrantCollection.open(encoder=encoder, **options)
        except ForeignCollectionError:
            raise  # which is not to be created over
        except CollectionNotFoundError:
            pass  # it is created below
        else:
            if not qdrant.has_codec(there, blueprint):
                found = there.codec
                there.close()
                raise MismatchError(
                    f"the dataset was encoded with a fitted {blueprint.codec!r}, but the collection in Qdrant has {found!r} or "
                    "has learned something else; choose another place or name, or delete that collection first"
                )
            return there
        described = self._describe(encoder, texts, blueprint.dim) if encoder is not None else None
        return qdrant.open_from_blueprint(replace(blueprint, encoder=described), texts, **options)

    @staticmethod
    def _describe(encoder: Encoder, texts: Sequence[str], dim: int | None) -> dict[str, Any]:
        found = encoder.encode_documents(texts[:1]).shape[1] if texts else dim
        if dim is not None and found != dim:
            raise MismatchError(
                f"the dataset holds vectors of dimension {dim}, but encoder {encoder.name!r} makes vectors of dimension "
                f"{found}; give the encoder that the dataset was encoded with"
            )
        return fingerprint(encoder.name, prompts_of(encoder), int(found or 0))

    def close(self) -> None:
        if self._collection is None:
            return
        if self._location.path is not None:
            self._collection.optimize()  # a server does so on its own; in this process nobody else would
        self._collection.close()


class OpenedTarget:
    """A collection that a callable opened."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def for_tag(self, tag: str, texts: Sequence[str]) -> Any:
        return self._collection

    def close(self) -> None:
        self._collection.close()


def write(collection: Any, documents: Sequence[Document], codec: Codec, tiers: Sequence[Codes]) -> None:
    """Write encoded documents: the codes themselves where the collection can take them, else the vectors they stand for."""
    vectors = decoded(tiers, codec)
    if isinstance(collection, Collection):
        add_stored(collection, documents, vectors=vectors, codes=(codec.to_bytes(), tiers))
    elif isinstance(collection, QdrantCollection) and collection.dim is not None:
        qdrant.write_stored(collection)(documents, [None] * len(documents), vectors, None)
    else:
        collection.add(documents, vectors=vectors)
