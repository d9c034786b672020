"""The durable store under a collection: documents, metadata, vector files, full text, snapshots. Nothing here is public."""
