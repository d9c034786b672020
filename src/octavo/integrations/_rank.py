"""Ranking texts against a query by late interaction, for the rerankers of both frameworks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.encoders.tokens import TokenEncoder, unit_tokens
from octavo.errors import InputTypeError
from octavo.retrievers.late_interaction import maxsim_scores


def rank_texts(encoder: TokenEncoder, query: str, texts: Sequence[str]) -> tuple[list[int], list[float]]:
    """Score texts by MaxSim.

    Parameters
    ----------
    encoder : TokenEncoder
        Gives token vectors; they are compared by cosine.
    query : str
        The query.
    texts : sequence of str
        The documents.

    Returns
    -------
    order : list of int
        Positions of the texts, best first; of equal scores the earlier text comes first.
    scores : list of float
        The score of each text, in the order given; -inf for a text without tokens.

    Raises
    ------
    InvalidVectorsError
        When the encoder gives no token for the query, or vectors that cannot be used.

    Examples
    --------
    >>> letters = TokenEncoder(lambda texts: [np.eye(128)[[ord(letter) for letter in text]] for text in texts])
    >>> rank_texts(letters, "ren", ["red", "green", ""])
    ([1, 0, 2], [2.0, 3.0, -inf])
    """
    if not isinstance(query, str):
        raise InputTypeError(f"expected the query as a str, got {type(query).__name__}")
    if not texts:
        return [], []
    queries = unit_tokens(encoder.encode_queries([query]), None, "query")
    documents = unit_tokens(encoder.encode_documents(texts), queries.dim, "document")
    scores = maxsim_scores(queries.flat, list(documents))
    return np.argsort(-scores, kind="stable").tolist(), scores.tolist()
