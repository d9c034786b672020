"""What `mteb.evaluate` is given in place of a model. The one module that needs mteb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Self

import octavo
from octavo.errors import InputTypeError, MissingExtraError, ParameterError
from octavo.eval.mteb._index import IndexConfiguration, Mode, OctavoIndex
from octavo.eval.mteb._tokens import TokenModel, texts_of

try:
    from mteb._create_dataloaders import create_dataloader
    from mteb.models import SearchEncoderWrapper
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType
except ModuleNotFoundError as error:
    if error.name is None or error.name.split(".")[0] != "mteb":
        raise
    raise MissingExtraError("octavo.eval.mteb needs mteb. Install it: pip install 'octavo[mteb]'") from None


@dataclass(frozen=True)
class Measured:
    """What a collection took while mteb measured its quality.

    Parameters
    ----------
    task, subset, split : str
        Of mteb.
    documents : int
        In the collection.
    ram_bytes_per_document, disk_bytes_per_document : float
        Read off the open collection.

    Examples
    --------
    >>> Measured("SciFact", "default", "test", 5183, 384.0, 2200.0).to_dict()["documents"]
    5183
    """

    task: str
    subset: str
    split: str
    documents: int
    ram_bytes_per_document: float
    disk_bytes_per_document: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


class OctavoSearch:
    """What `mteb.evaluate` is given: a model whose documents are stored in, and found through, a collection.

    Implements mteb's `SearchProtocol`. The results are filed under the model's name with the configuration in its
    `experiment_kwargs`, so that no two configurations share a place in mteb's cache, nor one with the bare model.

    Parameters
    ----------
    model : object
        An mteb encoder (``mteb.get_model(...)``), or a sentence-transformers model. None for ``mode="text"``. For late
        interaction, a multi-vector model of mteb (its own, PyLate's, or an object with `mteb_model_meta` whose ``encode``
        returns one matrix for each text), or a sentence-transformers model, whose token vectors are then used.
    codec : str, default="int8"
        Codec string.
    metric : {"cosine", "dot"}, optional
        By default what the model's metadata says, and cosine if they do not.
    mode, alpha, oversample, ef, exact, connectivity, fit_after, seed, pool_factor, n_candidates
        See `IndexConfiguration`.

    Attributes
    ----------
    measured : list of Measured
        Bytes of each collection that was searched.

    Raises
    ------
    ParameterError
        When an option cannot be used, or the model compares vectors in a way that a collection does not.

    Examples
    --------
    ::

        import mteb
        from octavo.eval.mteb import OctavoSearch

        model = mteb.get_model("sentence-transformers/all-MiniLM-L6-v2")
        tasks = mteb.get_tasks(["SciFact"])
        results = mteb.evaluate(OctavoSearch(model, codec="rabitq:1 > int8"), tasks)
    """

    def __init__(
        self,
        model: Any = None,
        *,
        codec: str = "int8",
        metric: Literal["cosine", "dot"] | None = None,
        mode: Mode = "dense",
        alpha: float | None = None,
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
        connectivity: int = 16,
        fit_after: int = 1,
        seed: int = 0,
        pool_factor: int | None = None,
        n_candidates: int | None = None,
    ) -> None:
        if model is None and mode != "text":
            raise ParameterError(f"mode={mode!r} compares vectors; expected a model, got None")
        late = mode == "late" or (mode == "hybrid" and pool_factor is not None)
        encoder: Any = None
        if model is not None:
            encoder = _as_token_model(model) if late else _as_mteb(model)
        self.configuration = IndexConfiguration(
            codec=codec,
            metric=metric or ("cosine" if late else _metric(encoder)),
            mode=mode,
            alpha=alpha,
            oversample=oversample,
            ef=ef,
            exact=exact,
            connectivity=connectivity,
            fit_after=fit_after,
            seed=seed,
            pool_factor=pool_factor,
            n_candidates=n_candidates,
        )
        self.measured: list[Measured] = []
        self._meta = _meta(encoder, self.configuration)
        self._index = OctavoIndex(self.configuration)
        self._wrapper = None
        self._tokens: TokenModel | None = encoder if late else None
        if encoder is not None and mode != "text" and not late:
            self._wrapper = SearchEncoderWrapper(_Named(encoder, self._meta), index_backend=self._index)

    @property
    def _words(self) -> bool:
        return self.configuration.mode in ("text", "hybrid")

    @property
    def mteb_model_meta(self) -> Any:
        """The model's metadata, with the configuration in its `experiment_kwargs`."""
        return self._meta

    def index(self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **options: Any) -> None:
        """Store a corpus in a new collection; called by mteb.

        Parameters
        ----------
        corpus : datasets.Dataset
            With columns ``id``, ``text`` and perhaps ``title``.
        task_metadata : mteb.TaskMetadata
            The task.
        hf_split, hf_subset : str
            Its part that is measured.
        **options
            ``encode_kwargs``, ``num_proc`` and what later versions of mteb may add; handed on to mteb's own encoding.
        """
        self._index.clear()
        texts = _document_texts(corpus) if self._words else None
        what = {"task_metadata": task_metadata, "hf_split": hf_split, "hf_subset": hf_subset, **options}
        if self._tokens is not None:
            ids = list(corpus["id"])
            for part, matrices in self._tokens.documents(corpus, **what):
                self._index.with_texts(texts_of(texts, part)).add_documents(matrices, ids[part])
        elif self._wrapper is not None:
            self._index.with_texts(texts)
            self._wrapper.index(corpus, **what)
        else:
            self._index.with_texts(texts).add_documents(None, corpus["id"])
        info = self._index.info()
        self.measured.append(
            Measured(
                task=task_metadata.name,
                subset=hf_subset,
                split=hf_split,
                documents=info.documents,
                ram_bytes_per_document=info.ram_bytes_per_document,
                disk_bytes_per_document=info.disk_bytes_per_document,
            )
        )

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Mapping[str, Sequence[str]] | None = None, **options: Any
    ) -> dict[str, dict[str, float]]:
        """Search the collection; called by mteb.

        Parameters
        ----------
        queries : datasets.Dataset
            With columns ``id`` and ``text``.
        top_k : int
            Results for each.
        top_ranked : mapping, optional
            For reranking tasks: the candidates of each query.
        **options
            As in `index`.

        Returns
        -------
        dict of str to dict of str to float
            Scores by query id and document id.
        """
        if self._words:
            self._index.with_texts(queries=_query_texts(queries))
        if self._wrapper is not None:
            found: dict[str, dict[str, float]] = self._wrapper.search(
                queries, top_k=top_k, top_ranked=top_ranked, **options
            )
            return found
        names = [str(name) for name in queries["id"]]
        ids = self._index.ids
        vectors = self._tokens.queries(queries, **options) if self._tokens is not None else None
        scores, positions = self._index.search(vectors, top_k, None, top_ranked, dict(enumerate(names)))
        self._index.clear()
        candidates = [list(top_ranked.get(name) or []) if top_ranked is not None else ids for name in names]
        return {
            name: {listed[at]: score for at, score in zip(where, values, strict=True)}
            for name, listed, where, values in zip(names, candidates, positions, scores, strict=True)
        }

    def close(self) -> None:
        """Delete what the last search left."""
        self._index.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Named:
    """An encoder under another name: what it does is the model's, what it is called carries the configuration."""

    def __init__(self, encoder: Any, meta: Any) -> None:
        self._encoder = encoder
        self.mteb_model_meta = meta

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        return self._encoder.encode(*args, **kwargs)

    def similarity(self, first: Any, second: Any) -> Any:
        return self._encoder.similarity(first, second)

    def similarity_pairwise(self, first: Any, second: Any) -> Any:
        return self._encoder.similarity_pairwise(first, second)


