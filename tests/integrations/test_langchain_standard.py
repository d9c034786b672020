"""LangChain's own suites, for every codec, in memory and on disk, before and after the codec is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from octavo.integrations.langchain import OctavoRetriever, OctavoVectorStore

CODECS = [
    "float32",
    "float16",
    "bfloat16",
    "float8",
    "float8-e5m2",
    "int8",
    "int4",
    "int2",
    "binary > int8",
    "rotate|int8",
    "svd:50%|float8 > int8",
]

#: Codecs that serve two documents of six dimensions when they are fitted on them, and how early they are.
FITTED = ["float16", "bfloat16", "float8", "int8", "binary > int8"]


class TestInMemory(VectorStoreIntegrationTests):
    """The 25 standard tests, in memory."""

    @pytest.fixture(params=CODECS)
    def vectorstore(self, request: pytest.FixtureRequest) -> Iterator[OctavoVectorStore]:
        with OctavoVectorStore(self.get_embeddings(), codec=request.param) as store:
            yield store


class TestFitted(VectorStoreIntegrationTests):
    """The 25 standard tests, with codecs that are fitted on the very first documents."""

    @pytest.fixture(params=FITTED)
    def vectorstore(self, request: pytest.FixtureRequest) -> Iterator[OctavoVectorStore]:
        with OctavoVectorStore(self.get_embeddings(), codec=request.param, fit_after=1) as store:
            yield store


class TestOnDisk(VectorStoreIntegrationTests):
    """The 25 standard tests, on disk."""

    @pytest.fixture(params=["int8", "binary > int8"])
    def vectorstore(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OctavoVectorStore]:
        with OctavoVectorStore(self.get_embeddings(), tmp_path / "kb", codec=request.param, fit_after=1) as store:
            yield store


def test_fitted_means_fitted() -> None:
    """The suites above would prove little if the codec never came into play."""
    for codec in FITTED:
        with OctavoVectorStore(DeterministicFakeEmbedding(size=6), codec=codec, fit_after=1) as store:
            store.add_texts(["foo", "bar"])
            assert store.collection.info().fitted


class Retrievers(RetrieversIntegrationTests):
    mode: str

    @pytest.fixture(autouse=True)
    def _store(self) -> Iterator[None]:
        texts = ["a red apple", "a green apple", "an apple pie", "apple juice", "a pear"]
        with OctavoVectorStore.from_texts(texts, DeterministicFakeEmbedding(size=6)) as self._vectorstore:
            yield

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return OctavoRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self._vectorstore, "mode": self.mode}

    @property
    def retriever_query_example(self) -> str:
        return "apple"


class TestDenseRetriever(Retrievers):
    """The 5 standard tests, by vectors."""

    mode = "dense"


class TestTextRetriever(Retrievers):
    """The 5 standard tests, by full text."""

    mode = "text"


class TestHybridRetriever(Retrievers):
    """The 5 standard tests, by both."""

    mode = "hybrid"


class TestMmrRetriever(Retrievers):
    """The 5 standard tests, with diversity."""

    mode = "mmr"


del Retrievers, RetrieversIntegrationTests, VectorStoreIntegrationTests  # pytest would collect the bases, too
