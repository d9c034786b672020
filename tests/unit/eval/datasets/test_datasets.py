"""Every format that evaluation reads, and what it says about files that are not in it."""

from __future__ import annotations

import gzip
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import InputTypeError, MissingExtraError, ParameterError
from octavo.eval import Dataset, DatasetError, Timing, load_dataset, register_loader, run
from octavo.eval import datasets as module
from octavo.eval.datasets._csv import read_questions
from octavo.eval.datasets._trec import read_qrels


def test_beir(beir: Path) -> None:
    data = load_dataset(beir)
    assert (data.name, data.split, data.source) == ("tiny", "test", "beir")
    assert len(data.document_ids) == 60
    assert data.query_ids == [f"q{n}" for n in range(12)]  # q12 has no judgement
    assert data.qrels["q1"] == {"d4": 2, "d5": 1, "d1": 0}
    first = json.loads((beir / "corpus.jsonl").read_text().splitlines()[0])
    assert data.texts[0] == f"{first['title']} {first['text']}"
    assert data.info.judgements == 30


def test_gzip_and_splits(beir: Path) -> None:
    plain = load_dataset(beir)
    for name in ("corpus.jsonl", "queries.jsonl"):
        path = beir / name
        (beir / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (beir / "qrels" / "test.tsv").rename(beir / "qrels" / "dev.tsv")
    packed = load_dataset(beir)  # the only split there is
    assert packed.split == "dev"
    assert packed.info.fingerprint == plain.info.fingerprint
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq12\td0\t1\n")
    assert load_dataset(beir, split="train").query_ids == ["q12"]
    with pytest.raises(DatasetError, match=r"qrels/test\.tsv, but there are only: dev, train"):
        load_dataset(f"beir:{beir}")


def test_the_fingerprint_follows_every_part(tiny: Dataset) -> None:
    def changed(**parts: Any) -> str:
        return Dataset(**{**tiny.__dict__, **parts}).info.fingerprint

    tiny_parts = {key: value for key, value in tiny.__dict__.items() if key != "info"}
    assert Dataset(**tiny_parts).info == tiny.info
    tiny.__dict__.pop("info", None)
    prints = {
        changed(),
        changed(texts=[*tiny.texts[:-1], "else"]),
        changed(document_ids=["x", *tiny.document_ids[1:]]),
        changed(queries=["else", *tiny.queries[1:]]),
        changed(qrels={**tiny.qrels, "q0": {"d0": 3}}),
    }
    assert len(prints) == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}', r"corpus.jsonl, line 2: the id 'a'"),
        ("corpus.jsonl", '{"_id": "a"}', "line 1: expected a field 'text'"),
        ("corpus.jsonl", '{"text": "a"}', "line 1: expected a string in '_id'"),
        ("corpus.jsonl", '{"_id": "a", "text": 3}', "line 1: expected strings"),
        ("corpus.jsonl", "{", "line 1"),
        ("corpus.jsonl", "[]", "line 1: expected a JSON object, got list"),
        ("corpus.jsonl", "\n", "none of the judged documents"),
        ("queries.jsonl", '{"_id": "other", "text": "x"}', "12 judged queries are not among the 1 queries"),
        ("qrels/test.tsv", "q0 d0 1", "expected query-id, corpus-id and score"),
        ("qrels/test.tsv", "q0\td0\tgood\n", "expected an integer grade, got 'good'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "at least one judgement"),
    ],
)
def test_beir_says_what_is_wrong(beir: Path, name: str, content: str, message: str) -> None:
    (beir / name).write_text(content)
    with pytest.raises(DatasetError, match=message):
        load_dataset(beir)


def test_damaged_files(beir: Path) -> None:
    (beir / "corpus.jsonl").write_bytes(b'{"_id": "a", "text": "\xff"}')
    with pytest.raises(DatasetError, match="not UTF-8"):
        load_dataset(beir)
    (beir / "corpus.jsonl").unlink()
    (beir / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "a", "text": "b"}\n')[:-12])
    with pytest.raises(DatasetError, match="damaged"):
        load_dataset(beir)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="nothing at"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(ParameterError, match="in one of the formats beir"):
        load_dataset(tmp_path)
    with pytest.raises(DatasetError, match="BEIR folder"):
        load_dataset(f"beir:{tmp_path / 'nowhere'}")


