"""The public face of a collection: opening it, writing to it, searching it."""

from octavo.collection._collection import Collection
from octavo.collection._import import import_from, restore
from octavo.collection._multi_vector import MultiVectorCollection
from octavo.collection._opening import open, open_multi_vector
from octavo.collection.explanation import Explanation
from octavo.collection.protocol import CollectionLike, MultiVectorLike

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
