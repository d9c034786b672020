"""Measure what each byte costs, on your own data: quality, agreement, bytes and time of every configuration.

Importing this package needs neither mteb nor torch nor matplotlib; what needs an extra imports it when it is called.
"""

from quire.eval.configurations import Configuration
from quire.eval.results import Result, ResultError, load_results, result_schema

__all__ = ["Configuration", "Result", "ResultError", "load_results", "result_schema"]
