"""Hostile filters through the adapters: the answer of the reference, or an error of Octavo's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavo
from octavo.errors import InputTypeError, InvalidFilterError, ParameterError
from octavo.filters import Filter, matches
from strategies import MANY, json_values

KEYS = ["n", "a", "n.x", "", "$or", "' OR 1=1 --", "a\x00b", "octavo:node_type", "\ud800"]
METADATA: list[dict[str, Any]] = [
    {"n": 1, "a": "x"},
    {"n": 2.5, "a": None, "": 0},
    {"n": {"x": [1, "a"]}, "n.x": "' OR 1=1 --"},
    {"n": True, "$or": ["x", 2**70]},
    {"' OR 1=1 --": "x", "a\x00b": "\x00"},
    {},
]
VALUES = json_values(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["%", "_", *KEYS]),
    st.sampled_from(KEYS),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def kb() -> Iterator[octavo.Collection]:
    with octavo.open(codec="int8") as kb:
        count = len(METADATA)
        vectors = np.random.default_rng(0).standard_normal((count, 8))
        kb.add([f"text {i}" for i in range(count)], ids=list("abcdef"), metadata=METADATA, vectors=vectors)
        yield kb


def _compare(kb: octavo.Collection, tree: Filter | None) -> None:
    expected = [d.id for d in kb.documents() if tree is None or matches(tree, d.metadata)]
    assert kb.ids(tree) == expected
    assert sorted(kb.search(np.ones(8), 10, filter=tree).ids) == sorted(expected)


def test_llama_index_filters(kb: octavo.Collection) -> None:
    stores = pytest.importorskip("llama_index.core.vector_stores")
    from octavo.integrations.llama_index._filters import to_filter

    # built without pydantic's checks, which a caller can pass over too
    single = st.builds(
        stores.MetadataFilter.model_construct,
        key=st.sampled_from(KEYS),
        value=VALUES,
        operator=st.sampled_from([*stores.FilterOperator, "nonsense", None]),
    )
    group = st.recursive(
        st.builds(stores.MetadataFilters.model_construct, filters=st.lists(single, max_size=3), condition=st.none()),
        lambda inner: st.builds(
            stores.MetadataFilters.model_construct,
            filters=st.lists(single | inner, max_size=3),
            condition=st.sampled_from([*stores.FilterCondition, "nonsense", None]),
        ),
        max_leaves=4,
    )

    @MANY
    @given(group)
    def check(filters: Any) -> None:
        try:
            tree = to_filter(filters)
            kb.count(tree)
        except (InvalidFilterError, InputTypeError, ParameterError):
            return
        _compare(kb, tree)

    check()


def test_langchain_structured_queries(kb: octavo.Collection) -> None:
    structured = pytest.importorskip("langchain_core.structured_query")
    from octavo.integrations.langchain import OctavoTranslator

    comparison = st.builds(
        structured.Comparison,
        comparator=st.sampled_from(list(structured.Comparator)),
        attribute=st.sampled_from(KEYS),
        value=VALUES | st.fixed_dictionaries({"type": st.just("date"), "date": VALUES}),
    )
    directive = st.recursive(
        comparison,
        lambda inner: st.builds(
            structured.Operation,
            operator=st.sampled_from(list(structured.Operator)),
            arguments=st.lists(inner, max_size=3),
        ),
        max_leaves=4,
    )

    @MANY
    @given(directive)
    def check(asked: Any) -> None:
        try:
            query = structured.StructuredQuery(query="x", filter=asked)
            tree = OctavoTranslator().visit_structured_query(query)[1]["filter"]
            kb.count(tree)
        except (InvalidFilterError, InputTypeError, ParameterError):
            return
        _compare(kb, tree)

    check()


def test_langchain_dict_filters(kb: octavo.Collection) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.embeddings import Embeddings

    from octavo.integrations.langchain import OctavoVectorStore

    class Same(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0] * 8 for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return [1.0] * 8

    store = OctavoVectorStore(Same())
    store.add_texts([f"text {i}" for i in range(len(METADATA))], METADATA, ids=list("abcdef"))
    operators = [
        "$and",
        "$or",
        "$not",
        "$eq",
        "$ne",
        "$gt",
        "$in",
        "$nin",
        "$exists",
        "$like",
        "$contains",
        "$between",
        "$",
    ]
    asked = st.dictionaries(
        st.sampled_from([*operators, *KEYS]), VALUES | st.dictionaries(st.sampled_from(operators), VALUES)
    )

    @MANY
    @given(asked)
    def check(where: dict[str, Any]) -> None:
        try:
            expected = kb.ids(where)
        except (InvalidFilterError, InputTypeError, ParameterError) as err:
            with pytest.raises(type(err)):
                store.similarity_search("text", 10, filter=where)
            return
        found = store.similarity_search("text", 10, filter=where)
        assert sorted(str(document.id) for document in found) == expected

    check()
    store.close()
