"""Whatever the order in which documents come, the codec fits all of them: originals are kept, and it is learned again."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import octavo
from octavo.errors import StorageError
from octavo.store import _originals
from octavo.store._originals import ALL, Learned, packed, priority, unpacked
from octavo.store.vectors import VectorFile

DIM, TOPICS, EACH = 48, 4, 400
LOSSY = "svd:25%|int8"

Matrix = NDArray[np.float32]


def topical(seed: int = 0, topics: int = TOPICS, each: int = EACH) -> Matrix:
    """Return unit vectors, topic after topic; each topic has twelve dimensions to itself, and a little of all others."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(scale=0.05, size=(topics, each, DIM))
    for topic in range(topics):
        start = 12 * topic
        rows[topic, :, start : start + 3] += rng.normal(size=(each, 3))
    flat = rows.reshape(-1, DIM)
    return (flat / np.linalg.norm(flat, axis=1, keepdims=True)).astype(np.float32)


def filled(
    vectors: Matrix, order: Any, *, path: Path | None = None, codec: str = LOSSY, batch: int = 100, **options: Any
) -> Any:
    kb = octavo.open(path, codec=codec, fit_after=options.pop("fit_after", EACH), **options)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        kb.add(None, ids=[str(row) for row in rows], vectors=vectors[rows])
    return kb


def lost(kb: Any, vectors: Matrix, rows: Any) -> float:
    """Return the mean part of its squared length that a document loses."""
    decoded = kb.get_vectors([str(row) for row in rows])
    return float(((decoded - vectors[rows]) ** 2).sum(axis=1).mean())


