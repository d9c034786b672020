"""DSPy's retriever over a collection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import dspy
from dspy.dsp.utils import dotdict

from octavo._validation import check_integer
from octavo.collection import CollectionLike
from octavo.errors import InputTypeError
from octavo.retrievers.search import FilterLike, Mode


class Passages(dspy.Prediction):  # type: ignore[misc]  # dspy has no types
    """What a retriever found: ``passages``, ``ids``, ``scores`` and ``metadata``, best first.

    Iterating gives one passage after another, with its ``long_text``, as ``dspy.Retrieve`` asks its retrieval model.

    Examples
    --------
    >>> found = Passages(passages=["red"], ids=["r"], scores=[0.5], metadata=[{"n": 1}])
    >>> found.passages, [passage.long_text for passage in found]
    (['red'], ['red'])
    """

    def __iter__(self) -> Iterator[Any]:
        for text, id, score, metadata in zip(self.passages, self.ids, self.scores, self.metadata, strict=True):
            yield dotdict({"long_text": text, "id": id, "score": score, "metadata": metadata})

    def __len__(self) -> int:
        return len(self.passages)


class OctavoRetriever(dspy.Retrieve):  # type: ignore[misc]
    """Finds passages in a collection: a part of a DSPy program, or ``dspy.configure(rm=OctavoRetriever(kb))``.

    Parameters
    ----------
    collection : CollectionLike
        An open collection: of files, in memory, in Qdrant, for one vector a document or for late interaction. With its
        encoder, unless it is searched by words.
    k : int, default=3
        Passages to return.
    mode : {"dense", "text", "sparse", "hybrid"}, default="dense"
        See `octavo.Collection.search`.
    filter : dict, filter or callable, optional
        Only documents that match.
    **options
        More options of the collection's `search`, such as ``lambda_mult``.

    Raises
    ------
    InputTypeError, ParameterError
        When an option is not what it should be; what belongs to `search`, when it searches.

    Examples
    --------
    >>> import octavo
    >>> kb = octavo.open(encoder=lambda texts: [[text.count("e"), text.count("r")] for text in texts])
    >>> _ = kb.add(["red rivers", "green trees"], ids=["r", "g"], metadata=[{"n": 1}, {"n": 2}])
    >>> retrieve = OctavoRetriever(kb)
    >>> retrieve("three").ids, retrieve("three", filter={"n": 1}).ids
    (['g', 'r'], ['r'])
    >>> kb.close()
    """

    def __init__(
        self,
        collection: CollectionLike,
        k: int = 3,
        *,
        mode: Mode = "dense",
        filter: FilterLike = None,
        callbacks: list[Any] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(collection, CollectionLike):
            raise InputTypeError(f"expected an open collection, got {type(collection).__name__}")
        super().__init__(k=check_integer(k, "k", least=1), callbacks=callbacks)
        self.collection = collection
        self.mode = mode
        self.filter = filter
        self.options = options

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Optimisers copy programs. A collection is a place, not a value: the copy looks into the same one.
        copied = type(self)(
            self.collection, self.k, mode=self.mode, filter=self.filter, callbacks=self.callbacks, **self.options
        )
        memo[id(self)] = copied
        return copied

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Return what a program writes down: how many passages.

        Parameters
        ----------
        json_mode : bool, default=True
            Whether it has to be JSON, which it is in any case. (``dspy.Retrieve`` does not take what ``dspy.Module`` gives.)
        """
        return {"k": self.k}

    def forward(self, query: str, k: int | None = None, filter: FilterLike = None) -> Passages:
        """Find passages.

        Parameters
        ----------
        query : str
            The question.
        k : int, optional
            In place of the retriever's own.
        filter : dict, filter or callable, optional
            In place of the retriever's own.

        Returns
        -------
        Passages
            Best first.

        Raises
        ------
        InputTypeError
            When the query is no text.
        """
        if not isinstance(query, str):
            raise InputTypeError(f"expected the query to be a str, got {type(query).__name__}")
        found = self.collection.search(
            query,
            self.k if k is None else k,
            mode=self.mode,
            filter=self.filter if filter is None else filter,
            **self.options,
        )
        return Passages(
            passages=[hit.text for hit in found],
            ids=found.ids,
            scores=found.scores.tolist(),
            metadata=[hit.metadata for hit in found],
        )
