"""Collections in Qdrant: its server or cluster, or its core in this process.

>>> from quire.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection
"""

from quire.integrations.qdrant._collection import QdrantCollection
from quire.integrations.qdrant._info import QdrantInfo
from quire.integrations.qdrant._late_collection import QdrantMultiVectorCollection
from quire.integrations.qdrant._location import open_location

__all__ = ["QdrantCollection", "QdrantInfo", "QdrantMultiVectorCollection", "open_location"]
