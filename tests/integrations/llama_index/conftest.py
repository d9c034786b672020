"""What the LlamaIndex tests share: a deterministic embedding, a store for every codec, nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from octavo.integrations.llama_index import OctavoVectorStore

DIM = 32

CODECS = ["float32", "int8", "float8", "binary > int8", "svd:50%|float8 > int8"]

MakeStore = Callable[..., OctavoVectorStore]


def embed(text: str) -> list[float]:
    """Sum one random direction a word: texts that share words are near each other."""
    total = np.zeros(DIM)
    for word in text.lower().split():
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
        total += np.random.default_rng(seed).standard_normal(DIM)
    if not total.any():
        total[0] = 1.0
    return [float(value) for value in total / np.linalg.norm(total)]


class WordEmbedding(BaseEmbedding):
    """`embed` as the framework wants it."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return embed(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return embed(query)


@pytest.fixture
def embedding() -> WordEmbedding:
    return WordEmbedding()


@pytest.fixture
def make_node() -> Callable[..., TextNode]:
    """Make a node with an embedding of its text; ``source=`` names the document that it was cut from."""

    def make(identifier: str, text: str, source: str | None = None, **fields: Any) -> TextNode:
        relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)} if source else {}
        return TextNode(id_=identifier, text=text, relationships=relationships, embedding=embed(text), **fields)

    return make


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[MakeStore]:
    """Open stores that are closed when the test ends; ``name=`` puts one on disk."""
    opened: list[OctavoVectorStore] = []

    def make(name: str | None = None, **options: Any) -> OctavoVectorStore:
        store = OctavoVectorStore(tmp_path / name if name else None, **options)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


PLACES = [*((codec, None) for codec in CODECS), ("float32", "kb"), ("svd:50%|float8 > int8", "kb")]


@pytest.fixture(params=PLACES, ids=[f"{codec}, {'disk' if name else 'memory'}" for codec, name in PLACES])
def store(request: pytest.FixtureRequest, make_store: MakeStore) -> OctavoVectorStore:
    """An empty store, for each codec in memory and for two on disk; the codec is fitted after a few nodes."""
    codec, name = request.param
    return make_store(name, codec=codec, fit_after=8)


@pytest.fixture
def library(make_node: Callable[..., TextNode]) -> list[TextNode]:
    """Twelve nodes from four documents."""
    texts = [
        "apple pie with cinnamon",
        "apple juice from the orchard",
        "banana bread with walnuts",
        "cherry tart and cherry jam",
        "steam engine of the nineteenth century",
        "electric engine for small boats",
        "diesel engine maintenance manual",
        "gas turbine blades and alloys",
        "violin sonata in a minor",
        "cello suite for solo cello",
        "piano concerto with orchestra",
        "jazz piano improvisation lessons",
    ]
    topics = ["food", "food", "food", "food", *["machines"] * 4, *["music"] * 4]
    return [
        make_node(
            f"n{number}",
            text,
            f"d{number // 3}",
            metadata={"topic": topics[number], "number": number, "tags": [text[:1]]},
        )
        for number, text in enumerate(texts)
    ]
