"""`VectorStoreQuery` -> one search of the collection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery, VectorStoreQueryMode

from octavo._validation import check_integer, check_number
from octavo.collection import CollectionLike
from octavo.errors import InputTypeError, ParameterError
from octavo.filters import And, Field, Filter, In
from octavo.integrations.llama_index._filters import to_filter
from octavo.integrations.llama_index._nodes import SOURCE, on_stored_keys
from octavo.retrievers.fusion import convex_combination, reciprocal_rank_fusion
from octavo.retrievers.late_interaction import LateOptions
from octavo.retrievers.results import SearchResult
from octavo.retrievers.search import SearchOptions

Mode = VectorStoreQueryMode

#: Modes that rank by words alone, or by learned sparse vectors where a collection has them and the mode says "sparse".
TEXT_MODES = (Mode.TEXT_SEARCH, Mode.SPARSE)
_MODES = (Mode.DEFAULT, *TEXT_MODES, Mode.HYBRID, Mode.MMR)

#: Options of `Collection.search` that a query may carry beside llama-index-core's own.
_DENSE_OPTIONS = frozenset({"oversample", "ef", "n_probe", "exact"})
_HYBRID_OPTIONS = frozenset({"rank", "weights"})
_LATE_OPTIONS = _DENSE_OPTIONS | {"n_candidates", "candidates"}
_MMR_OPTIONS = frozenset({"mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k"})

#: What llama-index-core takes where no threshold is given.
_MMR_THRESHOLD = 0.5


def node_filter(filters: MetadataFilters | None, doc_ids: Iterable[str] | None = None) -> Filter | None:
    """Return the filter on stored metadata; None where nothing is restricted.

    Parameters
    ----------
    filters : MetadataFilters, optional
        Filters on the nodes' metadata; an empty list of filters restricts nothing.
    doc_ids : iterable of str, optional
        Ids of source documents; an empty list names none, so that nothing matches.
    """
    parts: list[Filter] = []
    if filters is not None:
        tree = to_filter(filters)
        if tree is not None:
            parts.append(on_stored_keys(tree))
    if doc_ids is not None:
        parts.append(In(Field(SOURCE), tuple(check_names(doc_ids, "doc_ids"))))
    if len(parts) > 1:
        return And(*parts)
    return parts[0] if parts else None


def check_names(names: Iterable[str] | None, what: str) -> Any:
    """Return ids of nodes or documents as a list; None stays None.

    Raises
    ------
    InputTypeError
        When one is no string: no node could have it, and a reference store would find nothing without a word.
    """
    if names is None:
        return None
    if isinstance(names, str | bytes):
        raise InputTypeError(f"expected {what} as a list of str, got {names!r}; write [{names!r}]")
    listed = list(names)
    for position, name in enumerate(listed):
        if not isinstance(name, str):
            raise InputTypeError(
                f"expected {what} of type str, got {name!r} ({type(name).__name__}) at position {position}; "
                f"LlamaIndex's ids are strings: write {str(name)!r}"
            )
    return listed


def refuse_empty_groups(filters: MetadataFilters | None, where: str = "filters") -> None:
    """Raise where a deletion has a group of filters without a condition, at any depth.

    Raises
    ------
    ParameterError
        With the place of the group.
    """
    if filters is None:
        return
    if not filters.filters:
        raise ParameterError(
            f"expected filters with a condition, got an empty group at {where}; leave it out, or call clear() to delete "
            "every node"
        )
    for position, item in enumerate(filters.filters):
        if isinstance(item, MetadataFilters):
            refuse_empty_groups(item, f"{where}.filters[{position}]")


def search(collection: CollectionLike, query: VectorStoreQuery, options: dict[str, Any]) -> SearchResult:
    """Run a query.

    Parameters
    ----------
    collection : CollectionLike
        Where to search.
    query : VectorStoreQuery
        The query of the framework.
    options : dict
        What came beside it (``vector_store_kwargs`` of a retriever).

    Raises
    ------
    ParameterError
        An unknown mode or option, or a mode without the text or embedding that it needs.
    """
    try:
        mode = Mode(query.mode)
    except ValueError:
        mode = None
    if mode not in _MODES:
        raise ParameterError(
            f"expected a query mode out of {', '.join(repr(known.value) for known in _MODES)}, got "
            f"{getattr(query.mode, 'value', query.mode)!r}"
        )
    if query.output_fields or query.embedding_field:
        raise ParameterError(
            "OctavoVectorStore returns whole nodes and keeps one embedding for each; leave out output_fields and "
            "embedding_field"
        )
    shaping = _LATE_OPTIONS if collection.late is not None else _DENSE_OPTIONS
    _check_options(mode, options, shaping)
    restricted: dict[str, Any] = {"filter": node_filter(query.filters, query.doc_ids)}
    if query.node_ids:  # an empty list comes from `index.as_retriever()`, which means every node
        restricted["ids"] = check_names(query.node_ids, "node_ids")
    dense = restricted | {name: options[name] for name in shaping if name in options}
    k = check_integer(query.similarity_top_k, "similarity_top_k", least=0)
    if mode in TEXT_MODES:
        if query.sparse_top_k is not None:
            k = check_integer(query.sparse_top_k, "sparse_top_k", least=0)
        by = _sparse_side(collection) if mode is Mode.SPARSE else "text"
        return _found(collection, _words(query, mode), k, mode=by, **restricted)
    if mode is Mode.HYBRID:
        if options.get("rank") is not None or options.get("weights") is not None:
            return _by_rank(collection, query, k, options, restricted, dense)
        return _hybrid(collection, query, k, restricted, dense)
    vector = _vector(collection, query, mode)
    mmr = _mmr_options(query, k, options) if mode is Mode.MMR else {}
    if vector is None:
        return _unranked(collection, k, restricted)
    return _found(collection, vector, k, **dense, **mmr)


def _nothing() -> SearchResult:
    return SearchResult([], np.zeros(0, np.float32), [], [])


def _found(collection: CollectionLike, query: Any, k: int, **options: Any) -> SearchResult:
    return collection.search(query, k, **options) if k else _nothing()


def _unranked(collection: CollectionLike, k: int, restricted: dict[str, Any]) -> SearchResult:
    """Return the first documents that the restrictions leave, oldest first, with score 0: there is nothing to rank by."""
    ids = collection.ids(restricted["filter"])
    if "ids" in restricted:
        wanted = set(restricted["ids"])
        ids = [identifier for identifier in ids if identifier in wanted]
    documents = collection.get(ids[:k])
    payloads = collection.get_payloads([document.id for document in documents])
    scores = np.zeros(len(documents), np.float32)
    return SearchResult([document.id for document in documents], scores, documents, payloads)


def _check_options(mode: Mode, options: dict[str, Any], shaping: frozenset[str]) -> None:
    known: frozenset[str] = frozenset()
    if mode not in TEXT_MODES:
        known = shaping | {Mode.MMR: _MMR_OPTIONS, Mode.HYBRID: _HYBRID_OPTIONS}.get(mode, frozenset())
    unknown = sorted(set(options) - known)
    if unknown:
        raise ParameterError(
            f"unknown option {unknown[0]!r} for a query in mode {mode.value!r}; "
            f"known: {', '.join(sorted(known)) or 'none'}"
        )


def _vector(collection: CollectionLike, query: VectorStoreQuery, mode: Mode) -> Any:
    """Return what to rank by; None for an embedding of zeros, which ranks nothing."""
    if query.query_str and collection.encodes_itself:
        return query.query_str  # the collection knows which models the vectors are of, while they are being changed
    embedding = query.query_embedding
    zeros = embedding is not None and len(embedding) > 0 and not any(embedding)
    if collection.late is not None:
        # One flat vector is no use here. It may come along all the same, when one `QueryBundle` goes through several
        # retrievers of which another has put its embedding there.
        return None if zeros and not query.query_str else _words(query, mode)
    if embedding is None:
        raise ParameterError(
            f"mode {mode.value!r} needs query_embedding, got None; set it, or search by words with mode='text_search'"
        )
    # zeros of another dimension are another model's, and the collection says so
    return None if zeros and len(embedding) == (collection.dim or len(embedding)) else embedding


def _words(query: VectorStoreQuery, mode: Mode) -> str:
    if not query.query_str:
        raise ParameterError(f"mode {mode.value!r} needs the words of the query in query_str, got {query.query_str!r}")
    return query.query_str


def _sparse_side(collection: CollectionLike) -> Literal["text", "sparse"]:
    """Return what LlamaIndex's "sparse" is in a collection: its learned sparse vectors, or words where it has none."""
    return "sparse" if collection.has_sparse_vectors else "text"


