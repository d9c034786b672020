"""Token vectors that are pooled already, and encoders that do not give any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import InputTypeError, InvalidVectorsError, MismatchError, ParameterError


def letters(texts: list[str]) -> list[Any]:
    return [np.eye(26, dtype=np.float32)[[ord(letter) % 26 for letter in text]] for text in texts]


def flat(texts: list[str]) -> Any:
    return np.ones((len(texts), 26), np.float32)


class Embeddings:
    """As LangChain has them: one vector a text."""

    model = "one-vector"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0] * 26 for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0] * 26


def filled(path: Any = None, **options: Any) -> octavo.MultiVectorCollection:
    rng = np.random.default_rng(7)
    kb = octavo.open_multi_vector(path, pool_factor=2, fit_after=20, **options)
    matrices = [rng.standard_normal((int(length), 16)).astype(np.float32) for length in rng.integers(0, 12, 60)]
    kb.add([f"text {i}" for i in range(60)], ids=[str(i) for i in range(60)], token_vectors=matrices)
    return kb


@pytest.mark.parametrize("codec", ["int8", "float8", "svd:8|int8"])
def test_pooled_vectors_are_stored_as_they_are(codec: str) -> None:
    with filled(codec=codec) as source, octavo.open_multi_vector(dim=16, codec="float32", pool_factor=2) as target:
        given = source.get_token_vectors(source.ids())
        target.add([""] * len(given), ids=source.ids(), token_vectors=given, pooled=True)
        for before, after in zip(given, target.get_token_vectors(source.ids()), strict=True):
            np.testing.assert_array_equal(before, after)


def test_a_stream_of_pooled_vectors_gives_the_same_answers() -> None:
    with filled(codec="int8") as source, octavo.open_multi_vector(dim=16, codec="float32", pool_factor=2) as target:
        ids = source.ids()
        stream = (source.get_token_vectors([identifier])[0] for identifier in ids)
        target.add(
            (f"text {identifier}" for identifier in ids), ids=ids, token_vectors=stream, pooled=True, batch_size=7
        )
        query = np.random.default_rng(1).standard_normal((4, 16))
        first, second = source.search(query, 60), target.search(query, 60)
        assert sorted(first.ids) == sorted(second.ids)
        # the query itself is rounded to int8 on one side
        np.testing.assert_allclose(first.scores, second.scores, atol=0.1)


def test_without_pooled_they_are_pooled_once_more() -> None:
    with filled() as source, octavo.open_multi_vector(dim=16, pool_factor=2) as target:
        given = source.get_token_vectors(["5"])
        assert len(given[0]) > 2
        target.add(["x"], ids=["5"], token_vectors=given)
        assert len(target.get_token_vectors(["5"])[0]) < len(given[0])


def test_what_cannot_be_pooled_vectors_is_refused() -> None:
    with filled() as kb:
        for matrices, error in [
            ([np.full((2, 16), 3.0)], "length"),
            ([np.full((2, 15), 0.1)], "dimension"),
            ([np.full((2, 16), np.nan)], "finite|NaN"),
        ]:
            with pytest.raises(InvalidVectorsError, match=error):
                kb.add(["x"], ids=["x"], token_vectors=matrices, pooled=True)
        with pytest.raises(ParameterError, match="pooled"):
            kb.add(["x"], ids=["x"], pooled=True, vectors=None)
        with pytest.raises(ParameterError, match="pooled"):
            kb.add(["x"], ids=["x"], token_vectors=[np.eye(16)], pooled="yes")  # type: ignore[arg-type]
        assert "x" not in kb.ids()
        assert len(kb) == 60


@pytest.mark.parametrize("encoder", [flat, Embeddings()])
def test_an_encoder_of_one_vector_a_text_is_the_wrong_one(encoder: Any, tmp_path: Any) -> None:
    with octavo.open_multi_vector(tmp_path / "kb", letters) as kb:
        kb.add(["ink", "paper"], ids=["i", "p"])
    if encoder is flat:  # a callable is known by what it returns
        with octavo.open(tmp_path / "kb", encoder) as kb, pytest.raises(InvalidVectorsError, match="'flat'"):
            kb.search("ink", 1)
    else:
        with pytest.raises(MismatchError, match=r"(?s)'letters'.*'one-vector'"):
            octavo.open(tmp_path / "kb", encoder)
    with pytest.raises(InputTypeError, match="token encoder"):
        octavo.open(tmp_path / "kb", 5)
    with octavo.open(tmp_path / "kb", letters) as again:  # what failed has left nothing locked
        assert again.search("ink", 1).ids == ["i"]
