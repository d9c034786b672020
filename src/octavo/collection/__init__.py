"""Collections: what one is, wherever its documents lie, and what it tells. `octavo` itself opens them."""

from octavo.collection.explanation import Explanation
from octavo.collection.protocol import CollectionLike, MultiVectorLike
from octavo.collection.several import add_to_each
from octavo.store.info import CollectionInfo
from octavo.store.upkeep.verify import VerifyReport

__all__ = [
    "CollectionInfo",
    "CollectionLike",
    "Explanation",
    "MultiVectorLike",
    "VerifyReport",
    "add_to_each",
]