def _by_rank(
    collection: CollectionLike,
    query: VectorStoreQuery,
    depth: int,
    options: dict[str, Any],
    restricted: dict[str, Any],
    dense: dict[str, Any],
) -> SearchResult:
    """Fuse the rankings that the caller names."""
    k = depth if query.hybrid_top_k is None else check_integer(query.hybrid_top_k, "hybrid_top_k", least=0)
    kinds = LateOptions if collection.late is not None else SearchOptions
    asked = kinds(mode="hybrid", alpha=query.alpha, rank=options.get("rank"), weights=options.get("weights"))
    fused: dict[str, Any] = {"mode": "hybrid", "alpha": asked.alpha, "rank": asked.rank, "weights": asked.weights}
    words = _words(query, Mode.HYBRID)
    if not asked.needs_vectors:
        return _found(collection, words, k, **fused, **restricted)
    vector = _vector(collection, query, Mode.HYBRID)
    if vector is None:
        raise ParameterError("expected query_embedding with a direction, because rank= names the vectors, got zeros")
    return _found(collection, vector, k, text=words, **fused, **dense)


def _hybrid(
    collection: CollectionLike, query: VectorStoreQuery, depth: int, restricted: dict[str, Any], dense: dict[str, Any]
) -> SearchResult:
    mode, alpha = Mode.HYBRID, query.alpha
    if alpha is not None:
        alpha = check_number(alpha, "alpha", least=0, most=1)
    k = depth if query.hybrid_top_k is None else check_integer(query.hybrid_top_k, "hybrid_top_k", least=0)
    other = _sparse_side(collection)
    if alpha == 0:
        return _found(collection, _words(query, mode), k, mode=other, **restricted)
    vector = _vector(collection, query, mode)
    if alpha == 1:
        return _unranked(collection, k, restricted) if vector is None else _found(collection, vector, k, **dense)
    words = _words(query, mode)
    if query.sparse_top_k is None and vector is not None:
        if other == "sparse":
            weights = None if alpha is None else (alpha, 1 - alpha)
            return _found(
                collection, vector, k, mode="hybrid", text=words, rank=("dense", other), weights=weights, **dense
            )
        return _found(collection, vector, k, mode="hybrid", text=words, alpha=alpha, **dense)
    # Both depths were chosen by the caller, so exactly these candidates are fused; zeros find no candidate by embedding.
    text_depth = k if query.sparse_top_k is None else check_integer(query.sparse_top_k, "sparse_top_k", least=0)
    by_vector = _nothing() if vector is None else _found(collection, vector, depth, **dense)
    by_words = _found(collection, words, text_depth, mode=other, **restricted)
    return _fused(by_vector, by_words, alpha, k)


