"""What a collection holds, seen as texts and fields: lengths, languages, values."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tantivy

from octavo._text_analysis import LANGUAGES, normalise
from octavo._validation import check_integer
from octavo.collection import CollectionLike
from octavo.ingest.sources import SOURCE_FIELD
from octavo.store.documents import Document
from octavo.store.metadata.summary import FieldSummary
from octavo.store.metadata.summary import summarise as summarise_metadata

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
    >>> found.lengths.most, found.fields[0].name, found.fields[0].greatest
    (5, 'n', 2)
    >>> kb.close()
    """
    texts = _Texts(max(collection.count(filter=filter) // _LANGUAGE_SAMPLE, 1))
    documents = texts.read(collection.documents(filter=filter), advance)
    fields = summarise_metadata(
        (document.metadata for document in documents), most=check_integer(values, "values", least=1)
    )
    return Summary(
        documents=len(texts.lengths),
        sources=dict(sorted(texts.sources.items())),
        lengths=_lengths(texts.lengths),
        languages=dict(texts.languages.most_common()),
        sampled=sum(texts.languages.values()),
        fields=fields,
    )


class _Texts:
    """What is noted of the texts of documents that pass by; the language of one in `every`."""

    def __init__(self, every: int) -> None:
        self._every = every
        self.lengths: list[int] = []
        self.sources: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()

    def read(self, documents: Iterable[Document], advance: Callable[[int], object]) -> Iterator[Document]:
        number = 0
        for number, document in enumerate(documents, start=1):
            self.lengths.append(len(document.text))
            source = document.metadata.get(SOURCE_FIELD)
            self.sources[source if isinstance(source, str) else ""] += 1
            if number % self._every == 0 and self.languages.total() < _LANGUAGE_SAMPLE:
                self.languages[language_of(document.text)] += 1
            yield document
            if number % 1_000 == 0:
                advance(1_000)
        advance(number % 1_000)


def _lengths(lengths: list[int]) -> Lengths:
    found = np.array([length for length in lengths if length], np.int64)
    if not len(found):
        return Lengths(0, 0.0, 0.0, 0.0, 0, len(lengths))
    median, p95 = np.percentile(found, [50, 95]).tolist()
    return Lengths(int(found.min()), median, float(found.mean()), p95, int(found.max()), len(lengths) - len(found))


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