TOPICS = {
    "classic": "<top>\n<num> Number: 1\n<title> Topic: red things\n<desc> Description:\nwhat is red\n</top>\n"
    "<top>\n<num> 2 </num>\n<title>blue\nthings</title>\n</top>",
    "xml": '<topics><topic number="1"><query>red things</query></topic><topic number="2">blue things</topic></topics>',
    "lines": "1\tred things\n2\tblue things\n",
}


@pytest.mark.parametrize("form", TOPICS)
def test_trec(tmp_path: Path, form: str) -> None:
    (tmp_path / "topics.txt").write_text(TOPICS[form])
    (tmp_path / "qrels.txt").write_text("1 0 D-1 1\n2 0 D-2 2\n2 0 D-1 0\n")
    (tmp_path / "docs.trec").write_text(
        "<DOC><DOCNO> D-1 </DOCNO><HEADLINE>Red</HEADLINE><TEXT>a <b>red</b> thing</TEXT></DOC>\n"
        "<DOC>\n<DOCNO>D-2</DOCNO>\nall of it is blue\n</DOC>"
    )
    data = load_dataset(tmp_path)
    assert data.source == "trec"
    assert dict(zip(data.query_ids, data.queries, strict=True)) == {"1": "red things", "2": "blue things"}
    assert dict(zip(data.document_ids, data.texts, strict=True)) == {
        "D-1": "Red a red thing",
        "D-2": "all of it is blue",
    }
    assert data.qrels["2"] == {"D-2": 2, "D-1": 0}


def test_trec_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "b"}')
    (tmp_path / "topics.1").write_text("1\tred\n")
    (tmp_path / "qrels.1").write_text("1 0 a 1\n")
    assert load_dataset(tmp_path).texts == ["b"]
    (tmp_path / "qrels.2").write_text("1 0 a\n")
    with pytest.raises(ParameterError, match=r"expected one file qrels\*"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, split="1").split == "1"
    with pytest.raises(DatasetError, match=r"qrels.2, line 1: expected query, iteration"):
        load_dataset(tmp_path, split="2")
    (tmp_path / "topics.1").write_text("no tab here")
    with pytest.raises(DatasetError, match="expected an id, a tab and the query"):
        load_dataset(tmp_path, split="1")
    (tmp_path / "topics.1").write_text(
        '<!DOCTYPE t [<!ENTITY a "aaaa">]><topics><topic number="1">&a;</topic></topics>'
    )
    with pytest.raises(DatasetError, match="entity"):
        load_dataset(tmp_path, split="1")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.csv", 'question,relevant\nwhich is red?,a;b\n"blue, or green?",c\n'),
        (
            "mine.csv",
            'id,query,relevant_ids,grade\nq1,which is red?,a,1\nq1,which is red?,b,1\nq2,"blue, or green?",c,1\n',
        ),
        ("mine.tsv", "text\tids\nwhich is red?\ta|b\nblue, or green?\tc\n"),
    ],
)
def test_csv(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "corpus.jsonl").write_text("\n".join(json.dumps({"_id": i, "text": i}) for i in "abc"))
    data = load_dataset(tmp_path / name)
    assert data.queries == ["which is red?", "blue, or green?"]
    assert data.qrels == {"q1": {"a": 1, "b": 1}, "q2": {"c": 1}}
    assert data.name == "mine"


def test_csv_with_a_corpus_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "notes" / "deep" / "red.md").write_text("# Red\n\nA red thing.")
    questions = tmp_path / "questions.csv"
    questions.write_text("question,relevant\nred?,deep/red.md\n")
    with pytest.raises(DatasetError, match="--corpus"):
        load_dataset(questions)
    assert load_dataset(questions, corpus=tmp_path / "notes").document_ids == ["deep/red.md"]
    with pytest.raises(DatasetError, match="there is nothing at"):
        load_dataset(questions, corpus=tmp_path / "gone")
    with pytest.raises(ParameterError, match="no splits"):
        load_dataset(questions, split="test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("question,answer\na,b\n", "expected a column 'relevant'"),
        ("question,relevant\na,\n", "line 2: expected a question and at least one relevant id"),
        ("id,question,relevant\n1,a,x\n1,b,x\n", "line 3: expected one question for each id"),
        ("question,relevant,grade\na,x,high\n", "expected an integer grade"),
        ('question,relevant\n"a,x\n', "not a CSV file"),
    ],
)
def test_csv_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "x", "text": "y"}')
    (tmp_path / "q.csv").write_text(content)
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "q.csv")


