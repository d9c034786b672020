"""Move a whole collection into another one without encoding anything anew: resumable, and verified at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from octavo import Collection
from octavo._validation import check_integer
from octavo.collection import MultiVectorLike
from octavo.collection.rebuild import add_stored, as_kept, vectors_to_move
from octavo.errors import MismatchError, ParameterError
from octavo.store.documents import Document, chunked, metadata_to_tagged

#: Documents that are compared as a whole at the end, vectors included, spread evenly over the collection.
VERIFIED = 256

#: The other side may store vectors in another type. Below this cosine it is not the same vector any more.
_SAME_VECTOR = 0.99

_SAME_LENGTH = 0.02


class Movable(Protocol):
    """What a collection must offer to be moved; `Collection` and the integrations' collections do."""

    @property
    def local(self) -> Collection | None:
        """The collection itself, if its documents lie in files of Octavo's own; else None."""
        ...

    @property
    def late(self) -> MultiVectorLike | None:
        """The collection itself, if it keeps many vectors a document; else None."""
        ...

    @property
    def has_sparse_vectors(self) -> bool:
        """Whether documents have learned sparse vectors."""
        ...

    def get_sparse_vectors(self, ids: Iterable[str], /) -> Any:
        """Return their learned sparse vectors."""
        ...

    def ids(self) -> list[str]:
        """Return the ids of all documents."""
        ...

    def get(self, ids: Iterable[str], /) -> list[Document]:
        """Return the documents with these ids."""
        ...

    def get_payloads(self, ids: Iterable[str], /) -> list[str | None]:
        """Return their payloads."""
        ...

    def delete(self, ids: Iterable[str], /) -> int:
        """Delete documents."""
        ...

    def count(self) -> int:
        """Return the number of documents."""
        ...

    def notes(self) -> dict[str, str]:
        """Return the notes."""
        ...

    def set_note(self, name: str, text: str | None, /) -> None:
        """Keep a note, or remove it."""
        ...


