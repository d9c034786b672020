"""Collections that were written once, by the first version with format 1, open for ever and give the same answers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sqlite3
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo

FIXTURES = Path(__file__).parents[1] / "data" / "format-v1"
EXPECTED: dict[str, Any] = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
NAMES = sorted(name for name in EXPECTED if name != "created_with")

#: Scores are sums of float32 products, whose order differs between machines.
TOLERANCE = 2e-5


def _copy(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / name, tmp_path / name))


def test_the_fixtures_are_as_they_were_written() -> None:
    sums = dict(reversed(line.split("  ")) for line in (FIXTURES / "SHA256SUMS").read_text().splitlines())
    for name, expected in sums.items():
        assert hashlib.sha256((FIXTURES / name).read_bytes()).hexdigest() == expected, f"{name} has been changed"
    assert {Path(name).parts[0] for name in sums} == {*NAMES, "expected.json"}


def _check(kb: octavo.Collection, expected: dict[str, Any]) -> None:
    ids = expected["ids"]
    assert kb.ids() == ids
    documents = [[d.id, d.text, json.dumps(d.metadata, default=date.isoformat)] for d in kb.get(ids)]
    assert documents == expected["documents"]
    assert kb.get_payloads(ids) == expected["payloads"]
    assert (kb.codec, kb.info().fitted) == (expected["codec"], expected["fitted"])
    assert [[where, kb.count(where)] for where, _ in expected["counts"]] == expected["counts"]
    np.testing.assert_allclose(kb.get_vectors(ids[:3]), expected["vectors"], atol=TOLERANCE)
    for search in expected["searches"]:
        found = kb.search(search["query"], 5, **search["options"])
        scores = np.array(search["scores"])
        np.testing.assert_allclose(found.scores, scores, rtol=TOLERANCE, atol=TOLERANCE)
        if np.all(-np.diff(scores) > 4 * TOLERANCE * max(1.0, np.abs(scores).max())):  # no ties that may swap
            assert found.ids == search["ids"]
        else:
            assert len(set(found.ids) & set(search["ids"])) >= len(search["ids"]) - 1
    assert {word: kb.search(word, 3, mode="text").ids for word in expected["text"]} == expected["text"]
    for terms, found_ids, scores in expected.get("sparse", ()):
        found = kb.search(None, 5, mode="sparse", sparse_vector=dict(terms))
        assert found.ids == found_ids
        np.testing.assert_allclose(found.scores, scores, rtol=TOLERANCE)
    if "image" in expected:
        (page,) = kb.get(["page"])
        assert page.embed_text == expected["image"]
        assert page.image.load().getpixel((0, 0)) == (255, 0, 0)
    if "notes" in expected:
        assert kb.notes() == expected["notes"]
        texts = [document.embed_text for document in kb.get(["doc-4", "doc-5", "more-7"])]
        assert texts == expected["embed_texts"]


@pytest.mark.parametrize("name", NAMES)
def test_answers(name: str, tmp_path: Path) -> None:
    with octavo.open(_copy(name, tmp_path), must_exist=True) as kb:
        assert kb.verify().problems == []
        _check(kb, EXPECTED[name])
        assert isinstance(kb, octavo.MultiVectorCollection) is name.startswith("multi-vector")


@pytest.mark.parametrize("name", NAMES)
def test_read_only(name: str, tmp_path: Path) -> None:
    path = _copy(name, tmp_path)
    if os.name != "nt":
        path.chmod(0o500)
    try:
        with octavo.open(path, read_only=True) as kb:
            assert kb.verify().problems == []
            _check(kb, EXPECTED[name])
    finally:
        path.chmod(0o700)


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_written_to(name: str, tmp_path: Path) -> None:
    with octavo.open(_copy(name, tmp_path)) as kb:
        dim = kb.dim
        assert dim is not None
        vector = np.ones(dim)
        given = {"token_vectors": [[vector]]} if isinstance(kb, octavo.MultiVectorCollection) else {"vectors": [vector]}
        if kb.has_sparse_vectors:
            given["sparse_vectors"] = [{5: 1.0}]
        kb.add(["quartz"], ids=["new"], metadata=[{"n": 1_000}], **given)
        assert kb.search(next(iter(given.values()))[0], 1).ids == ["new"] or kb.metric == "dot"
        assert kb.search("quartz", mode="text").ids == ["new"]
        assert kb.count({"n": 1_000}) == 1
        kb.delete(EXPECTED[name]["ids"][:40])
        kb.compact()
        assert kb.ids() == [*EXPECTED[name]["ids"][40:], "new"]
        kb.refit()
        assert kb.verify().problems == []


def _fixtures() -> Any:
    """Return the module that has made the fixtures, for its models."""
    spec = importlib.util.spec_from_file_location("make_fixtures", FIXTURES / "make_fixtures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", [name for name in NAMES if "reencoding" in EXPECTED[name]])
def test_a_change_of_the_model_is_gone_on_with(name: str, tmp_path: Path) -> None:
    made, expected = _fixtures(), EXPECTED[name]
    coming = made.COMING[name]
    new = octavo.TokenEncoder(coming) if coming.many else coming
    with octavo.open(_copy(name, tmp_path), new if not coming.many else made.OLD, previous=made.OLD) as kb:
        state = kb.info().reencoding
        assert state is not None
        assert {key: state[key] for key in expected["reencoding"]} == expected["reencoding"]
        if not coming.many:
            for query, (ids, scores) in zip(made.QUESTIONS, expected["both"], strict=True):
                found = kb.search(query, 5)
                assert found.reencoding == "both"
                np.testing.assert_allclose(found.scores, scores, rtol=2e-4, atol=2e-4)
                assert found.ids[0] == ids[0]
        documents = list(kb.documents())
        encoded: list[str] = []
        encode = coming.encode_documents

        def counted(texts: Any) -> Any:
            encoded.extend(texts)
            return encode(texts)

        coming.encode_documents = counted
        kb.reencode(new if not coming.many else octavo.TokenEncoder(coming), batch_size=10)
        # what was done stays done; a few documents tell which model is which
        assert state["of"] - state["documents"] <= len(encoded) <= state["of"] - state["documents"] + 10
    opened = octavo.open_multi_vector if coming.many else octavo.open
    with opened(tmp_path / name, must_exist=True) as kb, opened(None, codec=kb.codec, fit_after=30) as direct:
        assert kb.info().reencoding is None
        assert kb.verify().problems == []
        assert list(kb.documents()) == documents
        vectors = coming.encode_queries([document.text for document in documents])
        direct.add(documents, **({"token_vectors": vectors} if coming.many else {"vectors": vectors}))
        np.testing.assert_allclose(
            kb.get_vectors(kb.ids()), direct.get_vectors(kb.ids()), atol=0.05 if coming.many else 0.02
        )


def test_every_part_of_the_format_is_there() -> None:
    """The fixtures lose their worth if one part of the format is missing from all of them."""
    files = [entry.name for entry in FIXTURES.rglob("*") if entry.is_file()]
    for part in (
        "octavo.db",
        "g000001-0.vec",
        "g000002-1.vec",
        "g000002-tokens.vec",
        "g000002-offsets.vec",
        "meta.json",
    ):
        assert part in files
    databases = [sqlite3.connect(f"file:{path}?immutable=1", uri=True) for path in FIXTURES.glob("*/octavo.db")]
    entries: set[str] = set()
    for database in databases:
        entries.update(key for (key,) in database.execute("SELECT key FROM manifest"))
        for table in ("next_blocks", "next_originals"):
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                entries.update([table] if database.execute(f"SELECT 1 FROM {table}").fetchone() else [])
        database.close()
    assert {
        "next",
        "next_codec_state",
        "next_token_codec",
        "next_candidate_state",
        "next_blocks",
        "next_originals",
    } <= entries
    for suffix in (".graph", ".cells", ".segment", ".sparse", ".centroids", ".postings"):
        assert any(name.endswith(suffix) for name in files)