class FakeHub:
    """Stands in for the package datasets: what each call would download."""

    def __init__(self, beside: bool) -> None:
        self.beside = beside
        self.asked: list[tuple[Any, ...]] = []

    def load_dataset(self, path: str, name: str | None = None, *, revision: str | None = None) -> Any:
        self.asked.append((path, name, revision))
        judgements = {"test": [{"query-id": "q", "corpus-id": "a", "score": 1}]}
        if path == "mteb/tiny" and name in ("corpus", "queries"):
            row = {"_id": "a", "title": "T", "text": "body"} if name == "corpus" else {"_id": "q", "text": "what?"}
            return {name: [row]}
        if self.beside and (path, name) == ("mteb/tiny", "default"):
            return judgements
        if not self.beside and (path, name) == ("mteb/tiny-qrels", None):
            return judgements
        raise ValueError(f"no configuration {name} of {path}\nand a long story")


@pytest.mark.parametrize("beside", [True, False])
def test_hub_layouts(monkeypatch: pytest.MonkeyPatch, beside: bool) -> None:
    hub = FakeHub(beside)
    monkeypatch.setitem(sys.modules, "datasets", hub)  # type: ignore[arg-type]
    data = load_dataset("hf:mteb/tiny")
    assert (data.name, data.source, data.texts, data.queries) == ("tiny", "hf", ["T body"], ["what?"])
    with pytest.raises(DatasetError, match="split 'dev'"):
        load_dataset("hf:mteb/tiny", split="dev")
    with pytest.raises(DatasetError, match=r"could not be read from the hub: no configuration corpus of mteb/other$"):
        load_dataset("hf:mteb/other")
    with pytest.raises(ParameterError, match="brings its own documents"):
        load_dataset("hf:mteb/tiny", corpus="x")


def test_mteb_names_resolve_to_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(beside=True)
    monkeypatch.setitem(sys.modules, "datasets", hub)  # type: ignore[arg-type]
    fake = types.ModuleType("mteb")

    def get_task(name: str) -> Any:
        if name == "Gone":
            raise KeyError(name)
        kind = "STS" if name == "Pairs" else "Retrieval"
        described = types.SimpleNamespace(type=kind, dataset={"path": "mteb/tiny", "revision": "abc"})
        return types.SimpleNamespace(metadata=described)

    fake.get_task = get_task  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mteb", fake)
    assert load_dataset("mteb:Tiny").name == "Tiny"
    assert hub.asked[0] == ("mteb/tiny", "corpus", "abc")
    with pytest.raises(DatasetError, match="of type Retrieval, got 'Pairs' of type STS"):
        load_dataset("mteb:Pairs")
    with pytest.raises(DatasetError, match="name of an MTEB task"):
        load_dataset("mteb:Gone")


