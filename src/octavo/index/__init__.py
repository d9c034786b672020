"""From codes to candidates: exhaustive scan, graph, and what decides between them."""

from octavo.index.exact import exact_search, score_rows
from octavo.index.graph import Graph
from octavo.index.maxsim import maxsim_codes, maxsim_explain, maxsim_search
from octavo.index.planner import Plan
from octavo.index.tuning import Tuning

__all__ = [
    "Graph",
    "Plan",
    "Tuning",
    "exact_search",
    "maxsim_codes",
    "maxsim_explain",
    "maxsim_search",
    "score_rows",
]
