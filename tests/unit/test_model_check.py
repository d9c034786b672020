"""Another model is noticed by documents that are stored; the encoder is never asked for a sentence of ours."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.collection.model_check import _SAMPLE
from octavo.errors import MismatchError, OctavoError

DIM = 48
TEXTS = [f"text {number}" for number in range(40)]


class Encoder:
    """A vector for each text, from a seed; notes what it is asked for."""

    def __init__(
        self, model: int = 0, noise: float = 0.0, fails: Callable[[Sequence[str]], bool] | None = None
    ) -> None:
        self.name = f"model-{model}"
        self.asked: list[str] = []
        self.queries: list[str] = []
        self._model, self._noise, self._fails = model, noise, fails or (lambda texts: False)
        self._rng = np.random.default_rng(7)

    def _vector(self, text: str) -> Any:
        seed = zlib.crc32(f"{self._model} {text}".encode())
        vector = np.random.default_rng(seed).standard_normal(DIM) + 0.3
        return vector + self._noise * self._rng.standard_normal(DIM)

    def encode_documents(self, texts: Sequence[str]) -> Any:
        self.asked += texts
        if self._fails(texts):
            raise ConnectionError("the service is down")
        return np.array([self._vector(text) for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> Any:
        self.queries += texts
        return np.array([self._vector(text) for text in texts])


def entry_of(kb: octavo.Collection) -> dict[str, Any] | None:
    with kb.connection() as connection:
        row = connection.execute("SELECT value FROM manifest WHERE key = 'encoder'").fetchone()
    return json.loads(row[0]) if row else None


CODECS = ["float32", "int8", "int4", "binary", "binary > int8", "svd:50%|float8", "truncate:16|int8", "rotate|int2"]


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("codec", CODECS)
def test_the_same_model_passes_and_another_is_refused(tmp_path: Path, codec: str, metric: Any) -> None:
    path = tmp_path / "kb"
    with octavo.open(path, Encoder(), codec=codec, fit_after=20, metric=metric) as kb:
        kb.add(TEXTS)
        assert kb.info().fitted
    for attempt in (lambda kb: kb.search("text 3", 1), lambda kb: kb.add(["new"], ids=["new"])):
        with octavo.open(path, encoder := Encoder(noise=1e-3)) as kb:
            attempt(kb)
            attempt(kb)
        assert len([text for text in encoder.asked if text in TEXTS]) == 1  # one document, once
        with octavo.open(path, encoder := Encoder(1)) as kb:
            for _ in range(2):  # it stays refused
                with pytest.raises(MismatchError, match=r"'model-0'.*'model-1'.*stored document"):
                    attempt(kb)
            assert len(kb) == 41 if "new" in kb else 40
            assert set(encoder.asked) <= {*TEXTS, "new"}


def test_an_encoder_hears_only_what_is_stored_or_given(tmp_path: Path) -> None:
    first = Encoder()
    with octavo.open(tmp_path / "kb", first) as kb:
        kb.add(TEXTS[:3])
        kb.search("a question")
        kb.add(TEXTS[3:5])
    assert first.asked == TEXTS[:5]
    assert first.queries == ["a question"]
    second = Encoder()
    with octavo.open(tmp_path / "kb", second) as kb:
        assert len(kb) == 5
        assert kb.search("text 1", mode="text").ids
        kb.delete(kb.ids()[:1])
        assert kb.verify().ok
        assert second.asked == second.queries == []
        kb.add(vectors=np.ones((1, DIM)))
        assert second.asked == []


def test_an_encoder_that_is_down_is_needed_only_where_something_is_encoded(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.add(TEXTS[:2], ids=["a", "b"])
    with octavo.open(tmp_path / "kb", Encoder(fails=lambda texts: True)) as kb:
        assert len(kb) == 2
        assert kb.get(["a"])[0].text == TEXTS[0]
        assert sorted(kb.search("text", mode="text").ids) == ["a", "b"]
        assert kb.search(Encoder().encode_queries(["text 0"])[0], 1).ids == ["a"]
        kb.delete(["b"])
        with pytest.raises(ConnectionError):
            kb.add(["new"])
        assert kb.ids() == ["a"]


def test_a_question_that_fails_is_logged_and_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.add(TEXTS[:3])
    known = Encoder(fails=lambda texts: any(text in TEXTS for text in texts))  # a table of what one test needs
    with octavo.open(tmp_path / "kb", known) as kb, caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert len(kb.search("x")) == 3
        kb.add(["new"])
    assert 1 <= len(known.asked) <= 4
    assert "ConnectionError" in caplog.text

    class Odd(Encoder):
        def encode_documents(self, texts: Sequence[str]) -> Any:
            return np.ones((1, 2)) if texts[0] in TEXTS else super().encode_documents(texts)

    with octavo.open(tmp_path / "kb", Odd()) as kb:
        kb.add(["newer"])


def test_a_model_that_gives_another_vector_each_time_is_not_judged(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.add(TEXTS[:3])
    with octavo.open(tmp_path / "kb", Encoder(1, noise=10.0)) as kb:
        assert len(kb.search("x")) == 3


def test_vectors_that_were_given_say_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with octavo.open(tmp_path / "kb", Encoder()) as kb:  # pictures, say, with captions
        kb.add(TEXTS, ids=TEXTS, vectors=rng.standard_normal((40, DIM)))
        assert entry_of(kb) is None
        kb.search("text 1")
        kb.add(["words"], ids=["w"])
        entry = entry_of(kb)
        assert entry is not None
        assert entry == {"name": "model-0", "prompts": {}, "dim": DIM, "sample": ["w"]}
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.search("text 1")
    with octavo.open(tmp_path / "kb", Encoder(2)) as kb, pytest.raises(MismatchError):
        kb.search("text 1")


def test_the_sample_is_filled_up_and_survives_deletions(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        for number, text in enumerate(TEXTS[:6]):
            kb.add(["", text], ids=[f"empty {number}", str(number)])
        entry = entry_of(kb)
        assert entry is not None
        assert entry["sample"] == list("0123")
        kb.delete(list("012"))
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.add(TEXTS[10:30], ids=[str(n) for n in range(10, 30)])
        entry = entry_of(kb)
        assert entry is not None
        assert entry["sample"] == ["3", *map(str, range(10, 9 + _SAMPLE))]
        kb.delete(["3"])
        kb.add(["replaced by hand"], ids=["10"], vectors=np.ones((1, DIM)))
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.search("x")  # the others tell
    with octavo.open(tmp_path / "kb", Encoder(1)) as kb, pytest.raises(MismatchError):
        kb.search("x")


@pytest.mark.parametrize("codecs", [("binary", "int8"), ("int2", "binary > int8"), ("svd:25%|int8", "float16")])
def test_after_a_refit_the_same_model_passes(tmp_path: Path, codecs: tuple[str, str]) -> None:
    with octavo.open(tmp_path / "kb", Encoder(), codec=codecs[0], fit_after=20) as kb:
        kb.add(TEXTS)
        kb.refit(codecs[1])
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.search("text 1")
    with octavo.open(tmp_path / "kb", Encoder(1)) as kb, pytest.raises(MismatchError):
        kb.search("text 1")


def test_an_entry_of_earlier_versions_is_read(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.add(TEXTS[:5], ids=TEXTS[:5])
        old = {"name": "model-0", "prompts": {}, "dim": DIM, "probe": "AAAA"}
        with kb.connection(write=True) as connection:
            connection.execute("UPDATE manifest SET value = ? WHERE key = 'encoder'", (json.dumps(old),))
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.search("x")
        kb.add(["new"], ids=["new"])
        entry = entry_of(kb)
        assert entry is not None
        assert entry["sample"] == ["new"]
    with octavo.open(tmp_path / "kb", Encoder(1)) as kb, pytest.raises(MismatchError):
        kb.search("x")


def test_repairing_with_another_model_is_refused(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        kb.add(TEXTS[:5])
    with octavo.open(tmp_path / "kb", Encoder(1)) as kb, pytest.raises(MismatchError):
        kb.verify(repair=True)
    with octavo.open(tmp_path / "kb", Encoder()) as kb:
        assert kb.verify(repair=True).ok


@pytest.mark.parametrize("codec", ["float16", "int8", "binary", "svd:8|int8"])
@pytest.mark.parametrize("pool_factor", [1, 2])
def test_many_vectors_a_document(tmp_path: Path, codec: str, pool_factor: int) -> None:
    class Tokens:
        def __init__(self, model: int = 0) -> None:
            self.name, self.asked, self._one = f"tokens-{model}", [], Encoder(model)

        def encode_documents(self, texts: Sequence[str]) -> Any:
            self.asked += texts
            return [self._one.encode_queries([f"{text} {i}" for i in range(2 + len(text) % 3)]) for text in texts]

        encode_queries = encode_documents

    with octavo.open_multi_vector(tmp_path / "kb", Tokens(), codec=codec, fit_after=20, pool_factor=pool_factor) as kb:
        kb.add(TEXTS)
    with octavo.open(tmp_path / "kb", tokens := Tokens()) as kb:
        assert tokens.asked == []
        kb.search("text 3")
        kb.add(["new"])
        assert len(tokens.asked) == 3
    with octavo.open(tmp_path / "kb", Tokens(1)) as kb:
        for attempt in (lambda: kb.search("text 3"), lambda: kb.add(["newer"])):
            with pytest.raises(MismatchError, match=r"'tokens-0'.*'tokens-1'"):
                attempt()
        assert len(kb) == 41


def test_two_processes_that_begin_at_once_agree(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", Encoder()) as one, octavo.open(tmp_path / "kb", Encoder(1)) as other:
        one.add(["first"])
        with pytest.raises(OctavoError):
            other.add(["second"])
        assert other.count() == 1
