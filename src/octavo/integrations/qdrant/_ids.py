"""Point ids: Qdrant takes integers and UUIDs, Octavo any string."""

from __future__ import annotations

import uuid
from typing import Final

#: Namespace of the UUIDs of documents; it never changes, or stored documents could not be found again.
_DOCUMENTS: Final = uuid.UUID("8f1c3b5e-52a5-5d07-9f0e-0f5d6f2f8a11")

#: The point that holds what the collection is: settings and what the codec learned. It has no vectors, so no search finds it.
MANIFEST: Final = str(uuid.UUID("8f1c3b5e-52a5-5d07-9f0e-000000000000"))

#: No point has this id.
NOBODY: Final = str(uuid.UUID(int=0))


def point_id(identifier: str) -> str:
    """Return the point of a document: the UUID5 of its id.

    Examples
    --------
    >>> point_id("a") == point_id("a") != point_id("b")
    True
    """
    return str(uuid.uuid5(_DOCUMENTS, identifier))
