"""The full-text index of a collection: BM25 over its texts."""
