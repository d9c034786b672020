"""The planner prefers what is cheap, never starves a query, and says what is wrong with its input."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo._layout import CodeKind, CodeLayout
from octavo.errors import ParameterError
from octavo.index import planner
from octavo.index.planner import choose, default_ef, default_oversample, graph_min, tail_max

BITS = CodeLayout("b1", 384)
BYTES = CodeLayout("i8", 384)


@pytest.mark.parametrize("layout", [BITS, BYTES, CodeLayout("f32", 384)])
def test_small_collections_are_scanned_and_large_ones_walked(layout):
    assert choose(layout, 10, n_alive=2_000).method == "scan"
    assert choose(layout, 10, n_alive=100_000, linked=0).method == "scan"
    plan = choose(layout, 10, n_alive=100_000, linked=100_000)
    assert plan.method == "graph"
    assert plan.fetch == 10
    assert plan.ef == default_ef(layout, 10, n=100_000)
    assert plan.cost_us < planner.scan_us(layout, 100_000) / 2


@pytest.mark.parametrize(("share", "method"), [(0.0001, "scan_matching"), (0.01, "scan_matching"), (0.9, "graph")])
@pytest.mark.parametrize("layout", [BITS, BYTES])
def test_filters_go_the_cheap_way(layout, share, method):
    assert choose(layout, 10, n_alive=100_000, n_matching=int(share * 100_000), linked=100_000).method == method


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize(("layout", "k"), [(BITS, 100), (BYTES, 10), (BYTES, 50)])
def test_expected_cost_of_a_filter_is_bounded(layout, k, share):
    free = choose(layout, k, n_alive=100_000, linked=100_000, rescored=True)
    filtered = choose(layout, k, n_alive=100_000, n_matching=int(share * 100_000), linked=100_000, rescored=True)
    assert filtered.cost_us <= 3 * free.cost_us


@given(
    kind=st.sampled_from(get_args(CodeKind)),
    dim=st.integers(1, 4096),
    k=st.integers(1, 5000),
    n=st.integers(0, 2_000_000),
    share=st.none() | st.floats(0, 1),
    linked=st.booleans(),
    ef=st.none() | st.integers(1, 1000),
)
def test_plans_hold_together(kind, dim, k, n, share, linked, ef):
    layout = CodeLayout(kind, dim)
    matching = None if share is None else int(share * n)
    plan = choose(layout, k, n_alive=n, n_matching=matching, linked=n if linked else 0, ef=ef)
    exact = choose(layout, k, n_alive=n, n_matching=matching)
    assert plan.cost_us <= exact.cost_us
    if plan.method == "graph":
        assert linked
        assert plan.limit >= plan.fetch >= k
        assert matching is None or matching > k
        assert plan.ef >= (ef or 1)
        assert plan.cost_us == pytest.approx(planner.graph_us(layout, max(plan.ef, plan.fetch)))
    else:
        assert plan == exact
        assert (plan.fetch, plan.ef, plan.limit) == (0, 0, 0)
        assert plan.method == "scan" or (matching is not None and matching < n)


def test_defaults_follow_the_layout():
    assert all(default_oversample(CodeLayout(kind, 64)) >= 2 for kind in get_args(CodeKind))
    assert default_oversample(BITS) > default_oversample(BYTES)
    assert default_oversample(BITS, 1_000_000) == pytest.approx(31.6, abs=0.1)
    assert default_oversample(BYTES, 1_000_000) == default_oversample(BYTES)
    assert default_ef(BITS, 100, rescored=True) == 128
    assert default_ef(BITS, 100) == 200
    assert default_ef(BYTES, 10, n=50_000) == 64
    assert default_ef(BYTES, 10, n=200_000) == 128
    assert graph_min(BITS) == planner.limits.graph_min
    assert (
        planner.limits.graph_min_wide < graph_min(CodeLayout("f32", 384)) < graph_min(BYTES) <= planner.limits.graph_min
    )
    assert 1_024 <= tail_max(CodeLayout("f32", 4096)) < tail_max(CodeLayout("f32", 384)) < tail_max(BYTES)
    for kind in get_args(CodeKind):
        layout = CodeLayout(kind, 384)
        assert planner.scan_us(layout, tail_max(layout)) <= planner.limits.tail_budget_us


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_alive": 5, "n_matching": 6}, "at most n_alive=5 matching rows, got 6"),
        ({"n_alive": -1}, "n_alive as an integer of at least 0"),
        ({"n_alive": 5, "n_matching": -1}, "n_matching as an integer"),
        ({"n_alive": 5, "linked": 2.5}, "linked as an integer"),
        ({"n_alive": 5, "linked": 5, "ef": 0}, "ef as an integer of at least 1"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(ParameterError, match=match):
        choose(BYTES, 1, **options)
