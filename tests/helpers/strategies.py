"""What several tests let Hypothesis draw, and how often."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: For examples that each open a collection, and for those that do not.
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def json_values(
    scalars: st.SearchStrategy[Any], keys: st.SearchStrategy[str], *, max_leaves: int, max_items: int = 3
) -> st.SearchStrategy[Any]:
    """Return JSON values: scalars, and lists and objects of them, nested."""
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=max_items) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=max_leaves,
    )


def filter_trees(leaves: st.SearchStrategy[Any], *, max_leaves: int = 8) -> st.SearchStrategy[Any]:
    """Return filter trees over leaves: groups, empty ones among them, and negations, nested."""
    from octavo.filters import And, Not, Or

    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda parts: And(*parts)),
            st.lists(inner, max_size=3).map(lambda parts: Or(*parts)),
            inner.map(Not),
        ),
        max_leaves=max_leaves,
    )
