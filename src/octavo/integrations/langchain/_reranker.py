"""`MaxSimReranker`: order documents that something else has found by late interaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import BeforeValidator, ConfigDict, field_validator

from octavo._validation import check_integer
from octavo.encoders.tokens import TokenEncoder
from octavo.integrations._rank import rank_texts


class MaxSimReranker(BaseDocumentCompressor):
    """Order documents by exact MaxSim between the tokens of the query and theirs.

    The documents are encoded for each call; nothing is stored. Where the same documents come back again and again,
    `LateInteractionRetriever` saves that work.

    Parameters
    ----------
    model : str, callable or object
        Turns texts into token vectors; see `octavo.TokenEncoder`.
    top_n : int or None, default=3
        Documents to return; None returns all of them.
    score_key : str, optional
        Put each document's score (the sum, over the query's tokens, of the best cosine with a token of the document) into
        its metadata under this key.

    Examples
    --------
    >>> import numpy as np
    >>> def letters(texts):  # a toy model: one vector a letter
    ...     return [np.eye(128)[[ord(letter) % 128 for letter in text]] for text in texts]
    >>> reranker = MaxSimReranker(model=letters, top_n=1, score_key="score")
    >>> reranker.compress_documents([Document("red"), Document("green")], "ren")
    [Document(metadata={'score': 3.0}, page_content='green')]
    """

    model: Annotated[Any, BeforeValidator(TokenEncoder)]
    top_n: int | None = 3
    score_key: str | None = None

    # An option with a typing error must not pass unnoticed.
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @field_validator("top_n", mode="before")
    @classmethod
    def _check_top_n(cls, value: Any) -> int | None:
        return check_integer(value, "top_n", least=1) if value is not None else None

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best documents, best first.

        Parameters
        ----------
        documents : sequence of Document
            Stay as they are; the results are copies. Of equal scores the earlier document comes first, and documents
            without any token come last.
        query : str
            The query.
        callbacks : Callbacks, optional
            Not called: LangChain reports the step to them.

        Returns
        -------
        list of Document
            At most `top_n`.
        """
        order, scores = rank_texts(self.model, query, [document.page_content for document in documents])
        best: list[Document] = []
        for position in order[: self.top_n]:
            document = documents[position].model_copy(deep=True)
            if self.score_key is not None:
                document.metadata[self.score_key] = scores[position]
            best.append(document)
        return best

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best documents, encoded and compared off the event loop; see `compress_documents`."""
        return await asyncio.to_thread(self.compress_documents, documents, query, callbacks)
