"""LlamaIndex filters against llama-index-core's own evaluation of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llama_index.core")

from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from octavo.errors import InvalidFilterError
from octavo.filters import matches
from octavo.integrations.llama_index._filters import to_filter

Metadata = dict[str, Any]

VALUES: list[Any] = [None, 0, 1, 2, -1, 1.0, 0.5, 2**70, "", "a", "b", "ab", "A", "Σ", "aΣ", "ς", "ß", "1", "a.b"]
LISTS: list[Any] = [[], ["a"], ["a", "b"], ["b", "ab", ""], [1], [1, 2], [0.5, 1.0], ["ς"]]
METADATA: list[Any] = [*VALUES, *LISTS, True, False, [None], ["a", 1], [["a"]], [True], {}, {"a": 1}, {"ab": None}]
KEYS = ["k", "l", "a.b"]


def core_single(operator: FilterOperator, value: Any, metadata: Metadata) -> bool:
    """Ask core about one filter; a TypeError, which it leaves to its caller, counts as no match."""
    filters = MetadataFilters(filters=[MetadataFilter(key="k", value=value, operator=operator)])
    try:
        return bool(build_metadata_filter_fn(lambda _: metadata, filters)("node"))
    except TypeError:
        return False


def core_group(filters: MetadataFilters, metadata: Metadata) -> bool:
    """Evaluate nested filters by calling core for each group, one level at a time.

    Core refuses nesting, so each member is evaluated first and handed to core as a filter on a field that says how it
    went.
    """
    outcomes = {}
    for number, item in enumerate(filters.filters):
        if isinstance(item, MetadataFilters):
            outcome = core_group(item, metadata)
        else:
            outcome = core_single(item.operator, item.value, {"k": metadata[item.key]} if item.key in metadata else {})
        outcomes[str(number)] = int(outcome)
    flat = MetadataFilters(filters=[MetadataFilter(key=key, value=1) for key in outcomes], condition=filters.condition)
    return bool(build_metadata_filter_fn(lambda _: outcomes, flat)("node"))


def ours(filters: MetadataFilters, metadata: Metadata) -> bool:
    tree = to_filter(filters)
    return tree is None or matches(tree, metadata)


@pytest.mark.parametrize("operator", list(FilterOperator))
def test_the_whole_truth_table(operator: FilterOperator) -> None:
    for value in [*VALUES, *LISTS]:
        filters = MetadataFilters(filters=[MetadataFilter(key="k", value=value, operator=operator)])
        for metadata in ({}, *({"k": item} for item in METADATA)):
            assert ours(filters, metadata) is core_single(operator, value, metadata), (value, metadata)


singles = st.builds(
    MetadataFilter,
    key=st.sampled_from(KEYS),
    value=st.sampled_from([*VALUES, *LISTS]),
    operator=st.sampled_from(list(FilterOperator)),
)
conditions = st.sampled_from([None, *FilterCondition])
groups = st.recursive(
    st.builds(MetadataFilters, filters=st.lists(singles, max_size=3), condition=conditions),
    lambda inner: st.builds(
        MetadataFilters, filters=st.lists(singles | inner, min_size=1, max_size=3), condition=conditions
    ),
    max_leaves=5,
)
metadatas = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(METADATA))


@settings(max_examples=600, deadline=None)
@given(groups, st.lists(metadatas, min_size=1, max_size=5))
def test_nested_filters_match_core(filters: MetadataFilters, documents: list[Metadata]) -> None:
    for metadata in documents:
        assert ours(filters, metadata) is core_group(filters, metadata)


@settings(max_examples=300, deadline=None)
@given(st.builds(MetadataFilters, filters=st.lists(singles, max_size=4), condition=conditions), metadatas)
def test_flat_filters_match_core_as_a_whole(filters: MetadataFilters, metadata: Metadata) -> None:
    try:
        expected = bool(build_metadata_filter_fn(lambda _: metadata, filters)("node"))
    except TypeError:
        return  # what a single failing filter means is fixed by the truth table
    assert ours(filters, metadata) is expected


def test_where_core_raises_the_single_filter_does_not_hold() -> None:
    mismatch = MetadataFilter(key="k", value="x", operator=FilterOperator.GT)
    fits = MetadataFilter(key="l", value=1)
    metadata = {"k": 5, "l": 1}
    with pytest.raises(TypeError):
        build_metadata_filter_fn(lambda _: metadata, MetadataFilters(filters=[mismatch]))("node")
    assert not ours(MetadataFilters(filters=[mismatch]), metadata)
    assert not ours(MetadataFilters(filters=[mismatch, fits]), metadata)
    assert ours(MetadataFilters(filters=[mismatch, fits], condition=FilterCondition.OR), metadata)


def test_not_means_none_of() -> None:
    one, two = (MetadataFilter(key="k", value=value) for value in (1, 2))
    filters = MetadataFilters(filters=[one, two], condition=FilterCondition.NOT)
    assert [ours(filters, {"k": value}) for value in (1, 2, 3)] == [False, False, True]
    assert ours(filters, {})


@pytest.mark.parametrize("condition", [None, *FilterCondition])
def test_no_filters_restrict_nothing(condition: FilterCondition | None) -> None:
    assert to_filter(None) is None
    assert to_filter(MetadataFilters(filters=[], condition=condition)) is None
    nested = MetadataFilters(filters=[MetadataFilters(filters=[], condition=condition)])
    assert ours(nested, {})


def test_unknown_operators_and_conditions_are_refused() -> None:
    unknown = MetadataFilter.model_construct(key="k", value=1, operator="~=")
    with pytest.raises(InvalidFilterError, match="unknown operator '~=' on 'k'; known: =="):
        to_filter(MetadataFilters.model_construct(filters=[unknown], condition=FilterCondition.AND))
    with pytest.raises(InvalidFilterError, match="unknown condition 'xor'; known: and, or, not"):
        to_filter(MetadataFilters.model_construct(filters=[MetadataFilter(key="k", value=1)], condition="xor"))
