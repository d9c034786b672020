"""Another embedding for a LangChain store that is in use."""

from __future__ import annotations

import asyncio
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

import octavo
from octavo.errors import MismatchError, ParameterError
from octavo.integrations.langchain import OctavoVectorStore

TEXTS = [f"word{number} word{number // 2} common" for number in range(200)]


class Hashed(Embeddings):
    """Vectors from hashes of words; may stop after some texts."""

    def __init__(self, model: str, dim: int = 32) -> None:
        self.model, self.dim = model, dim
        self.left = 10**9

    def _vector(self, text: str) -> list[float]:
        total = np.zeros(self.dim)
        for word in text.split():
            total += np.random.default_rng(zlib.crc32(f"{self.model} {word}".encode())).standard_normal(self.dim)
        return total.tolist()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.left -= len(texts)
        if self.left < 0:
            raise ConnectionError("rate limit")
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self._vector(text)


def filled(path: Path | None, embedding: Embeddings) -> OctavoVectorStore:
    store = OctavoVectorStore(embedding, path)
    store.add_texts(TEXTS, [{"even": number % 2 == 0} for number in range(200)], ids=[str(i) for i in range(200)])
    return store


@pytest.mark.parametrize("dim", [32, 48])
def test_the_error_says_how_and_it_works(tmp_path: Path, dim: int) -> None:
    filled(tmp_path / "kb", Hashed("old")).close()
    new = Hashed("new", dim)
    with OctavoVectorStore(new, tmp_path / "kb") as store:
        with pytest.raises(MismatchError, match=r"store\.reencode\(\)"):
            store.similarity_search("word3")
        with pytest.raises(MismatchError, match=r"store\.reencode\(\)"):
            store.add_texts(["x"])
        with pytest.raises(MismatchError, match=r"store\.reencode\(\)"):
            asyncio.run(store.asimilarity_search("word3"))
        store.reencode()
        assert store.similarity_search(TEXTS[7], k=1)[0].id == "7"
        store.add_texts(["quite another"], ids=["x"])
        assert store.similarity_search("quite another", k=1)[0].id == "x"


def test_both_embeddings_answer_meanwhile(tmp_path: Path) -> None:
    old, new = Hashed("old"), Hashed("new", 48)
    store = filled(tmp_path / "kb", old)
    new.left = 120
    with pytest.raises(ConnectionError):
        store.reencode(new, batch_size=50)
    new.left = 10**9
    others = OctavoVectorStore(new, tmp_path / "kb", previous=old)
    for searcher in (store, others):
        assert searcher.collection.search(TEXTS[7], k=1).reencoding == "both"
        assert searcher.similarity_search(TEXTS[7], k=1)[0].id == "7"
        assert searcher.similarity_search(TEXTS[150], k=1, filter={"even": True})[0].id == "150"
        assert asyncio.run(searcher.asimilarity_search(TEXTS[150], k=1))[0].id == "150"
        ((_, relevance),) = searcher.similarity_search_with_relevance_scores(TEXTS[7], k=1)
        assert 0 <= relevance <= 1
        assert searcher.max_marginal_relevance_search(TEXTS[7], k=2, fetch_k=10)[0].id == "7"
        assert searcher.similarity_search(TEXTS[9], k=1, mode="hybrid")[0].id == "9"
    others.add_texts(["added meanwhile"], ids=["x"])
    assert asyncio.run(others.aadd_texts(["added, too"], ids=["y"])) == ["y"]
    store.reencode(new)
    assert store.embeddings is new
    for searcher in (store, others):
        assert searcher.similarity_search("added meanwhile", k=1)[0].id == "x"
        assert searcher.similarity_search(TEXTS[7], k=1)[0].id == "7"
        assert searcher.collection.local is not None
        assert searcher.collection.local.info().dim == 48
        searcher.close()


def test_a_store_with_the_old_embedding_alone_is_told_at_the_end(tmp_path: Path) -> None:
    old, new = Hashed("old"), Hashed("new")  # of one dimension
    store, other = filled(tmp_path / "kb", old), OctavoVectorStore(Hashed("old"), tmp_path / "kb")
    assert other.similarity_search(TEXTS[7], k=1)[0].id == "7"
    store.reencode(new)
    with pytest.raises(MismatchError):
        other.similarity_search(TEXTS[7], k=1)
    with pytest.raises(MismatchError):
        other.add_texts(["x"])
    store.close()
    other.close()


def test_a_collection_that_was_opened_without_an_encoder(tmp_path: Path) -> None:
    old, new = Hashed("old"), Hashed("new")
    with octavo.open(tmp_path / "kb") as kb, octavo.open(tmp_path / "kb") as again:
        store = OctavoVectorStore(old, collection=kb)
        store.add_texts(TEXTS, ids=[str(i) for i in range(200)])
        other = OctavoVectorStore(Hashed("old"), collection=again)
        assert other.similarity_search(TEXTS[7], k=1)[0].id == "7"
        seen: list[Any] = []
        encode = new.embed_documents

        def look(texts: list[str]) -> list[list[float]]:
            if len(texts) > 10 and threading.current_thread() is threading.main_thread():
                seen.append(store.similarity_search(TEXTS[7], k=1)[0].id)
            return encode(texts)

        new.embed_documents = look  # type: ignore[method-assign]
        store.reencode(new, batch_size=50)
        assert seen == ["7"] * 4
        assert store.similarity_search(TEXTS[7], k=1)[0].id == "7"
        with pytest.raises(MismatchError):
            other.similarity_search(TEXTS[7], k=1)


def test_nothing_to_change_to() -> None:
    with OctavoVectorStore() as store, pytest.raises(ParameterError, match="embedding"):
        store.reencode()
