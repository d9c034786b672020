"""TREC collections: topics, qrels and documents, as test collections have come since 1992."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from octavo.errors import ParameterError
from octavo.eval.datasets._base import (
    Dataset,
    DatasetError,
    Qrels,
    judge,
    open_text,
    parse_grade,
    read_corpus,
    read_lines,
)

_TOPIC = re.compile(r"<top>(.*?)</top>", re.S | re.I)
_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.I)
_TITLE = re.compile(r"<title>\s*(?:Topic:)?\s*(.*?)\s*(?=<|\Z)", re.S | re.I)
_DOCUMENT = re.compile(r"<doc>(.*?)</doc>", re.S | re.I)
_DOCUMENT_ID = re.compile(r"<docno>\s*(.*?)\s*</docno>", re.S | re.I)
_BODY = re.compile(r"<(title|head|headline|text)>(.*?)</\1>", re.S | re.I)
_TAG = re.compile(r"<[^>]*>")


class _Trec:
    """A folder with ``topics*``, ``qrels*`` and documents.

    Documents are ``corpus.jsonl``, or ``*.trec`` / ``*.sgml`` files of ``<DOC>`` elements (all may be gzipped).
    """

    name = "trec"

    def recognises(self, source: str, /) -> bool:
        folder = Path(source)
        return folder.is_dir() and bool(self._files(folder, "topics")) and bool(self._files(folder, "qrels"))

    def load(self, source: str, /, *, split: str | None, corpus: str | None) -> Dataset:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise DatasetError(f"expected a folder with topics and qrels, but there is none at {source!r}")
        topics, judgements = self._one(folder, "topics", split), self._one(folder, "qrels", split)
        place = Path(corpus) if corpus is not None else folder
        marked = (
            sorted(path for pattern in ("*.trec*", "*.sgml*") for path in place.glob(pattern)) if place.is_dir() else []
        )
        return Dataset.judged(
            name=folder.resolve().name,
            split=split or "all",
            source=self.name,
            corpus=read_marked_documents(marked) if marked else read_corpus(place),
            queries=read_topics(topics),
            qrels=read_qrels(judgements),
        )

    @staticmethod
    def _files(folder: Path, what: str) -> list[Path]:
        return sorted(path for path in folder.glob(f"{what}*") if path.is_file())

    def _one(self, folder: Path, what: str, split: str | None) -> Path:
        files = self._files(folder, what)
        if split is not None:  # topics need not be split where judgements are
            files = [path for path in files if split in path.name.split(".")] or (files if what == "topics" else [])
        if len(files) != 1:
            names = ", ".join(path.name for path in files) or "none"
            raise ParameterError(
                f"expected one file {what}* in {folder.name!r}, got {names}; split= picks {what}.<split>"
            )
        return files[0]


def read_topics(path: Path) -> dict[str, str]:
    """Read queries: ``<top>`` elements (the title is the query), XML topics, or lines of id, tab and text.

    Raises
    ------
    DatasetError
        When it is none of these.
    """
    with open_text(path) as file:
        text = file.read()
    if "<top>" in text.lower():
        found = {}
        for topic in _TOPIC.findall(text):
            identified, title = _NUMBER.search(topic), _TITLE.search(topic)
            if identified is None or title is None:
                raise DatasetError(f"{path.name}: expected <num> and <title> in each <top>, got {topic.strip()[:60]!r}")
            found[identified[1]] = " ".join(title[1].split())
        return found
    if text.lstrip().startswith("<"):
        return _read_xml_topics(path, text)
    lines = {}
    for number, line in read_lines(path):
        identifier, tab, words = line.partition("\t")
        if not tab:
            raise DatasetError(f"{path.name}, line {number}: expected an id, a tab and the query, got {line[:60]!r}")
        lines[identifier.strip()] = words.strip()
    return lines


def _read_xml_topics(path: Path, text: str) -> dict[str, str]:
    if "<!ENTITY" in text:  # topics need none, and expanding them is how XML is used to fill memory
        raise DatasetError(f"{path.name}: expected topics without entity declarations")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DatasetError(f"{path.name}: expected XML topics, got a parse error: {error}") from error
    found = {}
    for topic in root.iter("topic"):
        words = next((topic.findtext(tag) for tag in ("query", "title", "question") if topic.findtext(tag)), topic.text)
        identifier = topic.get("number") or topic.get("id") or topic.findtext("number")
        if not identifier or not (words or "").strip():
            raise DatasetError(f"{path.name}: expected a number and a query, title or text in each <topic>")
        found[identifier.strip()] = " ".join((words or "").split())
    return found


def read_qrels(path: Path) -> Qrels:
    """Read lines of query id, iteration, document id and grade.

    Raises
    ------
    DatasetError
        For a line that is something else.
    """
    qrels: Qrels = {}
    for number, line in read_lines(path):
        parts = line.split()
        if len(parts) != 4:
            raise DatasetError(
                f"{path.name}, line {number}: expected query, iteration, document and grade, got {line[:60]!r}"
            )
        judge(qrels, parts[0], parts[2], parse_grade(parts[3], path, number), f"{path.name}, line {number}")
    return qrels


def read_marked_documents(paths: list[Path]) -> dict[str, str]:
    """Read ``<DOC>`` elements: headline and text, without the marks in them; all of it where none is marked.

    Raises
    ------
    DatasetError
        When one has no ``<DOCNO>``, or an id repeats.
    """
    found: dict[str, str] = {}
    for path in paths:
        with open_text(path) as file:
            text = file.read()
        for document in _DOCUMENT.findall(text):
            identifier = _DOCUMENT_ID.search(document)
            if identifier is None:
                raise DatasetError(f"{path.name}: expected <DOCNO> in each <DOC>, got {document.strip()[:60]!r}")
            if identifier[1] in found:
                raise DatasetError(f"{path.name}: the document {identifier[1]!r} was there before")
            parts = [body for _, body in _BODY.findall(document)] or [_DOCUMENT_ID.sub("", document)]
            found[identifier[1]] = " ".join(" ".join(_TAG.sub(" ", part).split()) for part in parts).strip()
    return found


TREC = _Trec()
