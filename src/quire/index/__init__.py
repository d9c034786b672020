"""From codes to candidates: exhaustive scan, graph, and what decides between them."""

from quire.index.exact import exact_search, score_rows, score_rows_batch
from quire.index.graph import Graph

__all__ = ["Graph", "exact_search", "score_rows", "score_rows_batch"]
