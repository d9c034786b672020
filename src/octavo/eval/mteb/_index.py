"""The index back end for mteb: a real collection behind `add_documents`, `search` and `clear`. Does not import mteb."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

import octavo
from octavo.compression import Codec
from octavo.errors import InputTypeError, ParameterError
from octavo.eval.configurations import Configuration, digest
from octavo.eval.mteb._tokens import as_matrices

Mode = Literal["dense", "text", "hybrid", "late"]

#: Under this name the configuration stands in the model's `experiment_kwargs`, which are part of mteb's cache key.
KEY = "octavo"


@dataclass(frozen=True)
class IndexConfiguration:
    """What shapes the results of a search through Octavo; `to_dict` gives JSON.

    Parameters
    ----------
    codec : str
        Codec string.
    metric : {"cosine", "dot"}
        How vectors are compared.
    mode : {"dense", "text", "hybrid", "late"}
        How the collection is searched. ``"late"`` keeps a vector for each token, or for several pooled, and scores by MaxSim;
        ``"hybrid"`` fuses words with one vector a document, or with MaxSim if there is a `pool_factor`.
    alpha : float or None
        Hybrid: weight of the vectors; None fuses by reciprocal rank.
    oversample : float or None
        Candidates rescored per result.
    ef : int or None
        Nodes that a graph search keeps in view.
    exact : bool or None
        Force the scan (True) or the graph (False).
    connectivity : int
        Links per node of the graph.
    fit_after : int
        Documents from which on the codec is fitted. 1 by default, unlike elsewhere: what is to be measured is the codec,
        also on a small corpus.
    seed : int
        Of everything random.
    pool_factor : int or None
        Late interaction: token vectors per pooled vector, 1 for none pooled; None takes the collection's own default.
    n_candidates : int or None
        Late interaction: documents scored by MaxSim; None takes the collection's own default.

    Examples
    --------
    >>> configuration = IndexConfiguration(codec="binary>int8", mode="hybrid", alpha=0.5)
    >>> configuration.codec, configuration.search_options, configuration.late
    ('binary > int8', {'mode': 'hybrid', 'alpha': 0.5}, False)
    """

    codec: str = "int8"
    metric: str = "cosine"
    mode: Mode = "dense"
    alpha: float | None = None
    oversample: float | None = None
    ef: int | None = None
    exact: bool | None = None
    connectivity: int = 16
    fit_after: int = 1
    seed: int = 0
    pool_factor: int | None = None
    n_candidates: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "codec", str(Codec.parse(self.codec))
        )  # one spelling, so that equal runs have one name
        if self.mode not in get_args(Mode):
            raise ParameterError(f"expected mode as one of {', '.join(get_args(Mode))}, got {self.mode!r}")
        if self.alpha is not None and self.mode != "hybrid":
            raise ParameterError(f"alpha belongs to mode='hybrid', got mode={self.mode!r}")
        if self.late or self.pool_factor is not None or self.n_candidates is not None:
            # What goes together is the same here as in runs of our own, and said in the same words.
            names = ("codec", "mode", "metric", "oversample", "ef", "exact", "alpha", "pool_factor", "n_candidates")
            Configuration(**{name: getattr(self, name) for name in names}, connectivity=self.connectivity)

    @property
    def late(self) -> bool:
        """Whether documents are kept as token vectors and scored by MaxSim, alone or fused with words."""
        return self.mode == "late" or (self.mode == "hybrid" and self.pool_factor is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return every option as JSON values."""
        return asdict(self)

    @property
    def experiment_kwargs(self) -> dict[str, str]:
        """What goes into mteb's cache key.

        mteb makes a directory name of it in which ``|``, ``>`` and ``:`` all become ``_``, so that two codec strings may
        come out the same; the hash does not.
        """
        hashed = digest({**self.to_dict(), "octavo": octavo.__version__})
        return {KEY: f"{self.codec}, {self.mode}, {hashed}"}

    @property
    def search_options(self) -> dict[str, Any]:
        """The options that `Collection.search_batch` is called with."""
        names = ("alpha", "oversample", "ef", "exact", "n_candidates")
        wanted = {name: getattr(self, name) for name in names}
        # What a multi-vector collection calls dense is MaxSim.
        mode = "dense" if self.mode == "late" else self.mode
        return {"mode": mode, **{name: value for name, value in wanted.items() if value is not None}}


