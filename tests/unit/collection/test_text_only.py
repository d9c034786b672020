"""BM25 alone: a collection that is opened without an encoder takes texts, and says what it cannot do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo.errors import InvalidVectorsError, MismatchError, ParameterError

TEXTS = ["red apples", "green pears", "blue plums"]


def test_texts_without_an_encoder_are_found_by_their_words(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(TEXTS, ids=["a", "b", "c"])
        assert kb.search("pears", mode="text").ids == ["b"]
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(["more pears"], ids=["d"])
        kb.delete(["b"])
        assert kb.search("pears", mode="text").ids == ["d"]
        assert kb.verify().ok
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.search("plums", mode="text").ids == ["c"]


def test_vectors_are_neither_searched_nor_mixed_in(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(TEXTS)
        for mode in ("dense", "hybrid"):
            with pytest.raises(ParameterError, match="search it with mode='text'"):
                kb.search("pears", mode=mode)  # type: ignore[arg-type]
        with pytest.raises(InvalidVectorsError, match="dimension 1, got 2"):
            kb.add(vectors=[[1.0, 2.0]])
    with octavo.open(tmp_path / "kb") as kb, pytest.raises(ParameterError, match="mode='text'"):
        kb.search("pears")
    with (
        octavo.open(tmp_path / "kb", lambda texts: np.ones((len(texts), 2))) as kb,
        pytest.raises((MismatchError, InvalidVectorsError)),
    ):
        kb.add(["with a vector"])


def test_a_collection_of_vectors_still_asks_for_them() -> None:
    with octavo.open() as kb:
        kb.add(vectors=[[1.0, 0.0]], ids=["v"])
        with pytest.raises(ParameterError, match="expected vectors="):
            kb.add(["a text"])


def test_a_call_that_fails_decides_nothing() -> None:
    with octavo.open() as kb:
        with pytest.raises(ParameterError):
            kb.add(["a", "b"], ids=["same", "same"])
        kb.add(["a", "b"], vectors=[[1.0, 0.0], [0.0, 1.0]])
        assert kb.dim == 2