#: Writes documents into the target: documents, payloads, vectors (or token matrices) as they are stored, and learned sparse
#: vectors or None.
Write = Callable[[Sequence[Document], Sequence[str | None], Any, Any], object]


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did.

    Parameters
    ----------
    documents : int
        Documents in both collections now.
    copied, present, removed : int
        Documents written; left alone because the target had them, equal, already; deleted because the source has no such.
    ids_sha256 : str
        SHA-256 of the sorted ids, the same on both sides.
    compared : int
        Documents that were read back from both sides and found equal, vectors included.
    """

    documents: int
    copied: int
    present: int
    removed: int
    ids_sha256: str
    compared: int


def ids_checksum(ids: Iterable[str]) -> str:
    """Return the SHA-256 of ids, whatever their order; each is preceded by its length, so that no two sets collide.

    Examples
    --------
    >>> ids_checksum(["b", "a"]) == ids_checksum(["a", "b"]) != ids_checksum(["ab"])
    True
    """
    digest = hashlib.sha256()
    for data in sorted(identifier.encode() for identifier in ids):
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def stored_vectors(collection: Any, ids: Sequence[str]) -> Any:
    """Return what a collection keeps for these documents: a matrix, or a list of token matrices."""
    late, local = collection.late, collection.local
    if late is not None:
        return late.get_token_vectors(ids)
    return vectors_to_move(local, ids) if local is not None else collection.get_vectors(ids)


def write_stored(target: Any) -> Write:
    """Return what writes stored vectors into a collection: as they are into a local one, by its `add` into any other."""
    late, local = target.late is not None, target.local

    def write(documents: Sequence[Document], payloads: Sequence[str | None], vectors: Any, sparse: Any) -> object:
        given = {"token_vectors": vectors} if late else {"vectors": vectors}
        if sparse is not None:
            given["sparse_vectors"] = sparse
        if local is not None:
            return add_stored(local, documents, payloads=payloads, **given)
        return target.add(documents, payloads=payloads, **given)

    return write


def transfer(
    source: Movable,
    target: Movable,
    *,
    write: Write | None = None,
    batch_size: int = 512,
    prune: bool = False,
    advance: Callable[[int], object] = lambda n: None,
) -> TransferReport:
    """Make `target` hold exactly what `source` holds.

    A document that the target has already, with the same text, metadata and payload, is left alone: a transfer that was
    killed goes on where it stopped, without a file of its own that could disagree with the target.

    Parameters
    ----------
    source, target : Collection, or a collection of an integration
        Both of one kind, opened. Nobody else should be writing to either.
    write : callable, optional
        Writes one batch into the target; default `write_stored`.
    batch_size : int, default=512
        Documents written at a time.
    prune : bool, default=False
        Delete what the source does not have. Without it, such documents are an error.
    advance : callable, optional
        Told the number of documents done after each batch.

    Returns
    -------
    TransferReport

    Raises
    ------
    ParameterError
        When the target holds documents that the source does not have; nothing was written then.
    MismatchError
        When the two are not equal afterwards; the message says in what.
    """
    batch_size = check_integer(batch_size, "batch_size", least=1)
    write = write if write is not None else write_stored(target)
    listed = source.ids()
    there = set(target.ids())
    extra = sorted(there.difference(listed))
    if extra and not prune:
        raise ParameterError(
            f"expected a target that is empty or holds a part of the source, but {len(extra)} of its documents are not in "
            f"the source, {extra[0]!r} among them; choose another target, or have them deleted (prune)"
        )
    copied = 0
    for part in chunked(listed, batch_size):
        copied += _copy(source, target, part, [identifier for identifier in part if identifier in there], write)
        advance(len(part))
    removed = sum(target.delete(part) for part in chunked(extra, batch_size))
    checksum = _verify_ids(listed, target)
    compared = _verify_documents(source, target, listed, batch_size)
    _copy_notes(source, target)
    return TransferReport(len(listed), copied, len(listed) - copied, removed, checksum, compared)


def _copy(source: Movable, target: Movable, ids: Sequence[str], there: Sequence[str], write: Write) -> int:
    documents = source.get(ids)
    payloads = source.get_payloads([document.id for document in documents])
    present = _contents(target, there) if there else {}
    changed = [
        number
        for number, (document, payload) in enumerate(zip(documents, payloads, strict=True))
        if present.get(document.id) != _content(document, payload)
    ]
    if changed:
        chosen = [documents[number] for number in changed]
        listed = [document.id for document in chosen]
        sparse = source.get_sparse_vectors(listed) if source.has_sparse_vectors else None
        write(chosen, [payloads[number] for number in changed], stored_vectors(source, listed), sparse)
    return len(changed)


def _copy_notes(source: Movable, target: Movable) -> None:
    """Make the target's notes equal to the source's."""
    wanted, found = source.notes(), target.notes()
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            target.set_note(name, wanted.get(name))


def _contents(collection: Movable, ids: Sequence[str]) -> dict[str, str]:
    documents = collection.get(ids)
    payloads = collection.get_payloads([document.id for document in documents])
    return {document.id: _content(document, payload) for document, payload in zip(documents, payloads, strict=True)}


def _content(document: Document, payload: str | None) -> str:
    # As JSON, because Python takes 1, 1.0 and True for the same.
    parts = [document.text, metadata_to_tagged(document.metadata), payload, document.embed_text, document.embed_words]
    return json.dumps(parts, sort_keys=True)


def _verify_ids(expected: Sequence[str], target: Movable) -> str:
    found = target.ids()
    count = target.count()
    checksum = ids_checksum(found)
    if count != len(expected) or checksum != ids_checksum(expected):
        missing = sorted(set(expected).difference(found))
        example = f"; {missing[0]!r} is missing" if missing else ""
        raise MismatchError(
            f"after the transfer the source has {len(expected)} ids and the target {len(found)} (it counts {count}) with "
            f"another checksum{example}; is somebody writing to one of them? Run it again"
        )
    return checksum


def _verify_documents(source: Movable, target: Movable, ids: Sequence[str], batch_size: int) -> int:
    chosen = [ids[number] for number in np.unique(np.linspace(0, len(ids) - 1, VERIFIED).astype(int))] if ids else []
    for part in chunked(chosen, batch_size):
        expected, found = _contents(source, part), _contents(target, part)
        vectors = stored_vectors(source, part)
        # What a codec of few bits keeps of a vector in full is far from it, and no fault.
        rounded = as_kept(target.local, vectors) if target.local is not None else vectors
        pairs = zip(part, vectors, rounded, stored_vectors(target, part), strict=True)
        for identifier, one, kept, other in pairs:
            if expected.get(identifier) != found.get(identifier):
                raise MismatchError(
                    f"after the transfer {identifier!r} has another text, metadata or payload in the target"
                )
            found_one = np.asarray(other, np.float64)
            if not any(_same(np.asarray(each, np.float64), found_one) for each in (one, kept)):
                raise MismatchError(
                    f"after the transfer {identifier!r} has another vector in the target; was the target filled from another "
                    "collection? Choose an empty one"
                )
        if source.has_sparse_vectors:
            sparse = zip(part, source.get_sparse_vectors(part), target.get_sparse_vectors(part), strict=True)
            for identifier, one, other in sparse:
                if not _same_sparse(*one, *other):
                    raise MismatchError(f"after the transfer {identifier!r} has another sparse vector in the target")
    return len(chosen)


def _same_sparse(terms: Any, weights: Any, others: Any, other_weights: Any) -> bool:
    """Tell whether two sparse vectors are equal but for rounding: a local collection keeps weights in 8 bits."""
    if not np.array_equal(terms, others):
        return False
    return not len(terms) or bool(np.abs(weights - other_weights).max() <= weights.max() / 200)


def _same(one: Any, other: Any) -> bool:
    """Tell whether two vectors, or the rows of two matrices, are equal but for rounding."""
    if one.shape != other.shape:
        return False
    lengths, others = np.linalg.norm(one, axis=-1), np.linalg.norm(other, axis=-1)
    cosines_enough = (one * other).sum(axis=-1) >= _SAME_VECTOR * lengths * others
    close = np.abs(lengths - others) <= _SAME_LENGTH * np.maximum(lengths, others)
    return bool(np.all(cosines_enough & close))
