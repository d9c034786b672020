"""Pairs: where they come from, what is refused, and that nothing held out is trained on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavo
from octavo.errors import InputTypeError, ParameterError
from octavo.eval import Dataset, DatasetError
from octavo.training import Pairs, read_pairs
from octavo.training.data import hold_out

DOCUMENTS = {
    f"d{at}": (f"Title {at}", f"Body number {at} has a few words in it. And a second sentence, number {at}.")
    for at in range(8)
}


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": name, "title": title, "text": text}) for name, (title, text) in DOCUMENTS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    (folder / "queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": f"q{at}", "text": f"What {at}?"}) for at in range(8))
    )
    (folder / "qrels" / "train.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td1\t1\nq1\td2\t2\nq2\td3\t0\n"
    )
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq5\td5\t1\n")
    return folder


def test_judgements_of_train_unless_another_split_is_named(beir: Path) -> None:
    found = read_pairs(beir)
    assert list(zip(found.queries, found.documents, strict=True)) == [
        ("What 0?", " ".join(DOCUMENTS["d0"])),
        ("What 1?", " ".join(DOCUMENTS["d1"])),
        ("What 1?", " ".join(DOCUMENTS["d2"])),
    ]
    assert found.name == "set (train)"
    assert read_pairs(f"{beir}#test").queries == ["What 5?"]
    assert read_pairs(f"judged:{beir}#test").queries == ["What 5?"]
    (beir / "qrels" / "train.tsv").unlink()
    with pytest.raises(ParameterError, match=r"#test.*titles:.*sentences:"):
        read_pairs(beir)


def test_titles_with_bodies(beir: Path) -> None:
    found = read_pairs(f"titles:{beir}")
    assert (found.queries[3], found.documents[3]) == DOCUMENTS["d3"]
    packed = beir / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress((beir / "corpus.jsonl").read_bytes()))
    assert read_pairs(f"titles:{packed}").queries == found.queries
    (beir / "corpus.jsonl").write_text('{"_id": "a", "text": "no title"}\n')
    with pytest.raises(ParameterError, match="sentences:"):
        read_pairs(f"titles:{beir}")
    for damaged in ("[1]", '{"title": 3, "text": "x"}', "{"):
        (beir / "corpus.jsonl").write_text(damaged)
        with pytest.raises(DatasetError, match="line 1"):
            read_pairs(f"titles:{beir}")


def test_sentences_of_a_collection_and_of_lines(beir: Path, tmp_path: Path) -> None:
    lines = read_pairs(f"sentences:{beir}")
    assert len(lines) == 8
    for query, document in zip(lines.queries, lines.documents, strict=True):
        assert query not in document
    with octavo.open(tmp_path / "kb") as kb:
        texts = [" ".join(one) for one in DOCUMENTS.values()]
        kb.add(texts, ids=list(DOCUMENTS), vectors=[[1.0, float(at)] for at in range(8)])
    found = read_pairs(tmp_path / "kb")  # of a collection nothing else can be had
    assert sorted(found.documents) == sorted(lines.documents)
    with pytest.raises(ParameterError, match="sentences:"):
        read_pairs(f"judged:{tmp_path / 'kb'}")


def test_several_sources_are_one(beir: Path) -> None:
    both = read_pairs([f"titles:{beir}", beir, Pairs(["a"], ["b"])])
    assert len(both) == 8 + 3 + 1
    assert both.name == "set (titles), set (train), pairs"


def test_known_items_are_trained_on_without_naming_a_split(beir: Path, tmp_path: Path) -> None:
    from octavo.eval.datasets.make import make

    make(beir, tmp_path / "made", queries=5)
    assert len(read_pairs(tmp_path / "made")) == 5


def test_vectors_of_a_teacher_belong_to_the_texts_of_one_data_set(beir: Path) -> None:
    import numpy as np

    from octavo.eval import ReadyVectors
    from octavo.training.data import GivenVectors

    documents = np.arange(16, dtype=np.float32).reshape(8, 2)
    given = GivenVectors(ReadyVectors(documents, [[1, 0], [0, 1], [1, 1]]), str(beir))  # the queries that are judged
    pairs = read_pairs(beir)
    assert given.encode_documents(pairs.documents).tolist() == documents[:3].tolist()
    assert given.encode_queries(pairs.queries).tolist() == [[1, 0], [0, 1], [0, 1]]
    for other in (f"titles:{beir}", [beir, beir], pairs):
        with pytest.raises(ParameterError, match="judgements of one data set"):
            GivenVectors(ReadyVectors(documents, [[1, 0]]), other)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("nowhere", ParameterError),
        ("", ParameterError),
        ("odd:nowhere", ParameterError),
        (3, InputTypeError),
        ([], ParameterError),
        ({"a": 1}.items, InputTypeError),
    ],
)
def test_what_is_no_source(source: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_pairs(source)


def test_a_split_belongs_to_judgements(beir: Path) -> None:
    with pytest.raises(ParameterError, match="split"):
        read_pairs(f"titles:{beir}#train")


@pytest.mark.parametrize(
    ("queries", "documents", "error"),
    [
        (["a"], ["b", "c"], ParameterError),
        ([], [], ParameterError),
        (["a", " "], ["b", "c"], ParameterError),
        ("ab", "cd", InputTypeError),
        ([1], ["b"], InputTypeError),
        (["half \ud800"], ["b"], InputTypeError),
        (None, ["b"], InputTypeError),
    ],
)
def test_what_are_no_pairs(queries: Any, documents: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Pairs(queries, documents)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=8, max_size=80),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_nothing_held_out_is_trained_on(numbers: list[tuple[int, int]], queries: int, seed: int) -> None:
    pairs = Pairs([f"q{query}" for query, _ in numbers], [f"document {document}" for _, document in numbers])
    try:
        left, data = hold_out(pairs, queries, seed)
    except ParameterError:
        return
    assert isinstance(data, Dataset)
    assert 1 <= len(data.queries) <= queries
    assert not set(left.queries) & set(data.queries)
    assert not set(left.documents) & set(data.texts)
    known = set(zip(pairs.queries, pairs.documents, strict=True))
    assert set(zip(left.queries, left.documents, strict=True)) <= known
    texts = dict(zip(data.document_ids, data.texts, strict=True))
    asked = dict(zip(data.query_ids, data.queries, strict=True))
    for query, grades in data.qrels.items():
        assert grades
        assert all((asked[query], texts[document]) in known for document in grades)
    again, _ = hold_out(pairs, queries, seed)
    assert again.queries == left.queries
