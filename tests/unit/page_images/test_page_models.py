"""Page models of the real architectures, with one layer and random weights, through the code that loads real ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import PageImage, TokenEncoder
from octavo.compression import SpatialPooling
from octavo.errors import InputTypeError
from page_models import page, save_colmodernvbert, save_colpali, save_colqwen2

pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def colpali(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colpali")
    save_colpali(folder)
    return folder


@pytest.fixture(scope="module")
def colqwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colqwen2")
    save_colqwen2(folder)
    return folder


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    yield
    logging.getLogger("sentence_transformers").setLevel(logging.NOTSET)


def test_colpali(colpali: Path) -> None:
    encoder = TokenEncoder(str(colpali))
    assert encoder.takes_images
    tall, wide = PageImage(page("red")).embed_text, PageImage(page("blue", size=(300, 100))).embed_text
    matrices = encoder.encode_documents([tall, "red", wide])
    assert [matrix.shape for matrix in matrices][::2] == [(21, 16), (21, 16)]
    for text in (tall, wide):
        assert encoder.patch_grid(text).tolist() == np.arange(16).reshape(4, 4).tolist()
    assert encoder.patch_grid("red") is None
    with octavo.open_multi_vector(encoder=str(colpali), pooling=SpatialPooling(4)) as kb:
        kb.add([PageImage(page("red"), "red"), PageImage(page("blue"), "blue")], ids=["r", "b"])
        assert [len(matrix) for matrix in kb.get_token_vectors(["r", "b"])] == [
            9,
            9,
        ]  # five that are no patches, four regions
        assert sorted(kb.search("red", k=2).ids) == ["b", "r"]
        assert kb.explain("red", "r").heat_map(most=300).size == (200, 300)
        assert kb.verify().ok


def test_colqwen2(colqwen2: Path) -> None:
    encoder = TokenEncoder(str(colqwen2))
    tall, wide = PageImage(page("red", size=(112, 168))).embed_text, PageImage(page("blue", size=(168, 84))).embed_text
    grids = [encoder.patch_grid(text) for text in (tall, wide)]
    assert [grid.shape for grid in grids] == [(6, 4), (3, 6)]  # rows and columns follow the image
    for grid, matrix in zip(grids, encoder.encode_documents([tall, wide]), strict=True):
        assert grid.min() > 0  # the prompt comes first
        assert (np.diff(grid.ravel()) == 1).all()
        assert grid.max() < len(matrix) - 1
        assert matrix.shape[1] == 16


def test_colmodernvbert(tmp_path: Path) -> None:
    save_colmodernvbert(tmp_path)
    encoder = TokenEncoder(str(tmp_path))
    text = PageImage(page("red", size=(160, 240))).embed_text
    [matrix] = encoder.encode_documents([text])
    grid = encoder.patch_grid(text)
    assert grid.shape == (6, 4)  # three rows and two columns of tiles, each with 2 x 2 patches
    np.testing.assert_array_equal(grid[0, :2] + 2, grid[1, :2])  # the rows of a tile follow each other,
    assert grid[0, 2] > grid[1, 1]  # then comes the next tile
    assert len(np.unique(grid)) == 24
    assert grid.max() < len(matrix) - 4  # the whole image comes last, and is no patch
    with octavo.open_multi_vector(encoder=encoder, pooling=SpatialPooling(4)) as kb:
        kb.add([PageImage(page("red"))], ids=["r"])
        assert len(kb.get_token_vectors(["r"])[0]) == len(matrix) - 24 + 6
        assert kb.explain("red", "r").patch_similarities().shape[1:] == (6, 4)


def test_a_model_with_its_processor_gives_the_same(colpali: Path, colqwen2: Path) -> None:
    import transformers

    for folder, name in ((colpali, "ColPali"), (colqwen2, "ColQwen2")):
        model = getattr(transformers, f"{name}ForRetrieval").from_pretrained(folder)
        processor = getattr(transformers, f"{name}Processor").from_pretrained(folder)
        pair, loaded = TokenEncoder((model, processor)), TokenEncoder(str(folder))
        texts = [PageImage(page("red", size=size)).embed_text for size in ((112, 168), (168, 84))]
        for ours, theirs in zip(pair.encode_documents(texts), loaded.encode_documents(texts), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        for ours, theirs in zip(
            pair.encode_queries(["red", "blue"]), loaded.encode_queries(["red", "blue"]), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        for text in texts:
            np.testing.assert_array_equal(pair.patch_grid(text), loaded.patch_grid(text))


def test_a_pair_of_anything_else_is_refused() -> None:
    with pytest.raises(InputTypeError, match="process_images"):
        TokenEncoder((lambda **features: None, object()))
