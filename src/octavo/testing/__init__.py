"""Conformance checks for what other packages add to Octavo; needs no test framework.

`check_step` runs on a codec step what Octavo's own steps have to pass, `check_collection` on a collection what Octavo's own
collections have to pass. A check that fails raises `AssertionError` with a message that says what was promised.
"""

from octavo.testing._collections import check_collection, collection_checks
from octavo.testing._steps import check_step

__all__ = ["check_collection", "check_step", "collection_checks"]
