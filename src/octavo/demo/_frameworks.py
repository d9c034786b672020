"""The same question to the same collection: plain Python, a LangChain chain, a LlamaIndex retriever.

Each function is what a user would write. The frameworks are imported where they are used: either may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo import Collection

#: What a retrieved text is shortened to where it is shown.
_SHOWN = 100


@dataclass(frozen=True)
class Answers:
    """Ids that came back, and for LangChain the prompt that a language model would be given."""

    ids: list[str]
    prompt: str | None = None


def ask_plain(collection: Collection, question: str, k: int) -> Answers:
    """Search with the collection itself."""
    return Answers(collection.search(question, k).ids)


def ask_langchain(collection: Collection, question: str, k: int) -> Answers:
    """Run a chain up to the prompt: retriever, then context and question into a prompt template.

    No language model is part of it, because none can be assumed offline.
    """
    from langchain_core.documents import Document
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnablePassthrough

    from octavo.integrations.langchain import OctavoVectorStore

    retriever = OctavoVectorStore(collection=collection).as_retriever(search_kwargs={"k": k})
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer from this documentation only:\n{context}"), ("human", "{question}")]
    )

    def as_context(documents: list[Document]) -> str:
        return "\n".join(f"- {_shorten(document.page_content)}" for document in documents)

    chain = {"context": retriever | as_context, "question": RunnablePassthrough()} | prompt
    ids = [str(document.id) for document in retriever.invoke(question)]
    return Answers(ids, chain.invoke(question).to_string())


def ask_llama_index(collection: Collection, question: str, k: int) -> Answers:
    """Retrieve through an index over the collection."""
    from llama_index.core import VectorStoreIndex
    from llama_index.core.embeddings import BaseEmbedding

    from octavo.integrations.llama_index import OctavoVectorStore

    class CollectionEmbedding(BaseEmbedding):
        """The collection's own encoder as LlamaIndex calls it."""

        def _get_text_embedding(self, text: str) -> list[float]:
            return collection.encode_documents([text])[0].tolist()  # type: ignore[no-any-return]

        def _get_query_embedding(self, query: str) -> list[float]:
            return collection.encode_queries([query])[0].tolist()  # type: ignore[no-any-return]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    store = OctavoVectorStore(collection=collection)
    index = VectorStoreIndex.from_vector_store(store, embed_model=CollectionEmbedding())
    return Answers([found.node.node_id for found in index.as_retriever(similarity_top_k=k).retrieve(question)])


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"
