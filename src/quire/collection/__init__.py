"""The public face of a collection: opening it, writing to it, searching it."""

from quire.collection._collection import Collection, open

__all__ = ["Collection", "open"]