def _fused(by_vector: SearchResult, by_words: SearchResult, alpha: float | None, k: int) -> SearchResult:
    found = {
        identifier: (document, payload)
        for result in (by_vector, by_words)
        for identifier, document, payload in zip(result.ids, result.documents, result.payloads, strict=True)
    }
    listed = list(found)
    number = {identifier: position for position, identifier in enumerate(listed)}
    dense, text = (
        (np.array([number[identifier] for identifier in result.ids], np.int64), result.scores)
        for result in (by_vector, by_words)
    )
    if alpha is None:
        numbers, scores = reciprocal_rank_fusion([dense, text])
    else:
        numbers, scores = convex_combination(dense, text, alpha)
    best = [listed[position] for position in numbers[:k].tolist()]
    return SearchResult(
        best,
        scores[:k].astype(np.float32),
        [found[identifier][0] for identifier in best],
        [found[identifier][1] for identifier in best],
    )


def _mmr_options(query: VectorStoreQuery, k: int, options: dict[str, Any]) -> dict[str, Any]:
    threshold = options.get("mmr_threshold")
    if threshold is None:
        threshold = _MMR_THRESHOLD if query.mmr_threshold is None else query.mmr_threshold
    threshold = check_number(threshold, "mmr_threshold", least=0, most=1)
    factor, fetch_k = options.get("mmr_prefetch_factor"), options.get("mmr_prefetch_k")
    if factor is not None and fetch_k is not None:
        raise ParameterError("expected mmr_prefetch_factor or mmr_prefetch_k, got both; they say the same thing")
    if factor is not None:
        fetch_k = max(1, int(check_number(factor, "mmr_prefetch_factor", least=1) * k))
    elif fetch_k is not None:
        fetch_k = check_integer(fetch_k, "mmr_prefetch_k", least=1)
    return {"lambda_mult": threshold, "fetch_k": fetch_k}
