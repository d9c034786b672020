"""Which index a collection has: what its settings say."""

from __future__ import annotations

from octavo.store.cell_files import CellFiles
from octavo.store.derived import DerivedIndex
from octavo.store.graph_files import GraphFiles
from octavo.store.store import Store


def index_of(store: Store, prefix: str = "") -> DerivedIndex:
    """Return what follows the vector files of a space of a store with the index that its settings name."""
    return CellFiles(store, prefix) if store.settings.index == "cells" else GraphFiles(store, prefix)
