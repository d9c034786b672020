"""The same answers on a processor without the vector instructions of this one."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
from numpy.testing import assert_allclose

from octavo.index import exact_search

PROGRAM = """
import json, sys
import numkong
for name, present in numkong.get_capabilities().items():
    if present and name != "serial":
        numkong.disable_capability(name)
assert [name for name, on in numkong.get_capabilities().items() if on] == ["serial"]
import numpy as np
from octavo._layout import CodeLayout
from octavo.index import exact_search
with np.load(sys.argv[2]) as data:
    codes, queries = data["codes"], data["queries"]
rows, scores = exact_search(CodeLayout(sys.argv[1], 48), codes, queries, 10)
print(json.dumps([rows.tolist(), scores.tolist()]))
"""


def test_without_vector_instructions(kind, sample, tmp_path):
    made = sample(kind, 820, 48)
    layout, codes, queries = made.layout, made.codes[20:], made.queries[:20]
    np.savez(tmp_path / "codes.npz", codes=codes, queries=queries)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(tmp_path / "codes.npz")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    rows, scores = exact_search(layout, codes, queries, 10)
    plain_rows, plain_scores = json.loads(run.stdout)
    assert_allclose(plain_scores, scores, rtol=1e-5, atol=1e-6)
    if kind in ("i8", "i4", "i2", "b1"):
        np.testing.assert_array_equal(plain_rows, rows)
    else:
        assert np.mean(np.asarray(plain_rows) == rows) >= 0.99  # sums in another order may swap near-equal rows
