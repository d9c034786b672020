"""Writing from Ray into a collection with sparse vectors is refused before anything is written; Ray itself is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
from unittest.mock import MagicMock

sys.modules["ray"] = sys.modules["ray.data"] = MagicMock()  # what is written runs in this process, without it
import numpy as np
import octavo
from octavo.compression import Codec
from octavo.errors import ParameterError
from octavo.integrations.qdrant import QdrantCollection
from octavo.integrations.ray._rows import EncodedRows, Row, codec_tag, join_tiers
from octavo.integrations.ray._targets import Codecs, LocalTarget, OpenedTarget
from octavo.integrations.ray._writing import BlockWriter

place = sys.argv[1]
vectors = np.eye(8, dtype=np.float32)
codec = Codec.parse("int8").fit(vectors)
rows = [Row(f"new{n}", f"text {n}", "{}", None) for n in range(3)]
table = EncodedRows(codec_tag(codec, "cosine"), rows, list(join_tiers(codec.encode(vectors[:3])))).to_table()


def refused(target, name):
    writer = BlockWriter(target, name, Codecs(codec, None), None, 64)
    try:
        writer.write(table)
    except ParameterError as error:
        return "the target keeps learned sparse vectors" in str(error)
    finally:
        writer.close()


with octavo.open(place + "/kb", codec="int8", fit_after=2) as kb:
    kb.add(["a", "b"], ["a", "b"], vectors=vectors[:2], sparse_vectors=[{1: 1.0}, {2: 1.0}])
    kb.fit()
print(refused(OpenedTarget(octavo.open(place + "/kb")), "kb"), octavo.open(place + "/kb").ids())
with octavo.open(place + "/kb", sparse=lambda texts: [{3: 1.0} for _ in texts]) as kb:  # nor where they could be made here
    print(refused(OpenedTarget(kb), "kb"))
print(octavo.open(place + "/kb").ids())
there = QdrantCollection.create(path=place + "/q", codec="int8", dim=8, sparse=True)
print(refused(OpenedTarget(there), "q"), QdrantCollection.open(path=place + "/q").ids())
plain = LocalTarget(Path(place + "/plain"), None, Codecs(codec, None))
writer = BlockWriter(plain, "p", Codecs(codec, None), None, 64)
print(writer.write(table).documents)
writer.close()
"""


def test_it_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("qdrant_edge")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["True ['a', 'b']", "True", "['a', 'b']", "True []", "3"], done.stderr
