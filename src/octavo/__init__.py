"""Octavo keeps a RAG collection small, fast and safe.

`octavo.open` creates or opens a collection, `octavo.open_multi_vector` one for late interaction; see their documentation for
everything else.
"""

from octavo._version import __version__
from octavo.collection import Collection, MultiVectorCollection, import_from, open, open_multi_vector, restore
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import OctavoError
from octavo.retrievers.results import Hit, SearchResult
from octavo.store.documents import Document

__all__ = [
    "Collection",
    "Document",
    "Hit",
    "MultiVectorCollection",
    "OctavoError",
    "SearchResult",
    "TokenEncoder",
    "__version__",
    "import_from",
    "open",
    "open_multi_vector",
    "restore",
]
