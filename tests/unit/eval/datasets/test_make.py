"""Test sets made of documents alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo.errors import InputTypeError, ParameterError
from octavo.eval.datasets import load_dataset
from octavo.eval.datasets.make import LEFT, LONGEST, SHORTEST, make


def corpus(n: int = 40) -> dict[str, str]:
    rng = np.random.default_rng(0)
    return {
        f"doc{i}": "\n".join(
            [f"Title number {i} of this small collection", *(
                f"Sentence {j} of document {i} says {' '.join(f'word{w}' for w in rng.integers(0, 500, 8))}." for j in range(4)
            )]
        )
        for i in range(n)
    }  # fmt: skip


def test_the_folder_is_a_beir_data_set(tmp_path: Path) -> None:
    texts = corpus()
    made = make(texts, tmp_path / "set", queries=15)
    data = load_dataset(tmp_path / "set")
    assert (made.queries, len(data.queries), len(data.texts)) == (15, 15, 40)
    indexed = dict(zip(data.document_ids, data.texts, strict=True))
    for query, words in zip(data.query_ids, data.queries, strict=True):
        (name,) = data.qrels[query]
        assert words in texts[name]
        assert words not in indexed[name]  # taken out
        assert not any(words in text for other, text in texts.items() if other != name)
        assert SHORTEST <= len(words.split()) <= LONGEST
        assert len(indexed[name].split()) >= LEFT
    untouched = set(texts) - {name for judged in data.qrels.values() for name in judged}
    assert all(indexed[name] == texts[name] for name in untouched)
    described = json.loads((tmp_path / "set" / "made.json").read_text(encoding="utf-8"))
    assert described["removed"]
    assert "does not measure" in described["note"]


def test_the_seed_decides_and_the_order_does_not(tmp_path: Path) -> None:
    texts = corpus()
    make(texts, tmp_path / "a", queries=10, seed=1)
    make(dict(reversed(texts.items())), tmp_path / "b", queries=10, seed=1)
    make(texts, tmp_path / "c", queries=10, seed=2)
    contents = [
        [
            (tmp_path / name / file).read_bytes()
            for file in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "made.json")
        ]
        for name in "abc"
    ]
    assert contents[0] == contents[1]
    assert contents[0][1] != contents[2][1]


def test_titles(tmp_path: Path) -> None:
    make(corpus(), tmp_path / "set", method="title", queries=100)
    data = load_dataset(tmp_path / "set")
    assert len(data.queries) == 40  # as many as there are
    assert all(words.startswith("Title number") for words in data.queries)
    assert not any("Title number" in text for text in data.texts)


def test_queries_may_stay_in_their_documents(tmp_path: Path) -> None:
    made = make(corpus(), tmp_path / "set", queries=5, remove=False)
    data = load_dataset(tmp_path / "set")
    indexed = dict(zip(data.document_ids, data.texts, strict=True))
    assert not made.removed
    assert indexed == corpus()


def test_sentences_that_several_documents_have_are_not_asked_for(tmp_path: Path) -> None:
    same = "This very sentence stands in all of the documents."
    texts = {name: f"{same.upper()} {text}" for name, text in corpus(10).items()}
    texts["copy"] = texts["doc3"]
    make(texts, tmp_path / "set")
    data = load_dataset(tmp_path / "set")
    assert not any("sentence stands" in words.lower() for words in data.queries)
    asked = {name for judged in data.qrels.values() for name in judged}
    assert asked == {f"doc{i}" for i in range(10)} - {"doc3"}


def test_collections_and_files_are_sources(tmp_path: Path) -> None:
    texts = corpus(12)
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(list(texts.values()), ids=list(texts), vectors=np.random.default_rng(0).normal(size=(12, 4)))
        make(kb, tmp_path / "open")
    make(tmp_path / "kb", tmp_path / "path")
    make(texts, tmp_path / "mapping")
    queries = [(tmp_path / name / "queries.jsonl").read_text() for name in ("open", "path", "mapping")]
    assert queries[0] == queries[1] == queries[2]
    (tmp_path / "notes").mkdir()
    for name, text in texts.items():
        (tmp_path / "notes" / f"{name}.txt").write_text(text)
    assert make(tmp_path / "notes", tmp_path / "files").documents == 12


def test_what_cannot_be_done_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="none of 2 is like that"):
        make({"a": "Too short.", "b": "Also."}, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ParameterError, match="something at"):
        make(corpus(), tmp_path / "full")
    with pytest.raises(ParameterError, match="sentence', 'title"):
        make(corpus(), tmp_path / "set", method="guess")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="at least 1"):
        make(corpus(), tmp_path / "set", queries=0)
    with pytest.raises(InputTypeError):
        make(3, tmp_path / "set")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="tabs"):
        make({f"{name}\tx": text for name, text in corpus(3).items()}, tmp_path / "tabs")
    assert not (tmp_path / "tabs").exists()
    with octavo.open() as kb:
        kb.add(vectors=np.eye(3), ids=["a", "b", "c"])
        with pytest.raises(ParameterError, match="vectors only"):
            make(kb, tmp_path / "set")
