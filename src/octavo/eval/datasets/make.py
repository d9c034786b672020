"""Make a test set out of documents alone: known-item search, for those who have no judgements."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

import octavo
from octavo._files import write_atomically
from octavo._validation import check_choice, check_integer
from octavo.collection import CollectionLike
from octavo.errors import InputTypeError, ParameterError
from octavo.eval.datasets._base import read_corpus
from octavo.integrations.qdrant import open_collection
from octavo.integrations.qdrant.location import parse_location

Method = Literal["sentence", "title"]

#: Words that a query has at least and at most, and that a document must keep when one is taken from it.
SHORTEST, LONGEST, LEFT = 5, 40, 10

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_NOTE = (
    "Known-item search: each query was taken from one document, which counts as the only relevant one. It measures whether "
    "a document is found again by its own words, and so compares configurations of one model well. It does not measure "
    "how well the model serves questions that people ask in other words, and it flatters full text."
)


@dataclass(frozen=True)
class KnownItems:
    """What `make` wrote; `to_dict` gives JSON.

    Parameters
    ----------
    folder : str
        The BEIR folder: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/test.tsv`` and ``made.json``.
    documents, queries : int
        How many.
    method : {"sentence", "title"}
        Where queries come from.
    removed : bool
        Whether they were taken out of the documents.
    seed : int
        Of the drawing.
    note : str
        What such a test set measures and what not.
    """

    folder: str
    documents: int
    queries: int
    method: Method
    removed: bool
    seed: int
    note: str = _NOTE

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def make(
    source: CollectionLike | Mapping[str, str] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    queries: int = 300,
    method: Method = "sentence",
    remove: bool = True,
    seed: int = 0,
) -> KnownItems:
    """Write a BEIR folder whose queries are sentences or titles of the documents.

    The same documents and seed give the same folder, in whatever order the documents come.

    Parameters
    ----------
    source : Collection, mapping or path
        Documents: a collection, texts by id, the path of a collection or its place in Qdrant (``https://HOST:6333#NAME``,
        ``qdrant:DIR``), a folder of text files, or JSON lines.
    out : path
        A folder that does not exist or is empty.
    queries : int, default=300
        How many; fewer come out if fewer documents qualify.
    method : {"sentence", "title"}, default="sentence"
        ``sentence`` takes one from anywhere in the document; ``title`` its first line, if more lines follow.
    remove : bool, default=True
        Take the query out of its document. If it stayed, full text would find every one of them, and so would nearly every
        vector.
    seed : int, default=0
        Seed of the drawing of documents and sentences.

    Returns
    -------
    KnownItems

    Raises
    ------
    ParameterError
        When the folder is not empty, or no document qualifies.

    Notes
    -----
    A query has 5 to 40 words and occurs in no other document; what is left of the document has at least 10.

    References
    ----------
    Azzopardi, de Rijke and Balog, "Building simulated queries for known-item topics: an analysis using six European
    languages", SIGIR 2007.
    """
    check_choice(method, "method", get_args(Method))
    queries = check_integer(queries, "queries", least=1)
    folder = Path(out).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParameterError(
            f"expected a folder that does not exist or is empty, but there is something at {str(folder)!r}"
        )
    texts = dict(sorted(_documents(source).items()))
    pieces = {name: _pieces(text, method) for name, text in texts.items()}
    # A sentence that several documents have would make the others look wrong.
    shared = Counter(_folded(piece) for found in pieces.values() for piece in {_folded(p): p for p in found}.values())
    rng = np.random.default_rng(seed)
    names = list(texts)
    chosen: dict[str, str] = {}
    for at in rng.permutation(len(names)):
        name = names[int(at)]
        fitting = [p for p in pieces[name] if shared[_folded(p)] == 1 and _fits(p, texts[name])]
        if fitting:
            chosen[name] = fitting[int(rng.integers(len(fitting)))]
        if len(chosen) == queries:
            break
    if not chosen:
        what = "a sentence" if method == "sentence" else "a first line"
        raise ParameterError(
            f"expected documents with {what} of {SHORTEST} to {LONGEST} words that no other one has, and {LEFT} more words; "
            f"none of {len(texts):,} is like that"
        )
    if remove:
        texts |= {name: _without(texts[name], piece) for name, piece in chosen.items()}
    _write(folder, texts, chosen)
    made = KnownItems(str(folder), len(texts), len(chosen), method, remove, seed)
    described = {key: value for key, value in made.to_dict().items() if key != "folder"}
    write_atomically(folder / "made.json", json.dumps(described, ensure_ascii=False, indent=1) + "\n")
    return made


def _documents(source: Any) -> dict[str, str]:
    if isinstance(source, CollectionLike):
        found = {document.id: document.text for document in source.documents()}
    elif isinstance(source, Mapping):
        found = dict(source)
    elif isinstance(source, str | os.PathLike):
        if parse_location(source) is not None:
            with open_collection(source) as there:
                return _documents(there)
        place = Path(source).expanduser()
        if not place.is_dir() or not (place / "octavo.db").is_file():
            return {name: document.text for name, document in read_corpus(place).items()}
        with octavo.open(place, read_only=True, must_exist=True) as collection:
            return _documents(collection)
    else:
        raise InputTypeError(f"expected a collection, texts by id, or a path, got {type(source).__name__}")
    if found and not any(found.values()):
        raise ParameterError("expected documents with texts, but these have vectors only")
    return found


def _pieces(text: str, method: Method) -> list[str]:
    if method == "title":
        first, separator, _ = text.strip().partition("\n")
        return [first.strip()] if separator else []
    return [piece.strip() for piece in _SENTENCE_END.split(text) if piece.strip()]


def _fits(piece: str, text: str) -> bool:
    words = len(piece.split())
    return SHORTEST <= words <= LONGEST and len(_without(text, piece).split()) >= LEFT


def _without(text: str, piece: str) -> str:
    """Return a text without every occurrence of a piece of it, the gap closed."""
    return re.sub(rf"[ \t]*{re.escape(piece)}[ \t]*", " ", text).strip()


def _folded(piece: str) -> str:
    return " ".join(piece.casefold().split())


def _write(folder: Path, texts: Mapping[str, str], chosen: Mapping[str, str]) -> None:
    asked = {f"known-{number:05d}": name for number, name in enumerate(sorted(chosen))}
    corpus = (json.dumps({"_id": name, "title": "", "text": text}, ensure_ascii=False) for name, text in texts.items())
    lines = (
        json.dumps({"_id": query, "text": " ".join(chosen[name].split())}, ensure_ascii=False)
        for query, name in asked.items()
    )
    if bad := next((name for name in asked.values() if re.search(r"[\t\r\n]", name)), None):
        raise ParameterError(f"expected ids without tabs and line breaks, which judgements cannot hold, got {bad!r}")
    judged = ["query-id\tcorpus-id\tscore", *(f"{query}\t{name}\t1" for query, name in asked.items())]
    write_atomically(folder / "corpus.jsonl", "".join(f"{line}\n" for line in corpus))
    write_atomically(folder / "queries.jsonl", "".join(f"{line}\n" for line in lines))
    write_atomically(folder / "qrels" / "test.tsv", "".join(f"{line}\n" for line in judged))
