"""Opening collections: of one vector a document, for late interaction, and whichever lies at a place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal

from octavo._files import as_path
from octavo.collection.collection import Collection
from octavo.collection.multi_vector import MultiVectorCollection
from octavo.collection.reencoding import new_encoder
from octavo.collection.token_input import token_encoder_for
from octavo.compression.candidates import CandidateEncoder
from octavo.compression.token_pooling import TokenPooling
from octavo.encoders.dense import as_encoder
from octavo.encoders.layers import with_layers
from octavo.encoders.one_pass import gives_several
from octavo.encoders.sparse import as_sparse_encoder
from octavo.encoders.tokens import TokenEncoder, is_multi_vector, pooling_beside
from octavo.errors import ParameterError
from octavo.store.settings import Settings, candidates_config, pooling_config
from octavo.store.store import Store


def open(
    path: str | os.PathLike[str] | None = None,
    encoder: Any = None,
    *,
    sparse: Any = None,
    codec: str | None = None,
    metric: Literal["cosine", "dot"] | None = None,
    dim: int | None = None,
    full_text: str | Callable[[str], Iterable[str]] | None = None,
    fit_after: int | None = None,
    seed: int | None = None,
    index: Literal["cells", "graph"] | None = None,
    connectivity: int | None = None,
    read_only: bool = False,
    must_exist: bool = False,
    lock_timeout: float = 30.0,
    previous: Any = None,
    layers: int | None = None,
    query_layers: int | None = None,
) -> Collection:
    """Create a collection, or open the one that is there.

    Parameters
    ----------
    path : str or path-like, optional
        The collection's directory. None keeps everything in memory, with the same behaviour, until `close`.
    encoder : str, callable or object, optional
        Turns texts into vectors: the name or path of a sentence-transformers model, such a model, LangChain
        ``Embeddings``, a LlamaIndex ``BaseEmbedding``, or a callable from a list of texts to an array of shape
        ``(n, dim)``. Not needed when vectors are given. FlagEmbedding's ``BGEM3FlagModel`` makes the sparse vectors, too.
    sparse : str, callable or object, optional
        Turns texts into learned sparse vectors (SPLADE and its kin), for ``mode="sparse"``; see `octavo.SparseEncoder`. Not
        needed when `sparse_vectors` are given. It can be added to a collection that has none: documents that were there
        before have no sparse vector then.
    codec : str, optional
        How vectors are compressed, for instance ``"int8"`` (the default), ``"rabitq:1 > int8"`` or
        ``"svd:50%|float8 > int8"``. An existing collection keeps its own.
    metric : {"cosine", "dot"}, default="cosine"
        ``cosine`` normalises vectors once, on the way in; ``dot`` takes them as they are.
    dim : int, optional
        Dimension of the vectors; otherwise the first ones set it.
    full_text : str or callable, default="english"
        What makes words of texts: the language whose stemmer is used, or ``"plain"`` for none; then, separated by ``|``,
        ``"jieba"``, ``"fugashi"`` or ``"kiwipiepy"`` for the words of Chinese, Japanese or Korean (otherwise characters and
        pairs of them are) and ``"fold-accents"``; or a function from a text to its terms. See ``docs/text-search.md``.
    fit_after : int, default=1000
        Documents from which on the codec is fitted. Before that, vectors are kept as float32 and searched exactly.
    seed : int, default=0
        Seed of everything random: the sample that the codec is fitted on, rotations.
    index : {"cells", "graph"}, default="cells"
        What finds candidates once there are some ten thousand documents. Cells are built in seconds, take one bit a value
        and a few bytes, whatever the codec, and are rescored from its finest tier; a graph links the codes of the coarse
        tier. An existing collection keeps its own.
    connectivity : int, default=16
        Links per node of the graph; asks for ``index="graph"``.
    read_only : bool, default=False
        Refuse writes; works on a read-only file system once the last writer has closed the collection.
    must_exist : bool, default=False
        Raise instead of creating a collection.
    lock_timeout : float, default=30.0
        Seconds to wait for another writer before `CollectionLockedError`.
    previous : encoder, optional
        The model that the collection is being changed from, where `encoder` is the one that it is changed to (see
        `Collection.reencode`). Queries are encoded by whichever made the vectors that answer: the previous one before the
        change, both while it runs, the new one afterwards.
    layers : int, optional
        Use so many of the first layers of `encoder`, a sentence-transformers model or its name, and no more: faster, and
        good where it was trained for that (``octavo train``). The collection remembers the encoder as ``NAME@layers=3``,
        which is another way to write it.
    query_layers : int, optional
        Queries go through fewer layers than documents; only of a model that was trained with ``--align-queries``.

    Returns
    -------
    Collection
        Close it, or use it as a context manager.

    Raises
    ------
    CollectionNotFoundError
        When there is none and `must_exist` or `read_only` was set.
    MismatchError
        When it was made with another encoder, codec, metric or dimension.
    CorruptCollectionError
        When a file is damaged.

    Examples
    --------
    >>> import octavo
    >>> kb = octavo.open(codec="int8")
    >>> kb.add(["red", "green"], ids=["r", "g"], vectors=[[1.0, 0.0], [0.0, 1.0]])
    ['r', 'g']
    >>> kb.search([0.9, 0.1], k=1).ids
    ['r']
    >>> kb.close()
    """
    encoder = with_layers(encoder, layers, query_layers)
    settings = Settings(
        codec=codec,
        metric=metric,
        dim=dim,
        full_text=full_text,
        fit_after=fit_after,
        seed=seed,
        connectivity=connectivity,
        index=_index_of(index, connectivity),
        read_only=read_only,
        must_exist=must_exist,
        lock_timeout=lock_timeout,
        multi_vector=True if is_multi_vector(encoder) and (previous is None or not _is_there(path)) else None,
    )
    return open_store(path, encoder, settings, sparse, previous)


def open_multi_vector(
    path: str | os.PathLike[str] | None = None,
    encoder: Any = None,
    *,
    sparse: Any = None,
    codec: str | None = None,
    pool_factor: int | None = None,
    pooling: TokenPooling | None = None,
    candidates: str | CandidateEncoder | None = None,
    dim: int | None = None,
    full_text: str | Callable[[str], Iterable[str]] | None = None,
    fit_after: int | None = None,
    seed: int | None = None,
    index: Literal["cells", "graph"] | None = None,
    connectivity: int | None = None,
    read_only: bool = False,
    must_exist: bool = False,
    lock_timeout: float = 30.0,
    previous: Any = None,
    layers: int | None = None,
    query_layers: int | None = None,
) -> MultiVectorCollection:
    """Create a collection for late interaction, or open the one that is there.

    Each document is kept as one compressed vector a token (or a group of tokens). Its score is MaxSim: the sum, over the
    query's tokens, of the best cosine with any of the document's [1]_.

    Parameters
    ----------
    path : str or path-like, optional
        The collection's directory. None keeps everything in memory, with the same behaviour, until `close`.
    encoder : str, callable or object, optional
        Turns texts into token vectors; see `TokenEncoder`. Not needed when token vectors are given.
    sparse : str, callable or object, optional
        Turns texts into learned sparse vectors; see `octavo.open`.
    codec : str, optional
        How one token vector is compressed: ``"int8"`` (the default), ``"svd:128|int8"``, ``"rotate|int4"``. One tier. An
        existing collection keeps its own.
    pool_factor : int, default=2
        Pool a document's tokens into so many times fewer vectors; 1 keeps them all.
    pooling : TokenPooling, optional
        In place of `pool_factor`: for instance ``TokenPooling(n_vectors=16)`` keeps at most 16 vectors a document.
    candidates : str or CandidateEncoder, default="mean"
        The document vector that finds what MaxSim then scores: ``"mean"``, ``"random-features"``, ``"fde"``, or such an
        encoder with its options.
    dim : int, optional
        Dimension of the token vectors; otherwise the first ones set it.
    full_text, fit_after, seed, index, connectivity, read_only, must_exist, lock_timeout, previous, layers, query_layers
        See `octavo.open`.

    Returns
    -------
    MultiVectorCollection
        Close it, or use it as a context manager.

    Raises
    ------
    CollectionNotFoundError
        When there is none and `must_exist` or `read_only` was set.
    MismatchError
        When it was made with another encoder or other settings, or with one vector a document.
    CorruptCollectionError
        When a file is damaged.

    References
    ----------
    .. [1] O. Khattab and M. Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction
       over BERT", SIGIR 2020.

    Examples
    --------
    >>> import octavo
    >>> kb = octavo.open_multi_vector(pool_factor=1)
    >>> tokens = [[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8]]]
    >>> kb.add(["red green", "brown"], ids=["rg", "b"], token_vectors=tokens)
    ['rg', 'b']
    >>> result = kb.search([[1.0, 0.0], [0.0, 1.0]], k=2)
    >>> [(hit.id, f"{hit.score:.1f}") for hit in result]
    [('rg', '2.0'), ('b', '1.4')]
    >>> kb.close()
    """
    encoder = with_layers(encoder, layers, query_layers)
    settings = Settings(
        codec=codec,
        dim=dim,
        full_text=full_text,
        fit_after=fit_after,
        seed=seed,
        connectivity=connectivity,
        index=_index_of(index, connectivity),
        read_only=read_only,
        must_exist=must_exist,
        lock_timeout=lock_timeout,
        multi_vector=True,
        pooling=pooling_config(pool_factor, pooling),
        candidates=candidates_config(candidates),
    )
    collection = open_store(path, encoder, settings, sparse, previous)
    assert isinstance(collection, MultiVectorCollection)  # the settings ask for it, or opening has failed
    return collection


def open_store(
    path: str | os.PathLike[str] | None, encoder: Any, settings: Settings, sparse: Any = None, previous: Any = None
) -> Collection:
    """Open the store and put the collection of its kind in front of it."""
    if previous is not None and encoder is None:
        raise ParameterError("previous= is the model that the collection is changed from; give the new one as encoder=")
    if sparse is None and gives_several(encoder):
        sparse = encoder
    sparse_encoder = as_sparse_encoder(sparse)
    directory = as_path(path, "path") if path is not None else None
    if directory is None or not Store.exists(directory):  # an encoder that cannot be used must not leave a directory
        encoder = _wrapped(encoder, late=bool(settings.multi_vector))
        if settings.multi_vector:
            settings = replace(settings, pooling=pooling_beside(encoder, settings.pooling))
    store = Store(directory, settings)
    try:
        if store.settings.multi_vector:
            late = _of_any_kind(previous, late=True)
            tokens = _of_late(store, encoder, previous)
            if store.snapshot.next is None and previous is None:
                pooling_beside(tokens, store.settings.pooling)
            return MultiVectorCollection(store, tokens, sparse_encoder, late)
        return Collection(
            store, _of_dense(store, encoder, previous), sparse_encoder, _of_any_kind(previous, late=False)
        )
    except BaseException:
        store.close()
        raise


def _is_there(path: str | os.PathLike[str] | None) -> bool:
    return path is not None and Store.exists(as_path(path, "path"))


def _of_late(store: Store, encoder: Any, previous: Any) -> Any:
    """Return the encoder of a collection for late interaction: of one vector a text only where it is, or was, being changed."""
    if encoder is not None and (store.snapshot.next is not None or previous is not None):
        return new_encoder(encoder, late=True)
    return token_encoder_for(store, encoder)


def _of_dense(store: Store, encoder: Any, previous: Any) -> Any:
    """Return the encoder of a collection with one vector a document: of many only where it is being changed to that."""
    if encoder is not None and (store.snapshot.next is not None or previous is not None):
        return new_encoder(encoder, late=False)
    return _wrapped(encoder, late=False)


def _of_any_kind(previous: Any, *, late: bool) -> Any:
    return new_encoder(previous, late=late) if previous is not None else None


def _index_of(index: str | None, connectivity: int | None) -> str | None:
    """Return the index that is asked for, if any is: connectivity is an option of graphs."""
    if connectivity is None:
        return index
    if index == "cells":
        raise ParameterError("connectivity belongs to index='graph', got index='cells'; leave one of them out")
    return "graph"


def _wrapped(encoder: Any, *, late: bool) -> Any:
    if encoder is None or not late:
        return as_encoder(encoder) if encoder is not None else None
    return encoder if isinstance(encoder, TokenEncoder) else TokenEncoder(encoder)
