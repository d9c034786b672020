"""Quire keeps a RAG collection small, fast and safe.

`quire.open` creates or opens a collection; see its documentation for everything else.
"""

from quire._version import __version__
from quire.collection import Collection, open  # noqa: A004 - `quire.open`, as `gzip.open`
from quire.errors import QuireError
from quire.retrievers.results import Hit, SearchResult
from quire.store import Document

__all__ = ["Collection", "Document", "Hit", "QuireError", "SearchResult", "__version__", "open"]