class OctavoIndex:
    """An index back end for mteb's encoders (its `IndexEncoderSearchProtocol`) that is a real collection on disk.

    Use it inside `OctavoSearch`: given to mteb's own wrapper it would be measured under the bare model's name, and mteb's
    cache would hand that model's earlier score back. `search` refuses to work there.

    Parameters
    ----------
    configuration : IndexConfiguration
        What to measure.

    Examples
    --------
    >>> index = OctavoIndex(IndexConfiguration(codec="int8"))
    >>> index.add_documents([[1.0, 0.0], [0.0, 1.0]], ["a", "b"])
    >>> index.info().documents
    2
    >>> index.clear()
    """

    def __init__(self, configuration: IndexConfiguration) -> None:
        self.configuration = configuration
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._collection: octavo.Collection | None = None
        self._numbers: dict[str, int] = {}
        self._texts: Sequence[str] | None = None
        self._queries: Sequence[str] | None = None

    def with_texts(self, texts: Sequence[str] | None = None, queries: Sequence[str] | None = None) -> Self:
        """Keep the words of the next documents and queries, which ``text`` and ``hybrid`` search by.

        Parameters
        ----------
        texts, queries : sequence of str, optional
            None leaves those that were given before.

        Returns
        -------
        OctavoIndex
            Itself.
        """
        self._texts = texts if texts is not None else self._texts
        self._queries = queries if queries is not None else self._queries
        return self

    def add_documents(self, embeddings: Any, idxs: Sequence[str]) -> None:
        """Store documents.

        Parameters
        ----------
        embeddings : array or tensor of shape (n, dim), list of them of shape (n_tokens, dim), or None
            Vectors; for late interaction one matrix for each document; None for ``mode="text"``, which compares none.
        idxs : sequence of str
            Their ids.
        """
        names = [str(identifier) for identifier in idxs]
        texts = self._texts
        if self.configuration.mode in ("text", "hybrid") and texts is None:
            raise ParameterError(f"mode={self.configuration.mode!r} needs the documents' words; use OctavoSearch")
        if self.configuration.late:
            given: dict[str, Any] = {"token_vectors": as_matrices(embeddings)}
        else:
            given = {"vectors": np.ones((len(names), 1), np.float32) if embeddings is None else _matrix(embeddings)}
        self._open().add(texts, ids=names, **given)
        self._texts = None
        for name in names:
            self._numbers.setdefault(name, len(self._numbers))

    def search(
        self,
        embeddings: Any,
        top_k: int,
        similarity_fn: Callable[[Any, Any], Any] | None = None,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        query_idx_to_id: Mapping[int, str] | None = None,
    ) -> tuple[list[list[float]], list[list[int]]]:
        """Search the collection, or within each query's candidates for reranking tasks.

        Parameters
        ----------
        embeddings : array or tensor of shape (m, dim), list of them of shape (n_tokens, dim), or None
            Queries, as in `add_documents`; None for ``mode="text"``.
        top_k : int
            Results for each.
        similarity_fn : callable, optional
            The model's own similarity; the collection has its own, so it only tells which model is measured.
        top_ranked, query_idx_to_id : mapping, optional
            For reranking: the candidates of each query id, and the ids of the queries.

        Returns
        -------
        tuple of (list of list of float, list of list of int)
            Scores and positions: in the order the documents were added, or among the query's candidates.
        """
        self._check_named(similarity_fn)
        if self._collection is None:
            raise ParameterError("expected documents before the first search; call add_documents")
        words = self._queries
        queries: Any
        if embeddings is None and words is not None:
            queries = list(words)
        else:
            queries = as_matrices(embeddings) if self.configuration.late else _matrix(embeddings)
        options = dict(self.configuration.search_options)
        if self.configuration.mode == "hybrid":
            options["texts"] = words
        if top_ranked is None:
            found = self._collection.search_batch(queries, k=min(top_k, len(self._collection)), **options)
            return [_floats(one.scores) for one in found], [[self._numbers[name] for name in one.ids] for one in found]
        if query_idx_to_id is None:
            raise ParameterError("expected query_idx_to_id together with top_ranked, got none")
        scores: list[list[float]] = []
        positions: list[list[int]] = []
        for at in range(len(queries)):
            candidates = [str(name) for name in top_ranked.get(query_idx_to_id[at]) or []]
            if not candidates:
                scores.append([])
                positions.append([])
                continue
            if words is not None and "texts" in options:
                options["texts"] = [words[at]]
            place = {name: number for number, name in enumerate(candidates)}
            one = self._collection.search_batch(
                queries[at : at + 1], k=min(top_k, len(place)), ids=list(place), **options
            )[0]
            scores.append(_floats(one.scores))
            positions.append([place[name] for name in one.ids])
        return scores, positions

    def clear(self) -> None:
        """Close the collection and delete its files."""
        if self._collection is not None:
            self._collection.close()
        if self._directory is not None:
            self._directory.cleanup()
        self._collection = self._directory = None
        self._numbers, self._texts, self._queries = {}, None, None

    @property
    def ids(self) -> list[str]:
        """Ids of the documents, by the positions that `search` returns."""
        return list(self._numbers)

    def info(self) -> Any:
        """Return `Collection.info` of what is stored now; None when nothing is."""
        return self._collection.info() if self._collection is not None else None

    def _open(self) -> octavo.Collection:
        if self._collection is None:
            chosen = self.configuration
            self._directory = tempfile.TemporaryDirectory(prefix="octavo-mteb-")
            path = Path(self._directory.name, "collection")
            shape: dict[str, Any] = {
                "codec": "float32" if chosen.mode == "text" else chosen.codec,
                "connectivity": chosen.connectivity,
                "fit_after": chosen.fit_after,
                "seed": chosen.seed,
            }
            if chosen.late:
                self._collection = octavo.open_multi_vector(path, pool_factor=chosen.pool_factor, **shape)
            else:
                metric: Literal["dot", "cosine"] = (
                    "dot" if chosen.mode == "text" or chosen.metric == "dot" else "cosine"
                )
                self._collection = octavo.open(path, metric=metric, **shape)
        return self._collection

    def _check_named(self, similarity: Callable[[Any, Any], Any] | None) -> None:
        model = getattr(similarity, "__self__", None)
        meta = getattr(model, "mteb_model_meta", None)
        if meta is not None and (meta.experiment_kwargs or {}).get(KEY) != self.configuration.experiment_kwargs[KEY]:
            raise ParameterError(
                f"the model {meta.name!r} does not carry this configuration in its experiment_kwargs, so mteb would file the "
                "result under another one's name; evaluate OctavoSearch(model, codec=...) instead"
            )


def _matrix(embeddings: Any) -> NDArray[np.float32]:
    if hasattr(embeddings, "detach"):  # a torch tensor, perhaps on an accelerator, perhaps in half precision
        embeddings = embeddings.detach().cpu().float().numpy()
    matrix = np.asarray(embeddings)
    if matrix.ndim != 2 or matrix.dtype == object:
        raise InputTypeError(
            f"expected one vector for each text, got an array of shape {matrix.shape}; token vectors (late interaction) are "
            "measured with mode='late'"
        )
    return matrix.astype(np.float32, copy=False)


def _floats(scores: NDArray[Any]) -> list[float]:
    return [float(score) for score in scores]
