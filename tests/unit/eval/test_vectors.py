"""Ready vectors: arrays and files, in the order of the data set or with ids; runs and inspections take them like a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.errors import InputTypeError, InvalidVectorsError, ParameterError
from octavo.eval import Configuration, Dataset, ReadyVectors, Timing, load_dataset, run
from octavo.eval.inspect import inspect_file
from octavo.eval.vectors import read_vectors

Write = Callable[[Path, np.ndarray, list[str]], str]


@pytest.fixture
def made(tiny: Dataset, encoder: Any) -> tuple[np.ndarray, np.ndarray]:
    return encoder.encode_documents(list(tiny.texts)), encoder.encode_queries(list(tiny.queries))


def npz(path: Path, vectors: np.ndarray, ids: list[str]) -> str:
    np.savez(path.with_suffix(".npz"), emb=vectors, names=np.array(ids))
    return f"{path.with_suffix('.npz')}#emb"


def parquet(path: Path, vectors: np.ndarray, ids: list[str]) -> str:
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow import parquet as files

    columns = {"_id": ids, "embedding": list(vectors), "tokens": [[1, 2]] * len(ids)}
    files.write_table(pa.table(columns), path.with_suffix(".parquet"))
    return f"{path.with_suffix('.parquet')}#embedding"


@pytest.mark.parametrize("write", [npz, parquet])
def test_vectors_with_ids_may_come_in_any_order(
    tiny: Dataset, made: tuple[np.ndarray, np.ndarray], write: Write, tmp_path: Path
) -> None:
    order, asked = np.random.default_rng(0).permutation(40), np.random.default_rng(1).permutation(8)
    documents = write(tmp_path / "d", made[0][order], [tiny.document_ids[n] for n in order])
    queries = write(tmp_path / "q", made[1][asked], [tiny.query_ids[n] for n in asked])
    found = ReadyVectors.read(documents, queries).of(tiny)
    assert np.array_equal(found[0], made[0])
    assert np.array_equal(found[1], made[1])


def test_one_archive_for_both(tiny: Dataset, made: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    half = [part.astype(np.float16) for part in made]
    path = tmp_path / "both.npz"
    np.savez(path, D=half[0], Q=half[1], did=np.array(tiny.document_ids), qid=np.array(tiny.query_ids))
    found = ReadyVectors.read(path, path)
    assert found.document_ids == list(tiny.document_ids)
    assert np.array_equal(found.of(tiny)[1], half[1].astype(np.float32))


def test_without_ids_the_order_of_the_data_set_counts(beir: Path, encoder: Any, tmp_path: Path) -> None:
    data = load_dataset(beir)  # 13 queries, 12 of them judged
    assert len(data.listed_query_ids or ()) == 13
    listed = [json.loads(line)["text"] for line in (beir / "queries.jsonl").read_text().splitlines()]
    np.save(tmp_path / "d.npy", encoder.encode_documents(list(data.texts)))
    np.save(tmp_path / "judged.npy", encoder.encode_queries(list(data.queries)))
    np.save(tmp_path / "listed.npy", encoder.encode_queries(listed))
    judged = ReadyVectors.read(tmp_path / "d.npy", tmp_path / "judged.npy").of(data)
    all_of_them = ReadyVectors.read(tmp_path / "d.npy", tmp_path / "listed.npy").of(data)
    assert np.array_equal(judged[1], all_of_them[1])
    with pytest.raises(ParameterError, match=r"expected 12 vectors without ids.*or 13.*got 60"):
        ReadyVectors.read(tmp_path / "d.npy", tmp_path / "d.npy").of(data)


def test_a_run_with_ready_vectors_finds_what_one_with_the_model_finds(
    tiny: Dataset, encoder: Any, made: tuple[np.ndarray, np.ndarray], quick: Timing, tmp_path: Path
) -> None:
    wanted = ["float32", "int8", Configuration(codec="int8", mode="hybrid"), Configuration(mode="text")]
    options: dict[str, Any] = {"measures": ["nDCG@10"], "timing": quick}
    of_model = run(tiny, encoder, wanted, **options)
    ready = ReadyVectors(*made)
    given = run(tiny, None, wanted, vectors=ready, out=tmp_path, **options)
    assert [one.per_query for one in given] == [one.per_query for one in of_model]
    assert given[0].model is not None
    assert (given[0].model.name, given[0].model.encoder, given[0].model.dim) == ("ready vectors", None, 32)
    assert given[3].model is None
    said: list[str] = []
    again = run(tiny, None, wanted, vectors=ready, out=tmp_path, note=said.append, **options)
    assert all("measured before" in line for line in said)
    assert [one.id for one in again] == [one.id for one in given]
    other = ReadyVectors(made[0] + 1, made[1])
    assert run(tiny, None, "int8", vectors=other, out=tmp_path, **options)[0].id != given[1].id
    named = run(tiny, "all-MiniLM-L6-v2", "int8", vectors=ready, **options)[0].model
    assert named is not None
    assert (named.name, named.encoder) == ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2")


def test_what_ready_vectors_cannot_do(tiny: Dataset, encoder: Any, made: tuple[np.ndarray, np.ndarray]) -> None:
    ready = ReadyVectors(*made)
    with pytest.raises(ParameterError, match="needs token vectors"):
        run(tiny, None, Configuration(codec="int8", mode="late"), vectors=ready)
    with pytest.raises(ParameterError, match="needs a model's layers"):
        run(tiny, None, Configuration(codec="int8", layers=2), vectors=ready)
    with pytest.raises(ParameterError, match="can only name what made them"):
        run(tiny, encoder, "int8", vectors=ready)
    with pytest.raises(ParameterError, match="each of 1 data sets"):
        run(tiny, None, "int8", vectors=[ready, ready])
    with pytest.raises(InputTypeError, match="expected ReadyVectors, got tuple"):
        run(tiny, None, "int8", vectors=[made])  # type: ignore[list-item]
    with pytest.raises(ParameterError, match="a model or ready vectors"):
        run(tiny, None, "int8")


@pytest.mark.parametrize(
    ("documents", "ids", "error", "message"),
    [
        (np.zeros((39, 4)), None, ParameterError, "expected 40 vectors without ids"),
        (np.zeros((40, 4)), ["d0"], ParameterError, "one id for each of 40 vectors, got 1"),
        (np.zeros((40, 4)), [f"x{n}" for n in range(40)], ParameterError, "40 of 40 have no vector, for instance 'd0'"),
        (np.zeros(40), None, InvalidVectorsError, "shape"),
        (np.full((40, 4), np.nan), None, InvalidVectorsError, "NaN"),
        (np.zeros((40, 5)), None, InvalidVectorsError, "of one dimension, got 5 and 4"),
    ],
)
def test_vectors_that_do_not_fit(
    tiny: Dataset, documents: np.ndarray, ids: list[str] | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ReadyVectors(documents, np.zeros((8, 4)), document_ids=ids).of(tiny)


def test_files_say_what_is_missing(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.eye(3), b=np.eye(3), line=np.arange(3))
    with pytest.raises(ParameterError, match=r"name one of: two.npz#a, two.npz#b"):
        read_vectors(tmp_path / "two.npz")
    assert np.array_equal(read_vectors(f"{tmp_path / 'two.npz'}#b").vectors, np.eye(3))
    with pytest.raises(ParameterError, match=r"called 'c' in two\.npz; there are: a, b"):
        read_vectors(f"{tmp_path / 'two.npz'}#c")
    with pytest.raises(ParameterError, match="there is none at"):
        read_vectors(tmp_path / "none.npy")
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name in ("broken.npz", "broken.npy", "objects.npy"):
        with pytest.raises(ParameterError, match="cannot be read"):
            read_vectors(tmp_path / name)
    np.save(tmp_path / "a#b.npy", np.eye(2))  # a name may have the sign
    assert read_vectors(tmp_path / "a#b.npy").vectors.shape == (2, 2)


def test_parquet_says_what_is_missing(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow import parquet as files

    place = tmp_path / "x.parquet"
    files.write_table(pa.table({"one": [[1.0], [2.0, 3.0]], "two": [[1.0], None], "words": ["a", "b"]}), place)
    with pytest.raises(ParameterError, match=r"name one of: x.parquet#one, x.parquet#two"):
        read_vectors(place)
    with pytest.raises(InvalidVectorsError, match="of one dimension"):
        read_vectors(f"{place}#one")
    with pytest.raises(InvalidVectorsError, match="1 nulls"):
        read_vectors(f"{place}#two")
    with pytest.raises(ParameterError, match="called 'words'"):
        read_vectors(f"{place}#words")
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(ParameterError, match="cannot be read"):
        read_vectors(tmp_path / "broken.parquet")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float32)), 2)
    files.write_table(pa.table({"vector": fixed}), tmp_path / "fixed.parquet", row_group_size=1)
    assert read_vectors(tmp_path / "fixed.parquet").vectors.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_inspect_takes_the_same_files(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(60, 8))
    np.savez(tmp_path / "x.npz", D=X, Q=X[:20] + 1)
    np.save(tmp_path / "x.npy", X)
    plain = inspect_file(tmp_path / "x.npy")
    assert inspect_file(tmp_path / "x.npz").mean_cosine == plain.mean_cosine
    assert inspect_file(tmp_path / "x.npz", role="queries").n == 20
    assert inspect_file(f"{tmp_path / 'x.npz'}#Q").n == 20
    if pytest.importorskip("pyarrow", reason="Parquet needs pyarrow"):
        place = parquet(tmp_path / "x", X, [str(n) for n in range(60)])
        assert inspect_file(place).mean_cosine == plain.mean_cosine
