"""Pushing a collection with many vectors a document into Qdrant's core and pulling it back gives an equal one."""

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
from octavo.errors import CodecError, InvalidVectorsError, MismatchError, ParameterError
from octavo.ingest.transfer import transfer
from octavo.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection, open_collection
from octavo.integrations.qdrant import _late_collection as late_collection

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py: pip install 'octavo[qdrant]'")

from octavo.integrations.qdrant import transfer as qdrant

DIM = 16
GRAPH = {"full_scan_threshold": 1, "indexing_threshold": 1}


def unit(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def matrices(n: int, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(8, DIM))
    return [unit(rng.normal(size=(int(rng.integers(2, 9)), DIM)) + topics[i % 8]) for i in range(n)]


QUERIES = [unit(np.random.default_rng(100 + i).normal(size=(4, DIM))) for i in range(10)]


def fill(kb: Any, n: int, seed: int = 0) -> Any:
    kb.add(
        [f"text {i}, Straße" if i % 7 else "" for i in range(n)],
        ids=[f"id/{i} ü" for i in range(n)],
        metadata=[{"n": i, "half": i / 2, "even": i % 2 == 0, "l": [1, None]} for i in range(n)],
        payloads=[None if i % 3 else f'{{"p": {i}}}' for i in range(n)],
        token_vectors=matrices(n, seed),
    )
    return kb


def assert_equal(one: Any, other: Any) -> None:
    ids = one.ids()
    assert ids == other.ids()
    assert [(d.id, d.text, json.dumps(d.metadata)) for d in one.get(ids)] == [
        (d.id, d.text, json.dumps(d.metadata)) for d in other.get(ids)
    ]
    assert one.get_payloads(ids) == other.get_payloads(ids)


def assert_same_answers(one: Any, other: Any, tolerance: float) -> None:
    for query in QUERIES:
        expected, found = one.search(query, 10, exact=True), other.search(query, 10, exact=True)
        assert expected.ids == found.ids
        assert np.allclose(expected.scores, found.scores, atol=tolerance)


def assert_same_scores(source: Any, there: Any, tolerance: float = 0.05) -> None:
    """Compare the scores of all documents: Qdrant's come from the very numbers that the local collection decodes."""
    n = source.count()
    for query in QUERIES:
        scores = {hit.id: hit.score for hit in there.search(query, n, exact=True)}
        if source.codec == "binary":  # a local collection rounds the query, too, and Qdrant does not
            stored = source.get_token_vectors(source.ids())
            expected = {i: float((query @ m.T).max(axis=1).sum()) for i, m in zip(source.ids(), stored, strict=True)}
        else:
            expected = {hit.id: hit.score for hit in source.search(query, n, exact=True)}
        assert scores.keys() == expected.keys()
        assert max(abs(scores[i] - expected[i]) for i in expected) < tolerance


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "400"})
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    ("codec", "graph"),
    [("float32", False), ("float16", True), ("int8", False), ("int8", True), ("binary", False), ("svd:8|int8", True),
     ("svd:8|int8", False), ("pca:8|float16", False)],
)  # fmt: skip
def test_there_and_back(tmp_path: Path, codec: str, graph: bool) -> None:
    n = 150
    with fill(octavo.open_multi_vector(codec=codec, fit_after=100, pool_factor=2), n) as source:
        options = GRAPH if graph else {}
        with qdrant.open_from_blueprint(local_blueprint(source), ["a text"], path=tmp_path / "q", **options) as there:
            report = transfer(source, there, write=qdrant.write_stored(there), batch_size=64)
            assert (report.copied, report.compared) == (n, n)
            if graph:
                assert there.optimize()
                assert there.info().indexed
        with QdrantMultiVectorCollection.open(path=tmp_path / "q") as there:
            assert_equal(source, there)
            assert there.pooling == source.pooling
            assert_same_scores(source, there)
            for query in QUERIES:
                found = there.search(query, 10, n_candidates=n)
                assert len(set(found.ids) & set(there.search(query, 10, exact=True).ids)) >= 8
            where = {"n": {"$gte": 140}}
            assert sorted(there.search(QUERIES[0], 20, filter=where).ids) == sorted(f"id/{i} ü" for i in range(140, n))
            assert qdrant.blueprint_of(there) == local_blueprint(source)
            with open_local(tmp_path / "back", qdrant.blueprint_of(there)) as back:
                transfer(there, back)
                assert_equal(source, back)
                assert back.verify().ok
                assert (back.codec, back.info().fitted) == (source.codec, True)
                # Behind SVD, tokens are scaled to unit length in every encoding: a code may change by one step.
                if codec == "svd:8|int8":
                    assert_same_scores(source, back, 0.04)
                else:
                    assert_same_answers(source, back, 0.005)
                one, other = source._current().tokens, back._current().tokens
                assert np.array_equal(one.offsets, other.offsets)
                if codec in ("float32", "float16", "int8", "binary"):  # the others are projected there and back
                    assert np.array_equal(one.codes, other.codes)
                # What finds candidates is made of the stored tokens, as in a copy that never was in Qdrant.
                with open_local(None, local_blueprint(source)) as copy:
                    transfer(source, copy)
                    tiers = copy._current().tiers[-1], back._current().tiers[-1]
                    decoded = [tier.pipeline.decode(tier.codes) for tier in tiers]
                    assert np.abs(decoded[0] - decoded[1]).max() < 0.02


