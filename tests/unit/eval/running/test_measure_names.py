"""Names of measures are read as ir-measures reads them, where it still can, and without a warning of Python's."""

from __future__ import annotations

import sys
import warnings

import pytest

from octavo.errors import ParameterError
from octavo.eval.running.measures import _parse

ir_measures = pytest.importorskip("ir_measures", reason="needs ir-measures")

NAMES = ["nDCG@10", "R@100", "RR@10", "AP", "P(rel=2)@5", "nDCG(dcg='exp-log2')@20", "AP(rel=2)", " RR ", "Judged@10"]


@pytest.mark.parametrize("name", NAMES)
def test_as_the_library_reads_them(name: str) -> None:
    ours = _parse(name)
    assert str(_parse(str(ours))) == str(ours)
    if sys.version_info < (3, 14):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert str(ir_measures.parse_measure(name.strip())) == str(ours)


@pytest.mark.parametrize(
    "name",
    ["", "nDCG@", "nothing@10", "nDCG(10)", "nDCG(**{})", "R(rel=x)@5", "R@rel", "R.x@5", "R@5; R@6", "__import__('os')@5",
     "1@2", "R@5@6"],
)  # fmt: skip
def test_what_is_no_measure_is_told(name: str) -> None:
    with pytest.raises(ParameterError, match="expected a measure that ir-measures knows"):
        _parse(name)
