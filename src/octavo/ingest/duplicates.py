"""Documents that are there twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo._text_analysis import normalise
from octavo._validation import check_integer, check_number
from octavo.collection import CollectionLike
from octavo.store.documents import Document


@dataclass(frozen=True)
class Duplicates:
    """Documents that say the same.

    Parameters
    ----------
    ids : list of str
        Of the documents, the one written first in front.
    similarity : float
        1 for equal texts; else the lowest cosine by which one of them was found.
    text : str
        Of the first.
    """

    ids: list[str]
    similarity: float
    text: str


def find_duplicates(
    collection: CollectionLike,
    *,
    threshold: float | None = 0.98,
    filter: Any = None,
    k: int = 10,
    batch_size: int = 256,
    advance: Callable[[int], object] = lambda done: None,
) -> list[Duplicates]:
    """Find documents with equal texts (case and white space aside), and those whose vectors nearly are.

    Parameters
    ----------
    collection : CollectionLike
        Any collection. For late interaction, the cosine is the mean of each token's best one.
    threshold : float or None, default=0.98
        Cosine from which on two documents count as one; None compares texts alone.
    filter : dict, filter or callable, optional
        Only among these documents.
    k : int, default=10
        Neighbours looked at of each document.
    batch_size : int, default=256
        Documents compared at a time.
    advance : callable, optional
        Told the number of documents done.

    Returns
    -------
    list of Duplicates
        The largest groups first. Groups grow through common members.

    Examples
    --------
    >>> import octavo
    >>> kb = octavo.open()
    >>> _ = kb.add(["red", "Red ", "green"], ids=["a", "b", "c"], vectors=[[1, 0], [1, 0.01], [0, 1]])
    >>> [group.ids for group in find_duplicates(kb)]
    [['a', 'b']]
    >>> kb.close()
    """
    if threshold is not None:
        threshold = check_number(threshold, "threshold", least=-1, most=1)
    k = check_integer(k, "k", least=1)
    batch_size = check_integer(batch_size, "batch_size", least=1)
    groups = _Groups()
    first: dict[bytes, str] = {}
    place: dict[str, int] = {}
    for batch in _batches(collection.documents(filter=filter), batch_size):
        for document in batch:
            place[document.id] = len(place)
            words = " ".join(normalise(document.text).casefold().split())
            if words:
                digest = hashlib.blake2b(words.encode(), digest_size=16).digest()
                groups.join(first.setdefault(digest, document.id), document.id, 1.0)
        if threshold is None:
            advance(len(batch))
    if threshold is not None and len(place) > 1:
        ids = list(place)
        for start in range(0, len(ids), batch_size):
            _join_near(collection, ids[start : start + batch_size], threshold, filter, k, place, groups)
            advance(min(batch_size, len(ids) - start))
    found = []
    for members, similarity in groups.found():
        listed = sorted(members, key=lambda identifier: place[identifier])
        (document,) = collection.get(listed[:1])
        found.append(Duplicates(listed, similarity, document.text))
    return sorted(found, key=lambda group: (-len(group.ids), place[group.ids[0]]))


def _batches(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch


def _join_near(
    collection: CollectionLike,
    ids: Sequence[str],
    threshold: float,
    filter: Any,
    k: int,
    place: dict[str, int],
    groups: _Groups,
) -> None:
    late = collection.late
    queries: list[Any] = late.get_token_vectors(ids) if late is not None else list(collection.get_vectors(ids))
    # a vector of zeros, or a document without tokens, is like no other
    usable = [number for number, query in enumerate(queries) if np.size(query) and np.any(query)]
    if not usable:
        return
    asked = [queries[number] for number in usable]
    results = collection.search_batch(asked if late is not None else np.stack(asked), k + 1, filter=filter)
    lengths = None
    if late is None:
        others = sorted({hit.id for result in results for hit in result if hit.id in place})
        known = dict(zip(others, collection.get_vectors(others), strict=True))
        lengths = {identifier: float(np.linalg.norm(vector)) for identifier, vector in known.items()}
    for number, result in zip(usable, results, strict=True):
        query = queries[number]
        for hit in result:
            if hit.id == ids[number] or hit.id not in place:
                continue
            if lengths is None:
                cosine = hit.score / len(query)
            else:
                scale = float(np.linalg.norm(query)) * lengths[hit.id]
                cosine = float(np.dot(query, known[hit.id])) / scale if scale else 0.0
            if cosine >= threshold:
                groups.join(ids[number], hit.id, min(cosine, 1.0))


class _Groups:
    """Sets of ids that grow together, and the lowest similarity that joined each."""

    def __init__(self) -> None:
        self._group: dict[str, list[str]] = {}
        self._similarity: dict[int, float] = {}

    def join(self, one: str, other: str, similarity: float) -> None:
        if one == other:
            return
        left, right = self._group.setdefault(one, [one]), self._group.setdefault(other, [other])
        lowest = min(similarity, self._similarity.get(id(left), 1.0), self._similarity.get(id(right), 1.0))
        if left is right:
            return
        if len(left) < len(right):
            left, right = right, left
        left += right
        for member in right:
            self._group[member] = left
        self._similarity.pop(id(right), None)
        self._similarity[id(left)] = lowest

    def found(self) -> Iterator[tuple[list[str], float]]:
        seen: set[int] = set()
        for group in self._group.values():
            if id(group) not in seen and len(group) > 1:
                seen.add(id(group))
                yield group, self._similarity.get(id(group), 1.0)
