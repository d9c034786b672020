"""Collections in Qdrant: its server or cluster, or its core in this process.

>>> from octavo.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection
"""

from octavo.integrations.qdrant._collection import QdrantCollection, QdrantInfo
from octavo.integrations.qdrant._late_collection import QdrantMultiVectorCollection
from octavo.integrations.qdrant.location import open_collection

__all__ = ["QdrantCollection", "QdrantInfo", "QdrantMultiVectorCollection", "open_collection"]
