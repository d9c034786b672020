"""Which of a document's vectors the tokens of a query match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo._arrays import Floats
from octavo._html import notebook_table
from octavo._printing import short
from octavo.encoders.tokens import TokenEncoder, unit_tokens


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a document scores as it does for a query.

    Parameters
    ----------
    id : str
        The document.
    score : float
        Its MaxSim, the sum of the largest value of each row.
    similarities : ndarray of shape (n_query_tokens, n_document_vectors), float32
        Cosine of each query token with each stored vector of the document.
    best : ndarray of shape (n_query_tokens,), int64
        The document vector that each query token matches best.
    query_tokens : list of str or None
        The strings that the rows stand for, where the encoder can tell.
    document_tokens : list of str or None
        The strings that the columns stand for, where the encoder can tell; a pooled vector stands for several, joined by
        spaces (each token of the text is counted to the stored vector that it is closest to).

    Examples
    --------
    >>> import octavo
    >>> with octavo.open_multi_vector(pool_factor=1) as kb:
    ...     _ = kb.add(["red green"], ids=["rg"], token_vectors=[[[1.0, 0.0], [0.0, 1.0]]])
    ...     why = kb.explain([[0.0, 1.0], [0.6, 0.8]], "rg")
    >>> why.best.tolist(), f"{why.score:.1f}"
    ([1, 1], '1.8')
    """

    id: str
    score: float
    similarities: Floats
    best: Any
    query_tokens: list[str] | None
    document_tokens: list[str] | None

    def __repr__(self) -> str:
        rows, columns = self.similarities.shape
        return (
            f"<octavo.Explanation of {short(self.id)}: score {self.score:.4f}, {rows} query tokens x {columns} vectors>"
        )

    def _repr_html_(self) -> str:
        named = [
            (
                self.query_tokens[row] if self.query_tokens is not None else f"token {row}",
                self.document_tokens[best] if self.document_tokens is not None else f"vector {best}",
                f"{self.similarities[row, best]:.2f}",
            )
            for row, best in enumerate(self.best.tolist())
        ]
        return notebook_table(f"{self.id}: {self.score:.4f}", ["query token", "best match", "cosine"], named)


def explanation(
    id: str, matrix: Floats, query: Any, text: str, stored: Floats, encoder: TokenEncoder | None
) -> Explanation:
    """Return what `MultiVectorCollection.explain` does, given all similarities.

    Parameters
    ----------
    id : str
        The document.
    matrix : ndarray of shape (n_query_tokens, n_document_vectors), float32
        Cosines.
    query : str or array-like
        The query as it was given.
    text : str
        The document's text.
    stored : ndarray of shape (n_document_vectors, dim), float32
        The document's vectors, decoded.
    encoder : TokenEncoder or None
        Knows the strings.
    """
    best = matrix.argmax(axis=1) if matrix.shape[1] else np.zeros(0, np.int64)
    score = float(matrix.max(axis=1).sum()) if matrix.shape[1] else -np.inf
    query_tokens = None
    if isinstance(query, str) and encoder is not None:
        query_tokens = encoder.query_tokens(query)
        if query_tokens is not None and len(query_tokens) != len(matrix):
            query_tokens = None
    return Explanation(id, score, matrix, best, query_tokens, _labels(text, stored, encoder))


def _labels(text: str, stored: Floats, encoder: TokenEncoder | None) -> list[str] | None:
    """Return the strings that each stored vector of a document stands for."""
    if encoder is None or not text or not len(stored):
        return None
    strings = encoder.document_tokens(text)
    if strings is None:
        return None
    matrix = unit_tokens(encoder.encode_documents([text]), stored.shape[1], "document").flat
    if len(matrix) != len(strings):
        return None
    if len(matrix) == len(stored):
        return strings
    owners = (matrix @ stored.T).argmax(axis=1)
    return [" ".join(strings[token] for token in np.flatnonzero(owners == row)) for row in range(len(stored))]
