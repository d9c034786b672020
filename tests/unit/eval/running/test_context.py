"""Titles as context: embedded and found by words, and returned with nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import octavo
from octavo.errors import ParameterError
from octavo.eval import Configuration, ReadyVectors, Result, load_dataset, run
from octavo.eval.analysis.recipe import recipe
from octavo.eval.datasets import Dataset, DatasetError
from octavo.eval.running import _measure
from octavo.eval.running.timing import Timing

from ..conftest import HashEncoder


def test_titles_are_kept_apart(beir: Path) -> None:
    dataset = load_dataset(beir)
    lines = [json.loads(line) for line in (beir / "corpus.jsonl").read_text().splitlines()]
    assert dataset.bodies == [line["text"] for line in lines]
    assert dataset.in_context(None) == (dataset.texts, dataset.texts)
    assert dataset.in_context("title") == (dataset.bodies, dataset.texts)
    assert dataset.in_context("no-title") == (dataset.bodies, dataset.bodies)
    assert dataset.texts[3] == f"{lines[3]['title']} {lines[3]['text']}"


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid", "late"])
def test_what_is_embedded_decides_what_is_found(
    beir: Path, encoder: HashEncoder, quick: Timing, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its title in front a document is found as if that were part of it; what is stored as its text is the rest."""
    kept: list[dict[str, str]] = []
    real = _measure.search_and_time

    def looked(collection: octavo.Collection, *arguments: object) -> object:
        kept.append({document.id: document.text for document in collection.documents()})
        return real(collection, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_measure, "search_and_time", looked)
    codec = None if mode == "text" else "float32"

    def tokens(texts: list[str]) -> list[object]:
        return [encoder._encode(text.split()) for text in texts]

    whole, title, body = run(
        beir,
        {"text": None, "late": tokens}.get(mode, encoder),
        [Configuration(codec=codec, mode=mode, context=context) for context in (None, "title", "no-title")],  # type: ignore[arg-type]
        timing=quick,
    )
    assert title.quality == whole.quality != body.quality
    assert all(check.ok for result in (whole, title, body) for check in result.checks)
    assert whole.dataset == title.dataset == body.dataset  # they are compared with each other
    dataset = load_dataset(beir)
    texts, bodies = (
        dict(zip(dataset.document_ids, part, strict=True)) for part in (dataset.texts, dataset.bodies or ())
    )
    assert kept == [texts, bodies, bodies]
    assert title.label == whole.label + ", context title"
    assert title.id != whole.id
    assert Result.from_dict(title.to_dict()).configuration == title.configuration
    assert "embed_texts=texts_with_titles" in recipe(title).python
    assert "embed_texts" not in recipe(body).python


def test_learned_sparse_vectors_follow_the_context(beir: Path, quick: Timing) -> None:
    asked = [
        Configuration(mode="sparse", sparse="octavo_context_words:encode", context=each)
        for each in ("title", "no-title")
    ]  # type: ignore[arg-type]
    words = beir.parent / "octavo_context_words.py"
    words.write_text(
        "import zlib\n\ndef encode(texts):\n"
        "    return [{zlib.crc32(word.encode()): 1.0 for word in text.lower().split()} for text in texts]\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(beir.parent)
        title, body = run(beir, None, asked, timing=quick)
    assert title.quality != body.quality
    assert title.agreement.float32 == body.agreement.float32 == 1.0


def test_in_qdrant_too(beir: Path, encoder: HashEncoder, quick: Timing) -> None:
    pytest.importorskip("qdrant_edge")
    whole, title = run(
        beir,
        encoder,
        [Configuration(codec="float32", store="qdrant", context=context) for context in (None, "title")],
        timing=quick,
    )
    assert title.quality == whole.quality


def test_refused_before_anything_is_embedded(tiny: Dataset, beir: Path, encoder: HashEncoder, quick: Timing) -> None:
    with pytest.raises(DatasetError, match="expected documents with titles for context='title'"):
        run(tiny, encoder, Configuration(codec="int8", context="title"), timing=quick)
    assert not encoder.texts
    with pytest.raises(ParameterError, match="context"):
        Configuration(codec="int8", context="headings")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="context"):
        Configuration(baseline="float32", context="title")
    dataset = load_dataset(beir)
    vectors = ReadyVectors(encoder._encode(dataset.texts), encoder._encode(dataset.queries))
    [whole, title] = run(
        dataset,
        None,
        [Configuration(codec="float32"), Configuration(codec="float32", context="title")],
        vectors=vectors,
        timing=quick,
    )
    assert title.quality == whole.quality
    with pytest.raises(ParameterError, match="without their titles"):
        run(dataset, None, Configuration(codec="float32", context="no-title"), vectors=vectors, timing=quick)
    with pytest.raises(DatasetError, match="one text for each"):
        replace(dataset, bodies=["one"])
