"""What all encoders of the candidate stage share: checked input, configuration, learned state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo._validation import check_integer
from octavo.compression._base import Learner
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CodecError, InvalidVectorsError

Tokens: TypeAlias = TokenMatrices | Sequence[npt.ArrayLike]

#: Tokens worked on at a time.
_CHUNK_TOKENS = 8192

_ENCODERS: dict[str, type[CandidateEncoder]] = {}


class CandidateEncoder(Learner):
    """Turn token matrices into ordinary vectors whose dot products find what MaxSim would rank high.

    Every encoder gives one vector a document and one a query; the candidates of a query are the documents with the largest
    dot products.

    All learning happens in `fit`. What `encode_documents` returns for a document does not depend on the others in the
    call.

    Examples
    --------
    >>> from octavo.compression import CentredMean
    >>> documents = [np.eye(4)[:2], np.eye(4)[2:]]
    >>> encoder = CentredMean().fit(documents)
    >>> isinstance(encoder, CandidateEncoder), encoder.encode_documents(documents).shape
    (True, (2, 4))
    """

    encoder_id: ClassVar[str]
    """Names the kind of vectors, not the class: it never changes its meaning."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "encoder_id" in vars(cls):
            if _ENCODERS.get(cls.encoder_id, cls).__qualname__ != cls.__qualname__:
                raise CodecError(
                    f"the candidate encoder id {cls.encoder_id!r} is taken by {_ENCODERS[cls.encoder_id]!r}"
                )
            _ENCODERS[cls.encoder_id] = cls

    # -- configuration -----------------------------------------------------------------------------------------------

    @property
    def _id(self) -> str:
        return self.encoder_id

    @classmethod
    def from_config(cls, config: Mapping[str, Any], /) -> Self:
        """Rebuild the (unfitted) encoder from `get_config`.

        Parameters
        ----------
        config : mapping
            What `get_config` returned.

        Raises
        ------
        CodecError
            If the configuration belongs to another encoder or has keys that this one does not know.
        """
        options = dict(config)
        if options.pop("id", None) != cls.encoder_id:
            raise CodecError(f"expected the configuration of {cls.encoder_id!r}, got {config.get('id')!r}")
        try:
            return cls(**options)
        except TypeError as err:
            raise CodecError(f"{cls.encoder_id} cannot be built from {sorted(options)}: {err}") from err

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._options().items())})"

    # -- learning ----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def out_dim(self) -> int:
        """Dimension of the vectors that come out."""

    def fit(self, documents: Tokens, /, *, seed: int = 0) -> Self:
        """Learn from the token vectors of documents; the same documents and seed give the same vectors.

        Parameters
        ----------
        documents : TokenMatrices, or sequence of array_like of shape (n_tokens, dim)
            Token vectors of each document, at least one token in all.
        seed : int, default=0
            Seed of what is drawn at random.

        Returns
        -------
        Self
            The fitted encoder itself.

        Raises
        ------
        InvalidVectorsError
            If the vectors are not finite or not of one dimension, or there are none.
        """
        tokens = TokenMatrices.of(documents)
        if not len(tokens.flat):
            raise InvalidVectorsError(f"{self!r} learns from token vectors: expected at least one, got none")
        seed = check_integer(seed, "seed", least=0)
        self._in_dim = None
        self._fit(tokens, np.random.default_rng(seed))
        self._in_dim = tokens.dim
        return self

    @abstractmethod
    def _fit(self, tokens: TokenMatrices, rng: np.random.Generator) -> None:
        """Learn from checked tokens; `in_dim` is set afterwards."""

    # -- use ---------------------------------------------------------------------------------------------------------

    def encode_documents(self, documents: Tokens, /) -> Floats:
        """Encode documents.

        Parameters
        ----------
        documents : TokenMatrices, or sequence of array_like of shape (n_tokens, in_dim)
            Token vectors of each document.

        Returns
        -------
        ndarray of shape (n, out_dim), float32
            All zero for a document without tokens.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidVectorsError
            If the vectors are not finite or of another dimension than those of `fit`.
        """
        return self._run(documents, queries=False)

    def encode_queries(self, queries: Tokens, /) -> Floats:
        """Encode queries; raises the same as `encode_documents`.

        Parameters
        ----------
        queries : TokenMatrices, or sequence of array_like of shape (n_tokens, in_dim)
            Token vectors of each query.

        Returns
        -------
        ndarray of shape (n, out_dim), float32
            All zero for a query without tokens.
        """
        return self._run(queries, queries=True)

    def _run(self, matrices: Tokens, *, queries: bool) -> Floats:
        dim = self.in_dim
        tokens = TokenMatrices.of(matrices, dim=dim)
        encode = self._encode_queries if queries else self._encode_documents
        parts = [np.empty((0, self.out_dim), np.float32)]
        for first, last in self._chunks(tokens):
            start, stop = tokens.offsets[first], tokens.offsets[last]
            part = TokenMatrices(tokens.flat[start:stop], tokens.offsets[first : last + 1] - start)
            parts.append(encode(part).astype(np.float32, copy=False))
        return np.concatenate(parts)

    def _chunks(self, tokens: TokenMatrices) -> Iterator[tuple[int, int]]:
        """Cut documents into runs of about so many tokens as are worked on at a time; each at least one document."""
        limit, most = self._chunk_size()
        first = 0
        while first < len(tokens):
            last = int(np.searchsorted(tokens.offsets, tokens.offsets[first] + limit, side="right")) - 1
            last = min(max(last, first + 1), first + most)
            yield first, last
            first = last

    def _chunk_size(self) -> tuple[int, int]:
        """Return tokens and documents worked on at a time."""
        return _CHUNK_TOKENS, _CHUNK_TOKENS

    @abstractmethod
    def _encode_documents(self, tokens: TokenMatrices) -> npt.NDArray[Any]:
        """Encode checked documents: shape (n, out_dim)."""

    @abstractmethod
    def _encode_queries(self, tokens: TokenMatrices) -> npt.NDArray[Any]:
        """Encode checked queries: shape (n, out_dim)."""


def candidate_encoder_from_config(config: Mapping[str, Any]) -> CandidateEncoder:
    """Rebuild an unfitted candidate encoder from its `get_config`.

    Raises
    ------
    CodecError
        If there is no such encoder or its options are not known.
    """
    encoder_id = config.get("id")
    if not isinstance(encoder_id, str) or encoder_id not in _ENCODERS:
        raise CodecError(f"expected a candidate encoder out of {', '.join(sorted(_ENCODERS))}, got {encoder_id!r}")
    return _ENCODERS[encoder_id].from_config(config)
