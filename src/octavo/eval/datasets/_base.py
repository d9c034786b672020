"""What every format is read into, and what their readers share."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, runtime_checkable

from octavo._printing import short
from octavo.errors import OctavoError
from octavo.eval.results import DatasetInfo

#: Judgements: query id -> document id -> grade; positive is relevant.
Qrels = dict[str, dict[str, int]]


class Titled(NamedTuple):
    """A document's title, "" where it has none, and what stands below it."""

    title: str
    body: str

    @property
    def text(self) -> str:
        """Both."""
        return " ".join(part for part in self if part).strip()


class DatasetError(OctavoError, ValueError):
    """A data set cannot be read; the message names the file, the line and what was expected there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Documents, and questions with judgements.

    Parameters
    ----------
    name : str
        What to call it.
    document_ids, texts : sequence of str
        The corpus; a text is what gets embedded (title and body).
    query_ids, queries : sequence of str
        Only queries with judgements.
    qrels : dict of str to dict of str to int
        Judgements of exactly these queries.
    split, source : str
        Which judgements these are, and the format that they came in.
    ignore_identical_ids : bool, default=False
        Leave a document out of the results of the query that has its id: in ArguAna and the like, queries are documents.
    listed_query_ids : sequence of str, optional
        All queries that the data set lists, those without judgements too: what ready vectors may have been made of.
    bodies : sequence of str, optional
        The texts without their titles, where there are titles.

    Raises
    ------
    DatasetError
        When ids repeat, the lengths differ, a query has no judgement, or a document is judged that is to be left out.

    Examples
    --------
    >>> data = Dataset(
    ...     name="tiny", document_ids=["a", "b"], texts=["red", "green"],
    ...     query_ids=["q"], queries=["red"], qrels={"q": {"a": 1}},
    ... )
    >>> data.info.documents, data.info.judgements
    (2, 1)
    """

    name: str
    document_ids: Sequence[str]
    texts: Sequence[str]
    query_ids: Sequence[str]
    queries: Sequence[str]
    qrels: Qrels
    split: str = "all"
    source: str = "memory"
    ignore_identical_ids: bool = False
    listed_query_ids: Sequence[str] | None = None
    bodies: Sequence[str] | None = None

    def __repr__(self) -> str:
        counts = f"{len(self.document_ids):,} documents, {len(self.query_ids):,} queries"
        return f"<octavo.eval.Dataset {short(self.name)}: {counts}>"

    def __post_init__(self) -> None:
        for what, ids, texts in (
            ("document", self.document_ids, self.texts),
            ("query", self.query_ids, self.queries),
            *((("document", self.document_ids, self.bodies),) if self.bodies is not None else ()),
        ):
            if len(ids) != len(texts):
                raise DatasetError(
                    f"{self.name}: expected one text for each of {len(ids)} {what} ids, got {len(texts)}"
                )
            if not ids:
                raise DatasetError(f"{self.name}: expected at least one {what}, got none")
            if len(set(ids)) != len(ids):
                seen: set[str] = set()
                twice = next(identifier for identifier in ids if identifier in seen or seen.add(identifier))  # type: ignore[func-returns-value]
                raise DatasetError(f"{self.name}: expected each {what} id once, got {twice!r} twice")
        if set(self.query_ids) != set(self.qrels) or not all(self.qrels.values()):
            raise DatasetError(f"{self.name}: expected judgements for exactly the queries given")
        if self.ignore_identical_ids:
            own = [query for query, grades in self.qrels.items() if grades.get(query, 0) > 0]
            if own:
                raise DatasetError(
                    f"{self.name}: {len(own):,} queries have a relevant document of their own id, for instance {own[0]!r}, "
                    "which ignore_identical_ids would leave out"
                )

    def in_context(self, context: str | None) -> tuple[Sequence[str], Sequence[str]]:
        """Return what is returned of each document, and what is embedded.

        Parameters
        ----------
        context : {"title", "no-title"} or None
            With ``"title"``, titles are embedded and not returned; with ``"no-title"`` they are left out; with None they are
            part of the texts.

        Returns
        -------
        returned : sequence of str
            What is returned of each document.
        embedded : sequence of str
            What is embedded; the same object where it is the same.

        Raises
        ------
        DatasetError
            When documents have no titles.

        Examples
        --------
        >>> data = Dataset(
        ...     name="tiny", document_ids=["a"], texts=["Apples are red"], bodies=["are red"],
        ...     query_ids=["q"], queries=["red"], qrels={"q": {"a": 1}},
        ... )
        >>> data.in_context("title")
        (['are red'], ['Apples are red'])
        """
        if context is None:
            return self.texts, self.texts
        if self.bodies is None:
            raise DatasetError(
                f"{self.name}: expected documents with titles for context={context!r}, but none has a title; leave context= out"
            )
        return self.bodies, self.texts if context == "title" else self.bodies

    @classmethod
    def judged(
        cls,
        *,
        name: str,
        split: str,
        source: str,
        corpus: Mapping[str, str | Titled],
        queries: Mapping[str, str],
        qrels: Qrels,
    ) -> Dataset:
        """Put a data set together from its three parts, leaving out queries without judgements.

        Parameters
        ----------
        name, split, source : str
            What to call it, which judgements these are, and the format that they came in.
        corpus : mapping of str to str or Titled
            Documents by id.
        queries : mapping of str to str
            Queries by id.
        qrels : dict of str to dict of str to int
            Judgements: for each query's id, grades by document's id.

        Raises
        ------
        DatasetError
            When there is no judgement, or one of a query that is not there.
        """
        if not qrels:
            raise DatasetError(f"{name}: expected at least one judgement in split {split!r}, got none")
        if missing := [identifier for identifier in qrels if identifier not in queries]:
            raise DatasetError(
                f"{name}: {len(missing)} judged queries are not among the {len(queries)} queries, for instance "
                f"{missing[0]!r}; do the judgements belong to these queries?"
            )
        if not any(document in corpus for judged in qrels.values() for document in judged):
            raise DatasetError(
                f"{name}: none of the judged documents is in the corpus; do the judgements belong to it?"
            )
        query_ids = [identifier for identifier in queries if identifier in qrels]
        documents = [each if isinstance(each, Titled) else Titled("", each) for each in corpus.values()]
        titled = any(each.title for each in documents)
        return cls(
            name=name,
            split=split,
            source=source,
            document_ids=list(corpus),
            texts=[each.text for each in documents],
            bodies=[each.body.strip() for each in documents] if titled else None,
            query_ids=query_ids,
            queries=[queries[identifier] for identifier in query_ids],
            qrels={identifier: qrels[identifier] for identifier in query_ids},
            listed_query_ids=list(queries),
        )

    @cached_property
    def info(self) -> DatasetInfo:
        """What results say about it."""
        state = hashlib.sha256()
        for part in (self.document_ids, self.texts, self.query_ids, self.queries):
            for text in part:
                data = text.encode("utf-8", "surrogatepass")
                state.update(len(data).to_bytes(8, "little") + data)
        state.update(json.dumps(self.qrels, sort_keys=True).encode())
        if self.ignore_identical_ids:
            state.update(b"ignore identical ids")
        return DatasetInfo(
            name=self.name,
            split=self.split,
            source=self.source,
            documents=len(self.document_ids),
            queries=len(self.query_ids),
            judgements=sum(map(len, self.qrels.values())),
            fingerprint=state.hexdigest()[:16],
            ignore_identical_ids=self.ignore_identical_ids,
        )


