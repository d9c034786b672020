"""Documents into several collections at once: one for each kind of vectors, filled from one pass of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from octavo._validation import check_integer
from octavo.collection.protocol import CollectionLike
from octavo.errors import InputTypeError, ParameterError
from octavo.store.documents import DocumentLike, read_batches


def add_to_each(
    collections: Sequence[CollectionLike],
    documents: Iterable[DocumentLike],
    ids: Iterable[str | None] | None = None,
    metadata: Iterable[Mapping[str, Any] | None] | None = None,
    *,
    embed_texts: Iterable[str | None] | None = None,
    embed_words: bool = False,
    batch_size: int = 256,
) -> list[str]:
    """Insert the same documents into several collections, each with the vectors that its own encoder makes of them.

    For a model that gives several kinds of vectors in one pass, as BGE-M3 does: a collection with its dense and sparse vectors
    (`octavo.open`) and one for late interaction with its token vectors (`octavo.open_multi_vector`), opened with the same
    model object, ask it once for each batch of documents.

    Parameters
    ----------
    collections : sequence of CollectionLike
        Open, each with its encoder.
    documents, ids, metadata, embed_texts, embed_words
        See `octavo.Collection.add`. Made-up ids are the same in all of them.
    batch_size : int, default=256
        Documents encoded at a time, and committed in one collection after the other. An interrupted call leaves the last batch
        in some of them; called again with the same ids, it goes on there, and what is embedded already is not embedded again.

    Returns
    -------
    list of str
        The ids, in order.

    Raises
    ------
    ParameterError, InputTypeError
        When there is no collection, one comes twice, or the input cannot be used; see `octavo.Collection.add`.

    Examples
    --------
    >>> import octavo
    >>> one = octavo.open(encoder=lambda texts: [[len(text), 1.0] for text in texts])
    >>> many = octavo.open_multi_vector(encoder=lambda texts: [[[len(word), 1.0] for word in text.split()] for text in texts])
    >>> add_to_each([one, many], ["dark green", "red"], ids=["g", "r"])
    ['g', 'r']
    >>> one.ids() == many.ids()
    True
    >>> one.close(), many.close()
    (None, None)
    """
    if isinstance(collections, CollectionLike) or not isinstance(collections, Sequence):
        raise InputTypeError(f"expected several collections in a list, got {type(collections).__name__}")
    if wrong := [each for each in collections if not isinstance(each, CollectionLike)]:
        raise InputTypeError(f"expected open collections, got {type(wrong[0]).__name__}")
    if not collections or len({id(each) for each in collections}) < len(collections):
        raise ParameterError("expected at least one collection, and each once")
    if without := [each for each in collections if each.encoder is None]:
        raise ParameterError(f"expected collections that were opened with their encoder, got {without[0]!r}")
    batch_size = check_integer(batch_size, "batch_size", least=1)
    batches = read_batches(
        documents,
        ids,
        metadata,
        None,
        None,
        batch_size=batch_size,
        dim=None,
        embed_texts=embed_texts,
        embed_words=embed_words,
    )
    added: list[str] = []
    for batch in batches:
        for collection in collections:
            collection.add(
                batch.texts,
                batch.ids,
                batch.parsed,
                embed_texts=batch.embed_texts,
                embed_words=embed_words,
                payloads=batch.payloads,
                batch_size=len(batch),
            )
        added += batch.ids
    return added
