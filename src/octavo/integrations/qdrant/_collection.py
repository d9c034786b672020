"""A collection whose documents lie in Qdrant."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, as_matrix, unit_rows
from octavo._html import notebook_table
from octavo._progress import progress_bar
from octavo._sparse_rows import SparseRows
from octavo._text_analysis import FUNCTION, Analyser, TextAnalysis, check_full_text
from octavo._validation import check_integer
from octavo.collection import MultiVectorLike
from octavo.collection.model_check import ModelCheck, RemoteVectors, folded, prompts_of
from octavo.collection.models import Change, Models
from octavo.collection.reencoding import Rate, TextsOf, check_options, new_encoder
from octavo.collection.searching import DenseSearch, NothingRanked, Where, check_deletion, check_filter
from octavo.collection.sparse_input import with_sparse
from octavo.encoders.dense import Encoder, as_encoder
from octavo.encoders.one_pass import gives_several
from octavo.encoders.sparse import SparseEncoder, as_sparse_encoder
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import (
    CollectionClosedError,
    CollectionLockedError,
    CollectionNotFoundError,
    InputTypeError,
    MismatchError,
    OctavoError,
    ParameterError,
    StaleVectorsError,
)
from octavo.filters import Filter, matches
from octavo.integrations.qdrant._client import KEY_VARIABLE, ServerOptions
from octavo.integrations.qdrant._filters import (
    DOCUMENTS,
    MANIFEST,
    NOTHING,
    Condition,
    all_of,
    any_of,
    none_of,
    translate,
)
from octavo.integrations.qdrant._manifest import (
    Manifest,
    Plan,
    analysis_of,
    average_length,
    encode_state,
    layout_of,
    transport_of,
)
from octavo.integrations.qdrant._ranker import SpaceRanker
from octavo.integrations.qdrant._reencoding import QdrantReencoder, cancel, drop_rest
from octavo.integrations.qdrant._spaces import Description, Space
from octavo.integrations.qdrant._two_spaces import Progress, QdrantTwoSpaces, in_space
from octavo.integrations.qdrant.late_points import map_token_codec
from octavo.integrations.qdrant.points import (
    FIELDS,
    BM25Encoder,
    ClientCodec,
    CodecMapping,
    document_of,
    flags_of,
    id_of,
    map_codec,
    order_of,
    payload_of,
    point_id,
)
from octavo.integrations.qdrant.transport import DENSE, SPARSE, Layout, Point, Sparse, Transport
from octavo.retrievers.ranker import Ranker
from octavo.retrievers.results import SearchResult
from octavo.retrievers.search import DocumentFilter, FilterLike, Queries, SearchOptions, lets_through
from octavo.retrievers.two_spaces import SAMPLE
from octavo.store.database import ENCODED, SPARSE_ENCODED
from octavo.store.documents import (
    Batch,
    Document,
    DocumentChanges,
    DocumentLike,
    check_ids,
    check_note,
    chunked,
    each_of,
    read_batches,
    read_made,
)
from octavo.store.reencoding import SpaceChangedError
from octavo.words import WordQuery

#: How often what was encoded is encoded again because the model was changed meanwhile.
_CHANGES = 5

#: Seconds for which what is known of a change of the model is as good as new.
_KNOWN_FOR = 2.0

_CHUNK = 256
_DELETED_AT_ONCE = 1000

#: The field of the description's payload with the notes.
_NOTES = "notes"


@dataclass(frozen=True)
class QdrantInfo:
    """Description of a collection in Qdrant.

    Parameters
    ----------
    place : str
        Directory, or URL and name.
    documents : int
        Documents in it.
    dim, stored_dim : int or None
        Dimension of the vectors as they come in, and behind the reducers.
    metric, codec, full_text : str
        What it was made with.
    encoder : str or None
        Name of the encoder; None when vectors were given.
    datatype, quantization : str or None
        What the codec has become.
    indexed : int
        Vectors that a graph covers, as Qdrant counts them (sparse ones among them).
    segments : int
        Parts that Qdrant keeps them in.
    details : dict
        What else the server tells.
    tokens : dict or None
        Of a multi-vector collection: dimension of the stored token vectors, how they are pooled, what finds candidates;
        `datatype` and `quantization` are theirs, `stored_dim` that of the candidate vectors.
    sparse : dict or None
        Where documents have learned sparse vectors: the name of the encoder, if one made them.
    reencoding : dict or None
        The change of the model that is under way, as `octavo.CollectionInfo` has it; `bytes` and `bytes_in_all` are computed,
        and how fast it is knows only the object that does it.

    Examples
    --------
    >>> import tempfile
    >>> from octavo.integrations.qdrant import QdrantCollection
    >>> folder = tempfile.TemporaryDirectory()
    >>> kb = QdrantCollection.create(path=folder.name)
    >>> _ = kb.add(["red", "green"], vectors=[[1.0, 0.0], [0.0, 1.0]])
    >>> info = kb.info()
    >>> info.documents, info.dim, info.codec, info.to_dict()["metric"]
    (2, 2, 'int8', 'cosine')
    >>> kb.close()
    >>> folder.cleanup()
    """

    place: str
    documents: int
    dim: int | None
    stored_dim: int | None
    metric: str
    codec: str
    full_text: str
    encoder: str | None
    datatype: str
    quantization: str | None
    indexed: int
    segments: int
    details: dict[str, Any]
    tokens: dict[str, Any] | None = None
    sparse: dict[str, Any] | None = None
    reencoding: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def _repr_html_(self) -> str:
        rows = {
            "place": self.place,
            "documents": f"{self.documents:,}",
            "codec": self.codec,
            "metric": self.metric,
            "dimension": str(self.dim or "not known yet"),
            "encoder": self.encoder or "none (vectors were given)",
            "in Qdrant": f"{self.datatype}{f', searched as {self.quantization} codes' if self.quantization else ''}",
        }
        return notebook_table("Collection in Qdrant", [], rows.items())


class QdrantCollection(DenseSearch):
    """Documents with vectors in Qdrant, behind the methods of `octavo.Collection`. Made by `create` or `open`.

    Safe to use from many threads. ``docs/qdrant.md`` says how codecs and filters are mapped, and where the answers differ
    from those of a local collection. It pickles as a reference to its place, without a server's key.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> kb = QdrantCollection.create(path=folder.name)
    >>> kb.add(["red", "green"], ids=["r", "g"], vectors=[[1.0, 0.0], [0.0, 1.0]], metadata=[{"n": 1}, {"n": 2}])
    ['r', 'g']
    >>> kb.search([0.9, 0.1], k=1).ids, kb.search([0.9, 0.1], filter={"n": {"$gt": 1}}).ids
    (['r'], ['g'])
    >>> kb.delete(["r"]), len(kb)
    (1, 1)
    >>> kb.close()
    >>> folder.cleanup()
    """

    _many_vectors: ClassVar[bool] = False

    def __init__(
        self, transport: Transport, encoder: Any, plan: Plan | None, sparse: Any = None, previous: Any = None
    ) -> None:
        if sparse is None and gives_several(encoder):
            sparse = encoder
        if previous is not None and encoder is None:
            raise ParameterError("expected encoder= beside previous=: the model that the collection is changed to")
        self._sparse_encoder = as_sparse_encoder(sparse)
        self._transport = transport
        self._plan = plan
        self._description = Description(transport)
        taken = new_encoder(previous, late=self._many_vectors) if previous is not None else None
        self._models = Models(_Spaces(self), as_encoder(encoder) if encoder is not None else None, taken)
        self._analyser: Analyser | None = None  # the function that full_text is, if it is one and was given
        self._analysis: TextAnalysis | None = None
        self._closed = False
        self._progress: tuple[str, float, Progress] | None = None  # of which change of the model, and since when
        self._work: QdrantReencoder | None = None
        self._opened_in = 0
        self._last_order = 0
        self._writing = threading.Lock()
        if plan is None:
            self._description.read()
            assert self._manifest is not None  # read just now
            if (self._manifest.late is not None) != self._many_vectors:
                many, other = ("one vector", "Qdrant") if self._many_vectors else ("many vectors", "QdrantMultiVector")
                raise MismatchError(
                    f"the collection at {transport.place} keeps {many} a document; open it with {other}Collection.open"
                )
            if transport.directory is not None:  # nobody else uses it
                drop_rest(transport, self._description)
            self._opened_in = self._manifest.space
        self._model = self.model_check()
        self._sparse_model = ModelCheck(
            RemoteVectors(
                read_encoder=lambda: self._sparse_about.get("encoder"),
                write_encoder=self._write_sparse_encoder,
                get=self.get,
                vectors=lambda ids: folded(SparseRows.of(self.get_sparse_vectors(ids))),
                as_stored=lambda vectors: folded(SparseRows.of(vectors)),
            )
        )

    @property
    def _manifest(self) -> Manifest | None:
        return self._description.manifest

    @property
    def _encoder(self) -> Any:
        return self._models.encoder

    @_encoder.setter
    def _encoder(self, encoder: Any) -> None:
        self._models.encoder = encoder
        self._models.forget()

    @classmethod
    def create(
        cls,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        name: str = "octavo",
        encoder: Any = None,
        sparse: Any = None,
        codec: str = "int8",
        metric: Literal["cosine", "dot"] = "cosine",
        dim: int | None = None,
        sample: Any = None,
        full_text: str | Analyser = "english",
        fit_after: int = 1000,
        seed: int = 0,
        ranges: Sequence[str | Sequence[str]] = (),
        connectivity: int = 16,
        full_scan_threshold: int = 10_000,
        indexing_threshold: int = 10_000,
        api_key: str | None = None,
        timeout: int = 30,
        retries: int = 4,
        shard_number: int | None = None,
        replication_factor: int | None = None,
        write_consistency_factor: int | None = None,
    ) -> Self:
        """Create a collection in Qdrant.

        It appears there with the first documents, or at once if `dim` or `sample` says how long the vectors are and
        the codec's reducers have nothing left to learn.

        Parameters
        ----------
        path : str or path-like, optional
            A directory: Qdrant's core runs in this process (package ``qdrant-edge-py``).
        url : str, optional
            A server or cluster (package ``qdrant-client``), for instance ``https://host:6333``.
        name : str, default="octavo"
            The collection on the server.
        encoder, metric, dim, full_text, seed
            As in `octavo.open`.
        sparse : str, callable, object or True, optional
            As in `octavo.open`; True has room for sparse vectors that `add` is given.
        codec : str, default="int8"
            As in `octavo.open`, as far as Qdrant has a counterpart.
        sample : array-like of shape (n, dim), optional
            What learned reducers are fitted on. Without it, that is the first call of `add`.
        fit_after : int, default=1000
            Vectors that learned reducers want at least.
        ranges : sequence of (str or sequence of str), default=()
            Metadata fields (keys, or paths of keys) with numbers, dates or times that filters compare by ``<`` and ``>``: they
            get an index. Equality needs none.
        connectivity, full_scan_threshold, indexing_threshold : int
            Links per node of Qdrant's graph, and the KB of vectors below which it scans and builds none.
        api_key : str, optional
            Of the server.
        timeout : int, default=30
            Seconds to wait for an answer of the server.
        retries : int, default=4
            Attempts after the first where the server is away or busy, with pauses that double.
        shard_number, replication_factor, write_consistency_factor : int, optional
            Of a cluster.

        Returns
        -------
        QdrantCollection
            Close it, or use it as a context manager.

        Raises
        ------
        ParameterError
            When there is a collection already, or an option cannot be used.
        CodecError
            When Qdrant has no counterpart of the codec.
        """
        mapping = map_codec(codec)
        options = ServerOptions(
            api_key=api_key,
            timeout=timeout,
            retries=retries,
            shard_number=shard_number,
            replication_factor=replication_factor,
            write_consistency_factor=write_consistency_factor,
        )
        layout = layout_of(ranges, connectivity, full_scan_threshold, indexing_threshold)
        plan = Plan(
            codec=mapping.codec,
            metric=metric,
            dim=dim,
            full_text=full_text,
            seed=seed,
            fit_after=fit_after,
            layout=layout,
            sparse=keeps_sparse(sparse, encoder),
        )
        return cls._create(transport_of(path, url, name, options), encoder, plan, sample, full_text, sparse)

    @classmethod
    def _create(
        cls, transport: Transport, encoder: Any, plan: Plan, sample: Any, full_text: Any, sparse: Any = None
    ) -> Self:
        try:
            if transport.exists():
                raise ParameterError(
                    f"expected no collection at {transport.place} yet; use {cls.__name__}.open, or another place"
                )
            collection = cls(transport, encoder, plan, None if sparse is True else sparse)
            collection._analyser = full_text if callable(full_text) else None
            collection._start_early(plan, sample)
            return collection
        except BaseException:
            transport.close()
            raise

    def _start_early(self, plan: Plan, sample: Any) -> None:
        """Create the collection in Qdrant before there are documents, where that can be done."""
        if sample is not None:
            vectors = as_matrix(sample, plan.dim, "sample")
            self._start(unit_rows(vectors, keep_zeros=True) if plan.metric == "cosine" else vectors, [])
        elif plan.dim is not None and not ClientCodec.of(plan.codec).learns:
            self._start(np.zeros((0, plan.dim), np.float32), [])

    @classmethod
    def open(
        cls,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        name: str = "octavo",
        encoder: Any = None,
        full_text: str | Analyser | None = None,
        sparse: Any = None,
        previous: Any = None,
        api_key: str | None = None,
        timeout: int = 30,
        retries: int = 4,
    ) -> Self:
        """Open a collection that `create` has made.

        Parameters
        ----------
        path, url, name, encoder, sparse, api_key, timeout, retries
            As in `create`.
        full_text : str or callable, optional
            Only needed where it is a function; compared with what the collection was made with.
        previous : str, callable or object, optional
            The model that the collection is, or will be, changed from: see `octavo.open`.

        Returns
        -------
        QdrantCollection
            Close it, or use it as a context manager.

        Raises
        ------
        CollectionNotFoundError
            When there is none.
        ForeignCollectionError
            When something is there that Octavo has not made.
        MismatchError
            When it keeps many vectors a document, has another format, or other words than `full_text` makes.
        CollectionLockedError
            When another process holds the directory.
        CorruptCollectionError
            When a file of Qdrant's core was changed since it was closed, or documents are missing.
        """
        transport = transport_of(path, url, name, ServerOptions(api_key=api_key, timeout=timeout, retries=retries))
        try:
            if not transport.exists():
                raise CollectionNotFoundError(
                    f"expected a collection at {transport.place}, but there is none; use {cls.__name__}.create"
                )
            collection = cls(transport, encoder, None, sparse, previous)
            collection._take_words(full_text)
            return collection
        except BaseException:
            transport.close()
            raise

    # ------------------------------------------------------------------ writing

    def add(
        self,
        documents: Iterable[DocumentLike] | None = None,
        ids: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Any = None,
        *,
        embed_texts: Iterable[str | None] | None = None,
        embed_words: bool = False,
        sparse_vectors: Any = None,
        payloads: Iterable[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Insert documents, replacing those whose id is already there; see `octavo.Collection.add`.

        Each batch is one request to Qdrant, and acknowledged before the next one begins.

        Parameters
        ----------
        documents, ids, metadata, vectors, embed_texts, embed_words, sparse_vectors, payloads, batch_size
            See `octavo.Collection.add`.

        Returns
        -------
        list of str
            The ids, in order.

        Raises
        ------
        InvalidVectorsError
            NaN, infinity, or another dimension.
        ParameterError
            Also when the first call has fewer than `fit_after` vectors for reducers that have to learn.
        """
        self._require_open()
        batch_size = check_integer(batch_size, "batch_size", least=1)
        if vectors is None and self.encoder is None:
            raise ParameterError(
                "expected vectors=, because the collection was opened without an encoder; give either of them"
            )
        batches = read_batches(
            documents,
            ids,
            metadata,
            vectors,
            payloads,
            batch_size=batch_size,
            dim=self.dim if vectors is not None else None,
            embed_texts=embed_texts,
            embed_words=embed_words,
        )
        self._check_sparse_given(sparse_vectors)
        if sparse_vectors is not None:
            batches = with_sparse(batches, sparse_vectors, documents if documents is not None else vectors)
        return self._put(batches, encode=vectors is None)

    def _put(self, batches: Iterator[Batch], *, encode: bool) -> list[str]:
        added: list[str] = []
        with self._writing:
            if self._manifest is None:
                first = self._first(batches)
                if first:
                    self._start(
                        np.concatenate([_vectors(batch) for batch in first]),
                        [text for batch in first for text in batch.words],
                    )
                for batch in first:
                    added += self._write(batch, encoded=encode)
            for batch in batches:
                if encode:
                    self._encode_and_write(batch, self._ready)
                else:
                    self._write(self._ready(batch))
                added += batch.ids
        return added

    def embedded(self, ids: Sequence[str | None], texts: Sequence[str]) -> list[bool]:
        """Tell which documents have vectors that a model has made of these very texts; see `octavo.Collection.embedded`.

        Parameters
        ----------
        ids, texts
            See `octavo.Collection.embedded`.

        Returns
        -------
        list of bool
            True where embedding can be left out.
        """
        self._require_open()
        named = [identifier for identifier in ids if identifier is not None]
        there = self._there(named) if named and self._manifest is not None and not self._old_is_gone else {}
        wanted = self._wanted()
        return [
            (point := there.get(identifier or "")) is not None and _made_of(point, text, wanted)
            for identifier, text in zip(ids, texts, strict=True)
        ]

    def add_embedded(
        self,
        documents: Iterable[DocumentLike],
        ids: Iterable[str | None],
        metadata: Iterable[Mapping[str, Any] | None],
        vectors: Sequence[Any],
        *,
        embed_texts: Iterable[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Insert documents with vectors that a model has just made; see `octavo.Collection.add_embedded`.

        Parameters
        ----------
        documents, ids, metadata, vectors, embed_texts, batch_size
            See `octavo.Collection.add_embedded`.

        Returns
        -------
        list of str
            The ids, in order.

        Raises
        ------
        StaleVectorsError
            When a document that was to keep its vectors is gone or has others by now.
        """
        self._require_open()
        batch_size = check_integer(batch_size, "batch_size", least=1)
        made = read_made(documents, vectors, ids, metadata, batch_size=batch_size, embed_texts=embed_texts)
        fresh: list[Batch] = []
        for batch, part in made:
            self._keep(batch.part([row for row, vector in enumerate(part) if vector is None]))
            rest = batch.part([row for row, vector in enumerate(part) if vector is not None])
            if len(rest):
                self._take(rest, [vector for vector in part if vector is not None])
                rest.flags = [flags | self._wanted() for flags in rest.flags]
                fresh.append(rest)
        self._check_sparse_given(None)
        self._put(iter(fresh), encode=False)
        return [identifier for batch, _ in made for identifier in batch.ids]

    def _keep(self, batch: Batch) -> None:
        """Change documents that keep their vectors."""
        if not len(batch):
            return
        with self._writing:
            there, wanted = self._there(batch.ids), self._wanted()
            for identifier, text in zip(batch.ids, batch.to_embed, strict=True):
                if identifier not in there or not _made_of(there[identifier], text, wanted):
                    raise StaleVectorsError(identifier)
            batch.flags = [flags | wanted for flags in batch.flags]
            self._change(batch, there)

    def _take(self, batch: Batch, vectors: list[Any]) -> None:
        """Give a batch vectors that were made elsewhere."""
        batch.vectors = as_matrix(vectors, self.dim)

    def _there(self, ids: Sequence[str]) -> dict[str, Point]:
        return {id_of(point): point for point in self._retrieve(ids, True)}

    def _wanted(self) -> int:
        """Return the flags of documents whose vectors were all made by encoders."""
        both = self.has_sparse_vectors and self._sparse_encoder is not None
        return ENCODED | SPARSE_ENCODED if both else ENCODED

    def _encode_and_write(self, batch: Batch, ready: Callable[[Batch], Batch]) -> None:
        """Make vectors of those documents of a batch that have none yet; write those, and change the others."""
        wanted = self._made_by_encoders(batch) if not self._old_is_gone else 0
        there = self._there(batch.ids) if wanted else {}
        known = [
            row
            for row, (identifier, text) in enumerate(zip(batch.ids, batch.to_embed, strict=True))
            if identifier in there and _made_of(there[identifier], text, wanted)
        ]
        if known:
            encoder = self._require_encoder()
            self._model.run(encoder.name, self.dim, encoder.encode_documents)
            if wanted & SPARSE_ENCODED and (sparse := self._sparse_encoder) is not None:
                self._sparse_model.run(sparse.name, None, sparse.encode_documents)
            changed = batch.part(known)
            changed.flags = [flags | wanted for flags in changed.flags]
            self._change(changed, there)
            batch = batch.part([row for row in range(len(batch)) if row not in set(known)])
        if len(batch):
            self._write_encoded(batch, ready)

    def _write_encoded(self, batch: Batch, ready: Callable[[Batch], Batch]) -> None:
        """Write documents with vectors that are made here: once more if another process changed the model meanwhile."""
        for _ in range(_CHANGES):
            try:
                self._write(ready(batch), encoded=not self._old_is_gone)
            except (OctavoError, ValueError):  # the server knows no vectors of the old name any more
                if not self._refresh():
                    raise
                batch.ready, batch.vectors, batch.matrices, batch.tokens = False, None, None, None
            else:
                return
        raise CollectionLockedError("the collection's model kept being changed while documents were added; try again")

    def _made_by_encoders(self, batch: Batch) -> int:
        """Return the flags of documents whose vectors are all made here."""
        return 0 if batch.sparse is not None else self._wanted()

    def _change(self, batch: Batch, there: Mapping[str, Point]) -> None:
        """Give points another payload, and words where those differ; their vectors stay."""
        points: list[Point] = []
        for row, identifier in enumerate(batch.ids):
            before = there[identifier]
            payload = payload_of(batch, row, order_of(before))
            if payload == before.payload:
                continue
            words = None
            if document_of(before).words != batch.words[row]:
                words = self._words().document(batch.words[row])
            points.append(Point(point_id(identifier), payload, text=words))
        self._transport.change(points)

    def update(
        self,
        ids: Iterable[str],
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        texts: Iterable[str | None] | None = None,
        *,
        payloads: Iterable[str | None] | None = None,
    ) -> None:
        """Change what is kept beside the vectors of documents, without encoding anything; see `octavo.Collection.update`.

        Documents are changed one after the other: who reads meanwhile may see some of them changed.

        Parameters
        ----------
        ids, metadata, texts, payloads
            See `octavo.Collection.update`.

        Raises
        ------
        DocumentNotFoundError
            When one of them is not there; nothing was changed.
        """
        self._require_open()
        changes = DocumentChanges.read(ids, metadata, texts, payloads)
        with self._writing:
            there = {id_of(point): point for point in self._retrieve(changes.ids, True)}
            rows = list(changes.applied({identifier: _row_of(point) for identifier, point in there.items()}))
            if rows:
                self._change(Batch.of_rows(rows), there)

    def _first(self, batches: Iterable[Batch]) -> list[Batch]:
        """Take as many batches as the reducers learn from, or one."""
        assert self._plan is not None  # or there would be a manifest
        wanted = max(self._plan.fit_after, 1) if ClientCodec.of(self._plan.codec).learns else 1
        taken: list[Batch] = []
        found = 0
        for batch in batches:
            taken.append(self._ready(batch))
            found += len(batch)
            if found >= wanted * 4 or wanted == 1:
                break
        if taken and found < wanted:
            raise ParameterError(
                f"codec {self._plan.codec!r} learns from vectors: expected at least {wanted} in the first call of add, got "
                f"{found}; add more at once, give sample= to create, or a smaller fit_after"
            )
        return taken

    def _ready(self, batch: Batch) -> Batch:
        if batch.vectors is None and self._old_is_gone:
            batch.vectors = np.zeros((len(batch), self.dim or 1), np.float32)  # re-encoding comes to these documents
        if batch.vectors is None:
            batch.vectors = self.encode_documents(batch.to_embed)
        matrix = as_matrix(batch.vectors, self.dim)
        batch.vectors = unit_rows(matrix, keep_zeros=True) if self.metric == "cosine" and len(matrix) else matrix
        return batch

    def _start(self, sample: Floats, texts: Sequence[str]) -> None:
        """Fit the reducers and create the collection in Qdrant."""
        plan = self._plan
        assert plan is not None  # only a new collection starts
        if plan.dim is not None and sample.shape[1] != plan.dim:
            raise MismatchError(f"expected vectors of dimension {plan.dim}, as dim= says, got {sample.shape[1]}")
        codec = ClientCodec.of(plan.codec)
        codec.fit(sample, seed=plan.seed)
        self._lay_out(codec, int(sample.shape[1]), texts, None)

    def _lay_out(self, codec: Any, dim: int, texts: Sequence[str], encoder: dict[str, Any] | None) -> None:
        """Create the collection in Qdrant, with what was learned and what is known of the encoder.

        The texts are those of some documents, for the average length.
        """
        plan = self._plan
        assert plan is not None  # only a new collection is created
        mapping = map_codec(plan.codec)
        analysis = analysis_of(plan.full_text, self._analyser)
        manifest = Manifest(
            codec=plan.codec,
            metric=plan.metric,
            full_text=plan.full_text,
            dim=dim,
            average_length=average_length(analysis, texts),
            analysis=analysis.record,
            encoder=encoder,
            state=encode_state(codec),
            sparse={} if plan.sparse else None,
        )
        layout = Layout(codec.out_dim, mapping.datatype, mapping.quantization, sparse=plan.sparse, **plan.layout)
        self._transport.create(layout)
        self._description.create(manifest)

    def _write(self, batch: Batch, *, encoded: bool = False) -> list[str]:
        if not len(batch):
            return []
        if encoded:
            batch.flags = [flags | self._made_by_encoders(batch) for flags in batch.flags]
        stored = self._fitted().documents(_vectors(batch))
        words, sparse = self._words(), self._sparse_of(batch)
        points = [
            Point(
                point_id(identifier),
                payload_of(batch, row, self._order()),
                stored[row].tolist(),
                words.document(batch.words[row]),
                sparse=sparse[row],
                space=self._space.number,
            )
            for row, identifier in enumerate(batch.ids)
        ]
        self._transport.upsert(points)
        if encoded:
            self._remember(batch)
        self._remember_sparse(batch)
        return list(batch.ids)

    # ------------------------------------------------------------------ learned sparse vectors

    def _check_sparse_given(self, sparse_vectors: Any) -> None:
        """Have no document enter unseen a collection that is searched by sparse vectors, nor one without room for them."""
        if sparse_vectors is None:
            if self.has_sparse_vectors and self._sparse_encoder is None:
                raise ParameterError(
                    "expected sparse_vectors=, because the collection holds sparse vectors and was opened without sparse=; "
                    "give them (None for a document without any), or open it with sparse="
                )
        elif not self.has_sparse_vectors:
            raise ParameterError(
                "this collection in Qdrant has no room for sparse vectors; create one with sparse= (True for ready vectors)"
            )

    def _sparse_of(self, batch: Batch) -> list[Sparse | None]:
        """Return the sparse vectors of a batch, given or made of its texts."""
        if not self.has_sparse_vectors:
            return [None] * len(batch)
        if batch.sparse is None:
            encoder = self._sparse_encoder
            if encoder is None:
                self._check_sparse_given(None)
                return [None] * len(batch)
            rows = encoder.encode_documents(batch.to_embed)
            self._sparse_model.run(encoder.name, None, encoder.encode_documents)
            return [(terms.tolist(), weights.tolist()) for terms, weights in rows]
        return [(terms.tolist(), weights.tolist()) for terms, weights in batch.sparse]

    def _remember_sparse(self, batch: Batch) -> None:
        encoder = self._sparse_encoder
        if encoder is not None and batch.sparse is None and self.has_sparse_vectors:
            self._sparse_model.remember(encoder.name, encoder.prompts, None, batch.ids, batch.to_embed)

    @property
    def _sparse_about(self) -> dict[str, Any]:
        return (self._manifest.sparse or {}) if self._manifest is not None else {}

    def _write_sparse_encoder(self, entry: dict[str, Any]) -> None:
        assert self._manifest is not None  # there are documents
        self._description.edit(sparse={"encoder": entry})

    @property
    def has_sparse_vectors(self) -> bool:
        """Whether documents have learned sparse vectors."""
        if self._manifest is not None:
            return self._manifest.sparse is not None
        return self._plan is not None and self._plan.sparse

    @property
    def sparse_encoder(self) -> SparseEncoder | None:
        """What turns texts into learned sparse vectors, if one was given."""
        return self._sparse_encoder

    def encode_sparse_queries(self, texts: Sequence[str]) -> SparseRows:
        """Return the sparse encoder's vectors for queries."""
        encoder = self._sparse_encoder
        if encoder is None:
            raise ParameterError("the collection was opened without a sparse encoder; open it with sparse=")
        rows = encoder.encode_queries(texts)
        if self._manifest is not None and self.has_sparse_vectors:
            self._sparse_model.run(encoder.name, None, encoder.encode_documents)
        return rows

    def get_sparse_vectors(self, ids: Iterable[str]) -> list[tuple[npt.NDArray[np.uint32], Floats]]:
        """Return the stored learned sparse vectors; see `octavo.Collection.get_sparse_vectors`.

        Parameters
        ----------
        ids : iterable of str
            Which; every one has to be there.

        Returns
        -------
        list of (terms, weights)
            In the order asked; empty where a document has none.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.
        """
        listed = check_ids(ids)
        names = [SPARSE] if self.has_sparse_vectors else []
        return list(SparseRows.of([point.sparse for point in self._with_vectors(listed, names)]))

    def _remember(self, batch: Batch) -> None:
        """Note whose vectors were stored."""
        encoder = self._require_encoder()
        self._model.remember(encoder.name, prompts_of(encoder), batch.dim, batch.ids, batch.to_embed)

    def _order(self) -> int:
        self._last_order = max(time.time_ns(), self._last_order + 1)
        return self._last_order

    def delete(self, ids: Iterable[str] | None = None, filter: FilterLike = None) -> int:
        """Delete documents by id, by filter, or those that both name; see `octavo.Collection.delete`.

        Parameters
        ----------
        ids : iterable of str, optional
            Ids that are not there are no error; an empty list deletes nothing.
        filter : dict, filter or callable, optional
            See `search`.

        Returns
        -------
        int
            How many were deleted.

        Raises
        ------
        ParameterError
            When neither is given, or a part of the filter says nothing; `clear` deletes everything.
        """
        self._require_open()
        listed, where = check_deletion(ids, filter)
        with self._writing:
            if listed is None:
                found = [point.id for point in self._scroll(self._where(where), ["id"])]
            else:
                found = [point.id for point in self._retrieve(listed, False)]
                if where is not None:
                    kept = {point.id for point in self._scroll(self._where(where), ["id"])}
                    found = [point for point in found if point in kept]
            return self._delete(found)

    def clear(self) -> int:
        """Delete every document; returns how many there were. What the codec learned stays."""
        self._require_open()
        with self._writing:
            return self._delete([point.id for point in self._scroll(self._where(None), ["id"])])

    def _delete(self, points: Sequence[str]) -> int:
        for part in chunked(points, _DELETED_AT_ONCE):
            self._transport.delete(part)
        return len(points)

    def optimize(self) -> bool:
        """Build Qdrant's graph now; returns whether anything was done. A server does it on its own."""
        self._require_open()
        return self._transport.optimize() if self._manifest is not None else False

    def flush(self) -> None:
        """Build Qdrant's graph now; documents are durable without this."""
        self.optimize()

    # ------------------------------------------------------------------ documents

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids, in the order asked; unknown ids are left out."""
        listed = check_ids(ids)
        found = {point.id: point for point in self._retrieve(listed, FIELDS)}
        points = [point_id(identifier) for identifier in listed]
        return [document_of(found[point]) for point in points if point in found]

    def get_payloads(self, ids: Iterable[str]) -> list[str | None]:
        """Return the payloads of these ids, in the order asked; None where there is no document or no payload."""
        listed = check_ids(ids)
        found = {point.id: point.payload.get("payload") for point in self._retrieve(listed, ["payload"])}
        return [found.get(point_id(identifier)) for identifier in listed]

    def get_vectors(self, ids: Iterable[str]) -> Floats:
        """Return the stored vectors, in the dimension they came in.

        Parameters
        ----------
        ids : iterable of str
            Which; every one has to be there.

        Returns
        -------
        ndarray of shape (len(ids), dim), float32
            In the order asked.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.
        """
        listed = check_ids(ids)
        points = self._with_vectors(listed, [DENSE])
        return self._decoded([point.dense for point in points]) if listed else np.zeros((0, self.dim or 0), np.float32)

    def contains(self, ids: Iterable[str]) -> list[bool]:
        """Tell for each id whether it is there."""
        listed = check_ids(ids)
        found = {point.id for point in self._retrieve(listed, False)}
        return [point_id(identifier) in found for identifier in listed]

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and self.contains([identifier])[0]

    def __len__(self) -> int:
        return self.count()

    def count(self, filter: FilterLike = None) -> int:
        """Return the number of documents (that match)."""
        self._require_open()
        return self._transport.count(self._where(filter)) if self._manifest else 0

    def ids(self, filter: FilterLike = None) -> list[str]:
        """Return the ids of all documents (that match), oldest version first."""
        self._require_open()
        found = [(order_of(point), id_of(point)) for point in self._scroll(self._where(filter), ["id", "order"])]
        return [identifier for _, identifier in sorted(found)]

    def documents(self, filter: FilterLike = None) -> Iterator[Document]:
        """Yield all documents (that match), oldest version first, a few hundred in memory at a time."""
        for part in chunked(self.ids(filter), _CHUNK):
            yield from self.get(part)

    # ------------------------------------------------------------------ search

    @contextlib.contextmanager
    def _ranker(self, where: Where, ids: Sequence[str] | None, options: SearchOptions) -> Iterator[Ranker]:
        if options.n_probe is not None:
            raise ParameterError(
                "n_probe belongs to cells, and Qdrant has a graph: look harder with ef= or oversample="
            )
        if self._manifest is None:
            yield NothingRanked()
            return
        condition = self._where(where)
        if ids is not None:
            condition = all_of(condition, {"has_id": [point_id(each) for each in ids]} if ids else NOTHING)
        first = self._ranker_of(self._space, condition)
        following, manifest = self._description.next, self._manifest
        if following is None or manifest.next is None:
            yield first
            return
        second = self._ranker_of(following, condition)
        identity = manifest.next.identity
        yield QdrantTwoSpaces(first, second, identity, following.number, self._how_far(following.number, identity))

    def _ranker_of(self, space: Space, condition: Condition) -> SpaceRanker:
        return space.ranker(self._transport, condition, self._words(), sparse=self.has_sparse_vectors)

    def _how_far(self, space: int, identity: str) -> Progress:
        """Return how far a change of the model is, as of a moment ago."""
        known, now = self._progress, time.monotonic()
        if known is not None and known[0] == identity and now - known[1] < _KNOWN_FOR:
            return known[2]
        both = all_of(DOCUMENTS, in_space(space))
        page, _ = self._transport.scroll(
            both, ["order"], None
        )  # their ids are hashes: any of them are as good as others
        sample = [point.id for point in page[:SAMPLE]]
        progress = Progress(self._transport.count(both), self._transport.count(DOCUMENTS), sample)
        self._progress = identity, now, progress
        return progress

    def _search(self, *arguments: Any) -> list[SearchResult]:
        for _ in range(_CHANGES):
            try:
                return super()._search(*arguments)
            except SpaceChangedError:
                self._models.forget()
            except (
                OctavoError,
                ValueError,
            ):  # a server that knows no vectors of the old name any more says no more than that
                if not self._refresh():
                    raise
        raise CollectionLockedError("the collection's model kept being changed during a search; try again")

    def _encoded(self, queries: Any, words: Sequence[str | WordQuery] | None, are_words: bool) -> Queries:
        return self._by_models(queries, words, are_words, super()._encoded)

    def _by_models(
        self,
        queries: Any,
        words: Sequence[str | WordQuery] | None,
        are_words: bool,
        encoded: Callable[[Any, Sequence[str | WordQuery] | None, bool], Queries],
    ) -> Queries:
        """Return queries by the collection's model, and by the one that it is being changed to."""
        if are_words and (self._models.previous is not None or self._description.next is not None):
            self._look()
            if self._description.next is not None:
                return self._models.queries(list(queries), words, lambda: encoded(queries, words, are_words))
        return encoded(queries, words, are_words)

    def _refresh(self) -> bool:
        """Read the description again; tells whether the model was changed by another process, or a change began or ended.

        Raises
        ------
        MismatchError
            When it keeps another kind of vectors now.
        """
        if self._manifest is None or not self._description.refresh():
            return False
        self._changed()
        if (self._manifest.late is not None) != self._many_vectors:
            kept = "one vector" if self._many_vectors else "many vectors"
            raise MismatchError(
                f"the collection at {self._transport.place} was re-encoded, and keeps {kept} a document now: open it again"
            )
        return True

    def _changed(self) -> None:
        """Compare encoders anew, since the model was changed, or a change of it began or ended."""
        self._model = self.model_check()
        self._models.forget()
        self._progress = None

    # ------------------------------------------------------------------ about it

    @property
    def dim(self) -> int | None:
        """Dimension of the vectors as they come in; None before the first ones."""
        if self._manifest is not None:
            return self._manifest.dim
        return self._plan.dim if self._plan is not None else None

    @property
    def metric(self) -> str:
        """How vectors are compared: "cosine" or "dot"."""
        return self._about.metric

    @property
    def codec(self) -> str:
        """The codec string."""
        return self._about.codec

    @property
    def local(self) -> None:
        """None: the documents lie in Qdrant."""
        return None

    @property
    def late(self) -> MultiVectorLike | None:
        """None: it keeps one vector a document."""
        return None

    @property
    def encoder(self) -> Encoder | None:
        """What turns texts into vectors, if one was given."""
        encoder: Encoder | None = self._models.any
        return encoder

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def space(self) -> int:
        """How many times the model was changed by now, or begun to be: vectors of another number are of another model."""
        self._look()
        return self._manifest.space if self._manifest is not None else 0

    @property
    def encodes_itself(self) -> bool:
        """Whether texts are left to the collection: its model is being changed, or was since it was opened; it has encoders."""
        if self.encoder is None:
            return False
        space = self.space
        return space != self._opened_in or self._description.next is not None or self._models.previous is not None

    def _look(self) -> None:
        """Read the description again where others may have changed it."""
        if self._transport.directory is None:
            self._refresh()

    def _repr_html_(self) -> str:
        html: str = notebook_table(repr(self), [], []) if self._closed else self.info()._repr_html_()
        return html

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"<octavo {type(self).__name__} {self._transport.place!r}, codec {self.codec!r}{state}>"

    @property
    def _about(self) -> Manifest | Plan:
        about = self._manifest or self._plan
        assert about is not None  # one of the two
        return about

    def reencode(
        self,
        encoder: Any,
        codec: str | None = None,
        *,
        batch_size: int = 256,
        rate: str | None = None,
        serve: Literal["both", "old"] = "both",
        previous: Any = None,
        progress: bool = False,
    ) -> None:
        """Change the collection's model: encode all its texts with another one, while it is searched and written to.

        The new vectors get a name of their own beside the old ones, which are dropped when all documents have new ones. What
        ends it before, and how to go on, is as of `octavo.Collection.reencode`. A codec that learns does so from the first
        4,096 documents, which are encoded again if it ends before they are.

        Parameters
        ----------
        encoder, codec, batch_size, rate, serve, previous, progress
            See `octavo.Collection.reencode`; the codec as far as Qdrant has a counterpart.

        Raises
        ------
        MismatchError
            When it is being re-encoded already, with another model or codec.
        ParameterError
            When a document has no text, or somebody has cancelled meanwhile.
        CodecError
            When Qdrant has no counterpart of the codec.
        StorageError
            When the disk has no room for the new vectors beside the old ones (`path=`). Nothing was changed.
        CollectionLockedError
            When another process is re-encoding it.
        MissingExtraError
            When the installed client of a server is too old to add named vectors.

        Examples
        --------
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> kb = QdrantCollection.create(path=folder.name, encoder=lambda texts: [[len(text), 1.0] for text in texts])
        >>> _ = kb.add(["red", "green"])
        >>> kb.reencode(lambda texts: [[text.count("e"), text.count("r"), 1.0] for text in texts])
        >>> kb.dim, kb.search("green", k=1)[0].text
        (3, 'green')
        >>> kb.close()
        >>> folder.cleanup()
        """
        self.reencode_texts(None, encoder, codec, batch_size, rate, serve, previous=previous, progress=progress)

    def reencode_texts(
        self,
        texts_of: TextsOf | None,
        encoder: Any,
        codec: str | None = None,
        batch_size: int = 256,
        rate: str | None = None,
        serve: Literal["both", "old"] = "both",
        *,
        previous: Any = None,
        progress: bool = False,
    ) -> None:
        """Change the collection's model as `reencode` does, for adapters that embed something else than the stored text.

        Parameters
        ----------
        texts_of : callable or None
            Returns what the encoder is given of some documents.
        encoder, codec, batch_size, rate, serve, previous, progress
            See `reencode`.
        """
        self._require_open()
        batch_size, chosen = check_options(batch_size, serve)
        pace = Rate.parse(rate)
        coming = new_encoder(encoder, late=self._many_vectors)
        if previous is not None:
            self._models.previous = new_encoder(previous, late=self._many_vectors)
            self._models.forget()
        late = isinstance(coming, TokenEncoder)
        self._refresh()
        manifest = self._manifest
        if codec is None:
            if manifest is not None and manifest.next is not None:
                codec = manifest.next.codec
            else:
                codec = self.codec if late == self._many_vectors else "int8"
        text = (map_token_codec if late else map_codec)(codec).codec
        if manifest is None:
            self._plan_for(coming, text)
            return
        drop_rest(self._transport, self._description)
        if manifest.next is None and text == manifest.codec and self._models.has_made(coming):
            self._changed_to(coming)  # it was done before
            return
        work = QdrantReencoder(
            self._transport, self._description, self._writing, coming, text, batch_size, pace, chosen, texts_of
        )
        old = self._models.maker()
        self._work = work
        try:
            with progress_bar("reencode", self.count(), shown=progress) as advance:
                advance(work.begin())
                self._models.coming = coming
                self._models.assign(old, coming)
                self._follow(work, advance)
        finally:
            self._work = None
            self._progress = None
        if late != self._many_vectors:
            self.close()
        else:
            self._changed_to(coming)

    def _follow(self, work: QdrantReencoder, advance: Callable[[int], object]) -> None:
        def written(documents: int) -> None:
            self._progress = None
            advance(documents)

        while True:
            work.fill(written)
            if work.finish(written):
                return

    def _plan_for(self, encoder: Any, codec: str) -> None:
        """Have a collection without documents, which is not in Qdrant yet, begin with another model."""
        assert self._plan is not None  # there is no manifest
        if isinstance(encoder, TokenEncoder) != self._many_vectors:
            raise ParameterError(
                "a collection without documents keeps its kind of vectors: one a document, or many; create a new one"
            )
        self._plan = replace(self._plan, codec=codec)
        self._changed_to(encoder)

    def _changed_to(self, encoder: Any) -> None:
        """Go on with another model."""
        self._models.coming = None
        self._changed()
        self._encoder = encoder
        self._model.settled = self._manifest is not None  # it is the one

    def cancel_reencode(self) -> bool:
        """Give up a change of the model: drop the new vectors that are there, and go on with the old ones.

        Returns
        -------
        bool
            Whether one was under way.

        Examples
        --------
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with QdrantCollection.create(path=folder.name, dim=2) as kb:
        ...     kb.cancel_reencode()
        False
        >>> folder.cleanup()
        """
        self._require_open()
        cancelled = cancel(self._transport, self._description)
        self._models.coming = None
        self._changed()
        return cancelled

    def vectors_for(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return what `add` is to be given beside documents of which an adapter embeds something else than their texts.

        Parameters
        ----------
        texts : sequence of str
            What is to be embedded of them.

        Returns
        -------
        dict of str to array
            As of `octavo.Collection.vectors_for`.
        """
        if self._old_is_gone:
            nothing = np.zeros((len(texts), self.dim or 1), np.float32)
            return {"token_vectors": [row[None][:0] for row in nothing]} if self._many_vectors else {"vectors": nothing}
        return {"token_vectors" if self._many_vectors else "vectors": self.encode_documents(texts)}

    @property
    def _old_is_gone(self) -> bool:
        """Whether the collection's model is being changed and only the new one is at hand."""
        if self._description.next is None:
            return False
        roles = self._models.roles()
        return roles.current is None and roles.coming is not None

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        """Return the encoder's vectors for documents, of shape ``(len(texts), dim)``."""
        vectors: Floats = self._of_the_same_model(self._require_encoder().encode_documents(texts))
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Return the encoder's vectors for queries, of shape ``(len(texts), dim)``."""
        vectors: Floats = self._of_the_same_model(self._require_encoder().encode_queries(texts))
        return vectors

    def model_check(self) -> ModelCheck:
        """Return what notices that an encoder is not the one that made the stored vectors; for those who encode themselves."""
        return self._check_of(coming=False)

    def _check_of(self, *, coming: bool) -> ModelCheck:
        """Return what compares an encoder with the one that made the vectors that the collection has, or gets."""

        def space() -> Space:
            found = self._description.next if coming else self._description.space
            assert found is not None  # there are documents, or a change is under way
            return found

        return ModelCheck(
            RemoteVectors(
                read_encoder=self._read_next_encoder if coming else self._read_encoder,
                write_encoder=self._write_encoder,
                get=self.get,
                vectors=lambda ids: space().compared(self._transport, ids),
                as_stored=lambda vectors: space().as_stored(vectors),
            )
        )

    def _read_next_encoder(self) -> dict[str, Any] | None:
        manifest = self._manifest
        return manifest.next.encoder if manifest is not None and manifest.next is not None else None

    def _read_encoder(self) -> dict[str, Any] | None:
        return self._manifest.encoder if self._manifest is not None else None

    def _write_encoder(self, entry: dict[str, Any]) -> None:
        assert self._manifest is not None  # there are documents
        self._description.edit(encoder=entry)

    def _of_the_same_model(self, vectors: Any) -> Any:
        """Return vectors that the encoder has made, unless those in the collection are another encoder's."""
        encoder = self._require_encoder()
        dim = next((int(matrix.shape[-1]) for matrix in vectors if matrix.size), None)
        self._model.run(encoder.name, dim, encoder.encode_documents)
        return vectors

    def _require_encoder(self) -> Any:
        roles = self._models.roles()
        if roles.current is not None:
            return roles.current
        if roles.coming is not None:
            raise ParameterError(
                f"the collection is being re-encoded with {roles.coming.name!r}, and the model that made the vectors which it "
                "has is not at hand; open it with previous= as well, or wait for the end"
            )
        raise ParameterError("the collection was opened without an encoder; open it with encoder=")

    def notes(self) -> dict[str, str]:
        """Return the short texts that tools keep beside the documents; see `octavo.Collection.notes`."""
        self._require_open()
        if self._manifest is None:
            return {}
        found = self._transport.retrieve([MANIFEST], True)
        kept = found[0].payload.get(_NOTES) if found else None
        if not isinstance(kept, dict):
            return {}
        return {name: text for name, text in sorted(kept.items()) if isinstance(text, str)}

    def set_note(self, name: str, text: str | None) -> None:
        """Keep a short text in the description of the collection, or remove it.

        Parameters
        ----------
        name, text
            See `octavo.Collection.set_note`.

        Raises
        ------
        ParameterError
            When there is no description yet, because nothing was added.
        """
        name, text = check_note(name, text)
        self._require_open()
        if self._manifest is None:
            raise ParameterError(
                f"the collection at {self._transport.place} appears in Qdrant with its first documents; add some before a note"
            )
        with self._writing:
            (point,) = self._transport.retrieve([MANIFEST], True)
            notes = self.notes() | ({name: text} if text is not None else {})
            if text is None:
                notes.pop(name, None)
            self._transport.upsert([Point(MANIFEST, point.payload | {_NOTES: notes})])

    def info(self) -> QdrantInfo:
        """Return what the collection holds and how Qdrant keeps it."""
        self._require_open()
        return self._describe(map_codec(self.codec), self._fitted().out_dim if self._manifest is not None else None)

    def _describe(self, mapping: CodecMapping, stored_dim: int | None) -> QdrantInfo:
        status = self._transport.status() if self._manifest is not None else None
        stored = self._manifest.encoder if self._manifest is not None else None
        return QdrantInfo(
            place=self._transport.place,
            documents=self.count(),
            dim=self.dim,
            stored_dim=stored_dim,
            metric=self.metric,
            codec=self.codec,
            full_text=self._about.full_text,
            encoder=stored["name"] if stored else None,
            datatype=mapping.datatype,
            quantization=mapping.quantization,
            indexed=status.indexed if status else 0,
            segments=status.segments if status else 0,
            details=status.details if status else {},
            sparse={"encoder": (self._sparse_about.get("encoder") or {}).get("name")}
            if self.has_sparse_vectors
            else None,
            reencoding=self._describe_change(),
        )

    def _describe_change(self) -> dict[str, Any] | None:
        self._look()
        state = self._manifest.next if self._manifest is not None else None
        following, work = self._description.next, self._work
        if state is None or following is None:
            return None
        done = self._transport.count(all_of(DOCUMENTS, in_space(following.number)))
        total = self._transport.count(DOCUMENTS)
        speed = work.encoded / work.seconds if work is not None and work.encoded and work.seconds > 0 else None
        return {
            "encoder": state.encoder["name"],
            "late": following.late,
            "codec": state.codec,
            "serve": state.serve,
            "documents": done,
            "of": total,
            "share": done / total if total else 1.0,
            "per_second": speed,
            "seconds_left": (total - done) / speed if speed else None,
            "bytes": int(following.bytes_each * done),
            "bytes_in_all": int(following.bytes_each * total),
        }

    def close(self) -> None:
        """Release the directory or the connections; may be called twice."""
        if not self._closed:
            self._closed = True
            self._transport.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._manifest is None:
            raise InputTypeError(
                "a collection without documents cannot be pickled: there is nothing in Qdrant yet for another process to open"
            )
        reference = self._transport.reference()
        return _reopen, (
            type(self),
            reference,
            self.encoder,
            self.sparse_encoder,
            self._analyser,
            self._models.previous,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ------------------------------------------------------------------ inside

    @property
    def _mapping(self) -> CodecMapping:
        assert self._manifest is not None
        return map_codec(self._manifest.codec)

    @property
    def _space(self) -> Space:
        """The space of the vectors that the collection has."""
        space = self._description.space
        assert space is not None  # there are documents, so there is one
        return space

    def _fitted(self) -> ClientCodec:
        codec = self._space.codec
        assert isinstance(codec, ClientCodec)  # of one vector a document
        return codec

    def _decoded(self, vectors: Sequence[Sequence[float] | None]) -> Floats:
        """Return stored vectors in the dimension they came in."""
        return self._fitted().decode(np.array(vectors, np.float32))

    def _words(self) -> BM25Encoder:
        assert self._manifest is not None
        return BM25Encoder(self._text_analysis, self._manifest.average_length)

    def _text_analysis(self) -> TextAnalysis:
        assert self._manifest is not None
        if self._analysis is None:
            self._analysis = self._manifest.words(self._analyser)
        return self._analysis

    def _take_words(self, full_text: str | Analyser | None) -> None:
        """Compare what is asked of the words with what there is."""
        if full_text is None:
            return
        stored = self._about.full_text
        if callable(full_text) and stored.startswith(FUNCTION):
            self._analyser = full_text
            self._text_analysis()
        elif (asked := check_full_text(full_text)) != stored:
            raise MismatchError(
                f"the collection was made with full_text={stored!r}, got {asked!r}; open it without full_text="
            )

    def _require_open(self) -> None:
        if self._closed:
            raise CollectionClosedError("the collection is closed; open it again")

    def _with_vectors(self, ids: Sequence[str], vectors: Sequence[str]) -> list[Point]:
        """Return the points of these documents, every one of which has to be there, with vectors and without payload."""
        points = {point.id: point for point in self._retrieve(ids, False, vectors=vectors)}
        keys = {identifier: point_id(identifier) for identifier in ids}
        return each_of({identifier: points[key] for identifier, key in keys.items() if key in points}, ids)

    def _retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | bool, *, vectors: Sequence[str] = ()
    ) -> Iterator[Point]:
        self._require_open()
        if self._manifest is None:
            return
        points = list(dict.fromkeys(map(point_id, ids)))
        for part in chunked(points, _CHUNK):
            yield from self._transport.retrieve(part, fields, vectors=vectors, space=self._space.number)

    def _scroll(self, where: Condition, fields: Sequence[str]) -> Iterator[Point]:
        offset: str | None = None
        while self._manifest is not None:
            page, offset = self._transport.scroll(where, fields, offset)
            yield from page
            if offset is None:
                return

    def _where(self, filter: FilterLike) -> Condition:
        """Return a filter that lets exactly the wanted documents through."""
        tree = check_filter(filter)
        if tree is None:
            return DOCUMENTS
        if not isinstance(tree, Filter):
            return self._chosen(DOCUMENTS, tree)
        bounds = translate(tree)
        if bounds.exact:
            return all_of(DOCUMENTS, bounds.lower)
        between = all_of(DOCUMENTS, bounds.upper, none_of(bounds.lower))
        some = self._chosen(between, lambda document: matches(tree, document.metadata))
        return all_of(DOCUMENTS, bounds.lower if some is NOTHING else any_of(bounds.lower, some))

    def _chosen(self, where: Condition, wanted: DocumentFilter) -> Condition:
        """Look at documents one by one, and return a filter for those that are wanted."""
        found = [point.id for point in self._scroll(where, FIELDS) if lets_through(wanted, document_of(point))]
        return {"has_id": found} if found else NOTHING


class _Spaces:
    """The spaces of a collection in Qdrant; see `octavo.collection.models.Spaces`."""

    def __init__(self, collection: QdrantCollection) -> None:
        self._collection = collection

    @property
    def late(self) -> bool:
        """See `octavo.collection.models.Spaces`."""
        return self._collection._many_vectors

    def now(self) -> tuple[int, Change | None]:
        """See `octavo.collection.models.Spaces`."""
        manifest = self._collection._manifest
        if manifest is None:
            return 0, None
        state = manifest.next
        if state is None:
            return manifest.space, None
        name = state.encoder["name"]
        return manifest.space, Change(
            state.identity, name, state.late is not None, state.serve, state.dim, state.metric
        )

    def check(self, *, coming: bool) -> ModelCheck:
        """See `octavo.collection.models.Spaces`."""
        return self._collection._check_of(coming=coming)


def keeps_sparse(sparse: Any, encoder: Any) -> bool:
    """Tell whether a collection that is created with these is to have room for sparse vectors."""
    if sparse is False:
        raise ParameterError("expected sparse as an encoder of sparse vectors, or True for ready ones, got False")
    return sparse is not None or gives_several(encoder)


def _reopen(
    kind: type[QdrantCollection],
    reference: dict[str, Any],
    encoder: Any,
    sparse: Any = None,
    full_text: Any = None,
    previous: Any = None,
) -> QdrantCollection:
    """Open what was pickled; a server's key is this process's own."""
    if "url" in reference:
        reference = reference | {"api_key": os.environ.get(KEY_VARIABLE) or None}
    return kind.open(encoder=encoder, sparse=sparse, full_text=full_text, previous=previous, **reference)


def _row_of(point: Point) -> tuple[str, str, str, str | None, str | None, int]:
    """Return a document as `octavo.store.database.document_crc` takes it."""
    payload = point.payload
    stored = payload.get("json")
    metadata = stored if stored is not None else json.dumps(payload.get("metadata") or {}, ensure_ascii=False)
    return (
        id_of(point),
        payload.get("text", ""),
        metadata,
        payload.get("payload"),
        payload.get("embed_text"),
        flags_of(point),
    )


def _made_of(point: Point, text: str, wanted: int) -> bool:
    """Tell whether encoders have made all vectors of a point, of this very text."""
    return flags_of(point) & wanted == wanted and document_of(point).to_embed == text


def _vectors(batch: Batch) -> Floats:
    assert batch.vectors is not None  # made ready
    return batch.vectors
