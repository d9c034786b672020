"""A collection for late interaction whose documents lie in Qdrant."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final, Self

import numpy as np

from octavo._arrays import Floats
from octavo._text_analysis import Analyser
from octavo._validation import check_integer
from octavo.collection.reencoding import new_encoder
from octavo.collection.searching import LateSearch
from octavo.collection.sparse_input import with_sparse
from octavo.collection.token_input import make_ready, not_late, read_token_batches
from octavo.compression.candidates import CandidateEncoder, candidate_encoder_from_config
from octavo.compression.spatial_pooling import pooling_from_config
from octavo.compression.token_matrices import TokenMatrices
from octavo.compression.token_pooling import TokenPooling
from octavo.encoders.dense import as_encoder
from octavo.encoders.one_pass import gives_several
from octavo.encoders.tokens import TokenEncoder, pooled, pooling_beside
from octavo.errors import InputTypeError, InvalidVectorsError, MismatchError, ParameterError
from octavo.integrations.qdrant._client import ServerOptions
from octavo.integrations.qdrant._collection import QdrantCollection, QdrantInfo, keeps_sparse
from octavo.integrations.qdrant._manifest import Manifest, Plan, analysis_of, average_length, layout_of, transport_of
from octavo.integrations.qdrant._spaces import NUMBERS_AT_ONCE
from octavo.integrations.qdrant.late_points import LateCodec, candidate_mapping, centred, learns, map_token_codec
from octavo.integrations.qdrant.points import CodecMapping, payload_of, point_id
from octavo.integrations.qdrant.transport import TOKENS, Layout, Point, TokenLayout, Transport
from octavo.retrievers.search import Queries
from octavo.store.documents import Batch, DocumentLike, check_ids, chunked
from octavo.store.settings import DEFAULT_CANDIDATES, DEFAULT_POOLING, candidates_config, pooling_config
from octavo.words import WordQuery

#: Numbers that one document's token vectors may have: a server refuses more.
_MOST_NUMBERS: Final = 1_048_575

#: Documents whose token vectors are asked for in one request: 100 vectors of 384 numbers each make 15 MB of JSON.
_DOCUMENTS_AT_ONCE: Final = 32


@dataclass(frozen=True)
class _LatePlan(Plan):
    pooling: dict[str, Any]
    candidates: dict[str, Any]


class QdrantMultiVectorCollection(LateSearch, QdrantCollection):
    """Documents with many vectors each in Qdrant, behind the methods of `octavo.MultiVectorCollection`.

    Made by `create` or `open`; safe to use from many threads. Tokens are pooled and reduced here and compared by Qdrant,
    which keeps them as one multivector with ``max_sim`` and without a graph; the candidate vector beside it has one.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> kb = QdrantMultiVectorCollection.create(path=folder.name, pool_factor=1)
    >>> kb.add(["red green", "brown"], ids=["rg", "b"], token_vectors=[[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8]]])
    ['rg', 'b']
    >>> [(hit.id, f"{hit.score:.1f}") for hit in kb.search([[1.0, 0.0], [0.0, 1.0]], k=2)]
    [('rg', '2.0'), ('b', '1.4')]
    >>> kb.close()
    >>> folder.cleanup()
    """

    _many_vectors: ClassVar[bool] = True

    def __init__(
        self, transport: Transport, encoder: Any, plan: _LatePlan | None, sparse: Any = None, previous: Any = None
    ) -> None:
        if sparse is None and gives_several(encoder):
            sparse = encoder
        try:
            tokens = encoder if encoder is None or isinstance(encoder, TokenEncoder) else TokenEncoder(encoder)
        except InputTypeError as err:
            raise self._refused(transport, encoder, plan, err) from err
        if plan is not None and tokens is not None and tokens.pools is not None:
            asked = None if plan.pooling == DEFAULT_POOLING else plan.pooling
            plan = replace(plan, pooling=pooling_beside(tokens, asked) or DEFAULT_POOLING)
        super().__init__(transport, None, plan, sparse)
        if previous is not None:
            if tokens is None:
                raise ParameterError("expected encoder= beside previous=: the model that the collection is changed to")
            self._models.previous = new_encoder(previous, late=True)
        self._encoder = tokens
        pooling_beside(tokens, self._pooling)

    @staticmethod
    def _refused(transport: Transport, encoder: Any, plan: Any, err: InputTypeError) -> Exception:
        """Return the error for what is no token encoder: another one where it gives one vector a text."""
        try:
            name = as_encoder(encoder).name
        except InputTypeError:
            return err
        return not_late(Manifest.read(transport).encoder if plan is None else None, name)

    @classmethod
    def create(  # type: ignore[override]  # many vectors have no metric, and are pooled
        cls,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        name: str = "octavo",
        encoder: Any = None,
        sparse: Any = None,
        codec: str = "int8",
        pool_factor: int | None = None,
        pooling: TokenPooling | None = None,
        candidates: str | CandidateEncoder | None = None,
        dim: int | None = None,
        sample: Sequence[Any] | None = None,
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
        """Create a collection for late interaction in Qdrant; it appears there with `sample` or the first documents.

        Parameters
        ----------
        path, url, name, sparse, full_text, seed, ranges, connectivity, full_scan_threshold, indexing_threshold
            See `QdrantCollection.create`.
        encoder, pool_factor, pooling, candidates, dim
            As in `octavo.open_multi_vector`.
        codec : str, default="int8"
            How one token vector is kept, as far as Qdrant has a counterpart: as in `octavo.open_multi_vector`.
        sample : sequence of array-like of shape (n_tokens, dim), optional
            Token vectors of documents that reducers and candidate encoder are fitted on. Without it, that is the first
            call of `add`.
        fit_after : int, default=1000
            Documents that what learns wants at least. Only the centre of ``"mean"`` and ``"fde"`` is left out where there
            are fewer.
        api_key, timeout, retries, shard_number, replication_factor, write_consistency_factor
            See `QdrantCollection.create`.

        Returns
        -------
        QdrantMultiVectorCollection
            Close it, or use it as a context manager.

        Raises
        ------
        ParameterError
            When there is a collection already, or an option cannot be used.
        CodecError
            When Qdrant has no counterpart of the codec.
        """
        options = ServerOptions(
            api_key=api_key,
            timeout=timeout,
            retries=retries,
            shard_number=shard_number,
            replication_factor=replication_factor,
            write_consistency_factor=write_consistency_factor,
        )
        plan = _LatePlan(
            codec=map_token_codec(codec).codec,
            metric="cosine",
            dim=dim,
            full_text=full_text,
            seed=seed,
            fit_after=fit_after,
            layout=layout_of(ranges, connectivity, full_scan_threshold, indexing_threshold),
            pooling=pooling_config(pool_factor, pooling) or DEFAULT_POOLING,
            candidates=candidates_config(candidates if candidates is not None else DEFAULT_CANDIDATES) or {},
            sparse=keeps_sparse(sparse, encoder),
        )
        return cls._create(transport_of(path, url, name, options), encoder, plan, sample, full_text, sparse)

    def _start_early(self, plan: Plan, sample: Any) -> None:
        assert isinstance(plan, _LatePlan)
        if sample is None:
            return
        tokens = pooled(sample, plan.pooling, plan.dim)
        self._check_enough(plan, len(tokens), "sample")
        self._start_late(plan, tokens, ())

    # ------------------------------------------------------------------ writing

    def add(
        self,
        documents: Iterable[DocumentLike] | None = None,
        ids: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Any = None,
        *,
        token_vectors: Iterable[Any] | None = None,
        pooled: bool = False,
        embed_texts: Iterable[str | None] | None = None,
        embed_words: bool = False,
        sparse_vectors: Any = None,
        payloads: Iterable[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Insert documents, replacing those whose id is already there; see `octavo.MultiVectorCollection.add`.

        A batch is sent in requests of at most 500,000 numbers (a document always as a whole), each acknowledged before the
        next one begins.

        Parameters
        ----------
        documents, ids, metadata, vectors, token_vectors, pooled, embed_texts, embed_words
            See `octavo.MultiVectorCollection.add`.
        sparse_vectors, payloads, batch_size
            See `octavo.MultiVectorCollection.add`.

        Returns
        -------
        list of str
            The ids, in order.

        Raises
        ------
        InvalidVectorsError
            Ragged or zero token vectors, NaN, infinity, another dimension, or more numbers in one document than Qdrant
            takes (1,048,575).
        ParameterError
            Also when the first call has fewer than `fit_after` documents for what has to learn.
        """
        self._require_open()
        batch_size = check_integer(batch_size, "batch_size", least=1)
        batches = read_token_batches(
            documents,
            ids,
            metadata,
            vectors,
            payloads,
            token_vectors=token_vectors,
            pooled=pooled,
            batch_size=batch_size,
            dim=self.dim,
            encoder=self.encoder,
            embed_texts=embed_texts,
            embed_words=embed_words,
        )
        self._check_sparse_given(sparse_vectors)
        if sparse_vectors is not None:
            batches = with_sparse(batches, sparse_vectors, documents if documents is not None else token_vectors)
        return self._put(batches, encode=token_vectors is None, pooled=pooled)

    def _take(self, batch: Batch, vectors: list[Any]) -> None:
        batch.matrices = vectors

    def _put(self, batches: Iterator[Batch], *, encode: bool, pooled: bool = False) -> list[str]:
        added: list[str] = []
        with self._writing:
            if self._manifest is None:
                for batch in self._begin(batches, pooled):
                    added += self._write(batch, encoded=encode)
            for batch in batches:
                if encode:
                    self._encode_and_write(batch, lambda rest: self._pooled(rest, pooled, self.dim))
                else:
                    self._write(self._pooled(batch, pooled, self.dim))
                added += batch.ids
        return added

    def _pooled(self, batch: Batch, pooled: bool, dim: int | None) -> Batch:
        encoded = not batch.ready and batch.matrices is None
        if encoded and self._old_is_gone:  # re-encoding comes to these documents
            batch.matrices = [np.zeros((0, dim or 1), np.float32) for _ in batch.ids]
            encoded = False
        encoder = self._require_encoder() if encoded else None
        ready = make_ready(batch, dim, None if pooled else self._pooling, encoder)
        if encoder is not None:
            self._model.run(encoder.name, ready.dim, encoder.encode_documents)
        if self._manifest is not None:
            check_sizes(ready, self._learned())
        return ready

    def _begin(self, batches: Iterator[Batch], pooled: bool) -> list[Batch]:
        """Take the first batches, learn from them, and create the collection in Qdrant."""
        plan = self._plan
        assert isinstance(plan, _LatePlan)  # or there would be a manifest
        wanted = plan.fit_after if centred(plan.candidates) or learns(plan.codec, plan.candidates) else 1
        taken: list[Batch] = []
        dim = plan.dim
        for batch in batches:
            taken.append(self._pooled(batch, pooled, dim))
            dim = batch.dim
            if sum(map(len, taken)) >= wanted:
                break
        if taken:
            self._check_enough(plan, sum(map(len, taken)), "the first call of add")
            tokens = TokenMatrices.of([matrix for batch in taken for matrix in batch.tokens or ()], dim=dim)
            self._start_late(plan, tokens, taken)
        return taken

    @staticmethod
    def _check_enough(plan: _LatePlan, found: int, where: str) -> None:
        if found < plan.fit_after and learns(plan.codec, plan.candidates):
            raise ParameterError(
                f"codec {plan.codec!r} or candidates {plan.candidates['id']!r} learn from documents: expected at least "
                f"{plan.fit_after} in {where}, got {found}; give more at once, give sample= to create, or a smaller fit_after"
            )

    def _start_late(self, plan: _LatePlan, sample: TokenMatrices, first: Sequence[Batch]) -> None:
        if plan.dim is not None and sample.dim != plan.dim:
            raise MismatchError(f"expected token vectors of dimension {plan.dim}, as dim= says, got {sample.dim}")
        candidates = plan.candidates
        if centred(candidates) and len(sample) < plan.fit_after:
            candidates = {**candidates, "centre": False}  # the mean of a few documents is no centre of what will come
        codec = LateCodec.fit(plan.codec, candidate_encoder_from_config(candidates), sample, seed=plan.seed)
        for batch in first:
            check_sizes(batch, codec)
        self._lay_out(codec, sample.dim, [text for batch in first for text in batch.words], None)

    def _lay_out(self, codec: LateCodec, dim: int, texts: Sequence[str], encoder: dict[str, Any] | None) -> None:
        plan = self._plan
        assert isinstance(plan, _LatePlan)  # only a new collection is created
        state, candidate_state = codec.to_state()
        analysis = analysis_of(plan.full_text, self._analyser)
        manifest = Manifest(
            codec=plan.codec,
            metric=plan.metric,
            full_text=plan.full_text,
            dim=dim,
            average_length=average_length(analysis, texts),
            analysis=analysis.record,
            encoder=encoder,
            state=state,
            late={"pooling": plan.pooling, "candidates": codec.candidates, "state": candidate_state},
            sparse={} if plan.sparse else None,
        )
        mapping, candidate = map_token_codec(plan.codec), candidate_mapping()
        tokens = TokenLayout(codec.token_dim, mapping.datatype, mapping.quantization)
        layout = Layout(
            codec.candidate_dim, candidate.datatype, candidate.quantization, sparse=plan.sparse, **plan.layout
        )
        self._transport.create(replace(layout, tokens=tokens))
        self._description.create(manifest)

    def _write(self, batch: Batch, *, encoded: bool = False) -> list[str]:
        if not len(batch):
            return []
        assert batch.tokens is not None  # made ready
        if encoded:
            batch.flags = [flags | self._made_by_encoders(batch) for flags in batch.flags]
        tokens, candidates = self._learned().documents(batch.tokens)
        words, sparse = self._words(), self._sparse_of(batch)
        points: list[Point] = []
        numbers = 0
        for row, identifier in enumerate(batch.ids):
            matrix = tokens[row]
            size = matrix.size + candidates.shape[1]
            if points and numbers + size > NUMBERS_AT_ONCE:
                self._transport.upsert(points)
                points, numbers = [], 0
            numbers += size
            points.append(
                Point(
                    point_id(identifier),
                    payload_of(batch, row, self._order()),
                    candidates[row].tolist() if len(matrix) else None,
                    words.document(batch.words[row]),
                    tokens=matrix.tolist() if len(matrix) else None,
                    sparse=sparse[row],
                    space=self._space.number,
                )
            )
        self._transport.upsert(points)
        if encoded:
            self._remember(batch)
        self._remember_sparse(batch)
        return list(batch.ids)

    # ------------------------------------------------------------------ documents

    def get_token_vectors(self, ids: Iterable[str]) -> list[Floats]:
        """Return the stored token vectors of documents: pooled, decoded, of unit length (nearly).

        Parameters
        ----------
        ids : iterable of str
            Which; every one has to be there.

        Returns
        -------
        list of ndarray of shape (n_vectors, dim), float32
            In the order asked.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.
        """
        return [self._learned().decode(stored) for stored in self._stored(check_ids(ids))]

    def _stored(self, ids: Sequence[str]) -> list[Floats]:
        """Return the token vectors of documents as Qdrant keeps them."""
        parts = (self._with_vectors(part, [TOKENS]) for part in chunked(ids, _DOCUMENTS_AT_ONCE))
        return [self._matrix(point.tokens) for points in parts for point in points]

    def _matrix(self, tokens: Sequence[Sequence[float]] | None) -> Floats:
        return np.array(tokens or [], np.float32).reshape(-1, self._learned().token_dim)

    def _decoded(self, vectors: Sequence[Sequence[float] | None]) -> Floats:
        """Return stored candidate vectors as they are; zero for documents without tokens."""
        nothing = [0.0] * self._learned().candidate_dim
        return np.array([nothing if vector is None else vector for vector in vectors], np.float32)

    # ------------------------------------------------------------------ search

    def _encoded(self, queries: Any, words: Sequence[str | WordQuery] | None, are_words: bool) -> Queries:
        return self._by_models(queries, words, are_words, partial(LateSearch._encoded, self))

    def _similarities(self, tokens: TokenMatrices, id: str) -> tuple[Floats, Floats, str]:
        # computed here, with the vectors that Qdrant keeps in full
        (stored,) = self._stored([id])
        codec = self._learned()
        sent, _, _ = codec.queries(tokens)
        similarities: Floats = sent.flat @ stored.T + codec.token_offsets(tokens.flat)[:, None]
        (document,) = self.get([id])
        return similarities, codec.decode(stored), document.to_embed

    # ------------------------------------------------------------------ about it

    @property
    def late(self) -> QdrantMultiVectorCollection:
        """The collection itself: it keeps many vectors a document."""
        return self

    @property
    def encoder(self) -> TokenEncoder | None:  # type: ignore[override]  # gives matrices where a plain one gives rows
        """What turns texts into token vectors, if it was given."""
        encoder: TokenEncoder | None = self._models.any
        return encoder

    @property
    def pooling(self) -> TokenPooling:
        """How the tokens of a document are pooled."""
        return pooling_from_config(self._pooling)

    @property
    def _pooling(self) -> dict[str, Any]:
        if self._manifest is not None:
            assert self._manifest.late is not None  # the constructor has checked
            pooling: dict[str, Any] = self._manifest.late["pooling"]
            return pooling
        assert isinstance(self._plan, _LatePlan)  # one of the two
        return self._plan.pooling

    def encode_documents(self, texts: Sequence[str]) -> list[Floats]:  # type: ignore[override]
        """Return the encoder's token vectors for documents, one matrix each, as the encoder gives them: not pooled."""
        matrices: list[Floats] = self._of_the_same_model(self._require_encoder().encode_documents(texts))
        return matrices

    def encode_queries(self, texts: Sequence[str]) -> list[Floats]:  # type: ignore[override]
        """Return the encoder's token vectors for queries, one matrix each, as the encoder gives them."""
        matrices: list[Floats] = self._of_the_same_model(self._require_encoder().encode_queries(texts))
        return matrices

    def info(self) -> QdrantInfo:
        """Return what the collection holds and how Qdrant keeps it: `tokens` says what it does with token vectors."""
        self._require_open()
        described = self._describe(map_token_codec(self.codec), None)
        if self._manifest is None:
            return described
        late = self._manifest.late or {}
        tokens = {
            "stored_dim": self._learned().token_dim,
            "pooling": late["pooling"],
            "candidates": late["candidates"],
        }
        return replace(described, stored_dim=self._learned().candidate_dim, tokens=tokens)

    # ------------------------------------------------------------------ inside

    @property
    def _mapping(self) -> CodecMapping:
        assert self._manifest is not None
        return map_token_codec(self._manifest.codec)

    def _learned(self) -> LateCodec:
        codec = self._space.codec
        assert isinstance(codec, LateCodec)  # of many vectors a document
        return codec


def check_sizes(batch: Batch, codec: LateCodec) -> None:
    """Raise `InvalidVectorsError` where Qdrant would refuse a document of the batch."""
    assert batch.tokens is not None  # made ready
    if len(batch):
        row = int(batch.tokens.lengths.argmax())
        check_size(batch.ids[row], int(batch.tokens.lengths[row]), codec)


def check_size(identifier: str, n_vectors: int, codec: LateCodec) -> None:
    """Raise `InvalidVectorsError` where Qdrant would refuse a document with so many token vectors."""
    size = n_vectors * codec.token_dim
    if size > _MOST_NUMBERS:
        raise InvalidVectorsError(
            f"expected at most {_MOST_NUMBERS} numbers in the token vectors of a document, which is what Qdrant takes, got "
            f"{size} in {identifier!r}; split its text, pool it into fewer vectors, or use a narrower codec"
        )
