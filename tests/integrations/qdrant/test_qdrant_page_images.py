"""Page images in Qdrant's core: encoded, found, explained, and moved there and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import octavo
from octavo import PageImage
from octavo.cli import app
from octavo.compression import SpatialPooling
from octavo.errors import InvalidImageError
from octavo.integrations.qdrant import QdrantMultiVectorCollection
from page_models import ColourModel, page

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py: pip install 'octavo[qdrant]'")


def test_images_are_documents_there_as_well(tmp_path: Path) -> None:
    with QdrantMultiVectorCollection.create(
        path=tmp_path / "q", encoder=ColourModel(), pooling=SpatialPooling(4)
    ) as kb:
        kb.add([PageImage(page("red"), "poppies"), page("blue")], ids=["r", "b"])
        assert kb.pooling == SpatialPooling(4)
        assert kb.search("blue", k=1).ids == ["b"]
        assert kb.search("poppies", k=1, mode="text").ids == ["r"]
        hit = kb.search("red", k=1)[0]
        assert hit.image is not None
        assert hit.image.load().tobytes() == page("red").tobytes()
        assert kb.explain("red", "r").heat_map(most=300).size == (200, 300)
        with pytest.raises(InvalidImageError):
            kb.add([b"nothing"])


def test_there_and_back(tmp_path: Path) -> None:
    with octavo.open_multi_vector(tmp_path / "kb", ColourModel(), pooling=SpatialPooling(9)) as kb:
        kb.add([PageImage(page(colour), colour) for colour in ("red", "green", "blue")], ids=["r", "g", "b"])
        before = kb.get(["r", "g", "b"])
    for command in (
        ["push", str(tmp_path / "kb"), "--to", f"qdrant:{tmp_path / 'q'}"],
        ["pull", f"qdrant:{tmp_path / 'q'}", str(tmp_path / "back")],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    with octavo.open(tmp_path / "back", ColourModel()) as back:
        assert back.get(["r", "g", "b"]) == before
        assert [document.embed_text for document in back.get(["r"])] == [before[0].embed_text]
        assert back.late is not None
        assert back.late.pooling == SpatialPooling(9)
        assert back.search("blue", k=1).ids == ["b"]
