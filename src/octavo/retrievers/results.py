"""What a search returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from octavo._html import notebook_table
from octavo._printing import short
from octavo.encoders.page_images import PageImage
from octavo.store.documents import Document

#: Whole numbers that tell documents apart, best first, and their scores.
Ranking: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]

#: What answers while a collection's model is being changed.
Served: TypeAlias = Literal["old", "both", "new"]
#: The same in words, for whoever asks.
ANSWERED_BY: Final[dict[Served, str]] = {
    "old": "the old model has answered",
    "both": "both models have answered",
    "new": "the new model has answered, and words where it has encoded nothing yet",
}
#: Documents of a result that are shown as lines, and as rows in a notebook.
_LISTED, _TABLED = 10, 50


@dataclass(frozen=True)
class Hit:
    """One found document.

    Parameters
    ----------
    id : str
        The document's id.
    score : float
        Higher is better. Dense: the similarity in the finest tier; text: BM25; hybrid: the fused score.
    document : Document
        The stored document.

    Examples
    --------
    >>> import octavo
    >>> with octavo.open() as kb:
    ...     _ = kb.add(["red"], ids=["r"], metadata=[{"n": 1}], vectors=[[1.0, 0.0]])
    ...     hit = kb.search([1.0, 0.0])[0]
    >>> hit.id, hit.text, hit.metadata, f"{hit.score:.2f}"
    ('r', 'red', {'n': 1}, '1.00')
    """

    id: str
    score: float
    document: Document

    def __repr__(self) -> str:
        return f"Hit(id={short(self.id)}, score={self.score:.4f}, text={short(self.text)}, metadata={short(self.metadata)})"

    @property
    def text(self) -> str:
        """The document's text."""
        return self.document.text

    @property
    def metadata(self) -> dict[str, Any]:
        """The document's metadata."""
        return self.document.metadata

    @property
    def image(self) -> PageImage | None:
        """The image that the document is, if it is one."""
        return self.document.image


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Found documents, best first; iterates as `Hit`.

    Parameters
    ----------
    ids : list of str
        Ids of the documents.
    scores : ndarray of shape (len(ids),), float32
        Their scores, higher is better.
    documents : list of Document
        The documents themselves.
    payloads : list of (str or None)
        The opaque strings that were stored beside them.
    reencoding : {"old", "both", "new"} or None
        Which vectors have ranked them while the collection's model is being changed (`Collection.reencode`): the old ones,
        both, or, where the old model is not at hand, the new ones of the documents that have them, and words the others.
        None at all other times.

    Examples
    --------
    >>> import octavo
    >>> with octavo.open() as kb:
    ...     _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1.0, 0.0], [0.0, 1.0]])
    ...     found = kb.search([0.8, 0.6], k=2)
    >>> found.ids, [hit.text for hit in found], found[1].id
    (['r', 'g'], ['red', 'green'], 'g')
    """

    ids: list[str]
    scores: npt.NDArray[np.float32]
    documents: list[Document]
    payloads: list[str | None]
    reencoding: Served | None = None

    def __repr__(self) -> str:
        if not self.ids:
            return "<octavo.SearchResult: no documents>"
        lines = [f"<octavo.SearchResult: {_count(self.ids)}, best first"]
        lines += [
            f"  {hit.score:.4f}  {short(hit.id, 24)}  {short(' '.join(hit.text[:200].split()), 56)}"
            for hit in self[:_LISTED]
        ]
        if len(self) > _LISTED:
            lines.append(f"  and {len(self) - _LISTED:,} more")
        return "\n".join(lines) + ">"

    def _repr_html_(self) -> str:
        rows = [[f"{hit.score:.4f}", hit.id, hit.text, short(hit.metadata, 200)] for hit in self[:_TABLED]]
        more = f"; the first {_TABLED}" if len(self) > _TABLED else ""
        return notebook_table(f"{_count(self.ids)}{more}", ["score", "id", "text", "metadata"], rows)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Hit]:
        for position in range(len(self)):
            yield self[position]

    @overload
    def __getitem__(self, position: int) -> Hit: ...

    @overload
    def __getitem__(self, position: slice) -> list[Hit]: ...

    def __getitem__(self, position: int | slice) -> Hit | list[Hit]:
        if isinstance(position, slice):
            return [self[index] for index in range(*position.indices(len(self)))]
        return Hit(self.ids[position], float(self.scores[position]), self.documents[position])


def _count(ids: list[str]) -> str:
    return f"{len(ids):,} document{'' if len(ids) == 1 else 's'}"
