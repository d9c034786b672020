"""`open_multi_vector`: create or open a collection for late interaction."""

from __future__ import annotations

import os
from typing import Any

from octavo.collection._collection import open_store
from octavo.collection._multi_vector import MultiVectorCollection
from octavo.compression.candidates import CandidateEncoder
from octavo.compression.token_pooling import TokenPooling
from octavo.store.settings import Settings, candidates_config, pooling_config


def open_multi_vector(
    path: str | os.PathLike[str] | None = None,
    encoder: Any = None,
    *,
    codec: str | None = None,
    pool_factor: int | None = None,
    pooling: TokenPooling | None = None,
    candidates: str | CandidateEncoder | None = None,
    dim: int | None = None,
    full_text: str | None = None,
    fit_after: int | None = None,
    seed: int | None = None,
    connectivity: int | None = None,
    read_only: bool = False,
    must_exist: bool = False,
    lock_timeout: float = 30.0,
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
    full_text, fit_after, seed, connectivity, read_only, must_exist, lock_timeout
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
    settings = Settings(
        codec=codec,
        dim=dim,
        full_text=full_text,
        fit_after=fit_after,
        seed=seed,
        connectivity=connectivity,
        read_only=read_only,
        must_exist=must_exist,
        lock_timeout=lock_timeout,
        multi_vector=True,
        pooling=pooling_config(pool_factor, pooling),
        candidates=candidates_config(candidates),
    )
    collection = open_store(path, encoder, settings)
    assert isinstance(collection, MultiVectorCollection)  # the settings ask for it, or opening has failed
    return collection
