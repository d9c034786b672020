"""What the metadata of a collection hold, wherever its documents lie: what a filter can ask for."""

from __future__ import annotations

from itertools import islice

from octavo.collection.protocol import CollectionLike
from octavo.store.metadata.summary import FieldSummary, summarise, summarise_index

#: Documents that are looked at where there is no index to read it off.
_SAMPLE = 2_000


def metadata_fields(collection: CollectionLike) -> tuple[list[FieldSummary], int | None]:
    """Return the fields of the metadata, those that most documents have first.

    Parameters
    ----------
    collection : CollectionLike
        Any collection. In files or memory of Octavo's own all documents count; elsewhere the first 2,000 are looked at.

    Returns
    -------
    fields : list of FieldSummary
        At most 200.
    looked_at : int or None
        Documents that were looked at, where it was not all of them.

    Examples
    --------
    >>> import octavo
    >>> with octavo.open() as kb:
    ...     _ = kb.add(["red", "green"], vectors=[[1, 0], [0, 1]], metadata=[{"n": 1}, {"n": 2, "tags": ["a", "b"]}])
    ...     fields, looked_at = metadata_fields(kb)
    >>> [(field.name, field.kinds, field.values) for field in fields]
    [('n', ['number'], [(1, 1), (2, 1)]), ('tags', ['list', 'text'], [('a', 1), ('b', 1)])]
    >>> looked_at is None
    True
    """
    if collection.local is not None:
        with collection.local.connection() as connection:
            return summarise_index(connection), None
    count = len(collection)
    listed = collection.ids()[:_SAMPLE] if count > _SAMPLE else None
    documents = collection.documents() if listed is None else collection.get(listed)
    return summarise(document.metadata for document in islice(documents, _SAMPLE)), len(listed) if listed else None
