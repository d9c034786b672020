"""Which of a document's vectors the tokens of a query match."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from octavo._arrays import Floats
from octavo._html import notebook_table
from octavo._printing import short
from octavo._validation import check_integer, check_number
from octavo.compression.spatial_pooling import Grid, checked_grid
from octavo.encoders.page_images import PageImage, is_image
from octavo.encoders.tokens import TokenEncoder, unit_tokens
from octavo.errors import ParameterError


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
    image : PageImage or None
        The image that the document is, if it is one.

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
    image: PageImage | None = None
    _patches: Callable[[], tuple[Floats, Grid]] | None = field(default=None, repr=False, init=False)

    def patch_similarities(self, grid: Any = None) -> Floats:
        """Return how well each query token matches each patch of the page image.

        Parameters
        ----------
        grid : array-like of shape (rows, columns), optional
            Which of the document's vectors each patch is, where the collection's encoder cannot tell (or is not at hand) and
            they are not pooled.

        Returns
        -------
        ndarray of shape (n_query_tokens, rows, columns), float32
            Cosines, of the patches as the encoder gives them: not pooled, not compressed.

        Raises
        ------
        ParameterError
            When the document is no image, or nothing tells where its patches lie.
        InvalidImageError
            When the image cannot be read any more.
        """
        if grid is not None:
            checked = checked_grid(grid)
            if checked.max() >= self.similarities.shape[1] or checked.min() < 0:
                raise ParameterError(
                    f"expected a grid of the document's {self.similarities.shape[1]} vectors, got one from {checked.min()} to "
                    f"{checked.max()}; of pooled vectors the encoder alone can tell where they come from"
                )
            given: Floats = self.similarities[:, checked]
            return given
        if self._patches is None:
            raise ParameterError(
                f"expected a document that is an image and a collection that was opened with its encoder, {self.id!r} "
                + ("has none to look at it again; open it with encoder=" if self.image is not None else "is a text")
                + ", or give grid= for vectors that are not pooled"
            )
        similarities, known = self._patches()
        found = np.where(known >= 0, similarities[:, np.maximum(known, 0)], similarities.min())
        return found.astype(np.float32)

    def heat_map(self, token: int | None = None, *, grid: Any = None, opacity: float = 0.9, most: int = 1_200) -> Any:
        """Draw on the page image where it matches the query.

        Parameters
        ----------
        token : int, optional
            Of which query token; all of them added up unless given. The patch that a token matches best, which is what counts
            in the score, has a frame.
        grid : array-like of shape (rows, columns), optional
            See `patch_similarities`.
        opacity : float, default=0.9
            Of the warmest place; print stays dark under it, and the coldest half of the page as it is, in gray.
        most : int, default=1200
            Pixels of the longer side of the picture.

        Returns
        -------
        PIL.Image.Image
            In RGB; ``.save("page.png")`` writes it, a notebook shows it.

        Raises
        ------
        ParameterError, InvalidImageError
            As `patch_similarities`; also when there is no such token.
        """
        from octavo.collection.heat_maps import draw_heat

        opacity = check_number(opacity, "opacity", least=0, most=1)
        most = check_integer(most, "most", least=16)
        if self.image is None:
            raise ParameterError(f"expected a document that is an image, {self.id!r} is a text; see similarities")
        similarities = self.patch_similarities(grid)
        if token is not None:
            token = check_integer(token, "token", least=0, most=len(similarities) - 1)
            similarities = similarities[token : token + 1]
        return draw_heat(self.image.load(), similarities, opacity, most)

    def to_dict(self) -> dict[str, Any]:
        """Return the match as JSON data, for ``octavo eval report --explain``; with the heat map where there is an image."""
        rows, columns = self.similarities.shape
        found = {
            "query_tokens": self.query_tokens or [str(number) for number in range(1, rows + 1)],
            "document_tokens": self.document_tokens or [str(number) for number in range(1, columns + 1)],
            "scores": self.similarities.tolist(),
            "title": self.id,
        }
        if self.image is not None and self._patches is not None:
            out = io.BytesIO()
            self.heat_map().save(out, "JPEG", quality=85)
            found["page"] = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
        return found

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
    id: str,
    matrix: Floats,
    query: Any,
    text: str,
    stored: Floats,
    encoder: TokenEncoder | None,
    tokens: Floats,
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
        What the document's vectors are made of.
    stored : ndarray of shape (n_document_vectors, dim), float32
        The document's vectors, decoded.
    encoder : TokenEncoder or None
        Knows the strings.
    tokens : ndarray of shape (n_query_tokens, dim), float32
        The query's, of unit length.
    """
    best = matrix.argmax(axis=1) if matrix.shape[1] else np.zeros(0, np.int64)
    score = float(matrix.max(axis=1).sum()) if matrix.shape[1] else -np.inf
    query_tokens = None
    if isinstance(query, str) and encoder is not None:
        query_tokens = encoder.query_tokens(query)
        if query_tokens is not None and len(query_tokens) != len(matrix):
            query_tokens = None
    if not is_image(text):
        return Explanation(id, score, matrix, best, query_tokens, _labels(text, stored, encoder))
    found = Explanation(id, score, matrix, best, query_tokens, None, PageImage.stored(text))
    if encoder is not None and encoder.takes_images:
        object.__setattr__(found, "_patches", partial(_patches_of, text, tokens, encoder, id))
    return found


def _patches_of(text: str, tokens: Floats, encoder: TokenEncoder, id: str) -> tuple[Floats, Grid]:
    """Return the cosine of each query token with each row of an image's matrix, and where in the image the rows lie."""
    matrix = unit_tokens(encoder.encode_documents([text]), tokens.shape[1], "document").flat
    grid = encoder.patch_grid(text)
    if grid is None or grid.max() >= len(matrix):
        raise ParameterError(
            f"the encoder {encoder.name!r} does not tell where the patches of {id!r} lie; give grid= where the stored vectors "
            "are not pooled, or TokenEncoder(model, images=..., patch_grid=...)"
        )
    return tokens @ matrix.T, grid


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
