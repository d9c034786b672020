"""LangChain: a vector store, retrievers, a reranker, a record manager and a filter translator over Quire collections.

Examples
--------
>>> from langchain_core.embeddings import DeterministicFakeEmbedding
>>> from quire.integrations.langchain import QuireVectorStore
>>> store = QuireVectorStore.from_texts(["red", "green"], DeterministicFakeEmbedding(size=8), codec="int8")
>>> store.as_retriever(search_kwargs={"k": 1}).invoke("green")[0].page_content
'green'
"""

try:
    import langchain_core
except ModuleNotFoundError as err:
    if err.name != "langchain_core":
        raise  # it is there, but broken: its own error says more
    from quire.errors import MissingExtraError

    raise MissingExtraError(
        "quire.integrations.langchain needs langchain-core. Install it: pip install 'quire[langchain]'"
    ) from err

from quire.integrations.langchain._late_interaction import LateInteractionRetriever
from quire.integrations.langchain._records import QuireRecordManager
from quire.integrations.langchain._reranker import MaxSimReranker
from quire.integrations.langchain._retriever import QuireRetriever
from quire.integrations.langchain._structured_query import QuireTranslator
from quire.integrations.langchain._vectorstore import QuireVectorStore

__all__ = [
    "LateInteractionRetriever",
    "MaxSimReranker",
    "QuireRecordManager",
    "QuireRetriever",
    "QuireTranslator",
    "QuireVectorStore",
]

del langchain_core
