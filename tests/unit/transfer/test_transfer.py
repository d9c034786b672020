"""Moving a collection: everything arrives, nothing is written twice, and what is not equal is said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo.collection.rebuild import blueprint_of, open_from_blueprint
from octavo.errors import MismatchError, ParameterError
from octavo.ingest.transfer import ids_checksum, transfer, write_stored


def assert_equal(one: octavo.Collection, other: octavo.Collection) -> None:
    ids = one.ids()
    assert sorted(ids) == sorted(other.ids())
    assert one.get(ids) == other.get(ids)
    assert [json.dumps(d.metadata) for d in one.get(ids)] == [json.dumps(d.metadata) for d in other.get(ids)]
    assert one.get_payloads(ids) == other.get_payloads(ids)
    assert other.verify().ok


def test_everything_arrives(source: octavo.Collection) -> None:
    done: list[int] = []
    with open_from_blueprint(None, blueprint_of(source)) as target:
        report = transfer(source, target, batch_size=64, advance=done.append)
        assert_equal(source, target)
        for query in np.random.default_rng(1).standard_normal((20, 24)):
            assert source.search(query, 10).ids == target.search(query, 10).ids
        assert source.search("text 5", 3, mode="text").ids == target.search("text 5", 3, mode="text").ids
        where = {"n": {"$gte": 290}}
        assert source.search(np.ones(24), 20, filter=where).ids == target.search(np.ones(24), 20, filter=where).ids
    assert (report.documents, report.copied, report.present, report.removed) == (300, 300, 0, 0)
    assert report.compared == 256
    assert report.ids_sha256 == ids_checksum(source.ids())
    assert (sum(done), len(done)) == (300, 5)


def test_token_vectors_are_not_pooled_again(fill: Callable[..., None]) -> None:
    with octavo.open_multi_vector(codec="int8", pool_factor=2, fit_after=40) as source:
        fill(source, 120)
        with open_from_blueprint(None, blueprint_of(source)) as target:
            transfer(source, target, batch_size=50)
            assert_equal(source, target)
            assert isinstance(target, octavo.MultiVectorCollection)
            assert target.pooling == source.pooling
            matrices = zip(source.get_token_vectors(source.ids()), target.get_token_vectors(source.ids()), strict=True)
            assert all(np.allclose(a, b, atol=1e-6) for a, b in matrices)
            for query in np.random.default_rng(1).standard_normal((10, 3, 24)):
                assert source.search(query, 8).ids == target.search(query, 8).ids


def test_a_second_transfer_writes_only_what_changed(source: octavo.Collection) -> None:
    with open_from_blueprint(None, blueprint_of(source)) as target:
        transfer(source, target)
        commits = target.info().commits
        again = transfer(source, target)
        assert (again.copied, again.present) == (0, 300)
        assert target.info().commits == commits
        source.add(["changed"], ids=["id/3 ü"], metadata=[{"n": 3}], vectors=np.ones((1, 24)))
        target.add(["1 for True"], ids=["id/4 ü"], metadata=[{"n": 4, "half": 2, "even": 1, "l": [1, None]}],
                   vectors=source.get_vectors(["id/4 ü"]))  # fmt: skip
        again = transfer(source, target)
        assert (again.copied, again.present) == (2, 298)
        assert_equal(source, target)


def test_documents_that_the_source_lacks(source: octavo.Collection) -> None:
    with open_from_blueprint(None, blueprint_of(source)) as target:
        target.add(["mine"], ids=["x"], vectors=np.ones((1, 24)))
        commits = target.info().commits
        with pytest.raises(ParameterError, match=r"1 of its documents are not in the source, 'x'"):
            transfer(source, target)
        assert target.info().commits == commits
        assert transfer(source, target, prune=True).removed == 1
        assert_equal(source, target)


def test_a_writer_that_loses_documents_is_noticed(source: octavo.Collection) -> None:
    with open_from_blueprint(None, blueprint_of(source)) as target:
        write = write_stored(target)
        with pytest.raises(MismatchError, match=r"'id/101 ü' is missing"):
            transfer(
                source,
                target,
                batch_size=3,
                write=lambda d, p, v, s: write(d[:2], p[:2], v[:2], s) if len(d) > 2 else None,
            )


def test_another_vector_is_noticed(source: octavo.Collection) -> None:
    with open_from_blueprint(None, blueprint_of(source)) as target:
        write = write_stored(target)
        with pytest.raises(MismatchError, match="another vector"):
            transfer(source, target, write=lambda d, p, v, s: write(d, p, v[::-1], s))


def test_another_text_is_noticed(source: octavo.Collection) -> None:
    with open_from_blueprint(None, blueprint_of(source)) as target:
        write = write_stored(target)
        with pytest.raises(MismatchError, match="another text, metadata or payload"):
            transfer(source, target, write=lambda d, p, v, s: write(d, [None] * len(d), v, s))


class Elsewhere:
    """A collection that is reached by its public methods alone, as those of integrations are."""

    local = late = None
    has_sparse_vectors = False

    def __init__(self, collection: octavo.Collection) -> None:
        for name in ("ids", "get", "get_payloads", "get_vectors", "delete", "count", "add", "notes", "set_note"):
            setattr(self, name, getattr(collection, name))


def test_public_methods_are_enough(fill: Callable[..., None]) -> None:
    with octavo.open(codec="binary > int8", fit_after=100) as source, octavo.open(codec="float32") as there:
        fill(source, 250)
        source.set_note("sources", "{}")
        there.set_note("of the target", "goes")
        report = transfer(source, Elsewhere(there), batch_size=60)  # type: ignore[arg-type]
        assert (report.copied, len(there)) == (250, 250)
        assert_equal(source, there)
        with open_from_blueprint(None, blueprint_of(source)) as back:
            transfer(Elsewhere(there), back, batch_size=70)  # type: ignore[arg-type]
            assert_equal(source, back)
            assert back.notes() == there.notes() == {"sources": "{}"}
            assert all(
                np.array_equal(one.codes, other.codes)
                for one, other in zip(source._current().tiers, back._current().tiers, strict=True)
            )


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True])
def test_batch_size(source: octavo.Collection, batch_size: Any) -> None:
    with octavo.open(dim=24) as target, pytest.raises(ParameterError, match="batch_size"):
        transfer(source, target, batch_size=batch_size)


def test_an_empty_collection() -> None:
    with octavo.open() as source, open_from_blueprint(None, blueprint_of(source)) as target:
        assert transfer(source, target).documents == 0


@settings(max_examples=50, deadline=None)
@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=6),
       st.sets(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=6))  # fmt: skip
def test_checksums_are_equal_for_equal_sets_only(one: set[str], other: set[str]) -> None:
    assert (ids_checksum(one) == ids_checksum(other)) == (one == other)


SCRIPT = """
import sys
import octavo
from octavo.ingest.transfer import transfer
from octavo.collection.rebuild import blueprint_of, open_from_blueprint

