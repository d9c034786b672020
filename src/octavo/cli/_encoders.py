"""From what the user, or a collection's manifest, calls an encoder to the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from octavo._arrays import Floats
from octavo.cli._locations import open_place
from octavo.collection import CollectionLike
from octavo.encoders.dense import Encoder, as_encoder
from octavo.encoders.models import is_attribute, load_attribute
from octavo.encoders.sparse import SparseEncoder
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import MissingExtraError, ParameterError

DEFAULT_MODEL = "all-MiniLM-L6-v2"


class _Named:
    """An encoder under the name that the user called it by, which is what the manifest then says."""

    def __init__(self, name: str, encoder: Encoder) -> None:
        self.name = name
        self._encoder = encoder

    def encode_documents(self, texts: Sequence[str], /) -> Floats:
        return self._encoder.encode_documents(texts)

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        return self._encoder.encode_queries(texts)


def load_encoder_of(name: str, *, late: bool) -> Encoder | TokenEncoder:
    """Load an encoder that the user named, which has to give many vectors a text if `late`; see `load_encoder`."""
    if late:
        return TokenEncoder(load_attribute(name) if is_attribute(name) else name, name=name)
    return load_encoder(name)


def load_encoder(name: str) -> Encoder:
    """Load an encoder that the user named: a sentence-transformers model, or ``module:attribute``.

    Raises
    ------
    ParameterError
        When there is no such module, attribute or model.
    """
    if not is_attribute(name):
        return as_encoder(name)
    return _Named(name, as_encoder(load_attribute(name)))


def load_stored_encoder(name: str | None, *, late: bool = False) -> Encoder | TokenEncoder:
    """Load the encoder that a collection names.

    A collection may come from anyone, so a name that means importing a module is never followed.

    Raises
    ------
    ParameterError
        When it names none, or one that has to be given with ``--model``.
    """
    if name is None:
        raise ParameterError("the collection was made from ready vectors and names no encoder; pass it with --model")
    if is_attribute(name):
        raise ParameterError(f"the collection was made with {name!r}, which is code; if you trust it: --model {name}")
    try:
        return load_encoder_of(name, late=late)
    except MissingExtraError:
        raise
    except ParameterError as error:
        raise ParameterError(f"the collection names the encoder {name!r}: {error}; another way: --model") from error


def stored_encoder(place: str) -> tuple[str | None, bool]:
    """Return the name of the encoder that an existing collection was made with, and whether it keeps many vectors a text."""
    with closing(open_place(place, read_only=True)) as collection:
        name: str | None = collection.info().encoder
        return name, collection.late is not None


def encoder_for(place: str, model: str | None) -> Encoder | TokenEncoder:
    """Return the encoder that the user named, or else the collection's own, of the collection's kind."""
    name, late = stored_encoder(place)
    return load_encoder_of(model, late=late) if model is not None else load_stored_encoder(name, late=late)


def open_with_encoder(
    place: str, model: str | None, *, previous: str | None = None, sparse: Any = None, read_only: bool
) -> CollectionLike:
    """Open an existing collection with its own encoder, or with the one that the user named.

    While its model is being changed, its own are two; one of them is enough. Who names the one that it is, or will be, changed
    from (`previous`) names the other one, too.
    """
    with closing(open_place(place, read_only=True)) as collection:
        info, late = collection.info(), collection.late is not None
    state = info.reencoding
    if previous is not None and model is None:
        raise ParameterError("expected --model beside --previous: the model that the collection is changed to")
    if model is not None or state is None:
        coming = state["late"] if state is not None and model == state["encoder"] else late
        encoder = (
            load_encoder_of(model, late=coming) if model is not None else load_stored_encoder(info.encoder, late=late)
        )
        other = load_encoder_of(previous, late=late) if previous is not None else None
        return open_place(place, encoder, sparse=sparse, read_only=read_only, previous=other)
    encoders: list[Encoder | TokenEncoder] = []
    failure: ParameterError | None = None
    for name, many in ((state["encoder"], state["late"]), (info.encoder, late)):
        try:
            encoders.append(load_stored_encoder(name, late=many))
        except ParameterError as error:
            failure = error
    if not encoders:
        assert failure is not None  # of one of the two
        raise failure
    other = encoders[1] if len(encoders) > 1 else None
    return open_place(place, encoders[0], sparse=sparse, read_only=read_only, previous=other)


def load_sparse_encoder(name: str) -> SparseEncoder:
    """Load an encoder of learned sparse vectors that the user named; as `load_encoder`."""
    return SparseEncoder(load_attribute(name), name=name) if is_attribute(name) else SparseEncoder(name)


def stored_sparse_encoder(place: str) -> SparseEncoder | None:
    """Load the sparse encoder that an existing collection names; None where it has no sparse vectors.

    Raises
    ------
    ParameterError
        When it has some, but names no encoder, or one that has to be given with ``--sparse``.
    """
    with closing(open_place(place, read_only=True)) as collection:
        about: dict[str, Any] | None = collection.info().sparse
    if about is None:
        return None
    name = about["encoder"]
    if name is None:
        raise ParameterError("the collection's sparse vectors were given, and it names no model; pass it with --sparse")
    if is_attribute(name):
        raise ParameterError(
            f"the collection's sparse vectors were made with {name!r}, which is code; if you trust it: --sparse {name}"
        )
    return SparseEncoder(name)
