"""`MaxSimRerank`: order nodes that something else has found by late interaction."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # how core itself has it
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from octavo.encoders.tokens import TokenEncoder
from octavo.errors import ParameterError
from octavo.integrations._rank import rank_texts
from octavo.integrations.llama_index._nodes import embedded_text

_dispatcher = get_dispatcher(__name__)


class MaxSimRerank(BaseNodePostprocessor):
    """Order nodes by exact MaxSim between the tokens of the query and theirs.

    The nodes are encoded for each call (text and metadata, as for embeddings); nothing is stored. Where the same nodes
    come back again and again, `LateInteractionIndex` saves that work.

    Parameters
    ----------
    model : str, callable or object
        Turns texts into token vectors; see `octavo.TokenEncoder`.
    top_n : int or None, default=2
        Nodes to return; None returns all of them.
    keep_retrieval_score : bool, default=False
        Put the score that a node came with into its metadata, under ``"retrieval_score"``.

    Examples
    --------
    >>> import numpy as np
    >>> from llama_index.core.schema import TextNode
    >>> def letters(texts):  # a toy model: one vector a letter
    ...     return [np.eye(128)[[ord(letter) % 128 for letter in text]] for text in texts]
    >>> found = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in ("red", "green")]
    >>> [(hit.text, hit.score) for hit in MaxSimRerank(model=letters).postprocess_nodes(found, query_str="ren")]
    [('green', 3.0), ('red', 2.0)]
    """

    # An option with a typing error must not pass unnoticed.
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: str = Field(description="Name of the model that gives token vectors.")
    top_n: int | None = Field(default=2, ge=1, description="Nodes to return; None returns all of them.")
    keep_retrieval_score: bool = Field(default=False, description="Keep the score that a node came with.")

    _encoder: TokenEncoder = PrivateAttr()

    def __init__(self, model: Any, top_n: int | None = 2, keep_retrieval_score: bool = False, **kwargs: Any) -> None:
        encoder = TokenEncoder(model)
        # the name is what components are serialised with
        fields: dict[str, Any] = {"model": encoder.name, "top_n": top_n, "keep_retrieval_score": keep_retrieval_score}
        super().__init__(**fields, **kwargs)
        self._encoder = encoder

    @classmethod
    def class_name(cls) -> str:
        """Return the name that serialised components carry."""
        return "MaxSimRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ParameterError("expected the query, in query_bundle or query_str, got neither")
        if not nodes:
            return []
        _dispatcher.event(
            ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=self.top_n or len(nodes), model_name=self.model)
        )
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            texts = [embedded_text(hit.node) for hit in nodes]
            order, scores = rank_texts(self._encoder, query_bundle.query_str, texts)
            best = [self._with_score(nodes[position], scores[position]) for position in order[: self.top_n]]
            event.on_end(payload={EventPayload.NODES: best})
        _dispatcher.event(ReRankEndEvent(nodes=best))
        return best

    def _with_score(self, hit: NodeWithScore, score: float) -> NodeWithScore:
        node = hit.node
        if self.keep_retrieval_score:
            node = node.model_copy()
            node.metadata = {**node.metadata, "retrieval_score": hit.score}
        return NodeWithScore(node=node, score=score)
