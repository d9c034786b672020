"""Octavo keeps a RAG collection small, fast and safe.

`octavo.open` creates or opens a collection, `octavo.open_multi_vector` one for late interaction; see their documentation for
everything else.
"""

import logging

from octavo._version import __version__
from octavo.collection import CollectionInfo, VerifyReport
from octavo.collection.collection import Collection
from octavo.collection.exchange import import_from, restore
from octavo.collection.multi_vector import MultiVectorCollection
from octavo.collection.opening import open, open_multi_vector
from octavo.encoders.dense import Encoder
from octavo.encoders.page_images import PageImage, pdf_pages
from octavo.encoders.sparse import SparseEncoder
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import OctavoError
from octavo.retrievers.results import Hit, SearchResult
from octavo.store.documents import Document

__all__ = [
    "Collection",
    "CollectionInfo",
    "Document",
    "Encoder",
    "Hit",
    "MultiVectorCollection",
    "OctavoError",
    "PageImage",
    "SearchResult",
    "SparseEncoder",
    "TokenEncoder",
    "VerifyReport",
    "__version__",
    "import_from",
    "open",
    "open_multi_vector",
    "pdf_pages",
    "restore",
]

# What is logged is for the program that uses Octavo to show, or not: `logging.basicConfig(level="INFO")` does.
logging.getLogger("octavo").addHandler(logging.NullHandler())
