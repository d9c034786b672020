"""The layout of BEIR: a folder with documents, queries and judgements."""

from __future__ import annotations

import csv
from pathlib import Path

from octavo.eval.datasets._base import (
    Dataset,
    DatasetError,
    Qrels,
    either,
    judge,
    parse_grade,
    read_corpus,
    read_jsonl,
    read_lines,
)


class _Beir:
    """``corpus.jsonl[.gz]``, ``queries.jsonl[.gz]`` and ``qrels/<split>.tsv``."""

    name = "beir"

    def recognises(self, source: str, /) -> bool:
        folder = Path(source)
        return either(folder, "corpus.jsonl") is not None and (folder / "qrels").is_dir()

    def load(self, source: str, /, *, split: str | None, corpus: str | None) -> Dataset:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise DatasetError(f"expected a BEIR folder, but there is none at {source!r}")
        queries = either(folder, "queries.jsonl")
        documents = Path(corpus) if corpus is not None else either(folder, "corpus.jsonl")
        if queries is None or documents is None:
            missing = "queries.jsonl" if queries is None else "corpus.jsonl"
            raise DatasetError(
                f"expected {missing} or {missing}.gz in the BEIR folder {source!r}, but there is neither"
            )
        split = split or self._usual(folder)
        judgements = either(folder / "qrels", f"{split}.tsv")
        if judgements is None:
            raise DatasetError(
                f"expected judgements in qrels/{split}.tsv, but there are only: {', '.join(self._splits(folder)) or 'none'}"
            )
        return Dataset.judged(
            name=folder.resolve().name,
            split=split,
            source=self.name,
            corpus=read_corpus(documents),
            queries={name: query.text for name, query in read_jsonl(queries).items()},
            qrels=_read_beir_qrels(judgements),
        )

    @staticmethod
    def _splits(folder: Path) -> list[str]:
        names = [path.name.removesuffix(".gz") for path in (folder / "qrels").glob("*.tsv*")]
        return sorted({name.removesuffix(".tsv") for name in names if name.endswith(".tsv")})

    def _usual(self, folder: Path) -> str:
        splits = self._splits(folder)
        return splits[0] if len(splits) == 1 else "test"


def _read_beir_qrels(path: Path) -> Qrels:
    qrels: Qrels = {}
    rows = csv.reader((line for _, line in read_lines(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    for number, row in enumerate(rows, 1):
        if len(row) != 3:
            raise DatasetError(f"{path.name}, line {number}: expected query-id, corpus-id and score, got {row}")
        if number == 1 and row[2].strip().lower() == "score":
            continue
        judge(qrels, row[0], row[1], parse_grade(row[2], path, number), f"{path.name}, line {number}")
    return qrels


BEIR = _Beir()
