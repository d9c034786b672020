"""Inverted lists against a dense matrix: building, adding up, taking apart, joining."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo._sparse_rows import SparseRows
from octavo.errors import InputTypeError, InvalidVectorsError
from octavo.index import sparse
from octavo.index.sparse import Postings, SparseSegment, best, scan_rows, sparse_scores

Vectors = list[dict[int, float]]

WEIGHTS = st.floats(0.0625, 50, width=32)
VECTORS = st.lists(st.dictionaries(st.integers(0, 40), WEIGHTS, max_size=12), min_size=1, max_size=80)


def random_vectors(n: int, terms: int, density: float, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    dense = rng.random((n, terms)) * (rng.random((n, terms)) < density)
    return [{int(t): float(row[t]) for t in np.flatnonzero(row)} for row in dense]


def oracle(rows: SparseRows, query: dict[int, float]) -> np.ndarray[Any, Any]:
    """Return inner products with what is stored, one document after the other."""
    codes, scales = rows.coded()
    found = []
    for number, (terms, _) in enumerate(rows):
        part = codes[rows.offsets[number] : rows.offsets[number + 1]]
        weights = [query.get(int(term), 0.0) * int(code) for term, code in zip(terms, part, strict=True)]
        found.append(sum(weights) * float(scales[number]) / 255)
    return np.array(found)


@pytest.mark.parametrize(
    ("n", "terms", "density"),
    [(1, 5, 0.5), (300, 50, 0.05), (700, 30, 0.7), (256, 3, 1.0), (2000, 4000, 0.004), (513, 9, 0.3)],
)
def test_sums_are_those_of_the_oracle(n: int, terms: int, density: float) -> None:
    rows = SparseRows.of(random_vectors(n, terms, density))
    query = random_vectors(1, terms, 0.8, seed=1)[0] | {terms + 5: 3.0}
    segment = SparseSegment.of(rows)
    terms_, weights = SparseRows.of([query])[0]
    found = sparse_scores([(0, segment)], terms_, weights, n)
    rounding = sum(query.values()) / 2**16 * rows.lengths.max()  # a query's weights are parts of their sum
    assert np.abs(found - oracle(rows, query)).max() <= rounding
    assert np.array_equal(found, scan_rows(rows, *rows.coded(), terms_, weights))  # wherever a document is kept


def test_terms_beyond_any_table_are_scanned_alike() -> None:
    rows = SparseRows.of([{5: 1.0, 2**31: 2.0}, {}, {2**32 - 1: 0.5}])
    terms, weights = SparseRows.of([{5: 1.0, 2**31: 0.5, 2**32 - 1: 4.0, 77: 1.0}])[0]
    scanned = scan_rows(rows, *rows.coded(), terms, weights)
    assert scanned.tolist() == pytest.approx([2.0, 0.0, 2.0], rel=0.01)
    assert np.array_equal(scanned, sparse_scores([(0, SparseSegment.of(rows))], terms, weights, 3))


def test_every_kind_of_list_occurs_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    vectors: Vectors = [{} for _ in range(3000)]
    for term, share in ((0, 0.6), (1, 0.02), (2, 0.0005), (7, 1.0)):
        for number in np.flatnonzero(rng.random(3000) < share):
            vectors[number][term] = float(rng.random() + 0.1)
    rows = SparseRows.of(vectors)
    segment = SparseSegment.of(rows)
    assert all(segment.lists)
    again = segment.rows()
    assert np.array_equal(again.terms, rows.terms)
    assert np.array_equal(again.offsets, rows.offsets)
    assert all(map(np.array_equal, again.coded(), rows.coded()))  # coding what was decoded changes nothing
    chosen = np.array([0, 5, 255, 256, 2999])
    assert np.array_equal(segment.picked(chosen).weights, again.taken(chosen).weights)
    assert np.array_equal(segment.picked(chosen).terms, again.taken(chosen).terms)


def test_a_page_of_256_documents_is_not_counted_in_a_byte() -> None:
    vectors: Vectors = [{1: 1.0} if 256 <= n < 512 else {} for n in range(20_000)]
    segment = SparseSegment.of(SparseRows.of(vectors))
    assert segment.members(np.array([0])).tolist() == list(range(256, 512))


@given(VECTORS, st.data())
@settings(max_examples=60, deadline=None)
def test_joining_and_dropping_is_building_anew(vectors: Vectors, data: st.DataObject) -> None:
    rows = SparseRows.of(vectors)
    cut = data.draw(st.integers(0, len(vectors)))
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(vectors), max_size=len(vectors))))
    numbers = np.arange(len(rows))
    parts = [Postings.of(rows.taken(part), part) for part in (numbers[:cut], numbers[cut:])]
    new = np.cumsum(alive) - 1
    new[~alive] = -1
    kept = np.flatnonzero(alive)
    scales = rows.taken(kept).coded()[1]
    joined = SparseSegment.build(Postings.joined(parts).kept(new), scales)
    expected = SparseSegment.of(rows.taken(kept))
    for name in ("lists", "terms", "counts", "short", "pages", "low", "bits", "codes"):
        assert np.array_equal(getattr(joined, name), getattr(expected, name)), name


@given(VECTORS)
@settings(max_examples=60, deadline=None)
def test_weights_lose_at_most_half_a_step(vectors: Vectors) -> None:
    rows = SparseRows.of(vectors)
    codes, scales = rows.coded()
    back = SparseRows.decoded(rows.offsets, rows.terms, codes, scales)
    steps = np.repeat(scales, rows.lengths) / 255
    assert (np.abs(back.weights - rows.weights) <= np.maximum(0.5001 * steps, steps * (codes == 1)) + 1e-6).all()
    assert (codes > 0).all()


@given(st.lists(st.floats(0, 3, width=32), min_size=1, max_size=40), st.integers(1, 50), st.data())
@settings(max_examples=100, deadline=None)
def test_the_best_are_those_of_sorting(values: list[float], k: int, data: st.DataObject) -> None:
    scores = np.array(values)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    expected = sorted((n for n in range(len(values)) if mask[n] and scores[n] > 0), key=lambda n: (-scores[n], n))[:k]
    assert best(scores, k, mask)[0].tolist() == expected
    assert (
        best(scores, k, None)[0].tolist() == sorted(np.flatnonzero(scores).tolist(), key=lambda n: (-scores[n], n))[:k]
    )


def test_runs_span_no_more_than_a_segment_may() -> None:
    slots = np.array([0, 1, 9, 10, 30])
    assert list(sparse.runs(slots, 10)) == [(0, 3), (3, 4), (4, 5)]


# ---------------------------------------------------------------------- what callers give


def forms(vector: dict[int, float]) -> list[Any]:
    scipy = pytest.importorskip("scipy.sparse")
    torch = pytest.importorskip("torch")
    indices, values = list(vector), list(vector.values())
    row = scipy.coo_array((values, ([0] * len(indices), indices)), shape=(1, 100))
    tensor = torch.sparse_coo_tensor([indices], values, (100,))

    class Both:
        pass

    both = Both()
    both.indices, both.values = np.array(indices), np.array(values)  # type: ignore[attr-defined]
    return [
        vector,
        {str(term): weight for term, weight in vector.items()},
        (indices, values),
        (np.array(indices), np.array(values)),
        (torch.tensor(indices), torch.tensor(values)),
        both,
        row,
        scipy.csr_matrix(row),
        row.tocsc(),
        tensor,
        tensor.unsqueeze(0).to_sparse_csr(),
    ]


@pytest.mark.filterwarnings("ignore:Sparse (invariant|CSR)")  # torch's, of how the tensors of this test are made
def test_every_form_says_the_same() -> None:
    vector = {50: 2.0, 3: 0.5}
    for form in forms(vector):
        terms, weights = SparseRows.of([form])[0]
        assert terms.tolist() == [3, 50], form
        assert weights.tolist() == [0.5, 2.0], form
    scipy = pytest.importorskip("scipy.sparse")
    torch = pytest.importorskip("torch")
    dense = np.zeros((3, 60))
    dense[0, [50, 3]], dense[2, 1] = [2.0, 0.5], 1.0
    for matrix in (scipy.csr_array(dense), scipy.coo_matrix(dense), torch.tensor(dense).to_sparse()):
        rows = SparseRows.of(matrix)
        assert rows.lengths.tolist() == [2, 0, 1]
        assert rows.terms.tolist() == [3, 50, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {-1: 1.0},
        {2**32: 1.0},
        {"red": 1.0},
        {1.5: 1.0},
        {1: float("nan")},
        {1: float("inf")},
        {1: 1e300},
        {1: -0.5},
        ([1, 1], [1.0, 2.0]),
        ([1], [1.0, 2.0]),
        ([1.0], [1.0]),
        ([[1]], [[1.0]]),
    ],
)
def test_what_is_no_sparse_vector(wrong: Any) -> None:
    with pytest.raises(InvalidVectorsError):
        SparseRows.of([{}, wrong])


@pytest.mark.parametrize("wrong", [5, "red", {1: 2.0}, [5], ["red"], np.ones((2, 3)), [(1, 2, 3)]])
def test_what_is_of_another_type(wrong: Any) -> None:
    with pytest.raises(InputTypeError):
        SparseRows.of(wrong)


def test_zeros_are_no_terms() -> None:
    rows = SparseRows.of([{1: 0.0, 2: 1.0}, None, ([], [])], n=3)
    assert rows.terms.tolist() == [2]
    assert rows.lengths.tolist() == [1, 0, 0]
    with pytest.raises(InvalidVectorsError, match="expected 2"):
        SparseRows.of([{}], n=2)
