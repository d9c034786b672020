"""What all encoders of the candidate stage share: checked input, configuration, learned state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from octavo.compression._base import MAX_DIM, Floats, State
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CodecError, InvalidVectorsError, NotFittedError, ParameterError

Tokens: TypeAlias = TokenMatrices | Sequence[npt.ArrayLike]

#: Tokens worked on at a time.
_CHUNK_TOKENS = 8192

E = TypeVar("E", bound="type[CandidateEncoder]")
_ENCODERS: dict[str, type[CandidateEncoder]] = {}


class CandidateEncoder(ABC):
    """Turn token matrices into ordinary vectors whose dot products find what MaxSim would rank high.

    Most encoders give one vector a document and one a query, and the candidates of a query are the documents with the
    largest dot products. Where `multi_vector` is true, a document has `vectors_per_document` vectors, a query as many
    as it has tokens, and documents are compared by MaxSim again, only over far fewer vectors.

    All learning happens in `fit`. What `encode_documents` returns for a document does not depend on the others in the
    call.
    """

    encoder_id: ClassVar[str]
    """Names the kind of vectors, not the class: it never changes its meaning."""

    multi_vector: ClassVar[bool] = False
    """Whether documents and queries have several vectors each, to be compared by MaxSim."""

    _in_dim: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "encoder_id" in vars(cls):
            if _ENCODERS.get(cls.encoder_id, cls).__qualname__ != cls.__qualname__:
                raise CodecError(
                    f"the candidate encoder id {cls.encoder_id!r} is taken by {_ENCODERS[cls.encoder_id]!r}"
                )
            _ENCODERS[cls.encoder_id] = cls

    # -- configuration -----------------------------------------------------------------------------------------------

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """Return the arguments that rebuild the encoder, as JSON data."""

    def get_config(self) -> dict[str, Any]:
        """Return the configuration as JSON data with an ``"id"``."""
        return {"id": self.encoder_id, **self._options()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], /) -> Self:
        """Rebuild the (unfitted) encoder from `get_config`.

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

    def __eq__(self, other: object) -> bool:
        """Compare configurations; what was learned does not count."""
        return isinstance(other, CandidateEncoder) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash(repr(self))

    # -- learning ----------------------------------------------------------------------------------------------------

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` or `set_state` has been called."""
        return self._in_dim is not None

    @property
    def in_dim(self) -> int:
        """Dimension of the token vectors that the encoder takes.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        if self._in_dim is None:
            raise NotFittedError(f"{self!r} has not been fitted; call fit with the token vectors of documents first")
        return self._in_dim

    @property
    @abstractmethod
    def out_dim(self) -> int:
        """Dimension of the vectors that come out."""

    @property
    def vectors_per_document(self) -> int:
        """Vectors that stand for one document; always 1 unless `multi_vector`."""
        return 1

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

        Raises
        ------
        InvalidVectorsError
            If the vectors are not finite or not of one dimension, or there are none.
        """
        tokens = TokenMatrices.of(documents)
        if not len(tokens.flat):
            raise InvalidVectorsError(f"{self!r} learns from token vectors: expected at least one, got none")
        self._in_dim = None
        self._fit(tokens, np.random.default_rng(seed))
        self._in_dim = tokens.dim
        return self

    @abstractmethod
    def _fit(self, tokens: TokenMatrices, rng: np.random.Generator) -> None:
        """Learn from checked tokens; `in_dim` is set afterwards."""

    def get_state(self) -> State:
        """Return what was learned as named arrays.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        return {"in_dim": np.array(self.in_dim, np.int64), **self._get_arrays()}

    def set_state(self, state: Mapping[str, npt.NDArray[Any]], /) -> Self:
        """Restore what `get_state` returned.

        Raises
        ------
        CodecError
            If arrays are missing, unknown, of the wrong shape or type, or not finite.
        """
        self._in_dim = None
        arrays = dict(state)
        in_dim = arrays.pop("in_dim", None)
        if in_dim is None or in_dim.shape != () or in_dim.dtype.kind != "i" or not 1 <= int(in_dim) <= MAX_DIM:
            raise CodecError(f"the learned state of {self.encoder_id} holds no valid in_dim")
        wanted = self._shapes(int(in_dim))
        if set(arrays) != set(wanted):
            raise CodecError(f"expected the arrays {sorted(wanted)} for {self.encoder_id}, got {sorted(arrays)}")
        for name, (dtype, shape) in wanted.items():
            array = arrays[name]
            fits = len(array.shape) == len(shape) and all(b in (-1, a) for a, b in zip(array.shape, shape, strict=True))
            if array.dtype != dtype or not fits:
                raise CodecError(
                    f"expected {name!r} of {self.encoder_id} as {np.dtype(dtype)} of shape {shape}, "
                    f"got {array.dtype} of shape {array.shape}"
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise CodecError(f"the learned state of {self.encoder_id} holds values in {name!r} that are not finite")
        self._set_arrays(arrays)
        self._in_dim = int(in_dim)
        return self

    @abstractmethod
    def _get_arrays(self) -> State:
        """Return what `_fit` learned."""

    @abstractmethod
    def _shapes(self, in_dim: int) -> dict[str, tuple[npt.DTypeLike, tuple[int, ...]]]:
        """Return type and shape of each learned array; -1 where any length will do."""

    @abstractmethod
    def _set_arrays(self, arrays: State) -> None:
        """Restore what `_get_arrays` returned; types and shapes have been checked."""

    # -- use ---------------------------------------------------------------------------------------------------------

    def encode_documents(self, documents: Tokens, /) -> Floats:
        """Encode documents.

        Parameters
        ----------
        documents : TokenMatrices, or sequence of array_like of shape (n_tokens, in_dim)
            Token vectors of each document.

        Returns
        -------
        ndarray of shape (n * vectors_per_document, out_dim), float32
            The vectors of a document stand next to each other. All zero for a document without tokens.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidVectorsError
            If the vectors are not finite or of another dimension than those of `fit`.
        """
        return self._run(documents, queries=False)

    def encode_queries(self, queries: Tokens, /) -> Floats:
        """Encode queries; takes and raises the same as `encode_documents`.

        Returns
        -------
        ndarray of shape (n, out_dim), float32
            All zero for a query without tokens. Of shape (n_tokens, out_dim), a vector for each token of the queries,
            if `multi_vector`.
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
        """Encode checked documents: shape (n * vectors_per_document, out_dim)."""

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


def check_count(value: int, name: str, least: int, most: int) -> int:
    """Return an option as an int between two bounds."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise ParameterError(f"expected {name} as an integer from {least} to {most}, got {value!r}")
    return int(value)
