"""Learned sparse vectors in collections, on disk and in memory, of one vector a document and of many, against an oracle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import Collection
from octavo.errors import (
    CorruptCollectionError,
    DocumentNotFoundError,
    InvalidVectorsError,
    MismatchError,
    ParameterError,
)
from octavo.store import sparse as store_sparse

Vector = dict[int, float]

TERMS = 300


def letters(texts: list[str]) -> list[Vector]:
    return [{ord(letter): float(text.count(letter)) for letter in text} for text in texts]


def dense(texts: list[str]) -> Any:
    return np.array([[len(text) + 1.0, text.count("e") + 0.5] for text in texts])


def tokens(texts: list[str]) -> list[Any]:
    return [np.eye(26)[[ord(letter) % 26 for letter in text]] for text in texts]


def random_vector(rng: np.random.Generator, most: int = 30) -> Vector:
    terms = rng.choice(TERMS, rng.integers(0, most), replace=False)
    return {int(term): float(rng.random() + 0.05) for term in terms}


def inner(one: Vector, other: Vector) -> float:
    return sum(weight * other.get(term, 0.0) for term, weight in one.items())


def exact(vectors: dict[str, Vector], query: Vector, k: int) -> dict[str, float]:
    """Return the k best scores, of documents that share a term with the query."""
    scores = {identifier: inner(vector, query) for identifier, vector in vectors.items()}
    return dict(sorted(((i, s) for i, s in scores.items() if s > 0), key=lambda pair: -pair[1])[:k])


def assert_same_answer(result: octavo.SearchResult, vectors: dict[str, Vector], query: Vector, k: int) -> None:
    """Compare with the oracle as far as weights of 8 bits can tell."""
    expected = exact(vectors, query, k)
    assert len(result) == len(expected)
    rounding = sum(query.values()) * max((w for v in vectors.values() for w in v.values()), default=0) / 255
    for (identifier, score), best in zip(zip(result.ids, result.scores, strict=True), expected.values(), strict=True):
        assert score == pytest.approx(inner(vectors[identifier], query), abs=rounding)
        assert score == pytest.approx(best, abs=2 * rounding)


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "kb" if request.param == "disk" else None


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sparse, "SEALED_AT", 20)


@pytest.fixture(params=["one vector", "many vectors"])
def opened(request: pytest.FixtureRequest) -> Callable[..., Collection]:
    if request.param == "one vector":
        return lambda path=None, **options: octavo.open(path, dense, **options)
    return lambda path=None, **options: octavo.open_multi_vector(path, tokens, **options)


@pytest.fixture
def kb(place: Path | None) -> Iterator[Collection]:
    with octavo.open(place, dense, sparse=letters) as collection:
        yield collection


# ---------------------------------------------------------------------- answers


@pytest.mark.usefixtures("small_segments")
def test_a_life_of_adds_upserts_and_deletes(opened: Callable[..., Collection], place: Path | None) -> None:
    rng = np.random.default_rng(0)
    there: dict[str, Vector] = {}
    with opened(place) as kb:
        for step in range(60):
            names = [f"d{n}" for n in rng.choice(150, rng.integers(1, 12), replace=False)]
            if step % 4 == 3:
                kb.delete(names)
                for name in names:
                    there.pop(name, None)
            else:
                vectors = [random_vector(rng) for _ in names]
                metadata = [{"n": int(name[1:])} for name in names]
                kb.add([f"text {name}" for name in names], names, metadata, sparse_vectors=vectors)
                there |= dict(zip(names, vectors, strict=True))
            if step == 40:
                kb.compact()
            query = random_vector(rng) | {int(rng.integers(TERMS)): 1.0}
            result = kb.search(None, 7, mode="sparse", sparse_vector=query)
            assert_same_answer(result, there, query, 7)
            allowed = {name: vector for name, vector in there.items() if int(name[1:]) % 7 == 0}
            listed = {"n": {"$in": [int(name[1:]) for name in allowed]}}
            assert_same_answer(kb.search(None, 7, mode="sparse", sparse_vector=query, filter=listed), allowed, query, 7)
        assert kb.verify().ok
        about = kb.info().sparse
        assert about is not None
        assert about["segments"] >= 1
        assert about["documents"] == sum(bool(vector) for vector in there.values())
        for name, (terms, weights) in zip(there, kb.get_sparse_vectors(there), strict=True):
            assert terms.tolist() == sorted(there[name])
            scale = max(there[name].values(), default=0)
            assert weights.tolist() == pytest.approx([there[name][t] for t in terms.tolist()], abs=scale / 255 + 1e-6)
        if place is not None:
            before = kb.search(None, 20, mode="sparse", sparse_vector=query)
            kb.close()
            with opened(place, read_only=True) as again:
                after = again.search(None, 20, mode="sparse", sparse_vector=query)
                assert (after.ids, after.scores.tolist()) == (before.ids, before.scores.tolist())


def test_large_batches_come_to_few_segments_and_few_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with octavo.open(tmp_path / "kb") as kb:
        frequency = 0.6 * np.arange(1, 3001) ** -0.6
        vectors = []
        for _ in range(3000):
            terms = np.flatnonzero(rng.random(3000) < frequency)
            vectors.append((terms, rng.random(len(terms)) + 0.01))
        kb.add(["x"] * 3000, sparse_vectors=vectors)
        about = kb.info().sparse
        assert about is not None
        assert about["waiting"] < 256
        assert about["segments"] <= 4
        sealed = [path.stat().st_size for path in (tmp_path / "kb").glob("*.sparse")]
        assert sum(sealed) <= kb.info().disk["sparse"] == about["bytes"]
        kb.compact(secure=True)
        n_terms = sum(len(terms) for terms, _ in vectors)
        waiting = about["bytes"] - sum(sealed)
        assert sum(sealed) < 3 * (n_terms - waiting / 5)  # for few documents the table of terms is dear
        exact_ten = 0
        for terms, weights in vectors[:50]:
            query = dict(zip(terms.tolist(), weights.tolist(), strict=True))
            full = np.zeros(3000)
            full[terms] = weights
            scores = np.array([full[t] @ w for t, w in vectors])
            order = set(np.argsort(-scores)[:10].tolist())
            ids = kb.ids()
            found = kb.search(None, 10, mode="sparse", sparse_vector=query).ids
            exact_ten += len(order & {ids.index(identifier) for identifier in found})
        assert exact_ten >= 0.98 * 500


def test_filters_never_starve_and_ids_restrict(kb: Collection) -> None:
    kb.add([f"{'z' * (n % 2)}abc" for n in range(500)], [str(n) for n in range(500)], [{"n": n} for n in range(500)])
    found = kb.search("abc", 10, mode="sparse", filter={"n": {"$gte": 495}})
    assert sorted(found.ids) == ["495", "496", "497", "498", "499"]
    assert kb.search("abc", 10, mode="sparse", ids=["7", "9", "nobody"]).ids == ["7", "9"]
    assert kb.search("abc", 3, mode="sparse", filter=lambda document: document.id.endswith("5")).ids == [
        "5",
        "15",
        "25",
    ]
    assert kb.search("q", 3, mode="sparse").ids == []  # shares no term with any document
    assert kb.search("", 3, mode="sparse").ids == []


def test_equal_scores_come_by_age(kb: Collection) -> None:
    kb.add(["red"] * 30, [f"d{n}" for n in range(30)])
    assert kb.search("red", 12, mode="sparse").ids == [f"d{n}" for n in range(12)]


def test_a_batch_is_searched_as_one_by_one(kb: Collection) -> None:
    kb.add(["red apple", "green pear", "blue sky"], ["a", "p", "s"])
    texts = ["reed", "sky", "pear"]
    together = kb.search_batch(texts, 2, mode="sparse")
    assert [found.ids for found in together] == [kb.search(text, 2, mode="sparse").ids for text in texts]
    ready = kb.search_batch([None] * 3, 2, mode="sparse", sparse_vectors=letters(texts))
    assert [found.ids for found in ready] == [found.ids for found in together]
    with pytest.raises(InvalidVectorsError, match="expected 3"):
        kb.search_batch(texts, mode="sparse", sparse_vectors=letters(texts[:2]))


# ---------------------------------------------------------------------- hybrid


def test_hybrid_of_any_rankings(kb: Collection) -> None:
    kb.add([f"text {n} {'abcdefghij'[n % 10]}" for n in range(60)], [f"d{n}" for n in range(60)])
    query = "text c"
    alone = {mode: kb.search(query, 60, mode=mode) for mode in ("dense", "text", "sparse")}
    for names in (("dense", "sparse"), ("text", "sparse"), ("sparse", "dense", "text")):
        ranks: dict[str, float] = {}
        for name in names:
            for place, identifier in enumerate(alone[name].ids, 1):
                ranks[identifier] = ranks.get(identifier, 0) + 1 / (60 + place)
        fused = kb.search(query, 60, mode="hybrid", rank=names)
        assert dict(zip(fused.ids, fused.scores.tolist(), strict=True)) == pytest.approx(ranks)
        weights = [0.5, 0.2, 0.3][: len(names)]
        mixed: dict[str, float] = {}
        for name, weight in zip(names, weights, strict=True):
            scores = alone[name].scores
            low = float(scores.min()) if name == "dense" else 0.0
            for identifier, score in zip(alone[name].ids, scores.tolist(), strict=True):
                share = (score - low) / (float(scores.max()) - low) if scores.max() > low else 1.0
                mixed[identifier] = mixed.get(identifier, 0) + weight / sum(weights) * share
        combined = kb.search(query, 60, mode="hybrid", rank=names, weights=weights, fetch_k=60)
        assert dict(zip(combined.ids, combined.scores.tolist(), strict=True)) == pytest.approx(mixed, abs=1e-6)
    for weights, name in (((1, 0, 0), "dense"), ((0, 1, 0), "text"), ((0, 0, 2), "sparse")):
        one = kb.search(query, 9, mode="hybrid", rank=("dense", "text", "sparse"), weights=weights)
        assert one.ids == alone[name].ids[:9]
        assert one.scores.tolist() == alone[name].scores[:9].tolist()


def test_alpha_means_what_it_meant(kb: Collection) -> None:
    kb.add([f"text {n}" for n in range(40)], [f"d{n}" for n in range(40)])
    for alpha in (0.0, 0.3, 1.0):
        one = kb.search("text 7", 20, mode="hybrid", alpha=alpha)
        other = kb.search("text 7", 20, mode="hybrid", rank=("text", "dense"), weights=(1 - alpha, alpha))
        assert one.ids == other.ids
        assert one.scores.tolist() == pytest.approx(other.scores.tolist())


def test_late_candidates_from_sparse_vectors() -> None:
    with octavo.open_multi_vector(encoder=tokens, sparse=letters) as kb:
        kb.add([f"{'abcdefghij'[n % 10]}{'klmnop'[n % 6]}" for n in range(60)], [f"d{n}" for n in range(60)])
        kb.fit()
        found = kb.search("ak", 5, candidates="sparse", exact=False, n_candidates=20)
        allowed = kb.search("ak", 20, mode="sparse").ids
        expected = kb.search("ak", 5, ids=allowed, exact=True)
        assert found.ids == expected.ids
        assert kb.search("ak", 5, mode="hybrid", rank=("late", "sparse")).ids == (
            kb.search("ak", 5, mode="hybrid", rank=("dense", "sparse")).ids
        )
        with pytest.raises(ParameterError, match="different"):
            kb.search("ak", mode="hybrid", rank=("late", "dense"))


def test_mmr_diversifies_what_sparse_vectors_found(kb: Collection) -> None:
    kb.add(["ab", "abb", "abc", "abcdeee"], ["a", "b", "c", "d"])
    assert len(kb.search("ab", 3, mode="sparse", lambda_mult=0.5)) == 3


# ---------------------------------------------------------------------- what cannot be asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparse_vector": {1: 1.0}}, "belongs to mode='sparse'"),
        ({"mode": "sparse", "ef": 10}, "has none"),
        ({"mode": "hybrid", "rank": ("text", "sparse"), "oversample": 3}, "has none"),
        ({"mode": "sparse", "alpha": 0.5}, "alpha belongs"),
        ({"rank": ("dense", "sparse")}, "rank belongs"),
        ({"weights": (1, 2)}, "weights belong"),
        ({"mode": "hybrid", "rank": "dense"}, "sequence"),
        ({"mode": "hybrid", "rank": ("dense",)}, "two or more"),
        ({"mode": "hybrid", "rank": ("dense", "dense")}, "different"),
        ({"mode": "hybrid", "rank": ("dense", "late")}, "expected rank as one of"),
        ({"mode": "hybrid", "rank": ("dense", "sparse"), "alpha": 0.5}, "give weights="),
        ({"mode": "hybrid", "weights": (0.5, 0.5), "alpha": 0.5}, "same thing"),
        ({"mode": "hybrid", "weights": (0.5,)}, "one weight for each"),
        ({"mode": "hybrid", "weights": (0, 0)}, "above 0"),
        ({"mode": "hybrid", "weights": (1, -1)}, "weights"),
        ({"mode": "hybrid", "weights": 3}, "sequence"),
    ],
)
def test_options_that_cannot_be(kb: Collection, options: dict[str, Any], message: str) -> None:
    kb.add(["red"])
    with pytest.raises(ParameterError, match=message):
        kb.search("red", **options)


def test_a_query_that_is_missing(kb: Collection) -> None:
    kb.add(["red"])
    with pytest.raises(ParameterError, match="ranks by vectors"):
        kb.search(None)
    with pytest.raises(ParameterError, match="sparse_vector="):
        kb.search([1.0, 2.0], mode="sparse")
    with pytest.raises(ParameterError, match="ranks by vectors"):
        kb.search(None, mode="hybrid", rank=("dense", "sparse"), sparse_vector={1: 1.0})
    assert kb.search([1.0, 2.0], mode="sparse", text="red").ids


def test_without_an_encoder_vectors_must_be_given() -> None:
    with octavo.open(encoder=dense) as kb:
        kb.add(["red"], ["r"])
        with pytest.raises(ParameterError, match="no sparse vectors"):
            kb.search(None, mode="sparse", sparse_vector={1: 1.0})
        kb.add(["green"], ["g"], sparse_vectors=[{1: 2.0}])
        with pytest.raises(ParameterError, match="sparse_vectors="):
            kb.add(["blue"])
        with pytest.raises(ParameterError, match="sparse="):
            kb.search("red", mode="sparse")
        assert kb.search(None, mode="sparse", sparse_vector={1: 1.0}).ids == ["g"]
        assert [len(terms) for terms, _ in kb.get_sparse_vectors(["r", "g"])] == [0, 1]
        with pytest.raises(DocumentNotFoundError):
            kb.get_sparse_vectors(["b"])
        with pytest.raises(InvalidVectorsError, match="negative"):
            kb.add(["blue"], sparse_vectors=[{1: -1.0}])
        with pytest.raises(ParameterError, match="one sparse vector for each of 2"):
            kb.add(["blue", "grey"], sparse_vectors=[{1: 1.0}])
        assert len(kb) == 2


def test_vectors_that_stream_in() -> None:
    with octavo.open(encoder=dense) as kb:
        kb.add((str(n) for n in range(5)), sparse_vectors=({n: 1.0} for n in range(5)), batch_size=2)
        assert len(kb.get_sparse_vectors(kb.ids())) == 5
        with pytest.raises(ParameterError, match="ended after 3"):
            kb.add([str(n) for n in range(5)], sparse_vectors=({n: 1.0} for n in range(3)), batch_size=2)
        with pytest.raises(ParameterError, match="went on"):
            kb.add([str(n) for n in range(2)], sparse_vectors=({n: 1.0} for n in range(3)), batch_size=2)


def test_a_collection_of_sparse_vectors_alone(place: Path | None) -> None:
    with octavo.open(place, sparse=letters) as kb:
        kb.add(["red apple", "green pear"], ["a", "p"])
        assert kb.search("apple", 1, mode="sparse").ids == ["a"]
        assert kb.search("apple", 1, mode="hybrid", rank=("text", "sparse")).ids == ["a"]
        with pytest.raises(ParameterError, match="mode='text'"):
            kb.search("apple")
    with octavo.open() as kb:
        kb.add(ids=["r"], sparse_vectors=[{5: 1.0}])
        assert kb.search(None, mode="sparse", sparse_vector={5: 1.0}).ids == ["r"]


def test_another_model_is_refused(place: Path | None) -> None:
    def others(texts: list[str]) -> list[Vector]:
        return [{7 * ord(letter) + 1: 1.0 for letter in text} for text in texts]

    if place is None:
        pytest.skip("what is in memory cannot be opened again")
    with octavo.open(place, dense, sparse=letters) as kb:
        kb.add(["red apple", "green pear"])
        assert kb.info().sparse["encoder"] == "letters"  # type: ignore[index]
    with octavo.open(place, dense, sparse=others) as kb:
        with pytest.raises(MismatchError, match="letters"):
            kb.search("red", mode="sparse")
        with pytest.raises(MismatchError, match="letters"):
            kb.add(["blue"])
    with octavo.open(place, dense, sparse=letters) as kb:
        assert kb.search("red", mode="sparse").ids


# ---------------------------------------------------------------------- moving and mending


@pytest.mark.usefixtures("small_segments")
def test_copies_snapshots_and_exports_answer_alike(
    opened: Callable[..., Collection], place: Path | None, tmp_path: Path
) -> None:
    with opened(place, sparse=letters) as kb:
        kb.add([f"text {n} {'abcdefg'[n % 7]}" for n in range(70)], [f"d{n}" for n in range(70)])
        kb.add([f"more {n}" for n in range(7)], [f"m{n}" for n in range(7)])
        kb.delete([f"d{n}" for n in range(0, 70, 3)])
        expected = kb.search("text b", 30, mode="sparse")
        kb.snapshot(tmp_path / "snapshot")
        octavo.restore(tmp_path / "snapshot", tmp_path / "restored")
        kb.export(tmp_path / "export")
        again = [
            kb.copy(),
            kb.copy(tmp_path / "copy"),
            octavo.open(tmp_path / "snapshot", read_only=True, sparse=letters),
            octavo.open(tmp_path / "restored", sparse=letters),
            octavo.import_from(tmp_path / "export", sparse=letters),
            octavo.import_from(tmp_path / "export", tmp_path / "imported", sparse=letters),
        ]
        for other in again:
            with other:
                found = other.search("text b", 30, mode="sparse")
                assert (found.ids, found.scores.tolist()) == (expected.ids, expected.scores.tolist()), other
                assert other.verify().ok
                assert other.info().sparse["encoder"] == "letters"  # type: ignore[index]


@pytest.mark.usefixtures("small_segments")
def test_damage_is_named_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with octavo.open(path, dense, sparse=letters) as kb:
        kb.add([f"text {n} {'abcdefg'[n % 7]}" for n in range(70)], [f"d{n}" for n in range(70)])
        expected = kb.search("text b", 30, mode="sparse")
    (segment,) = path.glob("*.sparse")
    good = segment.read_bytes()
    for position in (10, len(good) // 3, len(good) - 3):
        segment.write_bytes(good[:position] + bytes([good[position] ^ 255]) + good[position + 1 :])
        with octavo.open(path, dense, sparse=letters) as kb:
            with pytest.raises(CorruptCollectionError, match=segment.name):
                kb.search("text b", 30, mode="sparse")
            assert kb.search("text b", 3).ids  # everything else works
            report = kb.verify()
            assert any(segment.name in problem for problem in report.problems)
        segment.write_bytes(good)
    for harm in (lambda: segment.unlink(), lambda: os.truncate(segment, 100), lambda: segment.write_bytes(b"")):
        shutil.copytree(path, tmp_path / "spare")
        harm()
        with octavo.open(path, dense) as kb:
            with pytest.raises(CorruptCollectionError, match="have lost their sparse vectors, among them 'd0'"):
                kb.verify(repair=True)
            kb.add(["another"], sparse_vectors=[{1: 1.0}])  # writing goes on
            kb.delete(filter=lambda document: document.text == "another")
        with octavo.open(path, dense, sparse=letters) as kb:
            report = kb.verify(repair=True)
            assert report.ok, report
            assert any("sparse vectors of 70 documents were encoded again" in note for note in report.repaired)
            found = kb.search("text b", 30, mode="sparse")
            assert (found.ids, found.scores.tolist()) == (expected.ids, expected.scores.tolist())
        shutil.rmtree(path)
        (tmp_path / "spare").rename(path)


def test_a_row_that_cannot_be_read(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", dense, sparse=letters) as kb:
        kb.add(["red", "green"], ["r", "g"])
        with kb.connection(write=True) as connection:
            connection.execute("UPDATE sparse_rows SET vector = x'0102' WHERE slot = 1")
            connection.execute("UPDATE manifest SET value = value + 1 WHERE key = 'seq'")
    with octavo.open(tmp_path / "kb", dense, sparse=letters) as kb:
        with pytest.raises(CorruptCollectionError, match="slot 1"):
            kb.search("red", mode="sparse")
        assert not kb.verify().ok
        assert kb.verify(repair=True).ok
        assert kb.search("green", 1, mode="sparse").ids == ["g"]


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry["segments"][0].update(file="../outside.sparse"),
        lambda entry: entry["segments"][0].update(first=-1),
        lambda entry: entry["segments"][0].update(last=10**9),
        lambda entry: entry["segments"][0].update(rows="many"),
        lambda entry: entry.update(sealed=10**9),
        lambda entry: entry.update(segments=7),
        lambda entry: entry.pop("sealed"),
    ],
)
@pytest.mark.usefixtures("small_segments")
def test_a_manifest_that_octavo_would_not_write(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    with octavo.open(tmp_path / "kb", dense, sparse=letters) as kb:
        kb.add([str(n) for n in range(30)])
        with kb.connection(write=True) as connection:
            entry = json.loads(connection.execute("SELECT value FROM manifest WHERE key = 'sparse'").fetchone()[0])
            change(entry)
            connection.execute("UPDATE manifest SET value = ? WHERE key = 'sparse'", (json.dumps(entry),))
    with pytest.raises(CorruptCollectionError, match="sparse"), octavo.open(tmp_path / "kb"):
        pass


@pytest.mark.usefixtures("small_segments")
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", dense, sparse=letters) as kb:
        kb.add([str(n) for n in range(30)])
    (segment,) = (tmp_path / "kb").glob("*.sparse")
    segment.rename(tmp_path / "elsewhere")
    segment.symlink_to(tmp_path / "elsewhere")
    with octavo.open(tmp_path / "kb", dense, sparse=letters) as kb, pytest.raises(CorruptCollectionError):
        kb.search("1", mode="sparse")


@pytest.mark.usefixtures("small_segments")
def test_secure_compaction_leaves_nothing_of_the_deleted(tmp_path: Path) -> None:
    marker = 0xA1B2C3D4
    needle = marker.to_bytes(4, "little")
    with octavo.open(tmp_path / "kb", dense) as kb:
        names = [str(n) for n in range(30)]
        kb.add(names, names, sparse_vectors=[{marker: 1.0, n: 1.0} for n in range(30)])
        kb.add(["last"], ["last"], sparse_vectors=[{marker: 1.0}])
        kb.add(["kept"] * 3, sparse_vectors=[{5: 1.0}] * 3)
        kb.delete([*names, "last"])
        assert any(needle in path.read_bytes() for path in (tmp_path / "kb").iterdir() if path.is_file())
        kb.compact(secure=True)
        assert not any(needle in path.read_bytes() for path in (tmp_path / "kb").iterdir() if path.is_file())
        assert len(kb.search(None, mode="sparse", sparse_vector={5: 1.0})) == 3


@pytest.mark.usefixtures("small_segments")
def test_leftovers_of_a_dead_writer_are_removed(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", dense, sparse=letters) as kb:
        kb.add([str(n) for n in range(30)])
    stray = tmp_path / "kb" / ("0" * 32 + ".sparse")
    stray.write_bytes(b"half written")
    with octavo.open(tmp_path / "kb", dense, sparse=letters) as kb:
        assert not stray.exists()
        assert kb.search("1", mode="sparse").ids
        kb.destroy()
    assert not (tmp_path / "kb").exists()


@pytest.mark.usefixtures("small_segments")
def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    def refuse(connection: Any, added: Any, deleted: Any) -> None:
        raise RuntimeError("no")

    with octavo.open(tmp_path / "kb", dense, sparse=letters) as kb:
        kb.add([str(n) for n in range(30)])
        before = sorted(path.name for path in (tmp_path / "kb").glob("*.sparse"))
        kb.join_writes(refuse)
        with pytest.raises(RuntimeError):
            kb.add([str(n) for n in range(30, 90)])
        assert sorted(path.name for path in (tmp_path / "kb").glob("*.sparse")) == before
        assert len(kb) == 30


@pytest.mark.usefixtures("small_segments")
def test_other_processes_see_each_commit(tmp_path: Path) -> None:
    with (
        octavo.open(tmp_path / "kb", dense, sparse=letters) as writer,
        octavo.open(tmp_path / "kb", dense, sparse=letters) as reader,
    ):
        for n in range(60):
            writer.add(["abc" if n % 2 else "xyz"], [f"d{n}"])
            assert len(reader.search("a", 100, mode="sparse")) == (n + 1) // 2
            if n % 17 == 16:
                writer.compact()
        writer.delete([f"d{n}" for n in range(30)])
        assert len(reader.search("a", 100, mode="sparse")) == 15
        writer.clear()
        assert reader.search("a", 100, mode="sparse").ids == []
