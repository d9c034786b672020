"""Put the results of a directory on one page, with pictures, for those who decide."""

from octavo.eval.report._report import Report, find_explanation, report

__all__ = ["Report", "find_explanation", "report"]
