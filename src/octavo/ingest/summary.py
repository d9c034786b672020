"""What a collection holds, seen as texts and fields: lengths, languages, values, and documents that are there twice."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import tantivy

from octavo._text_analysis import LANGUAGES, normalise
from octavo._validation import check_integer, check_number
from octavo.collection import CollectionLike
from octavo.filters.times import instant
from octavo.ingest.sources import SOURCE_FIELD
from octavo.store.documents import Document, metadata_to_tagged

#: Different values that are counted of one field; beyond, only those seen until then are.
_VALUES = 10_000

#: Fields that are described; a collection may have as many as documents.
_FIELDS = 200

#: Documents whose language is told, spread over the collection, and characters of each that are looked at.
_LANGUAGE_SAMPLE, _LANGUAGE_CHARACTERS = 2_000, 2_000

#: Words that a text must have for its language to be told, and the share of them that must be known as small words.
_LANGUAGE_WORDS, _LANGUAGE_SHARE = 8, 0.15

#: Letters of these writing systems, by the beginning of their Unicode names, tell the language or a few of them.
_SCRIPTS = {
    "HIRAGANA": "japanese",
    "KATAKANA": "japanese",
    "HANGUL": "korean",
    "CJK": "chinese",
    "THAI": "thai",
    "GREEK": "greek",
    "HEBREW": "hebrew",
    "ARABIC": "arabic letters",
    "DEVANAGARI": "devanagari letters",
    "TAMIL": "tamil",
    "BENGALI": "bengali",
    "GEORGIAN": "georgian",
    "ARMENIAN": "armenian",
}


@dataclass(frozen=True)
class Lengths:
    """How long texts are, in characters.

    Parameters
    ----------
    least, median, mean, p95, most : float
        Of the texts that are not empty.
    empty : int
        How many are.
    """

    least: int
    median: float
    mean: float
    p95: float
    most: int
    empty: int


@dataclass(frozen=True)
class FieldSummary:
    """One metadata field.

    Parameters
    ----------
    name : str
        The field.
    documents : int
        How many have it.
    types : dict of str to int
        JSON types and ``date``, ``time``, of its values.
    distinct : int
        Different values; at least so many if `more`.
    more : bool
        There are more different values than were counted.
    common : list of tuple of value and int
        The most frequent values.
    least, most : value or None
        Of numbers, or of dates and times.
    """

    name: str
    documents: int
    types: dict[str, int]
    distinct: int
    more: bool
    common: list[tuple[Any, int]]
    least: Any = None
    most: Any = None


@dataclass(frozen=True)
class Summary:
    """What `summarise` found.

    Parameters
    ----------
    documents : int
        Documents.
    sources : dict of str to int
        Documents of each source; those of none are under the empty name.
    lengths : Lengths
        Of the texts.
    languages : dict of str to int
        Of a sample of the texts, by their small words or their letters.
    sampled : int
        How many texts that sample has.
    fields : list of FieldSummary
        Metadata fields, the most frequent first.
    """

    documents: int
    sources: dict[str, int]
    lengths: Lengths
    languages: dict[str, int]
    sampled: int
    fields: list[FieldSummary]


def summarise(
    collection: CollectionLike,
    *,
    filter: Any = None,
    values: int = 10,
    advance: Callable[[int], object] = lambda done: None,
) -> Summary:
    """Read every document of a collection once, and describe them.

    Parameters
    ----------
    collection : CollectionLike
        Any collection.
    filter : dict, filter or callable, optional
        See `Collection.search`.
    values : int, default=10
        How many of the most frequent values of a field to give.
    advance : callable, optional
        Told the number of documents done from time to time.

    Examples
    --------
    >>> import octavo
    >>> kb = octavo.open()
    >>> _ = kb.add(["red", "green"], vectors=[[1, 0], [0, 1]], metadata=[{"n": 1}, {"n": 2}])
    >>> found = summarise(kb)
    >>> found.lengths.most, found.fields[0].name, found.fields[0].most
    (5, 'n', 2)
    >>> kb.close()
    """
    values = check_integer(values, "values", least=1)
    total = collection.count(filter=filter)
    every = max(total // _LANGUAGE_SAMPLE, 1)
    lengths: list[int] = []
    sources: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    fields: dict[str, _Field] = {}
    number = 0
    for number, document in enumerate(collection.documents(filter=filter), start=1):
        lengths.append(len(document.text))
        source = document.metadata.get(SOURCE_FIELD)
        sources[source if isinstance(source, str) else ""] += 1
        if number % every == 0 and sum(languages.values()) < _LANGUAGE_SAMPLE:
            languages[language_of(document.text)] += 1
        for name, value in document.metadata.items():
            if name in fields or len(fields) < _FIELDS:
                fields.setdefault(name, _Field(name)).add(value)
        if number % 1_000 == 0:
            advance(1_000)
    advance(number % 1_000)
    described = sorted(fields.values(), key=lambda field: (-field.documents, field.name))
    return Summary(
        documents=number,
        sources=dict(sorted(sources.items())),
        lengths=_lengths(lengths),
        languages=dict(languages.most_common()),
        sampled=sum(languages.values()),
        fields=[field.summary(values) for field in described],
    )


def _lengths(lengths: list[int]) -> Lengths:
    found = np.array([length for length in lengths if length], np.int64)
    if not len(found):
        return Lengths(0, 0.0, 0.0, 0.0, 0, len(lengths))
    median, p95 = np.percentile(found, [50, 95]).tolist()
    return Lengths(int(found.min()), median, float(found.mean()), p95, int(found.max()), len(lengths) - len(found))


class _Field:
    def __init__(self, name: str) -> None:
        self.name = name
        self.documents = 0
        self._types: Counter[str] = Counter()
        self._values: dict[str, tuple[Any, int]] = {}
        self._more = False
        self._ends: dict[str, tuple[Any, Any]] = {}

    def add(self, value: Any) -> None:
        self.documents += 1
        kind = _type(value)
        self._types[kind] += 1
        for single in value if isinstance(value, list | tuple) else [value]:
            self._count(single)

    def _count(self, value: Any) -> None:
        # as JSON, because Python takes 1, 1.0 and True for the same
        key = str(metadata_to_tagged({"": value}))
        if key in self._values:
            self._values[key] = value, self._values[key][1] + 1
        elif len(self._values) < _VALUES:
            self._values[key] = value, 1
        else:
            self._more = True
        axis = "number" if _type(value) == "number" else "time" if isinstance(value, date) else None
        if axis is not None:
            least, most = self._ends.get(axis, (value, value))
            self._ends[axis] = min(least, value, key=_order), max(most, value, key=_order)

    def summary(self, values: int) -> FieldSummary:
        common = sorted(self._values.values(), key=lambda pair: -pair[1])[:values]
        axis = max(self._ends, key=lambda name: self._types[name], default=None)
        least, most = self._ends[axis] if axis is not None else (None, None)
        return FieldSummary(
            self.name,
            self.documents,
            dict(self._types.most_common()),
            len(self._values),
            self._more,
            common,
            least,
            most,
        )


def _order(value: Any) -> Any:
    return instant(value) if isinstance(value, date) else value


def _type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, date):
        return "time"
    return "object" if isinstance(value, dict) else "list"


# ---------------------------------------------------------------------- languages


def language_of(text: str) -> str:
    """Tell the language of a text by its writing system, or by its small words; ``"?"`` if neither tells.

    Examples
    --------
    >>> language_of("the cat and the dog are in the house of my father")
    'english'
    >>> language_of("der Hund und die Katze sind in dem Haus von meinem Vater")
    'german'
    >>> language_of("ζώα στο σπίτι")
    'greek'
    >>> language_of("x = y")
    '?'
    """
    part = normalise(text[:_LANGUAGE_CHARACTERS])
    letters = Counter(_script(letter) for letter in part if letter.isalpha())
    if not letters:
        return "?"
    if letters["japanese"] * 10 > sum(letters.values()):  # among Chinese characters
        return "japanese"
    script, count = letters.most_common(1)[0]
    if script and 2 * count > sum(letters.values()):
        return script
    everything, small = _analyzers()
    words = len(everything.analyze(part))
    if words < _LANGUAGE_WORDS:
        return "?"
    counts = {language: words - len(analyzer.analyze(part)) for language, analyzer in small.items()}
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] >= _LANGUAGE_SHARE * words else "?"


@cache
def _script(letter: str) -> str:
    """Return the language that a letter tells; empty for Latin, Cyrillic and others that many languages share."""
    return _SCRIPTS.get(unicodedata.name(letter, "").split(" ")[0].split("-")[0], "")


@cache
def _analyzers() -> tuple[tantivy.TextAnalyzer, dict[str, tantivy.TextAnalyzer]]:
    """Return what splits a text into words, and for each language what leaves its small words out."""

    def builder() -> tantivy.TextAnalyzerBuilder:
        return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase())

    small = {}
    for language in LANGUAGES:
        if language == "plain":
            continue
        try:
            small[language] = builder().filter(tantivy.Filter.stopword(language)).build()
        except ValueError:
            continue  # tantivy knows no small words of it
    return builder().build(), small


# ---------------------------------------------------------------------- duplicates


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
