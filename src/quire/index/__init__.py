"""From codes to candidates: exhaustive scan, graph, and what decides between them."""

from quire.index.exact import exact_search, score_rows, score_rows_batch
from quire.index.graph import Graph
from quire.index.maxsim import maxsim_explain, maxsim_scores, maxsim_scores_batch, maxsim_search
from quire.index.planner import Plan, choose, crossover, default_ef, default_oversample, graph_min, tail_max
from quire.index.tuning import Tuning

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
