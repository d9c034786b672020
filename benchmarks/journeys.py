"""How many of our files a call passes: the shorter the journey, the sooner a reader knows what happens.

    python benchmarks/journeys.py

Calls each journey a few times, so that nothing is built, read or cached for the first time, and then once more under a
tracer that notes every file of the package in which a function is entered. The figures stand in docs/architecture.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import octavo

ROOT = Path(octavo.__file__).parent

#: Calls before the one that is traced.
_WARM = 3

_DOCUMENTS, _DIM = 400, 32

#: Files that each journey may pass.
GOALS = {
    "a dense search": 14,
    "a filtered dense search": 15,
    "a filtered LangChain search": 15,
    "a LlamaIndex query": 18,
}


def files_passed(call: Callable[[], object]) -> list[str]:
    """Return the package's files, by their path in it, in which a warm call enters a function, in the order of entry."""
    for _ in range(_WARM):
        call()
    passed: dict[str, None] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            passed[str(path.relative_to(ROOT))] = None

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return list(passed)


def journeys() -> dict[str, list[str]]:
    """Return the files that each journey passes; LangChain's only where langchain-core is installed."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((_DOCUMENTS, _DIM)).astype(np.float32)
    texts = [f"text {number}" for number in range(_DOCUMENTS)]
    metadata = [{"year": 2000 + number % 25} for number in range(_DOCUMENTS)]
    where = {"year": {"$gte": 2020}}
    found = {}
    with octavo.open(codec="int8", fit_after=100) as kb:
        kb.add(texts, metadata=metadata, vectors=vectors)
        found["a dense search"] = files_passed(lambda: kb.search(vectors[3], 10))
        found["a filtered dense search"] = files_passed(lambda: kb.search(vectors[3], 10, filter=where))
    if importlib.util.find_spec("langchain_core") is not None:
        from langchain_core.embeddings import DeterministicFakeEmbedding

        from octavo.integrations.langchain import OctavoVectorStore

        store = OctavoVectorStore(DeterministicFakeEmbedding(size=_DIM), codec="int8", fit_after=100)
        store.add_texts(texts, metadata)
        store.similarity_search(
            "text 3"
        )  # once without a filter, so that every block has been compared with its checksum
        found["a filtered LangChain search"] = files_passed(
            lambda: store.similarity_search("text 3", k=10, filter=where)
        )
        store.close()
    if importlib.util.find_spec("llama_index") is not None:
        from llama_index.core.schema import TextNode
        from llama_index.core.vector_stores.types import VectorStoreQuery

        from octavo.integrations.llama_index import OctavoVectorStore as LlamaStore

        llama = LlamaStore(codec="int8", fit_after=100)
        rows = zip(texts, metadata, vectors.tolist(), strict=True)
        llama.add([TextNode(text=text, metadata=fields, embedding=vector) for text, fields, vector in rows])
        query = VectorStoreQuery(query_embedding=vectors[3].tolist(), similarity_top_k=10)
        found["a LlamaIndex query"] = files_passed(lambda: llama.query(query))
        llama.close()
    return found


def main() -> None:
    """Print each journey, and whether it is as short as it should be."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    late = 0
    for name, passed in journeys().items():
        late += len(passed) > GOALS[name]
        print(f"{name}: {len(passed)} files (goal: at most {GOALS[name]})")
        for number, path in enumerate(passed, 1):
            print(f"  {number:2}. {path}")
    sys.exit(bool(late))


if __name__ == "__main__":
    main()
