"""Token cells against loops: lists of documents, merged and moved, and what a query's tokens make of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.index import token_cells
from octavo.index._bytes import multiply, to_directions
from octavo.index.cells import CellModel
from octavo.index.token_cells import BLOCK_SLOTS, Postings

DIM = 24


def unit(matrix: np.ndarray) -> np.ndarray:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def pairs(postings: Postings) -> set[tuple[int, int]]:
    """Every (cell, slot) of the lists; fails where one is there twice or a list does not rise."""
    found = []
    for i in range(postings.n_blocks):
        for cell in range(postings.n_cells):
            number = i * postings.n_cells + cell
            records = postings.records[postings.starts[number] : postings.starts[number + 1]].astype(int)
            assert (np.diff(records) > 0).all()
            found += [(cell, (postings.block + i) * BLOCK_SLOTS + low) for low in records.tolist()]
    assert len(found) == len(set(found)) == len(postings)
    return set(found)


def drawn(seed: int, n: int, n_cells: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of documents around the border between two blocks of slots."""
    rng = np.random.default_rng(seed)
    slots = np.sort(rng.integers(first, first + 40, n))
    return slots, rng.integers(0, n_cells, n).astype(np.int32)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    n=st.integers(0, 200),
    cut=st.integers(0, 200),
    first=st.sampled_from([0, BLOCK_SLOTS - 20, 3 * BLOCK_SLOTS]),
)
def test_lists_hold_each_document_of_a_cell_once(seed: int, n: int, cut: int, first: int) -> None:
    slots, cells = drawn(seed, n, 7, first)
    whole = Postings.of([(slots, cells)], 7)
    assert pairs(whole) == set(zip(cells.tolist(), slots.tolist(), strict=True))
    parts = Postings.of([(slots[:cut], cells[:cut]), (slots[cut:], cells[cut:])], 7)
    assert pairs(parts) == pairs(whole)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**20), n=st.integers(0, 200), first=st.sampled_from([0, BLOCK_SLOTS - 50]))
def test_merging_and_moving(seed: int, n: int, first: int) -> None:
    one, other = drawn(seed, n, 7, first), drawn(seed + 1, n, 7, first + 40)
    segments = [Postings.of([each], 7) for each in (one, other)]
    alive = np.random.default_rng(seed).random(first + 80) < 0.7
    wanted = {pair for segment in segments for pair in pairs(segment) if alive[pair[1]]}
    merged = Postings.merged(segments, alive)
    assert pairs(merged) == wanted
    assert pairs(Postings.merged(segments)) == {pair for segment in segments for pair in pairs(segment)}
    places = np.concatenate([[0], np.cumsum(alive)])
    moved = Postings.merged(segments).moved(alive, places)
    assert pairs(moved) == {(cell, int(places[slot])) for cell, slot in wanted}


@pytest.fixture(scope="module")
def world() -> tuple[CellModel, np.ndarray, np.ndarray, Postings]:
    rng = np.random.default_rng(0)
    tokens = unit(rng.standard_normal((30, DIM))[rng.integers(0, 30, 6_000)] + 0.5 * rng.standard_normal((6_000, DIM)))
    slots = np.repeat(np.arange(600), 10) + BLOCK_SLOTS - 300
    model = CellModel.train(tokens, 200)
    cells, _ = model.assign(tokens)
    return model, tokens, slots, Postings.of([(slots, cells)], len(model))


def gains(model: CellModel, postings: Postings, query: np.ndarray, probes: int) -> dict[int, float]:
    """What each document gains, token by token and cell by cell."""
    products = multiply(to_directions(model.rotation.apply(query))[0], model.packed).astype(np.float64)
    of_cell: dict[int, list[int]] = {}
    for cell, slot in pairs(postings):
        of_cell.setdefault(cell, []).append(slot)
    total: dict[int, float] = {}
    for row in products:
        near = np.argsort(-row, kind="stable")[:probes]
        best: dict[int, float] = {}
        for cell in near:
            for slot in of_cell.get(int(cell), []):
                best[slot] = max(best.get(slot, 0.0), float(row[cell] - row[near[-1]]))
        for slot, gain in best.items():
            total[slot] = total.get(slot, 0.0) + gain
    return {slot: gain for slot, gain in total.items() if gain > 0}


@pytest.mark.parametrize("probes", [1, 4, 16, 500])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_search_is_the_sum_of_gains(world, probes: int, masked: bool, cut: bool) -> None:  # type: ignore[no-untyped-def]
    model, tokens, slots, whole = world
    n = BLOCK_SLOTS + 300
    segments = [whole]
    if cut:
        cells, _ = model.assign(tokens)
        segments = [Postings.of([(slots[a:b], cells[a:b])], len(model)) for a, b in ((0, 3_500), (3_500, 6_000))]
    rng = np.random.default_rng(probes)
    mask = rng.random(n) < 0.5 if masked else None
    for _ in range(5):
        n_tokens = 7 if probes < 500 else 40  # more than are looked up together
        query = unit(tokens[rng.integers(0, 6_000, n_tokens)] + 0.1 * rng.standard_normal((n_tokens, DIM)))
        expected = gains(model, whole, query, probes)
        if mask is not None:
            expected = {slot: gain for slot, gain in expected.items() if mask[slot]}
        found = token_cells.search(model, segments, query, n, 25, probes=probes, mask=mask)
        assert len(found) == min(25, len(expected)) == len(set(found.tolist()))
        best = sorted(expected.values(), reverse=True)[: len(found)]
        scale = max(expected.values(), default=1.0)
        np.testing.assert_allclose(
            [expected[slot] / scale for slot in found.tolist()], np.array(best) / scale, atol=1e-5
        )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**20), columns=st.integers(1, 700), n=st.integers(1, 40), few=st.booleans())
def test_the_largest_of_each_row(seed: int, columns: int, n: int, few: bool) -> None:
    rng = np.random.default_rng(seed)
    products = rng.integers(0, 5 if few else 10**6, (3, columns)).astype(np.int32)
    n = min(n, columns)
    places = token_cells._largest(products, n)
    for row, chosen in zip(products, places, strict=True):
        assert len(set(chosen.tolist())) == n
        assert sorted(row[chosen].tolist()) == sorted(row.tolist())[-n:]


def test_a_query_finds_documents_that_share_its_tokens(world) -> None:  # type: ignore[no-untyped-def]
    model, tokens, slots, whole = world
    hits = 0
    for number in range(0, 600, 20):
        query = tokens[slots == slots[10 * number]]
        hits += slots[10 * number] in token_cells.search(model, [whole], query, BLOCK_SLOTS + 300, 10)
    assert hits >= 29