def _as_mteb(model: Any) -> Any:
    """Return an mteb encoder for a model."""
    if hasattr(model, "mteb_model_meta"):
        if not hasattr(model, "encode"):
            raise InputTypeError(
                f"expected an encoder, got {type(model).__name__}, which searches by itself; give the model behind it, or "
                "mode='late' for a late-interaction model"
            )
        return model
    if type(model).__module__.split(".")[0] == "sentence_transformers":
        from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

        return SentenceTransformerEncoderWrapper(model)
    raise InputTypeError(
        "expected an mteb encoder (mteb.get_model(...)) or a sentence-transformers model, got "
        f"{type(model).__name__}; an encoder of your own needs mteb_model_meta"
    )


def _batches(
    texts: Any, role: str, task_metadata: Any, batch_size: int, num_proc: int | None
) -> tuple[Any, PromptType]:
    """Return texts as mteb gives them to its encoders (title and text joined, instructions added), and what they are."""
    kind = PromptType(role)
    loader = create_dataloader(
        texts, task_metadata=task_metadata, prompt_type=kind, batch_size=batch_size, num_proc=num_proc
    )
    return loader, kind


def _as_token_model(model: Any) -> TokenModel:
    """Return a model of token vectors."""
    if hasattr(model, "mteb_model_meta") or type(model).__module__.split(".")[0] != "sentence_transformers":
        return TokenModel(model, _batches)
    if type(model).__name__ == "MultiVectorEncoder":
        from mteb.models.sentence_transformer_wrapper import MultiVectorWrapper

        return TokenModel(MultiVectorWrapper(model), _batches)
    return TokenModel(model, _batches, _as_mteb(model).mteb_model_meta)


def _metric(encoder: Any) -> str:
    similarity = encoder.mteb_model_meta.similarity_fn_name if encoder is not None else None
    if similarity is None or similarity is ScoringFunction.COSINE:
        return "cosine"
    if similarity is ScoringFunction.DOT_PRODUCT:
        return "dot"
    raise ParameterError(
        f"a collection compares by cosine or dot product, but the model's metadata say {similarity.value!r}; give metric= if "
        "one of the two is meant"
    )


def _meta(encoder: Any, configuration: IndexConfiguration) -> Any:
    if encoder is None:
        given = ModelMeta.create_empty(overwrites={"name": "octavo/full-text", "revision": octavo.__version__})
    else:
        given = encoder.mteb_model_meta
    merged = {**(given.experiment_kwargs or {}), **configuration.experiment_kwargs}
    return given.model_copy(update={"experiment_kwargs": merged}, deep=True)


def _document_texts(corpus: Any) -> list[str]:
    """Return title and text of each document, joined as mteb joins them for its encoders."""
    texts = [str(text or "") for text in corpus["text"]]
    if "title" not in corpus.column_names:
        return texts
    return [f"{title or ''} {text}".strip() for title, text in zip(corpus["title"], texts, strict=True)]


def _query_texts(queries: Any) -> list[str]:
    return [text if isinstance(text, str) else str(text) for text in queries["text"]]