def done(n):
    print(n, flush=True)
    sys.stdin.readline()  # go on only when told to, so that the other side knows where it kills

source = octavo.open(sys.argv[1], read_only=True)
target = open_from_blueprint(sys.argv[2], blueprint_of(source))
transfer(source, target, batch_size=20, advance=done)
"""


@pytest.mark.parametrize("told_to_go_on", [False, True])
def test_killed_half_way_and_resumed(tmp_path: Path, fill: Callable[..., None], told_to_go_on: bool) -> None:
    with octavo.open(tmp_path / "kb", codec="binary > int8", fit_after=200) as kb:
        fill(kb, 2_000)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "kb"), str(tmp_path / "copy")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for batch in range(50):
            assert process.stdout.readline() == "20\n"
            if batch < 49 or told_to_go_on:  # killed between two batches, or at some moment of the next
                process.stdin.write("\n")
                process.stdin.flush()
        process.kill()
    with octavo.open(tmp_path / "kb") as source, octavo.open(tmp_path / "copy", must_exist=True) as target:
        arrived = len(target)
        assert arrived in ({1_000, 1_020} if told_to_go_on else {1_000})
        report = transfer(source, target)
        assert (report.present, report.copied) == (arrived, 2_000 - arrived)
        assert_equal(source, target)
        for query in np.random.default_rng(1).standard_normal((20, 24)):
            assert source.search(query, 10).ids == target.search(query, 10).ids
