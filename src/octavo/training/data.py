"""Pairs to train on: from judgements, from titles and bodies, from a corpus alone; and what is held out of them."""

from __future__ import annotations

import gzip
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo._arrays import Floats
from octavo._validation import check_choice, check_integer
from octavo.errors import InputTypeError, ParameterError
from octavo.eval.datasets import Dataset, DatasetError, load_dataset
from octavo.eval.datasets.make import make
from octavo.eval.vectors import ReadyVectors, fingerprint

#: How pairs are made of a source.
KINDS = ("judged", "titles", "sentences")

#: Documents held out beside those of the held-out questions, so that finding one means something.
_DISTRACTORS = 400

_SPEC = re.compile(rf"(?:(?P<kind>{'|'.join(KINDS)}):)?(?P<place>.*?)(?:#(?P<split>[\w.-]+))?", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Questions and, for each, a text that answers it.

    Parameters
    ----------
    queries, documents : sequence of str
        As long as each other. A document may occur several times, with different questions.
    name : str, default="pairs"
        What the model card calls them.

    Raises
    ------
    ParameterError
        When the lengths differ, there is none, or a text is empty.

    Examples
    --------
    >>> Pairs(["what is ink?", "what is paper?"], ["a liquid for writing", "sheets of fibres"])
    <octavo.training.Pairs pairs: 2 pairs>
    """

    queries: Sequence[str]
    documents: Sequence[str]
    name: str = "pairs"

    def __post_init__(self) -> None:
        for what, texts in (("queries", self.queries), ("documents", self.documents)):
            if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
                raise InputTypeError(f"expected {what} as a list of texts, got {type(texts).__name__}")
            if wrong := [text for text in texts if not isinstance(text, str)]:
                raise InputTypeError(f"expected {what} as texts, got {type(wrong[0]).__name__}")
            if wrong := [text for text in texts if any("\ud800" <= letter <= "\udfff" for letter in text)]:
                raise InputTypeError(
                    f"expected {what} as Unicode texts, got half of a surrogate pair in {wrong[0][:40]!r}"
                )
        if len(self.queries) != len(self.documents):
            raise ParameterError(
                f"expected a document for each of {len(self.queries):,} queries, got {len(self.documents):,}"
            )
        if not self.queries:
            raise ParameterError(f"{self.name}: expected at least one pair, got none")
        for query, document in zip(self.queries, self.documents, strict=True):
            if not query.strip() or not document.strip():
                raise ParameterError(
                    f"{self.name}: expected pairs of texts, one of {(query or document)[:40]!r} is empty"
                )

    def __len__(self) -> int:
        return len(self.queries)

    def __repr__(self) -> str:
        return f"<octavo.training.Pairs {self.name}: {len(self):,} pairs>"


def read_pairs(source: Any) -> Pairs:
    """Read pairs to train on.

    Parameters
    ----------
    source : Pairs, Dataset, path, str or several of them
        ``[KIND:]PATH[#SPLIT]``. Kinds:

        - ``judged``: questions with their relevant documents, from the judgements of a data set that
          `octavo.eval.load_dataset` reads. Of a BEIR folder those of ``train``; any other split has to be named, so that
          nobody trains on what they test with by accident.
        - ``titles``: titles with bodies, from JSON lines (``corpus.jsonl``).
        - ``sentences``: a sentence with the rest of its document, as `octavo eval make` takes them: from a collection, a
          folder of text files or JSON lines.

        Without a kind, a collection means ``sentences``, anything else ``judged``.

    Returns
    -------
    Pairs
        All of them, each once.

    Raises
    ------
    ParameterError
        When there are no such pairs.
    DatasetError
        When a file cannot be read.
    """
    if isinstance(source, Pairs):
        return source
    if isinstance(source, Dataset):
        return _judged(source)
    if isinstance(source, str | os.PathLike):
        return _read(os.fspath(source))
    if not isinstance(source, Iterable):
        raise InputTypeError(f"expected data as a path, a data set or Pairs, got {type(source).__name__}")
    parts = [read_pairs(one) for one in source]
    if not parts:
        raise ParameterError("expected data to train on, got none")
    if len(parts) == 1:
        return parts[0]
    return Pairs(
        [query for part in parts for query in part.queries],
        [document for part in parts for document in part.documents],
        ", ".join(part.name for part in parts),
    )


class GivenVectors:
    """A teacher whose vectors of one data set are there already.

    Parameters
    ----------
    vectors : ReadyVectors
        Of its documents and queries.
    source : path, str or Dataset
        The data set, as `read_pairs` takes it.

    Raises
    ------
    ParameterError
        When the pairs come from elsewhere than the judgements of one data set.
    """

    def __init__(self, vectors: ReadyVectors, source: Any) -> None:
        parts = list(source) if isinstance(source, list | tuple) else [source]
        dataset = parts[0] if len(parts) == 1 else None
        if isinstance(dataset, str | os.PathLike):
            dataset = _judged_dataset(os.fspath(dataset))
        if not isinstance(dataset, Dataset):
            raise ParameterError(
                "expected vectors of a teacher with the judgements of one data set, whose documents and questions they belong "
                "to; for other pairs give the teacher itself"
            )
        documents, queries = vectors.of(dataset)
        self.name = f"ready vectors {fingerprint(documents, queries)}"
        self._documents = dict(zip(dataset.texts, documents, strict=True))
        self._queries = dict(zip(dataset.queries, queries, strict=True))

    def encode_documents(self, texts: Sequence[str], /) -> Floats:
        """Return the vectors of documents."""
        return np.stack([self._documents[text] for text in texts])

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        """Return the vectors of questions."""
        return np.stack([self._queries[text] for text in texts])


def _judged_dataset(text: str) -> Dataset | None:
    """Return the data set that a source of judged pairs names; None for other kinds."""
    kind, folder, split = _parsed(text)
    return load_dataset(str(folder), split=split or _train_split(folder)) if kind == "judged" else None


def _read(text: str) -> Pairs:
    kind, folder, split = _parsed(text)
    if kind == "titles":
        return _titles(folder)
    if kind == "sentences":
        return _sentences(folder)
    return _judged(load_dataset(str(folder), split=split or _train_split(folder)))


def _parsed(text: str) -> tuple[str, Path, str | None]:
    """Return kind, place and split of a source."""
    found = None if Path(text).exists() else _SPEC.fullmatch(text)
    kind, place, split = (found["kind"], found["place"], found["split"]) if found is not None else (None, text, None)
    folder = Path(place).expanduser()
    if not place or not folder.exists():
        raise ParameterError(
            f"expected data as [KIND:]PATH[#SPLIT] with KIND out of {', '.join(KINDS)}, but there is nothing at {place!r}"
        )
    is_collection = folder.is_dir() and (folder / "octavo.db").is_file()
    kind = check_choice(kind or ("sentences" if is_collection else "judged"), "the kind of data", KINDS)
    if split is not None and kind != "judged":
        raise ParameterError(f"expected a split only with judgements, got {split!r} with {kind} of {place!r}")
    if is_collection and kind == "judged":
        raise ParameterError(f"{place!r} is a collection, which has no judgements; write sentences:{place}")
    return kind, folder, split


def _train_split(folder: Path) -> str | None:
    """Return the judgements to train on where nobody said which; None for formats without splits."""
    qrels = folder / "qrels"
    if not qrels.is_dir():
        return None
    splits = sorted({path.name.removesuffix(".gz").removesuffix(".tsv") for path in qrels.glob("*.tsv*")})
    if "train" in splits:
        return "train"
    if (folder / "made.json").is_file():  # by `octavo eval make`, out of the documents alone
        return None
    named = ", ".join(splits) or "none"
    raise ParameterError(
        f"expected judgements to train on in {folder}/qrels/train.tsv, but there are only: {named}. If you test with something "
        f"else, name them: {folder}#{splits[0] if splits else 'train'}; or train on titles:{folder} or sentences:{folder}"
    )


def _judged(dataset: Dataset) -> Pairs:
    texts = dict(zip(dataset.document_ids, dataset.texts, strict=True))
    queries = dict(zip(dataset.query_ids, dataset.queries, strict=True))
    pairs = [
        (queries[query], texts[document])
        for query, grades in dataset.qrels.items()
        for document, grade in grades.items()
        if grade > 0 and texts.get(document, "").strip() and queries[query].strip()
    ]
    if not pairs:
        raise ParameterError(
            f"{dataset.name}: expected questions with relevant documents, found none in {dataset.split!r}"
        )
    return _of(pairs, f"{dataset.name} ({dataset.split})")


def _titles(place: Path) -> Pairs:
    path = next((file for file in _candidates(place) if file.is_file()), None)
    if path is None:
        raise ParameterError(f"expected JSON lines with titles, or a folder with corpus.jsonl, at {str(place)!r}")
    pairs: list[tuple[str, str]] = []
    number = 0
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig") as lines
        ):
            for number, line in enumerate(lines, 1):  # noqa: B007 - named by the message
                if not line.strip():
                    continue
                record = json.loads(line)
                title, text = (
                    (record.get("title") or "", record.get("text") or "") if isinstance(record, dict) else (None, None)
                )
                if not isinstance(title, str) or not isinstance(text, str):
                    raise ValueError("expected an object with texts in 'title' and 'text'")
                if title.strip() and text.strip():
                    pairs.append((title.strip(), text.strip()))
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error, RecursionError) as error:
        raise DatasetError(f"{path.name}, line {number}: {error}") from error
    if not pairs:
        raise ParameterError(
            f"expected documents with a title and a text, found none in {str(path)!r}; try sentences:{place}"
        )
    return _of(pairs, f"{(path.parent if place.is_dir() else path).resolve().name} (titles)")


def _candidates(place: Path) -> list[Path]:
    return [place / "corpus.jsonl", place / "corpus.jsonl.gz"] if place.is_dir() else [place]


def _sentences(place: Path) -> Pairs:
    source: Any = place
    if place.is_dir() and (place / "octavo.db").is_file():
        with octavo.open(place, read_only=True, must_exist=True) as collection:
            source = {document.id: document.text for document in collection.documents()}
    with tempfile.TemporaryDirectory() as folder:
        made = make(source, Path(folder) / "made", queries=10_000_000)
        pairs = _judged(load_dataset(made.folder))
    return Pairs(pairs.queries, pairs.documents, f"{place.resolve().name} (sentences)")


def _of(pairs: Iterable[tuple[str, str]], name: str) -> Pairs:
    once = list(dict.fromkeys(pairs))
    return Pairs([query for query, _ in once], [document for _, document in once], name)


def hold_out(pairs: Pairs, queries: int, seed: int) -> tuple[Pairs, Dataset]:
    """Split pairs into some to train on and a data set to measure with, which have no document and no question in common.

    Parameters
    ----------
    pairs : Pairs
        All of them.
    queries : int
        How many questions to hold out.
    seed : int
        Of the drawing.

    Returns
    -------
    Pairs
        What is left to train on.
    Dataset
        The questions, their documents, and other held-out documents to tell them from.

    Raises
    ------
    ParameterError
        When too few are left.
    """
    queries = check_integer(queries, "held_out", least=1)
    rng = np.random.default_rng(seed)
    drawn: dict[str, None] = {}
    asked: dict[str, set[str]] = {}
    by_document: dict[str, list[str]] = {}
    for query, document in zip(pairs.queries, pairs.documents, strict=True):
        by_document.setdefault(document, []).append(query)
    names = list(by_document)
    for at in rng.permutation(len(names)):
        document = names[int(at)]
        if len(asked) < queries:
            drawn[document] = None
            for query in by_document[document][: queries - len(asked)]:
                asked.setdefault(query, set()).add(document)
        elif len(drawn) < queries + min(_DISTRACTORS, len(names) // 4):
            drawn[document] = None
    left = [
        (query, document)
        for query, document in zip(pairs.queries, pairs.documents, strict=True)
        if document not in drawn and query not in asked
    ]
    if len(left) < 2:
        raise ParameterError(
            f"expected pairs left to train on, but {queries:,} held-out questions with their documents take nearly all of "
            f"{len(pairs):,}; give more data, or a smaller held_out"
        )
    ids = {document: f"d{number}" for number, document in enumerate(drawn)}
    questions = {f"q{number}": query for number, query in enumerate(asked)}
    dataset = Dataset(
        name="held out",
        split="held-out",
        document_ids=list(ids.values()),
        texts=list(ids),
        query_ids=list(questions),
        queries=list(questions.values()),
        qrels={name: {ids[document]: 1 for document in asked[query]} for name, query in questions.items()},
    )
    return Pairs([query for query, _ in left], [document for _, document in left], pairs.name), dataset
