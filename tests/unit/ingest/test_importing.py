"""Other stores as collections: what is taken over, what is refused, and that a pickle is never run."""

from __future__ import annotations

import contextlib
import copyreg
import datetime
import json
import pickle
import shutil
import struct
import sys
import types
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo.errors import InvalidVectorsError, MismatchError, MissingExtraError, OctavoError, ParameterError
from octavo.ingest.importing import import_chroma, import_faiss, import_lancedb
from octavo.ingest.importing._pickled import read_docstore
from octavo.ingest.importing._taking_over import Records, Wishes, take_over
from octavo.ingest.rows import SourceError

STORES = Path(__file__).parents[2] / "data/stores"
TEXTS = ["a red apple", "a green pear", "a blue plum"]


def vector(text: str) -> np.ndarray:
    found = np.random.default_rng(zlib.crc32(text.encode())).normal(size=8)
    return (found / np.linalg.norm(found)).astype(np.float32)


class Model:
    """The model of the stores beside this file."""

    name = "fruit"

    def encode_documents(self, texts: list[str]) -> np.ndarray:
        return np.array([vector(text) for text in texts])

    encode_queries = encode_documents


class OtherModel(Model):
    name = "vegetables"

    def encode_documents(self, texts: list[str]) -> np.ndarray:
        return np.array([vector(text[::-1]) for text in texts])


