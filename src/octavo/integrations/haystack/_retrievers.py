"""Components that search an `OctavoDocumentStore`."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.dataclasses import SparseEmbedding
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from octavo._validation import check_flag, check_integer
from octavo.errors import InputTypeError
from octavo.integrations.haystack._document_store import OctavoDocumentStore


class _Retriever:
    """What the components share: the store, the options, and how they are written down."""

    _OWN: ClassVar[tuple[str, ...]]

    document_store: OctavoDocumentStore
    filters: dict[str, Any] | None
    top_k: int
    filter_policy: FilterPolicy

    def _set(
        self,
        document_store: OctavoDocumentStore,
        filters: dict[str, Any] | None,
        top_k: int,
        filter_policy: str | FilterPolicy,
    ) -> None:
        if not isinstance(document_store, OctavoDocumentStore):
            raise InputTypeError(
                f"expected document_store to be an OctavoDocumentStore, got {type(document_store).__name__}"
            )
        self.document_store = document_store
        self.filters = filters
        self.top_k = check_integer(top_k, "top_k", least=1)
        self.filter_policy = (
            filter_policy if isinstance(filter_policy, FilterPolicy) else FilterPolicy.from_str(filter_policy)
        )

    def _asked(self, filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
        """Return what the store is asked with, besides the query."""
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
        } | self._own()

    def _own(self) -> dict[str, Any]:
        """Return the options that not every component has."""
        return {name: getattr(self, name) for name in self._OWN}

    def to_dict(self) -> dict[str, Any]:
        """Return what a pipeline writes to YAML."""
        written: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
            **self._own(),
        )
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the component that `to_dict` has described."""
        made: Self = default_from_dict(cls, data)
        return made


def _flag_or_none(value: Any, name: str) -> bool | None:
    return None if value is None else check_flag(value, name)


