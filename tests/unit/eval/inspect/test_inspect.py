"""Descriptions of point clouds whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.compression import Codec
from octavo.errors import CollectionNotFoundError, InputTypeError, InvalidVectorsError, ParameterError
from octavo.eval import Dataset, ReadyVectors, Timing, load_dataset, run
from octavo.eval.inspect import Inspection, inspect_collection, inspect_dataset, inspect_file, inspect_vectors
from octavo.eval.inspect import _geometry as geometry


def spread(n: int = 600, dim: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def manifold(d: int, dim: int = 20, n: int = 1500) -> np.ndarray:
    """Points that fill d directions of `dim`, evenly, away from the origin."""
    rng = np.random.default_rng(4)
    basis, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    return rng.random((n, d)) @ basis[:, :d].T


def codecs(found: Inspection) -> list[str | None]:
    return [s.codec for s in found.suggestions]


def test_mean_cosine_against_all_pairs() -> None:
    X = spread(60, 7) + 0.5
    U = X / np.linalg.norm(X, axis=1, keepdims=True)
    pairs = (U @ U.T)[~np.eye(60, dtype=bool)]
    assert geometry.mean_cosine(U) == pytest.approx(pairs.mean(), abs=1e-12)
    assert inspect_vectors(X).mean_cosine == pytest.approx(pairs.mean(), abs=1e-12)


@pytest.mark.parametrize(("used", "dim"), [(1, 10), (3, 10), (7, 10), (10, 10), (25, 300)])
def test_isoscore_is_the_share_of_directions_used(used: int, dim: int) -> None:
    variances = np.r_[np.ones(used), np.zeros(dim - used)]
    assert geometry.isoscore(variances) == pytest.approx((used - 1) / (dim - 1), abs=1e-9)
    assert geometry.participation_ratio(variances) == pytest.approx(used)
    assert geometry.effective_rank(np.sqrt(variances)) == pytest.approx(used)


def test_isoscore_does_not_depend_on_scale() -> None:
    variances = np.random.default_rng(0).random(12)
    assert geometry.isoscore(variances) == pytest.approx(geometry.isoscore(100 * variances))


@pytest.mark.parametrize("d", [2, 5])
def test_intrinsic_dimensions_of_a_flat_sheet(d: int) -> None:
    points = manifold(d)
    distances = geometry.neighbour_distances(points, np.arange(800), 20)
    local = geometry.local_dimensions(distances)
    assert 1 / np.mean(1 / local) == pytest.approx(d, rel=0.12)
    assert geometry.two_nn(distances) == pytest.approx(d, rel=0.15)


def test_neighbour_distances_against_sorting_everything() -> None:
    points = spread(300, 5)
    full = np.sort(np.linalg.norm(points[:, None] - points[None], axis=2), axis=1)[:, 1:9]
    np.testing.assert_allclose(geometry.neighbour_distances(points, np.arange(300), 8), full, atol=1e-6)


def test_neighbour_agreement_against_sets() -> None:
    points = spread(120, 8)
    other = points[:, :4]
    expected = []
    for row in range(40):
        before, after = points @ points[row], other @ other[row]
        before[row] = after[row] = -np.inf
        expected.append(len(set(np.argsort(-before)[:5]) & set(np.argsort(-after)[:5])) / 5)
    assert geometry.neighbour_agreement(points, other, np.arange(40), 5) == pytest.approx(np.mean(expected))


def test_lengths_and_energies() -> None:
    X = np.diag([4.0, 3.0, 2.0, 1.0]).repeat(3, axis=0) + 1e-3 * spread(12, 4)
    found = inspect_vectors(X)
    lengths = np.linalg.norm(X, axis=1)
    assert (found.norm_min, found.norm_max) == (lengths.min(), lengths.max())
    assert found.norm_mean == pytest.approx(lengths.mean())
    U = X / lengths[:, None]
    squares = np.linalg.svd(U, compute_uv=False) ** 2
    centred = np.linalg.svd(U - U.mean(0), compute_uv=False) ** 2
    assert found.energy["50%"] == pytest.approx(squares[:2].sum() / squares.sum())
    assert found.energy_centred["75%"] == pytest.approx(centred[:3].sum() / centred.sum())
    assert found.prefix_energy["25%"] == pytest.approx((U[:, 0] ** 2).sum() / len(U))
    assert found.lid_mean is None  # fewer points than neighbours asked for


def test_an_outlier_dimension_is_found_and_suggests_a_rotation() -> None:
    X = spread(400, 32)
    X[:, 11] += 8
    found = inspect_vectors(X)
    assert [o.dimension for o in found.outliers] == [11]
    assert found.outliers[0].share_of_cosine > 0.95
    assert found.outliers[0].mean == pytest.approx((X / np.linalg.norm(X, axis=1, keepdims=True))[:, 11].mean())
    assert "rotate|int8" in codecs(found)
    assert not any("rotation before" in s.text for s in inspect_vectors(spread(400, 32)).suggestions)


def test_a_narrow_cone_warns_of_coarse_codes() -> None:
    wide, narrow = inspect_vectors(unit(spread())), inspect_vectors(unit(spread() + 2))
    assert wide.mean_cosine < 0.05
    assert narrow.mean_cosine > 0.7
    assert (wide.recognised, narrow.recognised) == ([], ["anisotropic"])
    assert any("coarse codes that do not subtract the mean" in s.text for s in narrow.suggestions)
    assert any("no centring of your own" in s.text for s in narrow.suggestions)
    assert not any("coarse codes" in s.text for s in wide.suggestions)


def test_prefixes_are_told_from_coordinates_in_no_order() -> None:
    """In two steps, as training for two lengths leaves them; falling steadily, as after a PCA; the other way round; evenly."""
    steps, steady = np.r_[np.ones(12), np.full(12, 0.3)], np.linspace(1, 0.05, 24)
    trained, ordered = inspect_vectors(unit(spread() * steps)), inspect_vectors(unit(spread() * steady))
    assert (trained.recognised, ordered.recognised) == (["Matryoshka"], ["ordered by variance"])
    assert trained.variance_order < 0.85 < ordered.variance_order
    backwards = inspect_vectors(unit(spread() * steps[::-1]))
    assert backwards.recognised == inspect_vectors(unit(spread())).recognised == []
    said = [s.text for s in trained.suggestions if "for half the dimensions" in s.text]
    assert len(said) == 1
    assert "trained for short prefixes (Matryoshka)" in said[0]
    assert not [s for s in backwards.suggestions if "for half the dimensions" in s.text]
    useful = inspect_vectors(spread() * np.r_[np.ones(12), np.full(12, 0.02)])
    assert any(s.codec == "truncate:50%|int8" and "for half the dimensions" in s.text for s in useful.suggestions)


def test_expected_losses_are_those_of_a_run(tiny_run: tuple[Dataset, ReadyVectors]) -> None:
    """What inspect expects of a codec on all vectors with the real queries is the agreement that a run measures."""
    data, ready = tiny_run
    found = inspect_vectors(ready.documents, queries=ready.queries)
    assert found.asked == "queries"
    expected = {one.codec: one for one in found.codecs}
    assert len(expected) > 5
    quick = Timing(queries=1, repeats=1, warmup=0)
    for result in run(data, None, list(expected), vectors=ready, measures=["nDCG@10"], timing=quick):
        one = expected[result.label]
        assert one.agreement == pytest.approx(result.agreement.float32, abs=0.02)
        assert one.vector_bytes == result.storage.vector_bytes_per_document
        learned = result.storage.ram.get("codec", 0) / result.storage.documents  # the same for any number of documents
        assert one.ram_bytes == pytest.approx(result.storage.ram_bytes_per_document - learned, abs=1.01)  # and a flag


@pytest.fixture
def tiny_run() -> tuple[Dataset, ReadyVectors]:
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(400, 48)) * np.geomspace(1, 0.1, 48) + 0.3
    queries = documents[:60] + 0.3 * rng.normal(size=(60, 48))
    names = [str(n) for n in range(400)]
    data = Dataset(
        name="cloud", document_ids=names, texts=names, query_ids=names[:60], queries=names[:60],
        qrels={name: {name: 1} for name in names[:60]},
    )  # fmt: skip
    return data, ReadyVectors(documents.astype(np.float32), queries.astype(np.float32))


# ------------------------------------------------------------------ four real models


@pytest.mark.parametrize(
    ("model", "recognised"),
    [
        ("wl", ["varying lengths", "Matryoshka"]),
        ("sm64", ["anisotropic", "outlier dimensions", "ordered by variance"]),
        ("e5", ["anisotropic"]),
    ],
)
def test_real_models_are_recognised(shared_vectors: Path, model: str, recognised: list[str]) -> None:
    place = shared_vectors / f"{model}-cranfield.npz"
    found = inspect_file(place, queries=place)
    assert found.recognised == recognised
    agreements = {one.codec: one.agreement for one in found.codecs}
    suggested = [agreements[s.codec] for s in found.suggestions[: 3 if model == "wl" else 2] if s.codec is not None]
    assert suggested
    assert min(suggested) >= 0.94
    anisotropic = "anisotropic" in recognised
    assert (agreements["binary > int8"] < 0.7) is anisotropic  # where plain signs fail, they are not suggested
    assert ("binary > int8" in codecs(found)) is not anisotropic


def test_nothing_stands_out_in_minilm(shared_data: Path, minilm: str) -> None:
    data = load_dataset(shared_data / "vaswani")
    some = Dataset(
        name="vaswani", document_ids=data.document_ids[:150], texts=data.texts[:150], query_ids=data.query_ids[:1],
        queries=data.queries[:1], qrels={data.query_ids[0]: {data.document_ids[0]: 1}},
    )  # fmt: skip
    assert inspect_dataset(some, minilm).recognised == []


def test_unequal_lengths_and_duplicates_are_mentioned() -> None:
    X = spread()
    X[:100] *= 3
    X[200:300] = X[300:400]
    found = inspect_vectors(X)
    assert found.duplicates == 100
    assert any("metric='dot'" in s.text for s in found.suggestions)
    assert any("duplicate" in s.text for s in found.suggestions)


@pytest.mark.parametrize(
    "make", [spread, lambda: spread() + 2, lambda: spread(40, 64), lambda: spread() * np.geomspace(9, 1, 24)]
)
def test_every_suggested_codec_parses_and_the_check_names_it(make: Any) -> None:
    found = inspect_vectors(make())
    assert found.suggestions
    for suggestion in found.suggestions:
        assert suggestion.text.startswith("suggests")
        assert suggestion.reason
        if suggestion.codec is not None:
            assert str(Codec.parse(suggestion.codec))
            assert f"--codec '{suggestion.codec}'" in suggestion.check
    assert json.loads(json.dumps(found.to_dict()))["suggestions"]


def test_a_file_is_sampled_by_its_seed(tmp_path: Path) -> None:
    X = spread(900, 8).astype(np.float16)
    np.save(tmp_path / "x.npy", X)
    found = inspect_file(tmp_path / "x.npy", sample=200, seed=3)
    assert (found.n, found.sampled, found.dim) == (900, 200, 8)
    assert found == inspect_file(tmp_path / "x.npy", sample=200, seed=3)
    assert found != inspect_file(tmp_path / "x.npy", sample=200, seed=4)


def test_files_that_are_not_vectors(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="there is none at"):
        inspect_file(tmp_path / "none.npy")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ParameterError, match="cannot be read"):
        inspect_file(tmp_path / "objects.npy")
    np.savez(tmp_path / "many.npz", a=spread(), b=spread())
    with pytest.raises(ParameterError, match="name one of"):
        inspect_file(tmp_path / "many.npz")
    np.save(tmp_path / "flat.npy", np.ones(5))
    with pytest.raises(InvalidVectorsError, match="shape"):
        inspect_file(tmp_path / "flat.npy")


@pytest.mark.parametrize(
    ("vectors", "match"),
    [
        (np.full((5, 2), np.nan), "finite"),
        (np.zeros((5, 2)), "zero"),
        (np.ones((5, 2)), "different"),
        (np.ones((2, 2)), "at least three"),
        (np.array([["a"], ["b"], ["c"]]), "real numbers"),
    ],
)
def test_bad_vectors_are_named(vectors: np.ndarray, match: str) -> None:
    with pytest.raises(InvalidVectorsError, match=match):
        inspect_vectors(vectors)


def test_one_dimension_is_described() -> None:
    found = inspect_vectors(
        np.array([[1.0], [-1.0], [2.0], [-3.0]] * 2 + [[0.5]]) @ np.ones((1, 2)) + spread(9, 2) * 0.1
    )
    assert found.dim == 2


def test_a_collection_is_described_by_path(tmp_path: Path) -> None:
    X = spread(80, 12)
    with octavo.open(tmp_path / "kb", codec="int8", fit_after=10) as kb:
        kb.add(ids=[f"d{i}" for i in range(80)], vectors=X)
        direct = inspect_collection(kb)
    found = inspect_collection(tmp_path / "kb", sample=50)
    assert (found.n, found.sampled, direct.sampled) == (80, 50, 80)
    assert "int8" in found.source
    assert direct.mean_cosine == pytest.approx(inspect_vectors(X).mean_cosine, abs=0.01)
    with pytest.raises(CollectionNotFoundError):
        inspect_collection(tmp_path / "missing")
    with pytest.raises(InputTypeError):
        inspect_collection(3)  # type: ignore[arg-type]


def test_a_data_set_is_described_through_a_model_and_its_cache(tmp_path: Path) -> None:
    seen: list[str] = []
    table = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)

    def model(texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return table[[hash_of(text) for text in texts]]

    def hash_of(text: str) -> int:
        return sum(text.encode()) % 300

    texts = [chr(97 + i % 26) * (1 + i // 26) for i in range(60)]
    data = Dataset(
        name="letters",
        document_ids=[str(i) for i in range(60)],
        texts=texts,
        query_ids=["q"],
        queries=["b"],
        qrels={"q": {"1": 1}},
    )
    found = inspect_dataset(data, model, cache=tmp_path, sample=40)
    assert (found.n, found.sampled, found.dim) == (60, 40, 8)
    assert "letters, documents" in found.source
    assert len(set(seen) & set(texts)) == 40
    seen.clear()
    assert inspect_dataset(data, model, cache=tmp_path, sample=40) == found
    assert not set(seen) & set(texts)  # all of them came from the cache
    with pytest.raises(ParameterError, match="documents', 'queries"):
        inspect_dataset(data, model, role="titles")  # type: ignore[arg-type]
