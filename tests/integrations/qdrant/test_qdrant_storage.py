"""What is particular to Qdrant: mapping, reopening, the graph, death of the writer, the client's calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.errors import CodecError, CollectionLockedError, CollectionNotFoundError, MismatchError, ParameterError
from octavo.integrations.qdrant import QdrantCollection
from octavo.integrations.qdrant.points import map_codec

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")


def _vectors(n: int, dim: int = 64) -> Any:
    return np.random.default_rng(1).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize(
    ("codec", "nearest"),
    [
        ("bfloat16", "float16"),
        ("float8", "int8"),
        ("int4", "rabitq:4"),
        ("int2", "rabitq:2"),
        ("rabitq:3", "rabitq:4"),
        ("truncate:8|int8 > int8", "int8"),
    ],
)
def test_what_has_no_counterpart_names_the_nearest(tmp_path: Path, codec: str, nearest: str) -> None:
    with pytest.raises(CodecError, match=f"nearest is '{nearest}'"):
        QdrantCollection.create(path=tmp_path / "q", codec=codec)
    assert not (tmp_path / "q").exists()
    assert map_codec(nearest).codec == nearest


@pytest.mark.parametrize(
    "codec",
    ["float32", "float16", "int8", "binary > float32", "svd:50%|int8", "pca:50%|float16", "rabitq:1 > int8", "rabitq:2",
     "svd:50%|rabitq:4"],
)  # fmt: skip
def test_reopened_it_answers_the_same_by_graph(tmp_path: Path, codec: str) -> None:
    vectors = _vectors(1200)
    with QdrantCollection.create(path=tmp_path / "q", codec=codec, full_scan_threshold=1, indexing_threshold=1) as made:
        made.add([f"t{i}" for i in range(1200)], ids=[f"{i}" for i in range(1200)], vectors=vectors)
        made.optimize()
        assert made.info().indexed >= 1200
        before = made.search(vectors[5], 10)
        with pytest.raises(CollectionLockedError):
            QdrantCollection.open(path=tmp_path / "q")
    with QdrantCollection.open(path=tmp_path / "q") as again:
        after = again.search(vectors[5], 10)
        assert after.ids == before.ids
        assert after.ids[0] == "5"
        np.testing.assert_array_equal(after.scores, before.scores)
        exact = again.search_batch(vectors[:50], 10, exact=True)
        graph = again.search_batch(vectors[:50], 10, oversample=30)
        assert np.mean([len(set(a.ids) & set(b.ids)) / 10 for a, b in zip(exact, graph, strict=True)]) > 0.9
    with pytest.raises(ParameterError, match="no collection"):
        QdrantCollection.create(path=tmp_path / "q")


def test_learned_reducers_want_enough_vectors(tmp_path: Path) -> None:
    with QdrantCollection.create(path=tmp_path / "q", codec="svd:50%|int8") as collection:
        with pytest.raises(ParameterError, match="at least 1000"):
            collection.add(["a"], vectors=_vectors(1))
        assert len(collection) == 0
    with QdrantCollection.create(path=tmp_path / "s", codec="svd:50%|int8", sample=_vectors(100)) as collection:
        collection.add(["a"], ids=["a"], vectors=_vectors(1))
        assert collection.search(_vectors(1)[0], 1).ids == ["a"]


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    def one(texts: list[str]) -> Any:
        return np.tile([1.0, 0.0, 0.0], (len(texts), 1))

    def other(texts: list[str]) -> Any:
        return np.tile([0.0, 1.0, 0.0], (len(texts), 1))

    with QdrantCollection.create(path=tmp_path / "q", encoder=one) as collection:
        collection.add(["a"])
        assert len(collection.search("a", 1)) == 1
    with QdrantCollection.open(path=tmp_path / "q", encoder=other) as collection:
        for ask in (lambda: collection.search("a"), lambda: collection.add(["b"])):
            with pytest.raises(MismatchError, match="stored document"):
                ask()
        assert len(collection) == 1
    with pytest.raises(CollectionNotFoundError):
        QdrantCollection.open(path=tmp_path / "nothing")


_WRITER = """
import sys, numpy as np
from octavo.integrations.qdrant import QdrantCollection
with QdrantCollection.create(path=sys.argv[1], codec="float16", dim=8) as collection:
    for number in range(100000):
        collection.add([f"text {number}"], ids=[f"{number}"], vectors=np.full((1, 8), number + 1.0))
        print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path / "q")], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert writer.stdout is not None
    acknowledged = -1
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged >= 60:
            writer.send_signal(signal.SIGKILL)
            break
    acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    with QdrantCollection.open(path=tmp_path / "q") as collection:
        found = {int(identifier) for identifier in collection.ids()}
        assert set(range(acknowledged + 1)) <= found
        assert collection.get(["60"])[0].text == "text 60"


@pytest.mark.filterwarnings("ignore::UserWarning")  # the emulation says that it has no payload indexes
def test_the_client_calls_agree_with_the_core(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client", reason="needs qdrant-client")
    vectors = _vectors(60)
    answers = []
    for place in ({"path": tmp_path / "q"}, {"url": ":memory:"}):
        with QdrantCollection.create(codec="float32", ranges=["n"], **place) as collection:
            texts = [f"word{i} common" for i in range(60)]
            collection.add(texts, ids=texts, metadata=[{"n": i, "s": str(i)} for i in range(60)], vectors=vectors)
            assert collection.delete(filter={"n": {"$gte": 50}}) == 10
            answers.append(
                (
                    collection.search(vectors[3], 5).ids,
                    collection.search(vectors[3], 5, filter={"n": {"$gt": 20}, "s": {"$ne": "22"}}).ids,
                    collection.search("word7", 5, mode="text").ids,
                    collection.search(vectors[3], 5, lambda_mult=0.5).ids,
                    collection.ids({"$or": [{"n": 1}, {"s": {"$like": "2%"}}]}),
                    collection.get_vectors(["word9 common"]).round(5).tolist(),
                    len(collection),
                )
            )
    assert answers[0] == answers[1]
