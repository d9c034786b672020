"""Filters on metadata: one tree for every front end.

A filter is an immutable, hashable tree. Inner nodes are `And`, `Or` and `Not`; leaves look at one `Field` each.
`matches` says what a tree means, document by document; the collection answers the same question through an index.
`parse_filter` reads the dict form. The LlamaIndex and LangChain adapters translate their own filter objects into this
tree.

Examples
--------
>>> tree = parse_filter({"year": {"$gte": 2020, "$lt": 2024}, "lang": "en"})
>>> matches(tree, {"year": 2021, "lang": "en"})
True
"""

from __future__ import annotations

from octavo.filters._dicts import parse_filter
from octavo.filters._tree import (
    And,
    Between,
    Compare,
    Contains,
    Exists,
    Field,
    Filter,
    In,
    Leaf,
    Like,
    Not,
    Or,
    PartOf,
    TextMatch,
    Value,
    has_empty_part,
    matches,
)
from octavo.filters.like import escape_like

__all__ = [
    "And",
    "Between",
    "Compare",
    "Contains",
    "Exists",
    "Field",
    "Filter",
    "In",
    "Leaf",
    "Like",
    "Not",
    "Or",
    "PartOf",
    "TextMatch",
    "Value",
    "escape_like",
    "has_empty_part",
    "matches",
    "parse_filter",
]
