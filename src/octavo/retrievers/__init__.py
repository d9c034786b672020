"""From a query to ranked documents: dense, full text, sparse, hybrid, late interaction, and how hard to look."""

from octavo.retrievers.fusion import convex_combination, linear_combination, reciprocal_rank_fusion
from octavo.retrievers.late_interaction import LateOptions, maxsim_scores
from octavo.retrievers.mmr import maximal_marginal_relevance
from octavo.retrievers.search import SearchOptions

__all__ = [
    "LateOptions",
    "SearchOptions",
    "convex_combination",
    "linear_combination",
    "maximal_marginal_relevance",
    "maxsim_scores",
    "reciprocal_rank_fusion",
]
