"""Export to plain files and import from them: what goes out comes back, and nothing else is let in."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import octavo
from octavo.cli import app
from octavo.errors import CodecError, CollectionNotFoundError, CorruptCollectionError, InputTypeError, ParameterError
from octavo.store.upkeep.export import file_sha256

DIM = 16
N = 90


def _vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


TEXTS = ["plain", "ünïcödé 北京 😀", "line\nbreaks\r\nand\u2028more", '"quotes" \\ and \t', ""]


def _documents() -> dict[str, Any]:
    return {
        "documents": [f"{TEXTS[i % 5]} {i}" for i in range(N)],
        "ids": [f"id {i} é\n😀" for i in range(N)],
        "metadata": [
            {"n": i, "f": i / 7, "none": None, "deep": [{"ä": [True, {}]}], "big": 10**30}
            if i
            else {"huge": "x" * 1_000_000}
            for i in range(N)
        ],
        "payloads": [f"payload {i} \u2028" if i % 2 else None for i in range(N)],
    }


def _equal(one: octavo.Collection, other: octavo.Collection) -> None:
    ids = one.ids()
    assert other.ids() == ids
    assert other.get(ids) == one.get(ids)
    assert other.get_payloads(ids) == one.get_payloads(ids)
    assert other.metric == one.metric
    assert other.verify().ok


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize(("codec", "fit_after"), [("int8", 1_000), ("int8", 20), ("svd:50%|float8 > int8", 20)])
def test_round_trip(tmp_path: Path, codec: str, fit_after: int, metric: Any) -> None:
    with octavo.open(tmp_path / "kb", codec=codec, fit_after=fit_after, metric=metric) as kb:
        kb.add(**_documents(), vectors=_vectors(N))
        kb.delete([kb.ids()[5]])
        out = kb.export(tmp_path / "out")
        with octavo.import_from(out, tmp_path / "again", batch_size=7) as again:
            _equal(kb, again)
            assert again.codec == kb.codec
            assert again.info().fitted == kb.info().fitted
            np.testing.assert_allclose(again.get_vectors(kb.ids()), kb.get_vectors(kb.ids()), atol=1e-4)
            for query in _vectors(5, seed=1):
                found, expected = again.search(query, 5), kb.search(query, 5)
                # under "dot" queries are scaled to the typical length of the rows, dead ones included, before rounding
                np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3 if metric == "cosine" else 0.2)
                assert found.ids[0] == expected.ids[0]
                assert len(set(found.ids) & set(expected.ids)) >= (5 if metric == "cosine" else 3)
            assert again.search("plain 10", 1, mode="text").ids == kb.search("plain 10", 1, mode="text").ids
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["again", "kb", "out"]


def test_the_files_are_what_they_say(tmp_path: Path) -> None:
    with octavo.open(codec="float32") as kb:
        kb.add(**_documents(), vectors=_vectors(N))
        out = kb.export(tmp_path / "out", dtype="float16")
        lines = (out / "documents.jsonl").read_bytes().split(b"\n")
        records = [json.loads(line) for line in lines[:-1]]
        assert [record["id"] for record in records] == kb.ids()
        assert [record["text"] for record in records] == [document.text for document in kb.get(kb.ids())]
        assert [record["metadata"] for record in records] == [document.metadata for document in kb.get(kb.ids())]
        vectors = np.load(out / "vectors.npy", allow_pickle=False)
        assert vectors.dtype == np.float16
        np.testing.assert_allclose(vectors, kb.get_vectors(kb.ids()), atol=1e-3)
        assert np.isfinite(vectors).all()
    with octavo.import_from(out) as again:
        assert len(again) == N


def test_another_codec(tmp_path: Path) -> None:
    with octavo.open(codec="int8", fit_after=20) as kb:
        kb.add(**_documents(), vectors=_vectors(N))
        kb.export(tmp_path / "out")
        with octavo.import_from(tmp_path / "out", tmp_path / "again", codec="binary > int8", batch_size=10) as again:
            _equal(kb, again)
            assert (again.codec, again.info().fitted) == ("binary > int8", True)
            assert again.search(_vectors(N)[7], 1).ids == [kb.ids()[7]]
    with pytest.raises(CodecError):
        octavo.import_from(tmp_path / "out", tmp_path / "x", codec="int7")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("fit_after", [20, 1_000])
@pytest.mark.parametrize("codec", [None, "int4"])
def test_multi_vector(tmp_path: Path, codec: str | None, fit_after: int) -> None:
    lengths = np.random.default_rng(0).integers(0, 6, N)
    matrices = [_vectors(int(length), seed=i) for i, length in enumerate(lengths)]
    with octavo.open_multi_vector(tmp_path / "kb", codec="int8", dim=DIM, fit_after=fit_after) as kb:
        kb.add(**_documents(), token_vectors=matrices)
        kb.delete([kb.ids()[3]])
        out = kb.export(tmp_path / "out")
        with octavo.import_from(out, tmp_path / "again", codec=codec, batch_size=7) as again:
            assert isinstance(again, octavo.MultiVectorCollection)
            _equal(kb, again)
            pairs = zip(again.get_token_vectors(kb.ids()), kb.get_token_vectors(kb.ids()), strict=True)
            for found, expected in pairs:
                assert found.shape == expected.shape
                if codec is None:
                    np.testing.assert_allclose(found, expected, atol=2e-2)
            row = int(np.argmax(lengths))
            wanted = kb.search(matrices[row], 1).ids
            assert again.search(matrices[row], 1).ids == wanted
        tokens, offsets = np.load(out / "tokens.npy"), np.load(out / "offsets.npy")
        assert len(offsets) == len(kb) + 1
        assert offsets[-1] == len(tokens)


@pytest.mark.parametrize("dim", [None, DIM])
@pytest.mark.parametrize("late", [False, True])
def test_empty(tmp_path: Path, dim: int | None, late: bool) -> None:
    opened = octavo.open_multi_vector(dim=dim) if late else octavo.open(dim=dim)
    with opened as kb:
        kb.export(tmp_path / "out")
    with octavo.import_from(tmp_path / "out", tmp_path / "again") as again:
        assert len(again) == 0
        assert isinstance(again, octavo.MultiVectorCollection) == late
    with octavo.open(codec="int8", fit_after=2) as kb:
        kb.add(vectors=_vectors(5))
        kb.clear()
        kb.export(tmp_path / "cleared")
    with octavo.import_from(tmp_path / "cleared") as again:
        again.add(["new"], vectors=_vectors(1))
        assert again.search(_vectors(1)[0]).documents[0].text == "new"


def test_with_an_encoder(tmp_path: Path) -> None:
    def encoder(texts: list[str]) -> np.ndarray:
        return np.array([[len(text), text.count("a") + 1] for text in texts], np.float32)

    with octavo.open(encoder=encoder) as kb:
        kb.add(["banana", "kiwi fruit"], ids=["b", "k"])
        kb.export(tmp_path / "out")
    with octavo.import_from(tmp_path / "out", tmp_path / "again", encoder) as again:
        assert again.search("banana", 1).ids == ["b"]
        assert again.info().encoder is not None
    with (
        octavo.import_from(tmp_path / "out", tmp_path / "third", lambda texts: -encoder(texts)[:, ::-1]) as other,
        pytest.raises(octavo.OctavoError, match="encoder"),
    ):
        other.search("banana")


# ------------------------------------------------------------------ damage and bad arguments


@pytest.fixture
def out(tmp_path: Path) -> Path:
    with octavo.open(codec="int8", fit_after=20) as kb:
        kb.add([f"text {i}" for i in range(N)], ids=[str(i) for i in range(N)], vectors=_vectors(N))
        return kb.export(tmp_path / "out")


def _forge(out: Path, name: str, data: bytes) -> None:
    """Replace a file and its checksum, as somebody who means harm would."""
    (out / name).write_bytes(data)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["sha256"][name] = file_sha256(out / name)
    (out / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["documents.jsonl", "vectors.npy", "codec.bin", "manifest.json"])
@pytest.mark.parametrize("how", ["missing", "cut", "flipped"])
def test_damage(out: Path, tmp_path: Path, name: str, how: str) -> None:
    data = bytearray((out / name).read_bytes())
    if how == "missing":
        (out / name).unlink()
    else:
        if how == "flipped":
            data[0] ^= 0xFF
        (out / name).write_bytes(data[: len(data) // 2] if how == "cut" else data)
    with pytest.raises((CorruptCollectionError, CollectionNotFoundError), match=name):
        octavo.import_from(out, tmp_path / "again")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"{}", b'{"id": 3, "text": "", "metadata": {}, "payload": null}', b"[" * 100_000, b"\xff", b"null",
     b'{"id": "1", "text": "twice", "metadata": {}, "payload": null}',
     b'{"id": "x", "text": "", "metadata": {"a": NaN}, "payload": null}',
     b'{"id": "x", "text": "", "metadata": [], "payload": null}'],
)  # fmt: skip
def test_forged_documents(out: Path, tmp_path: Path, line: bytes) -> None:
    lines = (out / "documents.jsonl").read_bytes().splitlines(keepends=True)
    _forge(out, "documents.jsonl", b"".join([*lines[:-1], line + b"\n"]))
    with pytest.raises(octavo.OctavoError):
        octavo.import_from(out, tmp_path / "again", batch_size=16)
    assert not (tmp_path / "again").exists()


def test_forged_arrays(out: Path, tmp_path: Path) -> None:
    def header(shape: str, descr: str = "<f4") -> bytes:
        text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()

    bad = np.ones((N, DIM), np.float32)
    bad[3, 3] = np.nan
    for data in (
        header("(90, 1000000000000)"),
        header("(1000000000000, 16)"),
        header("(90, 16)", "|O") + b"cposix\nsystem\n",
        header("(90,)") + bytes(360),
        header("(91, 16)") + bytes(91 * 64),
        header("(90, 15)") + bytes(90 * 60),
        header("(90, 16)", "<f8") + bytes(90 * 128),
        header("(90, 16)") + bad.tobytes(),
        header("(0, 16)"),
        b"",
    ):
        _forge(out, "vectors.npy", data)
        with pytest.raises(octavo.OctavoError):
            octavo.import_from(out, tmp_path / "again")
        assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "change",
    [{"octavo_export": 2}, {"documents": 10**12}, {"documents": "many"}, {"dim": 10**9}, {"dtype": "object"},
     {"settings": {"metric": "other"}}, {"settings": {"path": "/"}}, {"settings": []}, {"codec": "../../x"}, {"codec": 3},
     {"sha256": []}, {"encoder": 3}],
)  # fmt: skip
def test_forged_manifests(out: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    manifest = json.loads((out / "manifest.json").read_text()) | change
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(octavo.OctavoError):
        octavo.import_from(out, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_refusals(out: Path, tmp_path: Path) -> None:
    with octavo.open() as kb:
        with pytest.raises(ParameterError, match="holds something"):
            kb.export(out)
        with pytest.raises(ParameterError, match="dtype"):
            kb.export(tmp_path / "x", dtype="int8")  # type: ignore[arg-type]
        with pytest.raises(InputTypeError):
            kb.export(3)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="holds something"):
        octavo.import_from(out, out)
    with pytest.raises(InputTypeError):
        octavo.import_from(3)  # type: ignore[arg-type]
    with pytest.raises(CollectionNotFoundError):
        octavo.import_from(tmp_path / "nothing")
    with pytest.raises(ParameterError, match="batch_size"):
        octavo.import_from(out, batch_size=0)


@pytest.mark.skipif(os.name == "nt", reason="file modes are POSIX")
def test_permissions(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with octavo.open(fit_after=2) as kb:
            kb.add(vectors=_vectors(5))
            out = kb.export(tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in out.iterdir()} == {0o600}


def test_commands(out: Path, tmp_path: Path) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result.output

    kb = str(tmp_path / "kb")
    assert "90 documents" in run("import", str(out), kb)
    assert "90 documents" in run("export", kb, str(tmp_path / "out2"), "--float16")
    assert '"documents": 90' in run("export", kb, str(tmp_path / "out3"), "--json")
    assert (tmp_path / "out3" / "documents.jsonl").read_bytes() == (out / "documents.jsonl").read_bytes()
    assert "int4" in run("import", str(tmp_path / "out2"), str(tmp_path / "kb2"), "--codec", "int4", "--json")
    assert "holds something" in run("import", str(out), kb, code=2)
    shutil.rmtree(out)
    assert "no export" in run("import", str(out), str(tmp_path / "kb3"), code=1)
