"""Pushing a collection into Qdrant's own core and pulling it back gives an equal collection, also when killed on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import octavo
from octavo.cli import app
from octavo.collection.rebuild import blueprint_of as local_blueprint
from octavo.collection.rebuild import open_from_blueprint as open_local
from octavo.errors import CodecError, MismatchError, ParameterError
from octavo.ingest.transfer import transfer

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py: pip install 'octavo[qdrant]'")

from octavo.integrations.qdrant import QdrantCollection
from octavo.integrations.qdrant.transfer import blueprint_of, open_from_blueprint, write_stored

DIM = 24
QUERIES = np.random.default_rng(1).standard_normal((20, DIM))


def fill(kb: octavo.Collection, n: int) -> octavo.Collection:
    kb.add(
        [f"text {i}, Straße" if i % 7 else "" for i in range(n)],
        ids=[f"id/{i} ü" for i in range(n)],
        metadata=[{"n": i, "half": i / 2, "even": i % 2 == 0, "l": [1, None]} for i in range(n)],
        payloads=[None if i % 3 else f'{{"p": {i}}}' for i in range(n)],
        vectors=np.random.default_rng(0).standard_normal((n, DIM)).astype(np.float32),
    )
    return kb


def assert_equal(one: Any, other: Any) -> None:
    ids = one.ids()
    assert ids == other.ids()
    assert one.get(ids) == other.get(ids)
    assert [json.dumps(d.metadata) for d in one.get(ids)] == [json.dumps(d.metadata) for d in other.get(ids)]
    assert one.get_payloads(ids) == other.get_payloads(ids)


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    "codec",
    ["float32", "float16", "int8", "binary", "binary > int8", "svd:50%|int8", "svd:50%|binary > svd:50%|float16",
     "rotate|int8", "rabitq:1 > int8", "rabitq:4"],
)  # fmt: skip
def test_there_and_back(tmp_path: Path, codec: str) -> None:
    with fill(octavo.open(codec=codec, fit_after=100), 300) as source:
        with open_from_blueprint(local_blueprint(source), ["some text"], path=tmp_path / "there") as there:
            report = transfer(source, there, write=write_stored(there), batch_size=64)
            assert (report.copied, report.compared) == (300, 256)
            assert_equal(source, there)
            assert there.search(QUERIES[0], 5, filter={"n": {"$gte": 290}}).ids
        with QdrantCollection.open(path=tmp_path / "there") as there:  # noqa: SIM117 - one after the other
            with open_local(tmp_path / "back", blueprint_of(there)) as back:
                transfer(there, back)
                assert_equal(source, back)
                assert back.verify().ok
                assert (back.codec, back.metric, back.info().fitted) == (source.codec, "cosine", True)
                for one, other in zip(source._current().tiers, back._current().tiers, strict=True):
                    rounded = one.pipeline.reducers and one.layout.kind == "f16"  # projected there and back
                    if one.layout.has_factors:  # made from what the finest tier decodes, not from the originals
                        first = slice(0, one.layout.code_bytes)
                        assert (one.codes[:, first] == other.codes[:, first]).mean() > 0.95
                    else:
                        assert rounded or np.array_equal(one.codes, other.codes)
                for query in QUERIES:
                    found = [kb.search(query, 10, exact=True).ids for kb in (source, back)]
                    assert found[0] == found[1] or (codec == "rabitq:4" and len({*found[0]} & {*found[1]}) >= 8)


@pytest.mark.parametrize("codec", ["binary", "rabitq:1", "rabitq:2", "rabitq:4", "rabitq:1 > int8"])
def test_vectors_in_full_are_rounded_where_they_arrive(tmp_path: Path, codec: str) -> None:
    vectors = np.random.default_rng(1).normal(size=(300, 32)).astype(np.float32)
    with QdrantCollection.create(path=tmp_path / "q", codec=codec) as there:
        there.add(ids=[str(i) for i in range(300)], vectors=vectors)
        with open_local(tmp_path / "kb", blueprint_of(there)) as back:
            assert transfer(there, back).compared == 256
            assert back.search(vectors[7], 1).ids == ["7"]
            back.add(ids=["7"], vectors=-vectors[[7]])  # the same document with another vector is still found out
            with pytest.raises(MismatchError, match="another vector"):
                transfer(there, back)


def test_commands_and_a_kill(tmp_path: Path) -> None:
    fill(octavo.open(tmp_path / "kb", codec="binary > int8", fit_after=200), 2_000).close()
    place = f"qdrant:{tmp_path / 'there'}"
    script = (
        "import sys\nimport octavo.ingest.transfer as t\nimport octavo.cli._transfer as c\n"
        "def done(n):\n    print(n, flush=True)\n    sys.stdin.readline()\n"
        "c.transfer = lambda *a, **o: t.transfer(*a, **(o | {'advance': done}))\n"
        "from octavo.cli import main\nmain()"
    )
    command = [sys.executable, "-c", script, "push", str(tmp_path / "kb"), "--to", place, "--batch-size", "100"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(10):
            assert process.stdout.readline() == "100\n"
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
    pushed = json.loads(run("push", tmp_path / "kb", "--to", place, "--json").stdout)
    assert pushed["present"] in (
        1_000,
        1_100,
    )  # killed in the batch after the tenth, before or after it was acknowledged
    assert pushed["present"] + pushed["copied"] == pushed["documents"] == 2_000
    pulled = json.loads(run("pull", place, tmp_path / "back", "--json").stdout)
    assert pulled["ids_sha256"] == pushed["ids_sha256"]
    with octavo.open(tmp_path / "kb") as one, octavo.open(tmp_path / "back", must_exist=True) as other:
        assert_equal(one, other)
        for query in QUERIES:
            assert one.search(query, 10).ids == other.search(query, 10).ids
    assert "belong to a Qdrant server" in run("push", tmp_path / "kb", "--to", place, "--shards", 2, code=2).stderr


def test_what_cannot_be_moved_is_said(tmp_path: Path) -> None:
    learned = fill(octavo.open(codec="svd:50%|float8 > int8", fit_after=100), 150)
    with learned, pytest.raises(CodecError, match="no counterpart of 'float8'"):
        open_from_blueprint(local_blueprint(learned), path=tmp_path / "a")
    with octavo.open() as empty, pytest.raises(ParameterError, match="nothing to move"):
        open_from_blueprint(local_blueprint(empty), path=tmp_path / "a")
    with fill(octavo.open(codec="svd:50%|int8"), 50) as young, pytest.raises(ParameterError, match="not been fitted"):
        open_from_blueprint(local_blueprint(young), path=tmp_path / "a")
    assert not (tmp_path / "a" / "edge_config.json").exists()


def test_another_collection_there_is_refused(tmp_path: Path) -> None:
    with QdrantCollection.create(path=tmp_path / "there", codec="int8") as other:
        other.add(["x"], vectors=np.ones((1, DIM)))
    source = fill(octavo.open(codec="int8", fit_after=100), 150)
    with source, pytest.raises(MismatchError, match="not pushed from this one"):
        open_from_blueprint(local_blueprint(source), path=tmp_path / "there")


def test_a_collection_that_was_not_pushed_can_be_pulled(tmp_path: Path) -> None:
    with QdrantCollection.create(path=tmp_path / "there", codec="int8", metric="dot", full_text="german") as there:
        there.add(["eins", "zwei"], ids=["1", "2"], vectors=np.eye(2) * 3)
    run("pull", f"qdrant:{tmp_path / 'there'}", tmp_path / "kb")
    with octavo.open(tmp_path / "kb", must_exist=True) as kb:
        assert (kb.metric, kb.codec, kb.ids(), kb.info().full_text) == ("dot", "int8", ["1", "2"], "german")
        assert kb.search([0, 1], 1).ids == ["2"]


def test_a_creation_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    with fill(octavo.open(codec="int8", fit_after=100), 150) as source:
        # The description was there and the blueprint was not.
        QdrantCollection.create(path=tmp_path / "there", codec="int8", dim=DIM).close()
        with open_from_blueprint(local_blueprint(source), path=tmp_path / "there") as there:
            assert blueprint_of(there) == local_blueprint(source)