def kept_rows(kb: Any) -> dict[str, Matrix]:
    """Return the originals that are kept, by id."""
    with kb._store.read() as (connection, snapshot):
        ids = dict(connection.execute("SELECT slot, id FROM documents"))
        return {ids[slot]: rows for slot, rows in _originals.read(connection, snapshot.dim).items()}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep so few originals that tests go beyond them."""
    monkeypatch.setattr(_originals, "CAPACITY", 300)
    monkeypatch.setattr(_originals, "RECENT", 200)


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("codec", [LOSSY, "rabitq:2", "svd:25%|int8 > int8"])
def test_the_order_of_documents_does_not_matter(tmp_path: Path, codec: str, where: str) -> None:
    vectors = topical()
    by_topic, shuffled = np.arange(len(vectors)), np.random.default_rng(1).permutation(len(vectors))
    found = []
    for name, order in (("a", by_topic), ("b", by_topic[::-1]), ("c", shuffled)):
        with filled(vectors, order, codec=codec, path=tmp_path / name if where == "disk" else None) as kb:
            with kb._store.read() as (_, snapshot):
                tier = snapshot.tiers[0].pipeline
            errors = ((tier.decode(tier.encode(vectors)) - vectors) ** 2).sum(axis=1)
            found.append(float(errors.mean()))
            assert kb.verify().ok
    assert max(found) < 1.1 * min(found)


def test_documents_of_a_new_topic_are_not_lost() -> None:
    vectors = topical()
    with (
        filled(vectors, np.arange(len(vectors))) as kb,
        filled(vectors, np.random.default_rng(1).permutation(len(vectors))) as fair,
    ):
        for topic in range(TOPICS):
            rows = np.arange(topic * EACH, (topic + 1) * EACH)
            assert lost(kb, vectors, rows) < 1.1 * lost(fair, vectors, rows) + 0.01


@pytest.mark.usefixtures("small")
def test_beyond_what_is_kept_a_new_topic_is_noticed() -> None:
    vectors = topical()
    rows = np.arange(3 * EACH, 4 * EACH)
    with filled(vectors, np.arange(len(vectors)), fit_after=EACH) as kb:
        assert lost(kb, vectors, rows) < 0.15
        assert len(kept_rows(kb)) <= 500
        learned = kb._store.snapshot.learned
        assert learned is not None
        assert not learned.complete


@pytest.mark.usefixtures("small")
def test_nothing_new_is_nothing_to_learn() -> None:
    vectors = topical()
    order = np.random.default_rng(1).permutation(len(vectors))
    with filled(vectors, order, fit_after=EACH) as kb:
        assert kb.info().generation <= 4  # waiting, fitted, and at most twice more while originals were complete


@pytest.mark.usefixtures("small")
def test_the_sample_is_the_same_in_every_order() -> None:
    vectors = topical()
    order = np.random.default_rng(1).permutation(len(vectors))
    samples = []
    for chosen in (np.arange(len(vectors)), order):
        with filled(vectors, chosen) as kb:
            below = kb._store.snapshot.learned.below
            samples.append({key for key in kept_rows(kb) if priority(key, 0) < below})
    assert samples[0] == samples[1]
    assert len(samples[0]) == 300
    topics = np.bincount([int(key) // EACH for key in samples[0]], minlength=TOPICS)
    assert topics.min() > 45  # 75 expected of each


def test_originals_are_what_came_and_follow_their_documents(tmp_path: Path) -> None:
    vectors = topical()
    with filled(vectors, np.arange(len(vectors)), path=tmp_path / "kb") as kb:
        gone = [str(row) for row in range(0, len(vectors), 3)]
        kb.delete(gone)
        assert not set(gone) & set(kept_rows(kb))
        kb.add(None, ids=["1"], vectors=vectors[2:3])  # replaced
        kb.compact()
        rows = kept_rows(kb)
        assert len(rows) == len(kb)
        for key, row in rows.items():
            np.testing.assert_allclose(row[0], vectors[2 if key == "1" else int(key)], atol=1e-3)
        assert kb.verify().ok


def test_secure_compaction_leaves_no_original_of_a_deleted_document(tmp_path: Path) -> None:
    vectors = topical()
    with filled(vectors, np.arange(len(vectors)), path=tmp_path / "kb") as kb:
        secret = packed(vectors[7:8])
        kb._store.database.checkpoint()
        assert secret[4:] in (tmp_path / "kb" / "octavo.db").read_bytes()
        kb.delete(["7"])
        kb.compact(secure=True)
        for file in (tmp_path / "kb").rglob("*"):
            assert not file.is_file() or secret[4:] not in file.read_bytes()


@pytest.mark.parametrize("how", ["copy", "snapshot", "restore", "export", "memory"])
def test_copies_know_the_originals(tmp_path: Path, how: str) -> None:
    vectors = topical()
    with filled(vectors, np.arange(len(vectors)), path=tmp_path / "kb") as kb:
        before, learned = kept_rows(kb), kb._store.snapshot.learned
        if how == "copy":
            again = kb.copy(tmp_path / "copy")
        elif how == "memory":
            again = kb.copy()
        elif how == "snapshot":
            again = octavo.open(kb.snapshot(tmp_path / "snap"))
        elif how == "restore":
            octavo.restore(kb.snapshot(tmp_path / "snap"), tmp_path / "restored")
            again = octavo.open(tmp_path / "restored")
        else:
            again = octavo.import_from(kb.export(tmp_path / "export"), tmp_path / "imported")
    with again:
        after = kept_rows(again)
        assert after.keys() == before.keys()
        assert all(np.allclose(after[key], before[key], atol=1e-6) for key in before)
        assert again._store.snapshot.learned == learned
        assert again.verify().ok


def test_changing_to_a_finer_codec_starts_from_the_originals() -> None:
    vectors = topical()
    with filled(vectors, np.arange(len(vectors))) as kb:
        kb.refit("int8")
        assert lost(kb, vectors, np.arange(len(vectors))) < 1e-3
        assert not kept_rows(kb)  # int8 is as good


def test_codecs_that_lose_next_to_nothing_keep_no_originals_and_stay() -> None:
    vectors = topical()
    shuffled = np.random.default_rng(1).permutation(len(vectors))
    for codec in ("int8", "float16", "binary > int8"):
        with filled(vectors, shuffled, codec=codec) as kb:
            assert not kept_rows(kb)
            assert kb.info().originals is None
            assert kb.info().generation == 2


def test_values_beyond_the_range_of_the_first_documents_come_back() -> None:
    rng = np.random.default_rng(0)
    first, later = rng.normal(size=(500, 8)), 50 * rng.normal(size=(500, 8))
    vectors = np.concatenate([first, later]).astype(np.float32)
    with filled(vectors, np.arange(1000), codec="int4", metric="dot", fit_after=500) as kb:
        decoded = kb.get_vectors([str(row) for row in range(500, 1000)])
    assert float(((decoded - vectors[500:]) ** 2).sum() / (vectors[500:] ** 2).sum()) < 0.05


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_info_counts_what_is_held(tmp_path: Path, where: str) -> None:
    vectors = topical()
    with filled(vectors, np.arange(len(vectors)), path=tmp_path / "kb" if where == "disk" else None) as kb:
        info = kb.info()
        assert info.originals == {"documents": len(vectors), "bytes": len(vectors) * (4 + 2 * DIM)}
        held = info.disk if where == "disk" else info.ram
        assert held["originals"] == info.originals["bytes"]
        assert info.ram["codec"] >= 4 * DIM * DIM // 4  # the matrix of the reduction
        if where == "disk":
            assert "originals" not in info.ram
            files = sum(
                file.stat().st_size for file in (tmp_path / "kb").iterdir() if file.name.startswith("octavo.db")
            )
            assert info.disk["documents"] + info.disk["originals"] == files


def test_verify_finds_originals_that_fit_no_document(tmp_path: Path) -> None:
    vectors = topical()
    with filled(vectors, np.arange(len(vectors)), path=tmp_path / "kb") as kb:
        with kb._store.write() as connection:
            connection.execute("UPDATE originals SET slot = 99999 WHERE slot = 3")
        assert any("original vectors" in problem for problem in kb.verify().problems)
        assert kb.verify(repair=True).ok
        assert not kept_rows(kb)
        kb.refit()
        assert kb.verify().ok


def test_a_collection_of_an_earlier_version_gets_the_table_when_it_is_written_to(tmp_path: Path) -> None:
    vectors = topical()
    with filled(vectors, np.arange(len(vectors)), path=tmp_path / "kb") as kb, kb._store.write() as connection:
        connection.execute("DROP TABLE originals")
        connection.execute("DELETE FROM manifest WHERE key = 'learned'")
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.verify().ok
        assert kb.info().originals is None
        kb.export(tmp_path / "out")
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(None, ids=["new"], vectors=vectors[:1])
        kb.refit()
        assert kb.verify().ok


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_when_learning_again_fails_the_documents_are_there_and_the_next_add_makes_good(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = topical()
    with filled(vectors, np.arange(EACH), path=tmp_path / "kb" if where == "disk" else None) as kb:
        generation, kept = kb.info().generation, kept_rows(kb)
        sync = VectorFile.sync

        def fails(file: VectorFile) -> None:
            if f"g{generation + 1:06d}" in file.name or where == "memory":
                raise StorageError(28, "no space left")
            sync(file)

        write: Callable[..., None] = VectorFile.write

        def fails_in_memory(file: VectorFile, start: int, codes: Any) -> None:
            if (generation + 1, 0) in kb._store._memory_files and kb._store._memory_files[generation + 1, 0] is file:
                raise StorageError(28, "no space left")
            write(file, start, codes)

        with monkeypatch.context() as patch:
            if where == "disk":
                patch.setattr(VectorFile, "sync", fails)
            else:
                patch.setattr(VectorFile, "write", fails_in_memory)
            rows = np.arange(EACH, 2 * EACH)
            kb.add(None, ids=[str(row) for row in rows], vectors=vectors[rows])  # does not raise
            assert kb.info().generation == generation
            assert len(kept_rows(kb)) == len(kept) + len(rows)
            assert kb.verify().ok
        kb.add(None, ids=["last"], vectors=vectors[:1])
        assert kb.info().generation == generation + 1
        assert lost(kb, vectors, rows) < 0.1
        assert kb.verify().ok


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_late_interaction_is_protected_as_well(tmp_path: Path, where: str) -> None:
    vectors = topical()
    rows = [vectors[start : start + 4] for start in range(0, len(vectors), 4)]
    path = tmp_path / "kb" if where == "disk" else None
    with octavo.open_multi_vector(path, codec=LOSSY, fit_after=100, pool_factor=1, dim=DIM) as kb:
        for start in range(0, len(rows), 50):
            part = range(start, start + 50)
            kb.add(None, ids=[str(row) for row in part], token_vectors=[rows[row] for row in part])
        decoded = np.concatenate(kb.get_token_vectors([str(row) for row in range(len(rows))]))
        last = slice(3 * EACH, None)
        assert float(((decoded[last] - vectors[last]) ** 2).sum(axis=1).mean()) < 0.15
        assert sum(map(len, kept_rows(kb).values())) == len(vectors)
        kb.delete(["3"])
        kb.compact(secure=True)
        assert "3" not in kept_rows(kb)
        assert kb.verify().ok
        exported = kb.export(tmp_path / "out")
    with octavo.import_from(exported) as again:
        assert sum(map(len, kept_rows(again).values())) == len(vectors) - 4


def test_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_originals, "TOKEN_CAPACITY", 400)
    monkeypatch.setattr(_originals, "RECENT", 200)
    vectors = topical()
    rows = [vectors[start : start + 4] for start in range(0, len(vectors), 4)]
    with octavo.open_multi_vector(codec=LOSSY, fit_after=100, pool_factor=1, dim=DIM) as kb:
        for start in range(0, len(rows), 50):
            part = range(start, start + 50)
            kb.add(None, ids=[str(row) for row in part], token_vectors=[rows[row] for row in part])
        assert sum(map(len, kept_rows(kb).values())) <= 600


def test_clearing_begins_anew() -> None:
    vectors = topical()
    with filled(vectors, np.arange(EACH)) as kb:
        kb.clear()
        assert not kept_rows(kb)
        for start in range(EACH, 2 * EACH, 100):
            rows = np.arange(start, start + 100)
            kb.add(None, ids=[str(row) for row in rows], vectors=vectors[rows])
        assert lost(kb, vectors, np.arange(EACH, 2 * EACH)) < 0.1


def test_packing_keeps_any_range() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-20, 1.0, 1e30):
        rows = (scale * rng.normal(size=(3, 5))).astype(np.float32)
        np.testing.assert_allclose(unpacked(packed(rows), 5), rows, atol=1e-3 * scale * 4)
    assert not unpacked(packed(np.zeros((1, 4), np.float32)), 4).any()


def test_what_is_known_survives_the_manifest_and_damage_does_not() -> None:
    learned = Learned(10, (0.5, 1e-4), (0.1, 1e-5), (True, False), 77, False, 5, (0.6, 1e-4))
    assert Learned.from_json(learned.to_json()) == learned
    for text in (None, "", "[]", "{}", "7", '{"documents": 1}', learned.to_json().replace("0.5", '"x"'), "[" * 5000):
        assert Learned.from_json(text) is None
    for change in ({"below": -1}, {"seen": 1.5}, {"found": (0.1,)}, {"errors": (float("nan"), 0.1)}):
        assert Learned.from_json(dataclasses.replace(learned, **change).to_json()) is None
    assert Learned(1, (0.1,), (0.1,), (True,)).below == ALL


def test_sqlite_says_the_same_of_the_table(tmp_path: Path) -> None:
    """The table is as docs/format.md says, for any program."""
    vectors = topical()
    filled(vectors, np.arange(len(vectors)), path=tmp_path / "kb").close()
    connection = sqlite3.connect(f"file:{tmp_path / 'kb' / 'octavo.db'}?mode=ro", uri=True)
    (row,) = connection.execute(
        "SELECT o.vectors, o.n, d.id FROM originals o JOIN documents d USING (slot) WHERE id = '5'"
    )
    connection.close()
    assert row[1] == 1
    scale, values = np.frombuffer(row[0], "<f4", 1)[0], np.frombuffer(row[0], "<f2", offset=4)
    np.testing.assert_allclose(scale * values.astype(np.float32), vectors[5], atol=1e-3)
