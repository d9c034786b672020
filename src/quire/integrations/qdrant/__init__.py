"""Collections in Qdrant: its server or cluster, or its core in this process.

>>> from quire.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection
"""

from quire.integrations.qdrant._collection import QdrantCollection
from quire.integrations.qdrant._info import QdrantInfo
from quire.integrations.qdrant._late_collection import QdrantMultiVectorCollection

__all__ = ["QdrantCollection", "QdrantInfo", "QdrantMultiVectorCollection"]
