"""Models of which only the first layers are used: their names, what is refused, and that nothing else of a model changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavo
from octavo.encoders.dense import as_encoder, check_fingerprint
from octavo.encoders.layers import RECORD_NAME, keep_layers, layer_count, layered_name, split_name, with_layers
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import InputTypeError, MismatchError, ParameterError
from tiny_model import save_tiny_model

TEXTS = ["abc def", "hij klm"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("sentence_transformers")
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def cut(tiny: str, layers: int) -> Any:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(tiny, device="cpu")
    keep_layers(model, layers)
    return model


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: "@layers=" not in name),
    st.integers(1, 99),
    st.integers(1, 99),
)
def test_a_name_says_the_layers(name: str, layers: int, queries: int) -> None:
    if queries > layers:
        with pytest.raises(ParameterError, match="at most"):
            layered_name(name, layers, queries)
        return
    own, documents, query = split_name(layered_name(name, layers, queries))
    assert (own, documents, layers if query is None else query) == (name, layers, queries)
    assert layered_name(name, None) == name


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd@layers=3").mkdir()
    assert split_name("odd@layers=3") == ("odd@layers=3", None, None)


def test_by_name_and_by_object_it_is_the_cut_model(tiny: str) -> None:
    from sentence_transformers import SentenceTransformer

    expected = cut(tiny, 2).encode(TEXTS)
    assert np.allclose(as_encoder(f"{tiny}@layers=2").encode_documents(TEXTS), expected, atol=1e-6)
    whole = SentenceTransformer(tiny, device="cpu")
    before = whole.encode(TEXTS)
    with octavo.open(encoder=whole, layers=2) as kb:
        kb.add(TEXTS, ids=["a", "b"])
        assert str(kb.info().encoder).endswith("@layers=2")
        assert kb.search(TEXTS[1], k=1).ids == ["b"]
    assert layer_count(whole) == 3
    assert np.array_equal(whole.encode(TEXTS), before)
    matrices = TokenEncoder(f"{tiny}@layers=2").encode_documents(TEXTS)
    assert not np.allclose(matrices[0], TokenEncoder(tiny).encode_documents(TEXTS)[0], atol=1e-3)
    with octavo.open_multi_vector(encoder=tiny, layers=2, pool_factor=1) as late:
        late.add(TEXTS, ids=["a", "b"])
        assert late.info().encoder == f"{tiny}@layers=2"


def test_queries_of_fewer_layers_where_they_were_aligned(tiny: str, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "trained"
    shutil.copytree(tiny, folder)
    (folder / RECORD_NAME).write_text(json.dumps({"aligned_layers": [1, 3]}))
    encoder = as_encoder(layered_name(str(folder), 3, 1))
    assert np.allclose(encoder.encode_documents(TEXTS), cut(tiny, 3).encode(TEXTS), atol=1e-6)
    assert np.allclose(encoder.encode_queries(TEXTS), cut(tiny, 1).encode(TEXTS), atol=1e-6)
    for layers, queries in ((3, 2), (2, 1)):
        with pytest.raises(ParameterError, match="trained for it"):
            as_encoder(layered_name(str(folder), layers, queries))
    (folder / RECORD_NAME).write_text("[broken")
    with pytest.raises(ParameterError, match="trained for it"):
        as_encoder(layered_name(str(folder), 3, 1))


def test_other_layers_are_another_model() -> None:
    stored = {"name": "model@layers=3", "dim": 8}
    check_fingerprint(stored, "model@layers=3", 8)
    check_fingerprint(stored, "model@layers=3,query_layers=1", 8)  # documents are what they were
    check_fingerprint(stored, "renamed", 8)  # the documents tell
    for name in ("model", "model@layers=2"):
        with pytest.raises(MismatchError, match="other layers"):
            check_fingerprint(stored, name, 8)


@pytest.mark.parametrize(
    ("encoder", "layers", "queries", "error"),
    [
        ("model", 0, None, ParameterError),
        ("model", True, None, ParameterError),
        ("model", 2.0, None, ParameterError),
        ("model", None, 2, ParameterError),
        ("model", 2, 3, ParameterError),
        ("model@layers=2", 2, None, ParameterError),
        (None, 2, None, ParameterError),
        (lambda texts: texts, 2, None, InputTypeError),
    ],
)
def test_layers_that_cannot_be_used(
    encoder: Any, layers: Any, queries: Any, error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        octavo.open(tmp_path / "kb", encoder=encoder, layers=layers, query_layers=queries)
    assert not (tmp_path / "kb").exists()
    with pytest.raises(error):
        with_layers(encoder, layers, queries)


def test_more_layers_than_there_are(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="between 1 and the model's 3"):
        octavo.open(tmp_path / "kb", encoder=tiny, layers=4)
    assert not (tmp_path / "kb").exists()
