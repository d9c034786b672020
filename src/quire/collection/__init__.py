"""The public face of a collection: opening it, writing to it, searching it."""

from quire.collection._backup import restore
from quire.collection._collection import Collection, open
from quire.collection._explanation import Explanation
from quire.collection._import import import_from
from quire.collection._multi_vector import MultiVectorCollection
from quire.collection._open_multi_vector import open_multi_vector
from quire.collection._protocol import CollectionLike, MultiVectorLike

__all__ = [
    "Collection",
    "CollectionLike",
    "Explanation",
    "MultiVectorCollection",
    "MultiVectorLike",
    "import_from",
    "open",
    "open_multi_vector",
    "restore",
]