@runtime_checkable
class DatasetLoader(Protocol):
    """Reads one format."""

    @property
    def name(self) -> str:
        """What users write before the colon: ``name:source``."""
        ...

    def recognises(self, source: str, /) -> bool:
        """Tell whether a source without a name before the colon is in this format."""
        ...

    def load(self, source: str, /, *, split: str | None, corpus: str | None) -> Dataset:
        """Read it.

        Parameters
        ----------
        source : str
            A path or a name, without the format's name.
        split : str or None
            Which judgements, if there are several; None takes the usual ones. Raise if there are no splits.
        corpus : str or None
            Where the documents are, if not beside the questions. Raise if that cannot be.
        """
        ...


def open_text(path: Path) -> IO[str]:
    """Open a text file, compressed by gzip if its name says so."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, numbered from 1.

    Raises
    ------
    DatasetError
        When the file is damaged or not UTF-8.
    """
    number = 0
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path.name} is damaged, or not UTF-8, after line {number}: {error}") from error


def either(folder: Path, name: str) -> Path | None:
    """Return ``folder/name`` or its gzipped form, whichever is there."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_jsonl(path: Path) -> dict[str, Titled]:
    """Read ``{"_id": ..., "title": ..., "text": ...}`` lines: id -> title and text, in the order of the file.

    Raises
    ------
    DatasetError
        For a line that is something else, or an id that repeats.
    """
    found: dict[str, Titled] = {}
    for number, line in read_lines(path):
        try:
            record: Any = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"expected a JSON object, got {type(record).__name__}")
            identifier = _identifier(record)
            parts = [record.get("title") or "", record["text"] if "text" in record else _no_text(record)]
            if not all(isinstance(part, str) for part in parts):
                raise ValueError("expected strings in 'title' and 'text'")
            if identifier in found:
                raise ValueError(f"the id {identifier!r} was there before")
        except ValueError as error:
            raise DatasetError(f"{path.name}, line {number}: {error}") from error
        found[identifier] = Titled(*parts)
    return found


def _identifier(record: Mapping[str, Any]) -> str:
    value = record.get("_id", record.get("id"))
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"expected a string in '_id', got {value!r}")
    return str(value)


def _no_text(record: Mapping[str, Any]) -> str:
    raise ValueError(f"expected a field 'text', got {', '.join(map(repr, record))}")


def read_corpus(path: Path) -> dict[str, Titled]:
    """Read documents: JSON lines, or a folder of text files whose ids are their paths.

    Raises
    ------
    DatasetError
        When there is nothing there, or something else.
    """
    if path.is_dir():
        lines = either(path, "corpus.jsonl")
        if lines is not None:
            return read_jsonl(lines)
    elif path.is_file() and path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return read_jsonl(path)
    from octavo.ingest.kinds import TEXT_SUFFIXES
    from octavo.ingest.rows import SourceError
    from octavo.ingest.sources import Source
    from octavo.ingest.walking import Rules

    # text alone: questions and judgements lie beside it as tables
    rules = Rules(include=[f"*{suffix}" for suffix in TEXT_SUFFIXES], ignore=False)
    try:
        found = Source(path, chunk_size=0, rules=rules).documents()
        return {document.id: Titled("", document.text) for document in found}
    except SourceError as error:
        raise DatasetError(str(error)) from error


def judge(qrels: Qrels, query: str, document: str, grade: int, where: str) -> None:
    """Note a judgement; one that is there already is noted once.

    Raises
    ------
    DatasetError
        When it was judged otherwise before: nobody knows which of the two is meant.
    """
    judged = qrels.setdefault(query, {})
    if judged.setdefault(document, grade) != grade:
        raise DatasetError(
            f"{where}: document {document!r} was judged {judged[document]} for query {query!r} before, and {grade} here; leave "
            "one of the two out"
        )


def parse_grade(text: str, path: Path, number: int) -> int:
    """Return a judgement's grade, an integer however it is written."""
    try:
        value = float(text)
        if value == int(value):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise DatasetError(f"{path.name}, line {number}: expected an integer grade, got {text!r}")
