"""One program, run on llama-index-core's own store and on ours, side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core import Document, MockEmbedding, Settings, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from octavo.integrations.llama_index import OctavoVectorStore

DIM = 48

CODECS = ["float8", "binary > int8"]

#: Similarities of quantized embeddings differ from the exact ones by less than this.
TOLERANCE = 0.03


class WordEmbedding(BaseEmbedding):
    """Adds up one random direction a word: texts that share words are near each other."""

    def _get_text_embedding(self, text: str) -> list[float]:
        total = np.zeros(DIM)
        for word in text.lower().replace(".", "").split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
            total += np.random.default_rng(seed).standard_normal(DIM)
        return [float(value) for value in total / (np.linalg.norm(total) or 1.0)]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class World:
    """What a program may use: stores of one kind, a folder of its own, the embedding."""

    def __init__(self, folder: Path, make: Callable[[], BasePydanticVectorStore], ours: bool) -> None:
        self.folder = folder
        self.store = make
        self.ours = ours
        self.embedding = WordEmbedding()
        folder.mkdir()

    def context(self) -> StorageContext:
        return StorageContext.from_defaults(vector_store=self.store())

    def index(self, documents: Sequence[Document] = (), **options: Any) -> VectorStoreIndex:
        return VectorStoreIndex.from_documents(
            list(documents),
            storage_context=options.pop("storage_context", None) or self.context(),
            embed_model=self.embedding,
            **options,
        )

    def load_context(self, folder: Path) -> StorageContext:
        """What `StorageContext.persist` saved; our store has to be named."""
        if not self.ours:
            return StorageContext.from_defaults(persist_dir=str(folder))
        store = OctavoVectorStore.from_persist_dir(str(folder))
        return StorageContext.from_defaults(persist_dir=str(folder), vector_store=store)


@dataclass(frozen=True)
class Hit:
    """A hit as what can be compared; ids of nodes are random."""

    text: str
    score: float | None
    source: str | None


def told(value: Any) -> Any:
    """Return what a program returned, with hits in their comparable form."""
    if isinstance(value, NodeWithScore):
        return Hit(value.node.get_content(), value.score, value.node.ref_doc_id)
    if isinstance(value, list | tuple):
        return [told(item) for item in value]
    if isinstance(value, dict):
        return {key: told(item) for key, item in value.items()}
    return value


def same(found: Any, expected: Any, where: str = "result") -> None:
    """Compare what two runs returned; numbers nearly."""
    if isinstance(expected, Hit) and isinstance(found, Hit):
        assert (found.text, found.source) == (expected.text, expected.source), where
        same(found.score, expected.score, f"{where}.score")
    elif isinstance(expected, float) and isinstance(found, float):
        assert found == pytest.approx(expected, abs=TOLERANCE), where
    elif isinstance(expected, list) and expected and all(isinstance(hit, Hit) for hit in expected):
        same_ranking(found, expected, where)
    elif isinstance(expected, list):
        assert isinstance(found, list), where
        assert len(found) == len(expected), (where, found, expected)
        for position, (one, other) in enumerate(zip(found, expected, strict=True)):
            same(one, other, f"{where}[{position}]")
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            same(found[key], expected[key], f"{where}[{key!r}]")
    else:
        assert found == expected, (where, found, expected)


def same_ranking(found: list[Hit], expected: list[Hit], where: str) -> None:
    """Compare two rankings; hits that are as good as equal may change places, and the last with what came next."""
    assert len(found) == len(expected), (where, found, expected)
    known = {(hit.text, hit.source): hit for hit in expected}
    for position, (one, other) in enumerate(zip(found, expected, strict=True)):
        same(one.score, other.score, f"{where}[{position}].score")
        if (one.text, one.source) in known:
            same(one, known[one.text, one.source], f"{where}[{position}]")
        else:
            assert one.score is not None, (where, one, expected)
            assert one.score == pytest.approx(expected[-1].score, abs=TOLERANCE), (where, one, expected)


Program = Callable[[World], Any]


@pytest.fixture(
    params=[(codec, place) for codec in CODECS for place in ("memory", "disk")],
    ids=lambda param: f"{param[0]}, {param[1]}",
)
def worlds(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[World, World]]:
    """The framework's world and ours."""
    codec, place = request.param
    opened: list[OctavoVectorStore] = []

    def ours() -> OctavoVectorStore:
        path = tmp_path / f"kb{len(opened)}" if place == "disk" else None
        opened.append(OctavoVectorStore(path, codec=codec, fit_after=4))
        return opened[-1]

    yield World(tmp_path / "reference", SimpleVectorStore, False), World(tmp_path / "octavo", ours, True)
    for store in opened:
        store.close()


@pytest.fixture
def side_by_side(worlds: tuple[World, World]) -> Callable[[Program], Any]:
    """Run a program in both worlds, and compare what it returns."""

    def run(program: Program) -> Any:
        expected, found = (told(program(world)) for world in worlds)
        same(found, expected)
        return found

    return run


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """No default model may be asked for anything."""
    Settings.llm = MockLLM()
    Settings.embed_model = MockEmbedding(embed_dim=4)
    Settings.transformations = [SentenceSplitter()]
    yield
    Settings._llm = Settings._embed_model = Settings._transformations = None


TEXTS = {
    "pie": ("Apple pie with cinnamon and sugar.", "food", 2001),
    "juice": ("Apple juice from the old orchard.", "food", 2005),
    "bread": ("Banana bread with walnuts.", "food", 2010),
    "steam": ("The steam engine drove the mills.", "machines", 1820),
    "diesel": ("A diesel engine ignites its fuel.", "machines", 1897),
    "turbine": ("Gas turbine blades and alloys.", "machines", 1939),
    "violin": ("The violin sonata in a minor.", "music", 1917),
    "cello": ("A suite for solo cello.", "music", 1720),
}


def make_documents() -> list[Document]:
    return [
        Document(
            id_=name,
            text=text,
            metadata={"topic": topic, "year": year, "name": name},
            excluded_embed_metadata_keys=["topic", "year", "name"],
            excluded_llm_metadata_keys=["topic", "year", "name"],
        )
        for name, (text, topic, year) in TEXTS.items()
    ]


@pytest.fixture
def library() -> Callable[[], list[Document]]:
    """Make the eight documents; each world gets its own."""
    return make_documents
