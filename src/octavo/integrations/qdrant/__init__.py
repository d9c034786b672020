"""Collections in Qdrant: its server or cluster, or its core in this process.

>>> from octavo.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection
"""

from octavo.integrations.qdrant._collection import QdrantCollection
from octavo.integrations.qdrant._info import QdrantInfo
from octavo.integrations.qdrant._late_collection import QdrantMultiVectorCollection
from octavo.integrations.qdrant.location import open_location

__all__ = ["QdrantCollection", "QdrantInfo", "QdrantMultiVectorCollection", "open_location"]
