"""`VectorStoreQuery` -> one search of the collection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery, VectorStoreQueryMode

from octavo.collection import CollectionLike, MultiVectorLike
from octavo.errors import ParameterError
from octavo.filters import And, Field, Filter, In
from octavo.integrations.llama_index._filters import to_filter
from octavo.integrations.llama_index._reserved import SOURCE, on_stored_keys
from octavo.retrievers.fusion import convex_combination, reciprocal_rank_fusion
from octavo.retrievers.results import SearchResult

Mode = VectorStoreQueryMode

_TEXT_MODES = (Mode.TEXT_SEARCH, Mode.SPARSE)
_MODES = (Mode.DEFAULT, *_TEXT_MODES, Mode.HYBRID, Mode.MMR)

#: Options of `Collection.search` that a query may carry beside llama-index-core's own.
_DENSE_OPTIONS = frozenset({"oversample", "ef", "exact"})
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
        Ids of source documents; none given restricts nothing.
    """
    parts: list[Filter] = []
    if filters is not None:
        tree = to_filter(filters)
        if tree is not None:
            parts.append(on_stored_keys(tree))
    if doc_ids is not None and (listed := tuple(doc_ids)):
        parts.append(In(Field(SOURCE), listed))
    if len(parts) > 1:
        return And(*parts)
    return parts[0] if parts else None


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
    shaping = _LATE_OPTIONS if isinstance(collection, MultiVectorLike) else _DENSE_OPTIONS
    _check_options(mode, options, shaping)
    restricted: dict[str, Any] = {"filter": node_filter(query.filters, query.doc_ids)}
    if query.node_ids:
        restricted["ids"] = query.node_ids
    dense = restricted | {name: options[name] for name in shaping if name in options}
    if mode in _TEXT_MODES:
        k = _first(query.sparse_top_k, query.similarity_top_k)
        return collection.search(_words(query, mode), k, mode="text", **restricted)
    if mode is Mode.HYBRID:
        return _hybrid(collection, query, restricted, dense)
    k = query.similarity_top_k
    if mode is Mode.DEFAULT:
        return collection.search(_vector(collection, query, mode), k, **dense)
    return collection.search(_vector(collection, query, mode), k, **dense, **_mmr_options(query, options))


def _check_options(mode: Mode, options: dict[str, Any], shaping: frozenset[str]) -> None:
    known: frozenset[str] = frozenset()
    if mode not in _TEXT_MODES:
        known = shaping | _MMR_OPTIONS if mode is Mode.MMR else shaping
    unknown = sorted(set(options) - known)
    if unknown:
        raise ParameterError(
            f"unknown option {unknown[0]!r} for a query in mode {mode.value!r}; "
            f"known: {', '.join(sorted(known)) or 'none'}"
        )


def _vector(collection: CollectionLike, query: VectorStoreQuery, mode: Mode) -> Any:
    if isinstance(collection, MultiVectorLike):
        # One flat vector is no use here. It may come along all the same, when one `QueryBundle` goes through several
        # retrievers of which another has put its embedding there.
        return _words(query, mode)
    if query.query_embedding is None:
        raise ParameterError(
            f"mode {mode.value!r} needs query_embedding, got None; set it, or search by words with mode='text_search'"
        )
    return query.query_embedding


def _words(query: VectorStoreQuery, mode: Mode) -> str:
    if not query.query_str:
        raise ParameterError(f"mode {mode.value!r} needs the words of the query in query_str, got {query.query_str!r}")
    return query.query_str


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _hybrid(
    collection: CollectionLike, query: VectorStoreQuery, restricted: dict[str, Any], dense: dict[str, Any]
) -> SearchResult:
    mode, alpha = Mode.HYBRID, query.alpha
    k = _first(query.hybrid_top_k, query.similarity_top_k)
    if alpha == 0:
        return collection.search(_words(query, mode), k, mode="text", **restricted)
    if alpha == 1:
        return collection.search(_vector(collection, query, mode), k, **dense)
    vector, words = _vector(collection, query, mode), _words(query, mode)
    if query.sparse_top_k is None:
        return collection.search(vector, k, mode="hybrid", text=words, alpha=alpha, **dense)
    # Both depths were chosen by the caller, so exactly these candidates are fused.
    by_vector = collection.search(vector, query.similarity_top_k, **dense)
    by_words = collection.search(words, query.sparse_top_k, mode="text", **restricted)
    return _fused(by_vector, by_words, alpha, k)


def _fused(by_vector: SearchResult, by_words: SearchResult, alpha: float | None, k: int) -> SearchResult:
    dense, text = ((np.array(result.ids, dtype=object), result.scores) for result in (by_vector, by_words))
    if alpha is None:
        ids, scores = reciprocal_rank_fusion([dense, text])
    else:
        ids, scores = convex_combination(dense, text, alpha)
    found = {
        identifier: (document, payload)
        for result in (by_words, by_vector)
        for identifier, document, payload in zip(result.ids, result.documents, result.payloads, strict=True)
    }
    best = [str(identifier) for identifier in ids[:k]]
    return SearchResult(
        best,
        scores[:k].astype(np.float32),
        [found[identifier][0] for identifier in best],
        [found[identifier][1] for identifier in best],
    )


def _mmr_options(query: VectorStoreQuery, options: dict[str, Any]) -> dict[str, Any]:
    threshold = options.get("mmr_threshold")
    if threshold is None:
        threshold = _MMR_THRESHOLD if query.mmr_threshold is None else query.mmr_threshold
    factor, fetch_k = options.get("mmr_prefetch_factor"), options.get("mmr_prefetch_k")
    if factor is not None and fetch_k is not None:
        raise ParameterError("expected mmr_prefetch_factor or mmr_prefetch_k, got both; they say the same thing")
    if factor is not None:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor < float("inf"):
            raise ParameterError(f"expected mmr_prefetch_factor as a number of at least 1, got {factor!r}")
        fetch_k = int(factor * query.similarity_top_k)
    return {"lambda_mult": threshold, "fetch_k": fetch_k}
