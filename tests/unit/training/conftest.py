from __future__ import annotations

from pathlib import Path

import pytest

from tiny_model import save_tiny_model

pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
pytest.importorskip("datasets")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a model with 3 layers and 32 dimensions."""
    return save_tiny_model(Path(tmp_path_factory.mktemp("tiny")))
