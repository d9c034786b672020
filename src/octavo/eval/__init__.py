"""Measure what each byte costs, on your own data: quality, agreement, bytes and time of every configuration.

Importing this package needs neither mteb nor torch nor matplotlib; what needs an extra imports it when it is called.
"""

from octavo.eval.analysis.tables import Average, average, markdown
from octavo.eval.configurations import Configuration
from octavo.eval.datasets import Dataset, DatasetError, DatasetLoader, load_dataset, register_loader
from octavo.eval.gates import Gate
from octavo.eval.results import Result, ResultError, load_results, result_schema
from octavo.eval.rivals import Rival, register_rival
from octavo.eval.running.measures import register_measure
from octavo.eval.running.runner import run
from octavo.eval.running.sweeps import expand_sweep
from octavo.eval.running.timing import Timing
from octavo.eval.vectors import ReadyVectors

__all__ = [
    "Average",
    "Configuration",
    "Dataset",
    "DatasetError",
    "DatasetLoader",
    "Gate",
    "ReadyVectors",
    "Result",
    "ResultError",
    "Rival",
    "Timing",
    "average",
    "expand_sweep",
    "load_dataset",
    "load_results",
    "markdown",
    "register_loader",
    "register_measure",
    "register_rival",
    "result_schema",
    "run",
]