def test_documents_without_tokens_and_without_texts(tmp_path: Path) -> None:
    tokens = matrices(30)
    tokens[3] = np.zeros((0, DIM), np.float32)
    with octavo.open_multi_vector(codec="int8", fit_after=20) as source:
        source.add(
            ["words alone" if i == 3 else "" for i in range(30)], ids=list(map(str, range(30))), token_vectors=tokens
        )
        with qdrant.open_from_blueprint(local_blueprint(source), path=tmp_path / "q") as there:
            transfer(source, there, write=qdrant.write_stored(there))
            assert there.get_token_vectors(["3"])[0].shape == (0, DIM)
            with open_local(tmp_path / "back", qdrant.blueprint_of(there)) as back:
                transfer(there, back)
                assert_equal(source, back)
                assert back.get_token_vectors(["3"])[0].shape == (0, DIM)


def test_a_young_collection_moves_and_its_copy_is_fitted_later(tmp_path: Path) -> None:
    with (
        fill(octavo.open_multi_vector(codec="int8", fit_after=50), 40) as source,
        qdrant.open_from_blueprint(local_blueprint(source), path=tmp_path / "q") as there,
        open_local(tmp_path / "back", qdrant.blueprint_of(there)) as back,
    ):
        transfer(source, there, write=qdrant.write_stored(there))
        assert_same_answers(source, there, 0.02)
        transfer(there, back)
        assert not back.info().fitted
        assert_same_answers(source, back, 0.005)
        fill(back, 60, seed=1)
        assert back.info().fitted


