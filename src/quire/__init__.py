"""Quire keeps a RAG collection small, fast and safe.

`quire.open` creates or opens a collection, `quire.open_multi_vector` one for late interaction; see their documentation for
everything else.
"""

from quire._version import __version__
from quire.collection import Collection, MultiVectorCollection, import_from, open, open_multi_vector, restore
from quire.errors import QuireError
from quire.retrievers.results import Hit, SearchResult
from quire.store import Document, TokenEncoder

__all__ = [
    "Collection",
    "Document",
    "Hit",
    "MultiVectorCollection",
    "QuireError",
    "SearchResult",
    "TokenEncoder",
    "__version__",
    "import_from",
    "open",
    "open_multi_vector",
    "restore",
]
