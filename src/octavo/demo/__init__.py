"""``octavo demo``: a corpus that every machine has, compressed, searched three ways, its writer killed."""

from octavo.demo._corpus import Docstring, docstrings
from octavo.demo._run import DemoOptions, DemoReport, run_demo

__all__ = ["DemoOptions", "DemoReport", "Docstring", "docstrings", "run_demo"]
