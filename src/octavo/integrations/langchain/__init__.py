"""LangChain: a vector store, retrievers, a reranker, a record manager and a filter translator over Octavo collections.

Examples
--------
>>> from langchain_core.embeddings import DeterministicFakeEmbedding
>>> from octavo.integrations.langchain import OctavoVectorStore
>>> store = OctavoVectorStore.from_texts(["red", "green"], DeterministicFakeEmbedding(size=8), codec="int8")
>>> store.as_retriever(search_kwargs={"k": 1}).invoke("green")[0].page_content
'green'
"""

try:
    import langchain_core
except ModuleNotFoundError as err:
    if err.name != "langchain_core":
        raise  # it is there, but broken: its own error says more
    from octavo.errors import MissingExtraError

    raise MissingExtraError(
        "octavo.integrations.langchain needs langchain-core. Install it: pip install 'octavo[langchain]'"
    ) from err

from octavo.integrations.langchain._late_interaction import LateInteractionRetriever
from octavo.integrations.langchain._records import OctavoRecordManager
from octavo.integrations.langchain._reranker import MaxSimReranker
from octavo.integrations.langchain._retriever import OctavoRetriever
from octavo.integrations.langchain._structured_query import OctavoTranslator
from octavo.integrations.langchain._vectorstore import OctavoVectorStore

__all__ = [
    "LateInteractionRetriever",
    "MaxSimReranker",
    "OctavoRecordManager",
    "OctavoRetriever",
    "OctavoTranslator",
    "OctavoVectorStore",
]

del langchain_core
