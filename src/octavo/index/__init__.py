"""From codes to candidates: exhaustive scan, graph, and what decides between them."""

from octavo.index.exact import exact_search, score_rows, score_rows_batch
from octavo.index.graph import Graph
from octavo.index.maxsim import maxsim_explain, maxsim_scores, maxsim_scores_batch, maxsim_search
from octavo.index.planner import Plan, choose, crossover, default_ef, default_oversample, graph_min, tail_max
from octavo.index.tuning import Tuning

__all__ = [
    "Graph",
    "Plan",
    "Tuning",
    "choose",
    "crossover",
    "default_ef",
    "default_oversample",
    "exact_search",
    "graph_min",
    "maxsim_explain",
    "maxsim_scores",
    "maxsim_scores_batch",
    "maxsim_search",
    "score_rows",
    "score_rows_batch",
    "tail_max",
]