@component
class OctavoEmbeddingRetriever(_Retriever):
    """Finds the documents whose embeddings are nearest to a query's.

    Parameters
    ----------
    document_store : OctavoDocumentStore
        Where to look.
    filters : dict, optional
        Only documents that match.
    top_k : int, default=10
        Documents to return.
    scale_score : bool, default=False
        Bring scores between 0 and 1.
    return_embedding : bool, optional
        Whether documents come with their embeddings; as the store has it by default.
    filter_policy : str or FilterPolicy, default=FilterPolicy.REPLACE
        Whether filters given to `run` replace these or are merged with them.

    Raises
    ------
    InputTypeError, ParameterError
        When an option is not what it should be.

    Examples
    --------
    >>> from haystack import Document
    >>> store = OctavoDocumentStore()
    >>> store.write_documents([Document(content="red", embedding=[1, 0]), Document(content="green", embedding=[0, 1])])
    2
    >>> OctavoEmbeddingRetriever(store, top_k=1).run(query_embedding=[0.1, 0.9])["documents"][0].content
    'green'
    >>> store.close()
    """

    __module__ = "octavo.integrations.haystack"  # what a pipeline in YAML names
    _OWN = ("scale_score", "return_embedding")

    def __init__(
        self,
        document_store: OctavoDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        self._set(document_store, filters, top_k, filter_policy)
        self.scale_score = check_flag(scale_score, "scale_score")
        self.return_embedding = _flag_or_none(return_embedding, "return_embedding")

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Find documents.

        Parameters
        ----------
        query_embedding : list of float
            The query's embedding.
        filters : dict, optional
            See `filter_policy`.
        top_k : int, optional
            In place of the component's own.

        Returns
        -------
        dict
            ``documents``, best first.
        """
        return {"documents": self.document_store.embedding_retrieval(query_embedding, **self._asked(filters, top_k))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As `run`, in a thread."""
        found = await self.document_store.embedding_retrieval_async(query_embedding, **self._asked(filters, top_k))
        return {"documents": found}


@component
class OctavoBM25Retriever(_Retriever):
    """Finds the documents whose words match a query best, by BM25 over stems.

    Parameters
    ----------
    document_store, filters, top_k, scale_score, filter_policy
        As for `OctavoEmbeddingRetriever`.

    Raises
    ------
    InputTypeError, ParameterError
        When an option is not what it should be.

    Examples
    --------
    >>> from haystack import Document
    >>> store = OctavoDocumentStore()
    >>> store.write_documents([Document(content="red apples"), Document(content="green pears")])
    2
    >>> OctavoBM25Retriever(store).run(query="an apple")["documents"][0].content
    'red apples'
    >>> store.close()
    """

    __module__ = "octavo.integrations.haystack"  # what a pipeline in YAML names
    _OWN = ("scale_score",)

    def __init__(
        self,
        document_store: OctavoDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        self._set(document_store, filters, top_k, filter_policy)
        self.scale_score = check_flag(scale_score, "scale_score")

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Find documents.

        Parameters
        ----------
        query : str
            The words.
        filters, top_k
            As for `OctavoEmbeddingRetriever`.

        Returns
        -------
        dict
            ``documents``, best first.
        """
        return {"documents": self.document_store.bm25_retrieval(query, **self._asked(filters, top_k))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As `run`, in a thread."""
        return {"documents": await self.document_store.bm25_retrieval_async(query, **self._asked(filters, top_k))}


@component
class OctavoSparseEmbeddingRetriever(_Retriever):
    """Finds the documents whose sparse embeddings have most in common with a query's.

    Parameters
    ----------
    document_store, filters, top_k, return_embedding, filter_policy
        As for `OctavoEmbeddingRetriever`.

    Raises
    ------
    InputTypeError, ParameterError
        When an option is not what it should be.

    Examples
    --------
    >>> from haystack import Document
    >>> from haystack.dataclasses import SparseEmbedding
    >>> store = OctavoDocumentStore()
    >>> red = Document(content="red", sparse_embedding=SparseEmbedding([3, 7], [1.0, 0.5]))
    >>> green = Document(content="green", sparse_embedding=SparseEmbedding([4, 7], [1.0, 0.1]))
    >>> store.write_documents([red, green])
    2
    >>> retriever = OctavoSparseEmbeddingRetriever(store, top_k=1)
    >>> retriever.run(query_sparse_embedding=SparseEmbedding([7], [1.0]))["documents"][0].content
    'red'
    >>> store.close()
    """

    __module__ = "octavo.integrations.haystack"  # what a pipeline in YAML names
    _OWN = ("return_embedding",)

    def __init__(
        self,
        document_store: OctavoDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        self._set(document_store, filters, top_k, filter_policy)
        self.return_embedding = _flag_or_none(return_embedding, "return_embedding")

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_sparse_embedding: SparseEmbedding,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Find documents.

        Parameters
        ----------
        query_sparse_embedding : SparseEmbedding
            The query's terms and weights.
        filters, top_k
            As for `OctavoEmbeddingRetriever`.

        Returns
        -------
        dict
            ``documents``, best first.
        """
        asked = self._asked(filters, top_k)
        return {"documents": self.document_store.sparse_embedding_retrieval(query_sparse_embedding, **asked)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_sparse_embedding: SparseEmbedding,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """As `run`, in a thread."""
        asked = self._asked(filters, top_k)
        found = await self.document_store.sparse_embedding_retrieval_async(query_sparse_embedding, **asked)
        return {"documents": found}


@component
class OctavoHybridRetriever(_Retriever):
    """Finds documents by embedding, by words, and by sparse embedding if a query has one, fused by reciprocal rank.

    Parameters
    ----------
    document_store, filters, top_k, return_embedding, filter_policy
        As for `OctavoEmbeddingRetriever`.

    Raises
    ------
    InputTypeError, ParameterError
        When an option is not what it should be.

    Examples
    --------
    >>> from haystack import Document
    >>> store = OctavoDocumentStore()
    >>> store.write_documents([Document(content="red", embedding=[1, 0]), Document(content="green", embedding=[0, 1])])
    2
    >>> found = OctavoHybridRetriever(store, top_k=1).run(query="green", query_embedding=[0.4, 0.6])
    >>> found["documents"][0].content
    'green'
    >>> store.close()
    """

    __module__ = "octavo.integrations.haystack"  # what a pipeline in YAML names
    _OWN = ("return_embedding",)

    def __init__(
        self,
        document_store: OctavoDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        self._set(document_store, filters, top_k, filter_policy)
        self.return_embedding = _flag_or_none(return_embedding, "return_embedding")

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        query_sparse_embedding: SparseEmbedding | None = None,
    ) -> dict[str, list[Document]]:
        """Find documents.

        Parameters
        ----------
        query : str
            The words.
        query_embedding : list of float
            The query's embedding.
        filters, top_k
            As for `OctavoEmbeddingRetriever`.
        query_sparse_embedding : SparseEmbedding, optional
            The query's terms and weights, for a third ranking.

        Returns
        -------
        dict
            ``documents``, best first.
        """
        asked = self._asked(filters, top_k) | {"query_sparse_embedding": query_sparse_embedding}
        return {"documents": self.document_store.hybrid_retrieval(query, query_embedding, **asked)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        query_sparse_embedding: SparseEmbedding | None = None,
    ) -> dict[str, list[Document]]:
        """As `run`, in a thread."""
        asked = self._asked(filters, top_k) | {"query_sparse_embedding": query_sparse_embedding}
        return {"documents": await self.document_store.hybrid_retrieval_async(query, query_embedding, **asked)}
