"""A spreadsheet of questions and the ids of what answers them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from octavo.errors import ParameterError
from octavo.eval.datasets._base import Dataset, DatasetError, Qrels, judge, open_text, parse_grade, read_corpus

_QUESTION = ("question", "query", "text")
_RELEVANT = ("relevant", "relevant_ids", "relevant_id", "ids", "document_id", "doc_id", "corpus-id")
_IDENTIFIER = ("id", "query_id", "query-id", "_id", "qid")
_GRADE = ("grade", "score", "relevance")


class _Csv:
    """Columns ``question`` and ``relevant``, optionally ``id`` and ``grade``.

    Several relevant ids stand in one cell, separated by ``;`` or ``|``, or on several lines with the same question. The
    corpus is given, or lies beside the file as ``corpus.jsonl`` or a folder ``corpus``.
    """

    name = "csv"

    def recognises(self, source: str, /) -> bool:
        return Path(source).is_file() and Path(source).name.removesuffix(".gz").endswith((".csv", ".tsv"))

    def load(self, source: str, /, *, split: str | None, corpus: str | None) -> Dataset:
        path = Path(source).expanduser()
        if split is not None:
            raise ParameterError(f"a CSV of questions has no splits, got split={split!r}")
        if not path.is_file():
            raise DatasetError(f"expected a CSV file of questions, but there is none at {source!r}")
        queries, qrels = read_questions(path)
        return Dataset.judged(
            name=re.sub(r"\.(csv|tsv)(\.gz)?$", "", path.name),
            split="all",
            source=self.name,
            corpus=read_corpus(self._corpus(path, corpus)),
            queries=queries,
            qrels=qrels,
        )

    @staticmethod
    def _corpus(path: Path, corpus: str | None) -> Path:
        if corpus is not None:
            return Path(corpus).expanduser()
        beside = [path.with_name(name) for name in ("corpus.jsonl", "corpus.jsonl.gz", "corpus")]
        for place in beside:
            if place.exists():
                return place
        raise DatasetError(
            f"expected the documents beside {path.name}, as one of {', '.join(place.name for place in beside)}, but there is "
            "none; say where they are with corpus= (--corpus)"
        )


def read_questions(path: Path) -> tuple[dict[str, str], Qrels]:
    """Read questions and judgements from a CSV (or, by its name, a tab-separated) file with a header.

    Raises
    ------
    DatasetError
        When a column is missing, or a line has no question or no relevant id.
    """
    queries: dict[str, str] = {}
    numbers: dict[str, str] = {}  # of questions without ids
    qrels: Qrels = {}
    delimiter = "\t" if ".tsv" in path.name else ","
    try:
        with open_text(path) as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            columns = [(name or "").strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            question, relevant = (_column(path, columns, names) for names in (_QUESTION, _RELEVANT))
            identifier = next((name for name in _IDENTIFIER if name in columns), None)
            grade = next((name for name in _GRADE if name in columns), None)
            for row in reader:
                number = reader.line_num
                words = (row[question] or "").strip()
                ids = [part.strip() for part in re.split(r"[;|]", row[relevant] or "") if part.strip()]
                if not words or not ids:
                    raise DatasetError(f"{path.name}, line {number}: expected a question and at least one relevant id")
                key = (
                    (row[identifier] or "").strip() if identifier else numbers.setdefault(words, f"q{len(numbers) + 1}")
                )
                if not key or queries.setdefault(key, words) != words:
                    raise DatasetError(
                        f"{path.name}, line {number}: expected one question for each id, got {key!r} again"
                    )
                value = parse_grade(row[grade] or "", path, number) if grade else 1
                for document in ids:
                    judge(qrels, key, document, value, f"{path.name}, line {number}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path.name} is not a CSV file in UTF-8: {error}") from error
    return queries, qrels


def _column(path: Path, columns: list[str], names: tuple[str, ...]) -> str:
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise DatasetError(f"{path.name}: expected a column {names[0]!r} (or {', '.join(names[1:])}), got {columns}")
    return found


CSV = _Csv()
