"""Collections out of other vector stores: vectors are taken over as they are, nothing is encoded anew.

Each function reads one kind of store. The store is only read; the collection appears in one step, complete, or not at all.
"""

from octavo.ingest.importing._chroma import import_chroma
from octavo.ingest.importing._faiss import import_faiss
from octavo.ingest.importing._lancedb import import_lancedb
from octavo.ingest.importing._taking_over import ImportReport

__all__ = ["ImportReport", "import_chroma", "import_faiss", "import_lancedb"]
