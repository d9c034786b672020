"""A collection whose documents lie in Qdrant."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, NoReturn, Self

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, as_matrix, unit_rows
from octavo._html import notebook_table
from octavo._sparse_rows import SparseRows
from octavo._text_analysis import FUNCTION, Analyser, TextAnalysis, check_full_text
from octavo._validation import check_integer
from octavo.collection import MultiVectorLike
from octavo.collection.model_check import ModelCheck, RemoteVectors, folded, prompts_of
from octavo.collection.searching import DenseSearch, NothingRanked, Ranker, Where, check_deletion, check_filter
from octavo.collection.sparse_input import with_sparse
from octavo.encoders.dense import Encoder, as_encoder
from octavo.encoders.one_pass import gives_several
from octavo.encoders.sparse import SparseEncoder, as_sparse_encoder
from octavo.errors import (
    CollectionClosedError,
    CollectionNotFoundError,
    InputTypeError,
    MismatchError,
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
from octavo.integrations.qdrant._ranker import QdrantDenseRanker
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
from octavo.retrievers.search import DocumentFilter, FilterLike, SearchOptions, lets_through
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
)

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

    def __init__(self, transport: Transport, encoder: Any, plan: Plan | None, sparse: Any = None) -> None:
        if sparse is None and gives_several(encoder):
            sparse = encoder
        self._sparse_encoder = as_sparse_encoder(sparse)
        self._transport = transport
        self._plan = plan
        self._encoder = as_encoder(encoder) if encoder is not None else None
        self._analyser: Analyser | None = None  # the function that full_text is, if it is one and was given
        self._analysis: TextAnalysis | None = None
        self._manifest: Manifest | None = None
        self._codec: ClientCodec | None = None
        self._closed = False
        self._last_order = 0
        self._writing = threading.Lock()
        if plan is None:
            self._manifest = Manifest.read(transport)
            if (self._manifest.late is not None) != self._many_vectors:
                many, other = ("one vector", "Qdrant") if self._many_vectors else ("many vectors", "QdrantMultiVector")
                raise MismatchError(
                    f"the collection at {transport.place} keeps {many} a document; open it with {other}Collection.open"
                )
            self._restore(self._manifest)
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

    def _restore(self, manifest: Manifest) -> None:
        """Take over what was learned."""
        self._codec = manifest.client_codec()

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
            collection = cls(transport, encoder, None, sparse)
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
        if vectors is None and self._encoder is None:
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
            See there.
        """
        self._require_open()
        named = [identifier for identifier in ids if identifier is not None]
        there = self._there(named) if named and self._manifest is not None else {}
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
            See there.

        Raises
        ------
        StaleVectorsError
            When a document that was to keep its vectors is gone or has others by now.
        """
        self._require_open()
        batch_size = check_integer(batch_size, "batch_size", least=1)
        made = list(vectors)
        batches = list(
            read_batches(
                documents,
                ids,
                metadata,
                None,
                None,
                batch_size=batch_size,
                dim=None,
                embed_texts=embed_texts,
                embed_words=False,
            )
        )
        if sum(map(len, batches)) != len(made):
            raise ParameterError(
                f"expected one vector, or None, for each of {sum(map(len, batches))} documents, got {len(made)}"
            )
        given = iter(made)
        fresh: list[Batch] = []
        for batch in batches:
            part = [next(given) for _ in range(len(batch))]
            self._keep(batch.part([row for row, vector in enumerate(part) if vector is None]))
            rest = batch.part([row for row, vector in enumerate(part) if vector is not None])
            if len(rest):
                self._take(rest, [vector for vector in part if vector is not None])
                rest.flags = [flags | self._wanted() for flags in rest.flags]
                fresh.append(rest)
        self._check_sparse_given(None)
        self._put(iter(fresh), encode=False)
        return [identifier for batch in batches for identifier in batch.ids]

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
        wanted = self._made_by_encoders(batch)
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
            self._write(ready(batch), encoded=True)

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
        if batch.vectors is None:
            assert self._encoder is not None  # add has asked for one of the two
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
        manifest.write(self._transport)
        self._manifest, self._codec = manifest, codec

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
        self._manifest = replace(self._manifest, sparse={"encoder": entry})
        self._manifest.write(self._transport)

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
        yield self._new_ranker(condition)

    def _new_ranker(self, condition: Condition) -> Ranker:
        return QdrantDenseRanker(
            self._transport,
            condition,
            self._words(),
            self._mapping.oversampling,
            codec=self._fitted(),
            cosines=self.metric == "cosine",
            sparse=self.has_sparse_vectors,
        )

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
        return self._encoder

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

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

    def reencode(self, *arguments: Any, **options: Any) -> NoReturn:
        """Not for collections in Qdrant: their model is changed by way of a local copy.

        Parameters
        ----------
        *arguments, **options
            As for `octavo.Collection.reencode`; none is looked at.

        Raises
        ------
        ParameterError
            Always; the message says what to do.
        """
        raise ParameterError(
            "a collection in Qdrant keeps its model: octavo pull PLACE DIR, octavo reencode DIR --model NEW, octavo push "
            "DIR to a new name; then search that"
        )

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
        return ModelCheck(
            RemoteVectors(
                read_encoder=self._read_encoder,
                write_encoder=self._write_encoder,
                get=self.get,
                vectors=self._vectors_to_compare,
                as_stored=self._as_stored,
            )
        )

    def _read_encoder(self) -> dict[str, Any] | None:
        return self._manifest.encoder if self._manifest is not None else None

    def _write_encoder(self, entry: dict[str, Any]) -> None:
        assert self._manifest is not None  # there are documents
        self._manifest = replace(self._manifest, encoder=entry)
        self._manifest.write(self._transport)

    def _vectors_to_compare(self, ids: Sequence[str]) -> Floats:
        return self.get_vectors(ids)

    def _as_stored(self, vectors: Any) -> Floats:
        matrix = as_matrix(vectors, self.dim, "vectors of the encoder")
        codec = self._fitted()
        return codec.decode(codec.documents(unit_rows(matrix, keep_zeros=True) if self.metric == "cosine" else matrix))

    def _of_the_same_model(self, vectors: Any) -> Any:
        """Return vectors that the encoder has made, unless those in the collection are another encoder's."""
        encoder = self._require_encoder()
        dim = next((int(matrix.shape[-1]) for matrix in vectors if matrix.size), None)
        self._model.run(encoder.name, dim, encoder.encode_documents)
        return vectors

    def _require_encoder(self) -> Encoder:
        if self._encoder is None:
            raise ParameterError("the collection was opened without an encoder; open it with encoder=")
        return self._encoder

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
        return self._describe(map_codec(self.codec), self._codec.out_dim if self._codec is not None else None)

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
        )

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
        return _reopen, (type(self), reference, self.encoder, self.sparse_encoder, self._analyser)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ------------------------------------------------------------------ inside

    @property
    def _mapping(self) -> CodecMapping:
        assert self._manifest is not None
        return map_codec(self._manifest.codec)

    def _fitted(self) -> ClientCodec:
        assert self._codec is not None  # there are documents, so there is one
        return self._codec

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
            yield from self._transport.retrieve(part, fields, vectors=vectors)

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


def keeps_sparse(sparse: Any, encoder: Any) -> bool:
    """Tell whether a collection that is created with these is to have room for sparse vectors."""
    if sparse is False:
        raise ParameterError("expected sparse as an encoder of sparse vectors, or True for ready ones, got False")
    return sparse is not None or gives_several(encoder)


def _reopen(
    kind: type[QdrantCollection], reference: dict[str, Any], encoder: Any, sparse: Any = None, full_text: Any = None
) -> QdrantCollection:
    """Open what was pickled; a server's key is this process's own."""
    if "url" in reference:
        reference = reference | {"api_key": os.environ.get(KEY_VARIABLE) or None}
    return kind.open(encoder=encoder, sparse=sparse, full_text=full_text, **reference)


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