def test_commands_and_a_kill(tmp_path: Path) -> None:
    fill(octavo.open_multi_vector(tmp_path / "kb", codec="svd:8|int8", fit_after=100), 600).close()
    place = f"qdrant:{tmp_path / 'there'}"
    script = (
        "import sys\nimport octavo.ingest.transfer as t\nimport octavo.cli._transfer as c\n"
        "def done(n):\n    print(n, flush=True)\n    sys.stdin.readline()\n"
        "c.transfer = lambda *a, **o: t.transfer(*a, **(o | {'advance': done}))\n"
        "from octavo.cli import main\nmain()"
    )
    command = [sys.executable, "-c", script, "push", str(tmp_path / "kb"), "--to", place, "--batch-size", "50"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(6):
            assert process.stdout.readline() == "50\n"
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
    pushed = json.loads(run("push", tmp_path / "kb", "--to", place, "--json").stdout)
    # Killed in the batch after the sixth, before or after it was acknowledged.
    assert pushed["present"] in (300, 350)
    assert pushed["present"] + pushed["copied"] == pushed["documents"] == 600
    assert json.loads(run("push", tmp_path / "kb", "--to", place, "--json").stdout)["copied"] == 0
    pulled = json.loads(run("pull", place, tmp_path / "back", "--json").stdout)
    assert pulled["ids_sha256"] == pushed["ids_sha256"]
    with octavo.open(tmp_path / "kb") as one, octavo.open(tmp_path / "back", must_exist=True) as other:
        assert isinstance(other, octavo.MultiVectorCollection)
        assert_equal(one, other)
        assert_same_scores(one, other, 0.04)
    with open_collection(place) as there:
        assert isinstance(there, QdrantMultiVectorCollection)
        assert there.count() == 600
    assert json.loads(run("info", place, "--json").stdout)["documents"] == 600


def test_what_cannot_be_moved_is_said(tmp_path: Path) -> None:
    def refused(source: Any, error: type[Exception], message: str) -> None:
        with source, pytest.raises(error, match=message):
            qdrant.open_from_blueprint(local_blueprint(source), path=tmp_path / "a")
        assert not (tmp_path / "a" / "edge_config.json").exists()

    refused(octavo.open_multi_vector(), ParameterError, "nothing to move")
    for codec in ("float8", "int4"):
        kb = fill(octavo.open_multi_vector(codec=codec, fit_after=20), 40)
        refused(kb, CodecError, f"no counterpart of '{codec}'")
    refused(fill(octavo.open_multi_vector(codec="svd:8|int8"), 40), ParameterError, "not been fitted")
    learning = fill(octavo.open_multi_vector(candidates="random-features"), 40)
    refused(learning, ParameterError, "not been fitted")


def test_a_document_beyond_qdrants_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = octavo.open_multi_vector(tmp_path / "kb", codec="svd:8|float16", fit_after=20, pool_factor=1)
    with fill(source, 60) as kb:
        kb.add(["long"], ids=["long one"], token_vectors=[unit(np.random.default_rng(0).normal(size=(33, DIM)))])
        blueprint = local_blueprint(kb)
    monkeypatch.setattr(late_collection, "_MOST_NUMBERS", 33 * 8 - 1)
    place = f"qdrant:{tmp_path / 'q'}"
    refused = run("push", tmp_path / "kb", "--to", place, "--batch-size", 10, code=1)
    assert "got 264 in 'long one'" in refused.stderr
    assert not (tmp_path / "q" / "edge_config.json").exists()
    with octavo.open(tmp_path / "kb") as kb, qdrant.open_from_blueprint(blueprint, path=tmp_path / "q") as there:
        with pytest.raises(InvalidVectorsError, match="264 in 'long one'"):  # whoever moves it otherwise
            transfer(kb, there, write=qdrant.write_stored(there))
        assert there.count() == 0
    monkeypatch.setattr(late_collection, "_MOST_NUMBERS", 33 * 8)
    assert json.loads(run("push", tmp_path / "kb", "--to", place, "--json").stdout)["copied"] == 61


def test_another_collection_there_is_refused(tmp_path: Path) -> None:
    with QdrantCollection.create(path=tmp_path / "single", codec="int8") as single:
        single.add(["x"], ids=["x"], vectors=np.ones((1, DIM)))
    with QdrantMultiVectorCollection.create(path=tmp_path / "late", codec="int8") as late:
        late.add(["x"], ids=["x"], token_vectors=[np.ones((2, DIM))])
    with fill(octavo.open_multi_vector(codec="int8", fit_after=20), 40) as source:
        with fill(octavo.open_multi_vector(codec="int8", fit_after=20), 40, seed=1) as other:
            qdrant.open_from_blueprint(local_blueprint(other), path=tmp_path / "pushed").close()
        for place in ("single", "late", "pushed"):
            with pytest.raises(MismatchError, match="not pushed from this one"):
                qdrant.open_from_blueprint(local_blueprint(source), path=tmp_path / place)
    with octavo.open(codec="int8") as plain:
        plain.add(["x"], vectors=np.ones((1, DIM)))
        with pytest.raises(MismatchError, match="not pushed from this one"):
            qdrant.open_from_blueprint(local_blueprint(plain), path=tmp_path / "late")
    with (
        open_collection(f"qdrant:{tmp_path / 'single'}") as single,
        open_collection(f"qdrant:{tmp_path / 'late'}") as late,
    ):
        assert single.ids() == late.ids() == ["x"]


def test_pulling_into_another_kind_is_refused(tmp_path: Path) -> None:
    with fill(octavo.open_multi_vector(tmp_path / "kb", codec="int8", fit_after=20), 40) as source:
        blueprint = local_blueprint(source)
    place = f"qdrant:{tmp_path / 'q'}"
    run("push", tmp_path / "kb", "--to", place)
    with octavo.open(tmp_path / "single") as single:
        single.add(["x"], ids=["x"], vectors=np.ones((1, DIM)))
    fill(octavo.open_multi_vector(tmp_path / "other", codec="int8", fit_after=20), 40, seed=1).close()
    refused = run("pull", place, tmp_path / "single", code=1)
    assert "one vector a document" in refused.stderr
    assert "other documents" in run("pull", place, tmp_path / "other", code=1).stderr
    with octavo.open(tmp_path / "single") as single, octavo.open(tmp_path / "other") as other:
        assert single.ids() == ["x"]
        assert local_blueprint(other) != blueprint


def test_a_collection_that_was_not_pushed_can_be_pulled(tmp_path: Path) -> None:
    with QdrantMultiVectorCollection.create(
        path=tmp_path / "q", codec="int8", pool_factor=3, candidates="fde", full_text="german", fit_after=50
    ) as there:
        fill(there, 120)
    run("pull", f"qdrant:{tmp_path / 'q'}", tmp_path / "kb")
    with (
        octavo.open(tmp_path / "kb", must_exist=True) as kb,
        QdrantMultiVectorCollection.open(path=tmp_path / "q") as there,
    ):
        assert isinstance(kb, octavo.MultiVectorCollection)
        assert (kb.codec, kb.info().full_text, kb.pooling) == ("int8", "german", there.pooling)
        assert kb._store.settings.candidates == there._manifest.late["candidates"]
        assert_equal(there, kb)
        assert_same_answers(there, kb, 0.02)


def test_a_creation_that_was_killed_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with (
        fill(octavo.open_multi_vector(codec="svd:8|int8", fit_after=20), 40) as source,
        fill(octavo.open_multi_vector(codec="svd:8|int8", fit_after=20), 40, seed=1) as other,
    ):
        blueprint = local_blueprint(source)
        with monkeypatch.context() as patch:
            patch.setattr(qdrant, "_keep", killed)  # the description is there, and the blueprint is not
            with pytest.raises(KeyboardInterrupt):
                qdrant.open_from_blueprint(blueprint, path=tmp_path / "q")
        with pytest.raises(MismatchError, match="not pushed from this one"):
            qdrant.open_from_blueprint(local_blueprint(other), path=tmp_path / "q")
        with qdrant.open_from_blueprint(blueprint, path=tmp_path / "q") as there:
            assert qdrant.blueprint_of(there) == blueprint
            transfer(source, there, write=qdrant.write_stored(there))


def test_the_encoder_goes_along(tmp_path: Path) -> None:
    class Words:
        """A vector a word, by a seed of its own."""

        def __init__(self, name: str, seed: int) -> None:
            self.name, self.seed = name, seed

        def encode_documents(self, texts: Any) -> list[Any]:
            rows = [[[self.seed, *word.encode()] for word in text.split()] for text in texts]
            return [unit(np.array([np.random.default_rng(word).normal(size=DIM) for word in row])) for row in rows]

        encode_queries = encode_documents

    encoder = Words("words", 0)
    with octavo.open_multi_vector(tmp_path / "kb", encoder, fit_after=2, pool_factor=1) as source:
        source.add(["red green", "green blue", "brown"], ids=["rg", "gb", "b"])
    run("push", tmp_path / "kb", "--to", f"qdrant:{tmp_path / 'q'}")
    run("pull", f"qdrant:{tmp_path / 'q'}", tmp_path / "back")
    with QdrantMultiVectorCollection.open(path=tmp_path / "q", encoder=encoder) as there:
        assert there.search("blue green", 1).ids == ["gb"]
    with octavo.open_multi_vector(tmp_path / "back", encoder) as back:
        assert back.search("blue green", 1).ids == ["gb"]
    with (
        QdrantMultiVectorCollection.open(path=tmp_path / "q", encoder=Words("others", 1)) as there,
        pytest.raises(MismatchError),
    ):
        there.search("blue green", 1)
