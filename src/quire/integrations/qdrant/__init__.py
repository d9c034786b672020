"""Collections in Qdrant: its server or cluster, or its core in this process.

>>> from quire.integrations.qdrant import QdrantCollection
"""

from quire.integrations.qdrant._collection import QdrantCollection
from quire.integrations.qdrant._info import QdrantInfo

__all__ = ["QdrantCollection", "QdrantInfo"]
