"""Answer a question from a few texts with a LangChain chain over Octavo: offline, with stand-ins for the two models.

Run it with ``python examples/langchain_rag.py``. In earnest, put any LangChain embedding and chat model in their places.
"""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from octavo.integrations.langchain import OctavoRetriever, OctavoVectorStore


class WordEmbedding(Embeddings):
    """One random direction a word, added up: enough to see texts that share words find each other."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        total = np.full(256, 1e-3)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.strip(".,?").encode()).digest()[:8], "little")
            total += np.random.default_rng(seed).standard_normal(256)
        return [float(value) for value in total]


DOCUMENTS = [
    Document(id="steam", page_content="The steam engine drove the mills.", metadata={"year": 1820}),
    Document(id="diesel", page_content="A diesel engine ignites its fuel by compression.", metadata={"year": 1897}),
    Document(id="violin", page_content="The violin sonata was written for a friend.", metadata={"year": 1917}),
]


def main() -> None:
    """Build a collection, reopen it, and run a chain over it."""
    embedding = WordEmbedding()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kb"
        OctavoVectorStore.from_documents(DOCUMENTS, embedding, path=path, codec="rabitq:1 > int8").close()

        with OctavoVectorStore(embedding, path) as store:  # another process, another day
            retriever = OctavoRetriever(
                vectorstore=store, mode="hybrid", k=2, filter={"year": {"$lt": 1900}}, score_key="score"
            )
            question = "How does a diesel engine ignite its fuel?"
            found = retriever.invoke(question)
            for document in found:
                print(f"{document.metadata['score']:.3f} {document.id}: {document.page_content}")

            prompt = ChatPromptTemplate.from_template("Answer from this:\n{context}\n\n{question}")
            model = FakeListChatModel(responses=["By compression."])
            chain = (
                {
                    "context": retriever | (lambda documents: "\n".join(d.page_content for d in documents)),
                    "question": RunnablePassthrough(),
                }
                | prompt
                | model
                | StrOutputParser()
            )
            print(chain.invoke(question))


if __name__ == "__main__":
    main()