def flat(path: Path, vectors: np.ndarray, kind: bytes = b"IxFI", metric: int = 0) -> Path:
    n, dim = vectors.shape
    head = struct.pack("<4siqqqbiq", kind, dim, n, 1 << 20, 1 << 20, 1, metric, n * dim)
    path.write_bytes(head + vectors.astype("<f4").tobytes())
    return path


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def contents(path: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    with octavo.open(path, read_only=True) as kb:
        return {document.id: (document.text, document.metadata) for document in kb.documents()}


def assert_vectors(path: Path, expected: dict[str, np.ndarray]) -> None:
    with octavo.open(path, read_only=True) as kb:
        found = kb.get_vectors(list(expected))
    for row, wanted in zip(found, expected.values(), strict=True):
        assert row == pytest.approx(wanted, abs=0.02)


def nothing_is_there(folder: Path) -> bool:
    return not any(held.name == "kb" or held.name.startswith(".kb") for held in folder.iterdir())


# ---------------------------------------------------------------------- LangChain


def test_langchain(tmp_path: Path) -> None:
    report = import_faiss(STORES / "langchain", tmp_path / "kb", Model())
    utc = datetime.UTC
    assert contents(tmp_path / "kb") == {
        "r": (TEXTS[0], {"year": 2020, "when": datetime.datetime(2024, 5, 1, 12, tzinfo=utc), "path": "/fruit/a.txt"}),
        "g": (TEXTS[1], {"year": 2021, "day": datetime.date(2024, 5, 1), "weight": 0.5}),
        "b": (TEXTS[2], {"tags": ["x", "y"], "nested": {"deep": [1, 2.5, None, True]}}),
    }
    assert_vectors(tmp_path / "kb", {"r": vector(TEXTS[0]), "b": vector(TEXTS[2])})
    assert (report.documents, report.dim, report.distance, report.metric) == (3, 8, "l2", "cosine")
    assert (report.model, report.rounded_by) == ("fruit", None)
    assert report.left_out == {"metadata field 'raw' (bytes)": 1}
    with octavo.open(tmp_path / "kb", Model()) as kb:
        assert kb.search(TEXTS[1], k=1).ids == ["g"]
        assert kb.verify().ok


def old_classes(monkeypatch: pytest.MonkeyPatch) -> tuple[type, type]:
    """Return classes as LangChain's first versions named theirs, which pickle finds under those names."""
    made = []
    for module, name in (
        ("langchain.docstore.in_memory", "InMemoryDocstore"),
        ("langchain.schema.document", "Document"),
    ):
        cls = type(name, (), {"__module__": module})
        holder = types.ModuleType(module)
        setattr(holder, name, cls)
        parts = module.split(".")
        for depth in range(1, len(parts)):  # pickle imports what it lies in, too, which need not be installed
            parent = ".".join(parts[:depth])
            monkeypatch.setitem(sys.modules, parent, sys.modules.get(parent) or types.ModuleType(parent))
        monkeypatch.setitem(sys.modules, module, holder)
        made.append(cls)
    return made[0], made[1]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_docstores_of_other_versions_and_protocols(monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    store_class, document_class = old_classes(monkeypatch)
    document = document_class()
    fields = {
        "page_content": "ä" * 300,
        "metadata": {"n": 2**70, "negative": -5, "many": list(range(2_000)), "set": {1}},
    }
    # as pydantic's first version pickled its models
    document.__dict__.update(
        {"__dict__": fields, "__fields_set__": {"page_content"}, "__private_attribute_values__": {}}
    )
    store = store_class()
    store._dict = {"a": document}
    documents, rows = read_docstore(pickle.dumps((store, {0: "a"}), protocol), "index.pkl")
    assert rows == {0: "a"}
    assert documents["a"].text == "ä" * 300
    assert documents["a"].metadata == {**fields["metadata"], "set": [1]}


class Calls:
    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> Any:
        return self.function, self.args


def touch(path: str) -> None:
    Path(path).touch()


@pytest.mark.parametrize("where", ["whole", "id", "metadata"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_calls_something_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, protocol: int
) -> None:
    store_class, document_class = old_classes(monkeypatch)
    for bad in (
        Calls(Path.touch, tmp_path / "run"),
        Calls(eval, f"open({str(tmp_path / 'run')!r}, 'w')"),
        Calls(getattr, Path, "touch"),
        Calls(copyreg._reconstructor, Path, object, None),  # type: ignore[attr-defined]
        Calls(__import__, "os"),
    ):
        store, document = store_class(), document_class()
        document.page_content, document.metadata = "x", {"bad": bad} if where == "metadata" else {}
        store._dict = {"a": document}
        pair: Any = (store, {0: bad if where == "id" else "a"})
        data = pickle.dumps(bad if where == "whole" else pair, protocol)
        with pytest.raises(SourceError, match=r"names .* do not trust this file.*nothing of it was run"):
            read_docstore(data, "index.pkl")
    assert not (tmp_path / "run").exists()


def test_instructions_beyond_those_of_a_docstore_are_refused() -> None:
    for data in (
        b"\x80\x02(i__builtin__\neval\n.",  # an instance
        b"\x80\x02\x8201.",  # an extension of copyreg
        b"\x80\x02P1\n.",  # a persistent id
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a place in the memory far away
        b"\x80\x02]\x94h\x00a.",  # a list that holds itself
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",  # a text longer than the file
        b"a", b".", b"", b"\x80\x02u.", b"\x80\x02e.", b"\x80\x02)b.", b"\x80\x02Nb.", b"\x80\x02N)R.",
    ):  # fmt: skip
        with pytest.raises(SourceError, match=r"is not what LangChain's|nested too deeply"):
            read_docstore(data, "index.pkl")


def test_metadata_that_hold_themselves_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store_class, document_class = old_classes(monkeypatch)
    store, document = store_class(), document_class()
    document.page_content, document.metadata = "x", {}
    document.metadata["self"] = document.metadata
    store._dict = {"a": document}
    with pytest.raises(SourceError, match="nested too deeply"):
        read_docstore(pickle.dumps((store, {0: "a"})), "index.pkl")


WHOLE = (STORES / "langchain/index.pkl").read_bytes()


def test_a_docstore_cut_short_anywhere_is_refused() -> None:
    for end in range(0, len(WHOLE), 3):
        with pytest.raises(SourceError):
            read_docstore(WHOLE[:end], "index.pkl")


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_damaged_docstore_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    with contextlib.suppress(SourceError):
        read_docstore(bytes(data), "index.pkl")


def test_what_was_not_saved_together_is_refused(tmp_path: Path) -> None:
    shutil.copytree(STORES / "langchain", tmp_path / "saved")
    flat(tmp_path / "saved/index.faiss", np.eye(8, dtype=np.float32)[:2])
    with pytest.raises(SourceError, match=r"holds 2 vectors, index\.pkl names 3: they were not saved together"):
        import_faiss(tmp_path / "saved", tmp_path / "kb")
    (tmp_path / "saved/index.pkl").unlink()
    with pytest.raises(SourceError, match=r"there is no index\.pkl beside"):
        import_faiss(tmp_path / "saved", tmp_path / "kb")
    assert nothing_is_there(tmp_path)


# ---------------------------------------------------------------------- LlamaIndex


def test_llama_index(tmp_path: Path) -> None:
    report = import_faiss(STORES / "llama-index", tmp_path / "kb")
    assert (report.documents, report.metric, report.left_out) == (2, "cosine", {})
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        documents = {document.text: document for document in kb.documents()}
        rows = {text: kb.get_vectors([document.id])[0] for text, document in documents.items()}
    assert documents[TEXTS[0]].metadata == {"file": "a.txt", "year": 2020}
    # what the vector was made of, as LlamaIndex joined it: without the field that was excluded
    assert documents[TEXTS[0]].embed_text == f"file: a.txt\n\n{TEXTS[0]}"
    assert documents[TEXTS[1]].embed_text is None
    assert rows[TEXTS[0]] == pytest.approx(vector(f"file: a.txt\n\n{TEXTS[0]}"), abs=0.02)
    import_faiss(STORES / "llama-index", tmp_path / "again", Model())  # compared with what was embedded


def test_llama_index_without_its_parts(tmp_path: Path) -> None:
    for name in ("docstore.json", "index_store.json"):
        folder = tmp_path / name
        shutil.copytree(STORES / "llama-index", folder)
        (folder / name).unlink()
        with pytest.raises(SourceError, match=rf"there is no .*{name}"):
            import_faiss(folder, tmp_path / "kb")
        for text in ("", "[]", "{", '{"docstore/data": [], "index_store/data": []}', "{}", "[" * 100_000):
            (folder / name).write_text(text)
            with pytest.raises(SourceError):
                import_faiss(folder, tmp_path / "kb")
    (tmp_path / "docstore.json/default__vector_store.json").write_text("{}")
    with pytest.raises(SourceError, match="LlamaIndex's own simple store"):
        import_faiss(tmp_path / "docstore.json", tmp_path / "kb")


def test_llama_index_with_a_map_of_ids(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    shutil.copytree(STORES / "llama-index", folder)
    nodes = list(json.loads((folder / "docstore.json").read_text())["docstore/data"])
    (folder / "id_map.json").write_text(json.dumps({"faiss_id_to_node_id_map": {"0": nodes[1], "1": nodes[0]}}))
    import_faiss(folder, tmp_path / "kb")
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.ids() == [nodes[1], nodes[0]]


# ---------------------------------------------------------------------- an index and a file


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_an_index_and_a_file_of_rows(tmp_path: Path, suffix: str) -> None:
    rows = [{"id": f"d{number}", "text": text, "year": 2020 + number} for number, text in enumerate(TEXTS)]
    file = tmp_path / f"documents.{suffix}"
    if suffix == "jsonl":
        lines(file, *rows)
    elif suffix == "csv":
        file.write_text("id,text,year\n" + "".join(f"{row['id']},{row['text']},{row['year']}\n" for row in rows))
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        arrow = pytest.importorskip("pyarrow")
        parquet.write_table(arrow.Table.from_pylist(rows), file)
    report = import_faiss(STORES / "faiss/flat.faiss", tmp_path / "kb", documents=file)
    assert (report.distance, report.metric) == ("dot", "cosine")
    assert contents(tmp_path / "kb") == {row["id"]: (row["text"], {"year": row["year"]}) for row in rows}
    assert_vectors(tmp_path / "kb", {"d2": vector(TEXTS[2])})


def test_vectors_with_numbers_of_their_own(tmp_path: Path) -> None:
    rows = [{"id": text, "text": text, "number": number} for number, text in zip((10, 20, 30, 40), "abcd", strict=True)]
    file = lines(tmp_path / "documents.jsonl", *rows)
    with pytest.raises(ParameterError, match="row_field="):
        import_faiss(STORES / "faiss/numbered.faiss", tmp_path / "kb", documents=file)
    report = import_faiss(STORES / "faiss/numbered.faiss", tmp_path / "kb", documents=file, row_field="number")
    assert report.left_out == {"rows without a vector": 1}
    # added under 30, 10, 20
    assert_vectors(tmp_path / "kb", {"c": vector(TEXTS[0]), "a": vector(TEXTS[1]), "b": vector(TEXTS[2])})
    assert contents(tmp_path / "kb")["a"] == ("a", {})


@pytest.mark.parametrize(
    ("rows", "option", "message"),
    [
        ([{"text": "a"}], None, "has 1 rows and the index 3 vectors"),
        ([{"id": "a", "text": "a"}] * 3, None, "'a' is also that of line 1"),
        ([{"text": "a", "n": 0}, {"text": "b", "n": 0}, {"text": "c", "n": 1}], "n", "names a vector twice"),
        ([{"text": "a", "n": 0}, {"text": "b", "n": 1}, {"text": "c", "n": 5}], "n", "no row for the vector number 2"),
        ([{"text": "a", "n": "x"}], "n", "expected an integer in 'n'"),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, rows: list[dict[str, Any]], option: str | None, message: str) -> None:
    file = lines(tmp_path / "documents.jsonl", *rows)
    with pytest.raises(SourceError, match=message):
        import_faiss(STORES / "faiss/flat.faiss", tmp_path / "kb", documents=file, row_field=option)
    assert nothing_is_there(tmp_path)


@pytest.mark.parametrize("name", ["flat", "numbered"])
def test_an_index_cut_short_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    whole = (STORES / f"faiss/{name}.faiss").read_bytes()
    file = lines(
        tmp_path / "documents.jsonl", *({"text": text, "n": n} for text, n in zip("abc", (30, 10, 20), strict=True))
    )
    for end in [*range(4, len(whole), 7), len(whole) - 1]:
        (tmp_path / "index.faiss").write_bytes(whole[:end])
        with pytest.raises((SourceError, MissingExtraError)):
            import_faiss(
                tmp_path / "index.faiss", tmp_path / "kb", documents=file, row_field="n" if name == "numbered" else None
            )
    (tmp_path / "index.faiss").write_bytes(whole[:4] + struct.pack("<iq", 2**30, 2**40) + whole[16:])
    with pytest.raises(SourceError, match="damaged or cut short"):
        import_faiss(tmp_path / "index.faiss", tmp_path / "kb", documents=file, row_field="n")


def test_other_kinds_of_index_are_read_by_faiss(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    matrix = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    file = lines(tmp_path / "documents.jsonl", *({"id": f"d{number}", "text": "x"} for number in range(len(matrix))))
    for spec, rounded in (
        ("HNSW8", None),
        ("IVF4,Flat", None),
        ("SQ8", "IndexScalarQuantizer"),
        ("IVF4,PQ4x4", "IndexIVFPQ"),
    ):
        index = faiss.index_factory(8, spec)
        index.train(matrix)
        index.add(matrix)
        faiss.write_index(index, str(tmp_path / "index.faiss"))
        path = tmp_path / spec.replace(",", "-")
        report = import_faiss(tmp_path / "index.faiss", path, documents=file, metric="cosine", codec="float32")
        assert report.rounded_by == rounded
        with octavo.open(path, read_only=True) as kb:
            found = kb.get_vectors([f"d{number}" for number in range(len(matrix))])
        assert (found * matrix).sum(axis=1).mean() > (0.999 if rounded != "IndexIVFPQ" else 0.7)


def test_without_faiss_other_kinds_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    (tmp_path / "index.faiss").write_bytes(b"IHNf" + bytes(60))
    file = lines(tmp_path / "documents.jsonl", {"text": "a"})
    with pytest.raises(MissingExtraError, match=r"pip install 'octavo\[import-faiss\]'"):
        import_faiss(tmp_path / "index.faiss", tmp_path / "kb", documents=file)


# ---------------------------------------------------------------------- metric, model, contents


@pytest.mark.parametrize(
    ("metric", "scale", "expected"),
    [(0, 1, "cosine"), (1, 1, "cosine"), (0, 3, "dot")],
    ids=["dot of unit length", "l2 of unit length", "dot"],
)
def test_the_metric_ranks_as_the_store_did(tmp_path: Path, metric: int, scale: int, expected: str) -> None:
    vectors = np.array([vector(text) for text in TEXTS]) * np.array([[1], [scale], [1]], np.float32)
    index = flat(tmp_path / "index.faiss", vectors, metric=metric)
    file = lines(tmp_path / "documents.jsonl", *({"id": text, "text": text} for text in TEXTS))
    assert import_faiss(index, tmp_path / "kb", documents=file, codec="float32").metric == expected
    query = vector("a query")
    scores = vectors @ query if metric == 0 else -((vectors - query) ** 2).sum(axis=1)
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.metric == expected
        assert kb.search(query, k=3).ids == [TEXTS[place] for place in np.argsort(-scores)]


def test_euclidean_distance_of_other_lengths_is_not_guessed(tmp_path: Path) -> None:
    index = flat(tmp_path / "index.faiss", np.eye(3, 8, dtype=np.float32) * 2, b"IxF2", 1)
    file = lines(tmp_path / "documents.jsonl", *({"id": text, "text": text} for text in TEXTS))
    with pytest.raises(MismatchError, match=r"Euclidean distance.*has 2\).*metric='cosine'"):
        import_faiss(index, tmp_path / "kb", documents=file)
    assert nothing_is_there(tmp_path)
    assert import_faiss(index, tmp_path / "kb", documents=file, metric="dot").metric == "dot"


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"'vegetables' gives other vectors.*of 3 texts, 3 differ"):
        import_faiss(STORES / "langchain", tmp_path / "kb", OtherModel())
    with pytest.raises(MismatchError, match=r"of dimension 8, the model .* makes such of 3"):
        import_faiss(STORES / "langchain", tmp_path / "kb", lambda texts: np.ones((len(texts), 3), np.float32))
    assert nothing_is_there(tmp_path)


def test_the_recorded_model_is_compared_when_the_collection_is_used(tmp_path: Path) -> None:
    import_faiss(STORES / "langchain", tmp_path / "kb", Model())
    with (
        octavo.open(tmp_path / "kb", OtherModel()) as kb,
        pytest.raises(MismatchError, match="built with encoder 'fruit'"),
    ):
        kb.search("apple")


class Store:
    """A store in memory."""

    place, distance, rounded_by = "the store", "cosine", None

    def __init__(self, *batches: Records, fails_at_reading: int | None = None) -> None:
        self.batches, self.count = batches, sum(len(batch.ids) for batch in batches)
        self.readings, self.fails_at = 0, fails_at_reading

    def records(self, batch_size: int) -> Iterator[Records]:
        self.readings += 1
        for number, batch in enumerate(self.batches):
            if self.readings == self.fails_at and number == len(self.batches) - 1:
                raise SourceError("the disk went away")
            yield batch

    def left_out(self) -> dict[str, int]:
        return {}


def records(*ids: Any, **changes: Any) -> Records:
    n = len(ids)
    given = {"texts": ["x"] * n, "metadata": [{} for _ in ids], "vectors": np.ones((n, 2), np.float32), **changes}
    return Records(list(ids), given["texts"], given["metadata"], given["vectors"])


def taken(store: Any, tmp_path: Path) -> Any:
    return take_over(store, Wishes.of(tmp_path / "kb", None, None, None, 10, False))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "holds no vectors"),
        ([records("a"), records("a")], "two records with the id 'a'"),
        ([records("a"), records("")], "ids that are strings, got ''"),
        ([records("a"), records(7)], "ids that are strings, got 7"),
        ([records("a"), records("b", vectors=np.ones((1, 3), np.float32))], "of dimension 2 and of 3, from 'b' on"),
        ([records("a"), records("b", vectors=np.full((1, 2), np.nan, np.float32))], "vector of 'b' holds NaN"),
        ([records("a"), records("b", texts=["\ud800"])], "'b' holds a lone surrogate"),
    ],
)
def test_bad_records_are_found_before_anything_is_written(tmp_path: Path, batches: list[Records], message: str) -> None:
    with pytest.raises((SourceError, InvalidVectorsError), match=message):
        taken(Store(*batches), tmp_path)
    assert nothing_is_there(tmp_path)


def test_a_store_that_fails_or_changes_while_it_is_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the disk went away"):
        taken(Store(records("a"), records("b"), fails_at_reading=2), tmp_path)
    assert nothing_is_there(tmp_path)

    class Growing(Store):
        def records(self, batch_size: int) -> Iterator[Records]:
            yield from super().records(batch_size)
            if self.readings == 2:
                yield records("new")

    with pytest.raises(SourceError, match="has changed while it was read"):
        taken(Growing(records("a")), tmp_path)
    assert nothing_is_there(tmp_path)


def test_metadata_that_cannot_be_kept_are_counted_by_field(tmp_path: Path) -> None:
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    metadata = [{"good": 1, "bad": {1, 2}, 5: "x"}, {"bad": float("nan")}, {"deep": deep}]
    report = taken(Store(records("a", "b", "c", metadata=metadata)), tmp_path)
    assert report.left_out == {
        "metadata field '5' (str)": 1,
        "metadata field 'bad' (float)": 1,
        "metadata field 'bad' (set)": 1,
        "metadata field 'deep' (list)": 1,
    }
    assert contents(tmp_path / "kb") == {"a": ("x", {"good": 1}), "b": ("x", {}), "c": ("x", {})}


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    import_faiss(STORES / "langchain", tmp_path / "kb")
    with pytest.raises(ParameterError, match="expected a new or empty directory"):
        import_faiss(STORES / "langchain", tmp_path / "kb")
    assert len(contents(tmp_path / "kb")) == 3


@pytest.mark.parametrize(
    "options", [{"metric": "l2"}, {"batch_size": 0}, {"codec": "int3"}, {"progress": 1}, {"id_field": "x"}]
)
def test_options_are_checked_first(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(OctavoError):
        import_faiss(STORES / "langchain", tmp_path / "kb", **options)
    assert nothing_is_there(tmp_path)


# ---------------------------------------------------------------------- Chroma and LanceDB


def test_chroma(tmp_path: Path) -> None:
    chromadb = pytest.importorskip("chromadb", reason="chromadb is not installed")
    client = chromadb.PersistentClient(str(tmp_path / "chroma"), chromadb.config.Settings(anonymized_telemetry=False))
    for name, space in (("fruit", "cosine"), ("euclid", "l2")):
        made = client.create_collection(name, configuration={"hnsw": {"space": space}}, embedding_function=None)
        made.add(
            ids=["r", "g", "b"],
            embeddings=[vector(text).tolist() for text in TEXTS],
            documents=[TEXTS[0], TEXTS[1], None],
            metadatas=[{"year": 2020, "ripe": True}, None, {"weight": 0.5}],
        )
        made.delete(["g"])
    before = {path: path.read_bytes() for path in (tmp_path / "chroma").rglob("*") if path.is_file()}
    with pytest.raises(ParameterError, match="found 2: 'euclid', 'fruit'"):
        import_chroma(tmp_path / "chroma", tmp_path / "kb")
    with pytest.raises(ParameterError, match="no collection 'x'"):
        import_chroma(tmp_path / "chroma", tmp_path / "kb", collection="x")
    report = import_chroma(tmp_path / "chroma", tmp_path / "kb", Model(), collection="fruit", batch_size=1)
    assert contents(tmp_path / "kb") == {"r": (TEXTS[0], {"year": 2020, "ripe": True}), "b": ("", {"weight": 0.5})}
    assert_vectors(tmp_path / "kb", {"r": vector(TEXTS[0]), "b": vector(TEXTS[2])})
    assert (report.distance, report.metric, report.without_text, report.model) == ("cosine", "cosine", 1, "fruit")
    assert report.left_out == {"other collections": 1}
    assert import_chroma(tmp_path / "chroma", tmp_path / "second", collection="euclid").distance == "l2"
    assert before == {path: path.read_bytes() for path in (tmp_path / "chroma").rglob("*") if path.is_file()}
    (tmp_path / "chroma/chroma.sqlite3").write_bytes(b"nothing")
    with pytest.raises(SourceError, match="Chroma cannot"):
        import_chroma(tmp_path / "chroma", tmp_path / "third")


def test_lancedb(tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed")
    rows = [
        {"id": f"d{number}", "text": text, "vector": vector(text), "metadata": {"year": 2020 + number}, "place": "here"}
        for number, text in enumerate(TEXTS)
    ]
    database = lancedb.connect(str(tmp_path / "lance"))
    table = database.create_table("fruit", rows)
    table.add([{**rows[0], "id": "gone"}])
    table.delete("id = 'gone'")
    report = import_lancedb(tmp_path / "lance", tmp_path / "kb", Model())
    expected = {row["id"]: (row["text"], {**row["metadata"], "place": "here"}) for row in rows}
    assert contents(tmp_path / "kb") == expected
    assert_vectors(tmp_path / "kb", {"d1": vector(TEXTS[1])})
    assert (report.distance, report.metric, report.model) == ("l2", "cosine", "fruit")
    other = import_lancedb(
        tmp_path / "lance",
        tmp_path / "other",
        text_column="place",
        id_column="text",
        metadata_columns=["id"],
        distance="dot",
    )
    assert contents(tmp_path / "other")[TEXTS[0]] == ("here", {"id": "d0"})
    assert (other.distance, other.left_out) == ("dot", {"column 'metadata'": 3})
    for wrong in (
        {"table": "x"},
        {"id_column": "x"},
        {"vector_column": "text"},
        {"metadata_columns": ["x"]},
        {"distance": "far"},
    ):
        with pytest.raises(ParameterError):
            import_lancedb(tmp_path / "lance", tmp_path / "wrong", **wrong)
    table.add([{**rows[0], "id": "d0"}])
    with pytest.raises(SourceError, match="two records with the id 'd0'"):
        import_lancedb(tmp_path / "lance", tmp_path / "wrong")


@pytest.mark.parametrize(("function", "name"), [(import_chroma, "chroma"), (import_lancedb, "lancedb")])
def test_without_the_library_they_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Any, name: str
) -> None:
    module = "chromadb" if name == "chroma" else name
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr("importlib.import_module", _missing(module))
    (tmp_path / "store").mkdir()
    (tmp_path / "store/chroma.sqlite3").touch()
    (tmp_path / "store/docs.lance").mkdir()
    with pytest.raises(MissingExtraError, match=rf"pip install 'octavo\[import-{name}\]'"):
        function(tmp_path / "store", tmp_path / "kb")


def _missing(name: str) -> Any:
    def import_module(wanted: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    return import_module
