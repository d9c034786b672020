"""Changing the model of a collection for late interaction, and from one kind of vectors to the other."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import TokenEncoder
from octavo.errors import CollectionClosedError, CollectionReplacedError, OctavoError, ParameterError

TEXTS = [f"w{number % 37} x{number % 11} n{number}" for number in range(300)]


class Tokens:
    """A vector for each word, of a model; may stop after some documents."""

    def __init__(self, name: str, dim: int) -> None:
        self.name, self.dim = name, dim
        self.documents: list[str] = []
        self.left = 10**9

    def _vector(self, word: str) -> Any:
        return np.random.default_rng(zlib.crc32(f"{self.name} {word}".encode())).standard_normal(self.dim)

    def encode_documents(self, texts: Sequence[str]) -> Any:
        if len(texts) > self.left:
            raise ConnectionError("429")
        self.left -= len(texts)
        self.documents += texts
        return [np.array([self._vector(word) for word in text.split()]) for text in texts]

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return [np.array([self._vector(word) for word in text.split()]) for text in texts]


class Dense(Tokens):
    """The sum of the vectors of words."""

    def encode_documents(self, texts: Sequence[str]) -> Any:
        return np.array([matrix.sum(axis=0) for matrix in super().encode_documents(texts)])

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return np.array([matrix.sum(axis=0) for matrix in super().encode_queries(texts)])


def named(model: Tokens) -> TokenEncoder:
    return TokenEncoder(model, name=model.name)


def filled(path: Path | None, model: Tokens, **options: Any) -> octavo.Collection:
    if isinstance(model, Dense):
        kb = octavo.open(path, model, fit_after=100, **options)
    else:
        kb = octavo.open_multi_vector(path, named(model), fit_after=100, **options)
    kb.add(TEXTS, ids=[str(i) for i in range(300)], metadata=[{"part": i % 3} for i in range(300)])
    return kb


def started(kb: octavo.Collection, model: Tokens, done: int) -> None:
    model.left = done
    with pytest.raises(ConnectionError):
        kb.reencode(model if isinstance(model, Dense) else named(model), batch_size=50)
    model.left = 10**9


def searched(kb: octavo.Collection, served: str | None) -> None:
    for number in (7, 120, 290):
        found = kb.search(TEXTS[number], k=3)
        assert (found.ids[0], found.reencoding) == (str(number), served)
    within = kb.search(TEXTS[7], k=100, filter={"part": 1})
    assert len(within.ids) == 100
    assert kb.search(TEXTS[7], k=3, mode="hybrid").ids[0] == "7"
    assert kb.search(TEXTS[7], k=3, lambda_mult=0.5).ids[0] == "7"
    assert [result.ids[0] for result in kb.search_batch(TEXTS[:5], k=2)] == list("01234")


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_token_vectors(tmp_path: Path, place: str) -> None:
    old, new = Tokens("old", 24), Tokens("new", 32)
    path = tmp_path / "kb" if place == "disk" else None
    with filled(path, old) as kb:
        started(kb, new, 150)
        searched(kb, "both")
        assert kb.verify().ok
        kb.delete(["93", "200"])
        kb.add(["w1 x2 again"], ids=["5"])
        assert kb.compact() == 3
        searched(kb, "both")
        with kb.copy() as copy:
            searched(copy, "both")
        kb.reencode(named(new), batch_size=50)
        searched(kb, None)
        assert len(new.documents) <= len(set(new.documents)) + 16  # those by which the models were told apart
        assert kb.search("w1 x2 again", k=1).ids == ["5"]
        assert kb.verify().ok
        info = kb.info()
        assert (info.dim, info.encoder, info.reencoding) == (32, "new", None)
        with octavo.open_multi_vector(None, named(new), fit_after=100) as direct:
            direct.add(kb.get(kb.ids()))
            for mine, other in zip(
                kb.get_token_vectors(kb.ids()),  # type: ignore[attr-defined]
                direct.get_token_vectors(kb.ids()),
                strict=True,
            ):
                assert np.abs(mine - other).max() < 0.05
        kb.cancel_reencode()


def test_token_vectors_beyond_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from octavo.collection import reencoding
    from octavo.store import reencoding as stored

    monkeypatch.setattr(reencoding, "LATE_WAITING", 80)
    monkeypatch.setattr(stored, "LATE_WAITING", 60)
    old, new = Tokens("old", 24), Tokens("new", 32)
    with filled(tmp_path / "kb", old) as kb:
        started(kb, new, 150)
        state = kb.info().reencoding
        assert state is not None
        assert 60 <= state["documents"] <= 150
        searched(kb, "both")
        kb.reencode(named(new), batch_size=50)
        assert sorted(new.documents) == sorted(TEXTS)
        searched(kb, None)
        assert kb.verify().ok


@pytest.mark.parametrize(("first", "second"), [(Dense, Tokens), (Tokens, Dense)])
def test_from_one_kind_to_the_other(tmp_path: Path, first: Any, second: Any) -> None:
    old, new = first("old", 24), second("new", 32)
    kb = filled(tmp_path / "kb", old)
    bystander = octavo.open(tmp_path / "kb")
    started(kb, new, 150)
    searched(kb, "both")
    assert kb.verify().ok
    other = octavo.open(
        tmp_path / "kb",
        new if second is Dense else named(new),
        previous=old if first is Dense else named(old),
    )
    searched(other, "both")
    other.add(["w1 x2 added"], ids=["added"])
    other.close()
    kb.reencode(new if second is Dense else named(new), batch_size=50)
    with pytest.raises(CollectionClosedError):
        kb.search("w1")
    with pytest.raises(CollectionReplacedError, match="open it again"):
        bystander.search("w1", mode="text")
    bystander.close()
    with octavo.open(tmp_path / "kb", new if second is Dense else named(new)) as kb:
        assert (kb.late is None) == (second is Dense)
        searched(kb, None)
        assert kb.search("w1 x2 added", k=1).ids == ["added"]
        assert kb.verify().ok
        kb.add(["w5 later"], ids=["later"])
        assert kb.search("w5 later", k=1).ids == ["later"]
        assert len(new.documents) <= 301 + 20


def test_in_memory_the_kind_stays() -> None:
    with filled(None, Dense("old", 24)) as kb, pytest.raises(ParameterError, match="copy"):
        kb.reencode(named(Tokens("new", 32)))


def test_an_empty_collection_keeps_its_kind(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb, pytest.raises(OctavoError, match="kind"):
        kb.reencode(named(Tokens("new", 32)))