@pytest.mark.parametrize(
    ("source", "command"),
    [("hf:a/b", "pip install datasets"), ("mteb:SciFact", r"pip install 'octavo\[mteb\]'")],
)
def test_packages_that_are_not_there(monkeypatch: pytest.MonkeyPatch, source: str, command: str) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("octavo.eval.datasets._hub.importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match=command):
        load_dataset(source)


def test_a_stranger_adds_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_loaders", dict(module._loaders))

    class Pairs:
        name = "pairs"

        def recognises(self, source: str, /) -> bool:
            return source.endswith(".pairs")

        def load(self, source: str, /, *, split: str | None, corpus: str | None) -> Dataset:
            pairs = [line.split("=") for line in Path(source).read_text().splitlines()]
            return Dataset.judged(
                name="pairs", split="all", source=self.name, corpus={a: a for _, a in pairs},
                queries={q: q for q, _ in pairs}, qrels={q: {a: 1} for q, a in pairs},
            )  # fmt: skip

    register_loader(Pairs())
    (tmp_path / "my.pairs").write_text("two and two=four\nsky=blue\n")
    for source in (str(tmp_path / "my.pairs"), f"pairs:{tmp_path / 'my.pairs'}"):
        assert load_dataset(source).texts == ["four", "blue"]
    assert "pairs" in module.loader_names()
    with pytest.raises(InputTypeError, match="expected a loader"):
        register_loader(object())  # type: ignore[arg-type]


def test_data_sets_in_memory_are_checked(tiny: Dataset) -> None:
    assert load_dataset(tiny) is tiny
    with pytest.raises(ParameterError, match="in memory already"):
        load_dataset(tiny, split="test")
    parts: dict[str, Any] = {
        "name": "x", "document_ids": ["a"], "texts": ["t"], "query_ids": ["q"], "queries": ["t"], "qrels": {"q": {"a": 1}},
    }  # fmt: skip
    for change, message in (
        ({"texts": []}, "one text for each of 1 document ids, got 0"),
        ({"document_ids": [], "texts": []}, "at least one document"),
        ({"document_ids": ["a", "a"], "texts": ["t", "t"]}, "'a' twice"),
        ({"qrels": {}}, "exactly the queries given"),
    ):
        with pytest.raises(DatasetError, match=message):
            Dataset(**{**parts, **change})


def test_the_shared_collections(shared_data: Path) -> None:
    data = load_dataset(shared_data / "cranfield")
    assert (data.info.documents, data.info.queries, data.info.judgements) == (1400, 225, 1837)


# ---------------------------------------------------------------------- judgements that contradict each other


def test_judgements_that_contradict_each_other_are_an_error(beir: Path, tmp_path: Path) -> None:
    judgements = beir / "qrels" / "test.tsv"
    lines = judgements.read_text().splitlines()
    judgements.write_text("\n".join([*lines, lines[1]]) + "\n")  # the same once more does no harm
    same = load_dataset(beir)
    judgements.write_text("\n".join([*lines, "q0\td0\t1"]) + "\n")
    with pytest.raises(
        DatasetError, match=r"test.tsv, line \d+: document 'd0' was judged 2 for query 'q0' before, and 1"
    ):
        load_dataset(beir)
    judgements.write_text("\n".join(lines) + "\n")
    assert load_dataset(beir).info.fingerprint == same.info.fingerprint
    (tmp_path / "qrels.txt").write_text("q 0 a 1\nq 0 a 0\n")
    with pytest.raises(DatasetError, match=r"qrels.txt, line 2: document 'a' was judged 1"):
        read_qrels(tmp_path / "qrels.txt")
    (tmp_path / "questions.csv").write_text("question,relevant,grade\nwhat?,a;b,2\nwhat?,b,1\n")
    with pytest.raises(DatasetError, match=r"questions.csv, line 3: document 'b' was judged 2"):
        read_questions(tmp_path / "questions.csv")


# ---------------------------------------------------------------------- queries that are documents


def test_a_document_that_is_the_query_can_be_left_out(tiny: Dataset, encoder: Any, quick: Timing) -> None:
    """As in ArguAna: each query is a document, which every search finds first."""
    data = Dataset(
        name="arguments",
        document_ids=tiny.document_ids,
        texts=tiny.texts,
        query_ids=tiny.document_ids[:10],
        queries=tiny.texts[:10],
        qrels={f"d{n}": {f"d{n + 20}": 1} for n in range(10)},
    )
    left_out = load_dataset(data, ignore_identical_ids=True)
    assert left_out.info.fingerprint != data.info.fingerprint
    assert left_out.info.ignore_identical_ids
    wanted = [
        "float32",
        "binary > int8",
        {"baseline": "float16-cast"},
        {"mode": "text"},
        {"codec": "int8", "mode": "hybrid"},
    ]
    kept, without = (run(one, encoder, wanted, measures=["RR@1", "RR@10"], timing=quick) for one in (data, left_out))
    assert [result.quality["RR@1"] for result in kept] == [0.0] * 5  # the query itself comes first
    for before, after in zip(kept, without, strict=True):
        assert after.quality["RR@10"] > before.quality["RR@10"]
        assert after.agreement.float32 is None or after.agreement.float32 > 0.5
        assert after.ok, [check for check in after.checks if not check.ok]
    assert without[0].agreement.float32 == 1.0


def test_what_is_left_out_cannot_be_relevant(tiny: Dataset) -> None:
    with pytest.raises(DatasetError, match="which ignore_identical_ids would leave out"):
        Dataset(
            name="x", document_ids=["a"], texts=["t"], query_ids=["a"], queries=["t"], qrels={"a": {"a": 1}},
            ignore_identical_ids=True,
        )  # fmt: skip
    with pytest.raises(ParameterError, match="True or False"):
        load_dataset(tiny, ignore_identical_ids=1)  # type: ignore[arg-type]
