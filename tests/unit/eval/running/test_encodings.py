"""The embedding cache: each text once for each model, and nothing damaged is ever used. Models cut to fewer layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.encoders.layers import keep_layers, layer_count
from octavo.errors import ParameterError
from octavo.eval.running import encodings as module
from octavo.eval.running.encodings import EmbeddingCache
from octavo.eval.running.models import PROBES, load_model, same_probes

TEXTS = ["red", "green thing", "a much longer text about things", "red", ""]


class Encoder:
    """Counts letters; documents and queries differ. `factor` makes another model of it."""

    def __init__(self, factor: float = 1.0, name: str = "letters") -> None:
        self.name = name
        self.factor = factor
        self.seen: list[str] = []

    def _encode(self, texts: Sequence[str], offset: float) -> np.ndarray:
        self.seen += [text for text in texts if text not in PROBES]
        counted = [[text.count(letter) for letter in "aeio"] for text in texts]
        return np.array(counted, np.float32) + np.array([offset, 1.0, self.factor, 0.5], np.float32)

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode(texts, 0.25)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode(texts, 0.75)


def cache_of(root: Path | None, encoder: Any = None) -> tuple[EmbeddingCache, Any]:
    encoder = encoder if encoder is not None else Encoder()
    return EmbeddingCache(root, load_model(encoder)), encoder


def files_of(root: Path, pattern: str) -> list[Path]:
    return sorted(path for path in root.rglob(pattern) if path.name != "model.json")


def test_each_text_is_encoded_once(tmp_path: Path) -> None:
    cache, encoder = cache_of(tmp_path)
    first = cache.embed(TEXTS, "documents")
    assert sorted(encoder.seen) == sorted(set(TEXTS))
    assert encoder.seen[0] == TEXTS[2]  # long texts first
    assert np.array_equal(first, Encoder().encode_documents(TEXTS))
    assert (cache.encoded, first.dtype) == (4, np.float32)

    again, encoder = cache_of(tmp_path)
    assert np.array_equal(again.embed(list(reversed(TEXTS)), "documents"), first[::-1])
    assert encoder.seen == []
    assert again.fingerprint == cache.fingerprint
    more = again.embed([*TEXTS, "new"], "documents")
    assert encoder.seen == ["new"]
    assert np.array_equal(more[:5], first)


def test_documents_and_queries_are_kept_apart(tmp_path: Path) -> None:
    cache, encoder = cache_of(tmp_path)
    documents, queries = cache.embed(TEXTS, "documents"), cache.embed(TEXTS, "queries")
    assert not np.array_equal(documents, queries)
    assert np.array_equal(cache_of(tmp_path)[0].embed(TEXTS, "queries"), encoder.encode_queries(TEXTS))


def test_models_are_kept_apart(tmp_path: Path) -> None:
    for encoder in (Encoder(), Encoder(factor=3.0), Encoder(name="other")):
        cache, _ = cache_of(tmp_path, encoder)
        assert np.array_equal(cache.embed(TEXTS, "documents"), encoder.encode_documents(TEXTS))
        assert cache.encoded == 4
    assert len(list(tmp_path.glob("*/model.json"))) == 3


def test_a_last_digit_does_not_make_another_model(tmp_path: Path) -> None:
    first, _ = cache_of(tmp_path)
    first.embed(TEXTS, "documents")
    second, encoder = cache_of(tmp_path, Encoder(factor=1.0 + 1e-3))
    assert second.fingerprint == first.fingerprint
    second.embed(TEXTS, "documents")
    assert encoder.seen == []


def test_what_a_model_reads_of_long_texts_tells_it_apart() -> None:
    def whole(texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text), 100.0] for text in texts], np.float32)

    def head(texts: Sequence[str]) -> np.ndarray:
        return whole([text[:200] for text in texts])

    assert not same_probes(load_model(whole).probes, load_model(head).probes)


def test_without_a_directory_nothing_is_kept(tmp_path: Path) -> None:
    cache, encoder = cache_of(None)
    cache.embed(TEXTS, "documents")
    cache.embed(TEXTS, "documents")
    assert len(encoder.seen) == 8


def test_encoders_that_change_their_mind_are_never_cached(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def fickle(texts: list[str]) -> np.ndarray:
        return rng.normal(size=(len(texts), 4)).astype(np.float32)

    cache, _ = cache_of(tmp_path, fickle)
    cache.embed(TEXTS, "documents")
    assert list(tmp_path.iterdir()) == []
    assert cache.fingerprint != cache_of(tmp_path, fickle)[0].fingerprint


@pytest.mark.parametrize("suffix", [".npy", ".keys.npy", ".json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_shard_is_encoded_again(tmp_path: Path, suffix: str, damage: str) -> None:
    cache, _ = cache_of(tmp_path)
    expected = cache.embed(TEXTS, "documents")
    [path] = [path for path in files_of(tmp_path, f"*{suffix}") if suffix != ".npy" or ".keys" not in path.name]
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "flip":
        data[-1] ^= 0x10
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    again, encoder = cache_of(tmp_path)
    assert np.array_equal(again.embed(TEXTS, "documents"), expected)
    assert sorted(encoder.seen) == sorted(set(TEXTS))
    final, encoder = cache_of(tmp_path)  # and the new one holds
    assert np.array_equal(final.embed(TEXTS, "documents"), expected)
    assert encoder.seen == []


def test_a_damaged_description_of_the_model_is_written_anew(tmp_path: Path) -> None:
    cache_of(tmp_path)[0].embed(TEXTS, "documents")
    [path] = tmp_path.glob("*/model.json")
    path.write_text("{")
    cache, encoder = cache_of(tmp_path)
    cache.embed(TEXTS, "documents")
    assert encoder.seen == []  # the fingerprint in the directory's name still says whose it is
    assert json.loads(path.read_text())["name"] == "letters"


def test_an_interruption_keeps_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddingCache, "_shard_rows", 2)
    monkeypatch.setattr(module, "_CALL_ROWS", 1)
    texts = [f"text {'x' * n}" for n in range(7)]
    cache, encoder = cache_of(tmp_path)
    encode = encoder.encode_documents

    def dies(batch: Sequence[str]) -> np.ndarray:
        if "text xx" in batch:
            raise KeyboardInterrupt
        return encode(batch)

    monkeypatch.setattr(encoder, "encode_documents", dies)
    cache, _ = cache_of(tmp_path, encoder)
    with pytest.raises(KeyboardInterrupt):
        cache.embed(texts, "documents")
    again, encoder = cache_of(tmp_path)
    assert np.array_equal(again.embed(texts, "documents"), Encoder().encode_documents(texts))
    assert len(encoder.seen) == 3  # two shards of two were safe


def test_nothing_is_pickled(tmp_path: Path) -> None:
    cache_of(tmp_path)[0].embed(TEXTS, "documents")
    for path in files_of(tmp_path, "*.npy"):
        np.load(path, allow_pickle=False)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".npy", ".json"}


def test_layers_need_a_transformer() -> None:
    with pytest.raises(ParameterError, match="cuts the transformer"):
        load_model(Encoder(), layers=2)


def test_a_real_model_cut_to_fewer_layers(minilm: str) -> None:
    import torch

    from octavo.encoders.models import load_sentence_transformer

    whole = load_sentence_transformer(minilm)
    assert layer_count(whole) == 6
    with pytest.raises(ParameterError, match="between 1 and the model's 6, got 7"):
        keep_layers(whole, 7)
    cut = load_model(whole, layers=2)
    assert layer_count(whole) == 6  # the caller's model is left alone
    text = "An aeroelastic model of a heated aircraft."
    [vector] = cut.encode([text], "documents")
    # By the transformer's own account: mean of the second layer's output over the tokens, scaled to unit length.
    inputs = whole.tokenizer([text], return_tensors="pt")
    with torch.no_grad():
        states = whole[0].auto_model(**inputs, output_hidden_states=True).hidden_states[2][0].mean(0)
    expected = (states / states.norm()).numpy()
    assert np.allclose(vector, expected, atol=1e-5)
    full = load_model(whole)
    assert full.fingerprint != cut.fingerprint
    assert not np.allclose(vector, full.encode([text], "documents")[0], atol=0.1)
