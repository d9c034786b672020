"""``octavo import``: other stores, and exports as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import octavo

Run = Callable[..., Any]

STORES = Path(__file__).parents[2] / "data/stores"


def test_a_store_is_taken_over_and_told_about(run: Run) -> None:
    told = run("import", "faiss", str(STORES / "langchain"), "--path", "kb").stdout
    assert "3 documents, vectors of 8 dimensions (no model recorded), l2 there, cosine here, codec int8" in told
    assert "left out: 1 metadata field 'raw' (bytes)" in told
    report = json.loads(
        run("import", "faiss", str(STORES / "langchain"), "-p", "again", "-c", "float16", "--json").stdout
    )
    assert (report["documents"], report["codec"], report["model"]) == (3, "float16", None)
    with octavo.open("kb", must_exist=True) as kb:
        assert sorted(kb.ids()) == ["b", "g", "r"]


def test_an_index_alone_needs_its_documents_and_takes_options(run: Run) -> None:
    rows = [{"t": name, "n": number} for name, number in (("a", 10), ("b", 20), ("c", 30))]
    Path("docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("import", "faiss", str(STORES / "faiss/numbered.faiss"), "--path", "kb", "--documents", "docs.jsonl")
    assert "--row-field" in run(*arguments, code=2).stderr
    run(*arguments, "--row-field", "n", "--text-field", "t", "--id-field", "t")
    with octavo.open("kb", must_exist=True) as kb:
        assert sorted(kb.ids()) == ["a", "b", "c"]


def test_another_model_is_refused_and_nothing_is_there(run: Run) -> None:
    refused = run("import", "faiss", str(STORES / "langchain"), "--path", "kb", "--model", "words:encode", code=1)
    assert "'words:encode'" in refused.stderr
    assert not Path("kb").exists()


def test_exports_are_imported_with_and_without_the_word(run: Run) -> None:
    run("import", "faiss", str(STORES / "langchain"), "--path", "kb")
    run("export", "kb", "plain")
    for place, arguments in {"one": [], "two": ["export"], "three": ["--codec", "float16"]}.items():
        assert "3 documents" in run("import", *arguments, "plain", place).stdout
    with octavo.open("three", must_exist=True) as kb:
        assert kb.codec == "float16"
    assert "faiss" in run("import", "--help").stdout


def test_a_place_in_qdrant_is_told_what_to_do(run: Run) -> None:
    refused = run("import", "faiss", str(STORES / "langchain"), "--path", "qdrant:kb", code=2)
    assert "octavo push DIR --to qdrant:kb" in refused.stderr
