"""The contract of a compression step, and what all steps share: checked input, work in blocks, learned state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._layout import CodeLayout
from octavo.errors import CodecError, InputTypeError, InvalidVectorsError, NotFittedError

Floats: TypeAlias = npt.NDArray[np.float32]
Codes: TypeAlias = npt.NDArray[np.uint8]
State: TypeAlias = dict[str, npt.NDArray[Any]]

#: Rows encoded at a time: bounds the memory for temporaries and keeps them in the cache.
BLOCK_ROWS = 2048

#: Vectors wider than this are refused, so that a damaged header cannot ask for absurd amounts of memory.
MAX_DIM = 1 << 20

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def as_matrix(X: npt.ArrayLike, dim: int | None = None) -> npt.NDArray[Any]:
    """Return `X` as a matrix of real numbers, checked for its shape but not yet converted.

    Raises
    ------
    InputTypeError
        If `X` does not hold real numbers.
    InvalidVectorsError
        If `X` is not a matrix, or its vectors do not have `dim` values.
    """
    try:
        array = np.asarray(X)
    except ValueError as err:
        raise InvalidVectorsError("expected vectors of one length, got rows of different lengths") from err
    if array.dtype.kind not in "fiub":
        raise InputTypeError(f"expected an array of real numbers, got one of {array.dtype}")
    if array.ndim != 2:
        hint = "; write X[None, :] for a single vector" if array.ndim == 1 else ""
        raise InvalidVectorsError(f"expected an array of shape (n, dim), got shape {array.shape}{hint}")
    if dim is not None and array.shape[1] != dim:
        raise InvalidVectorsError(
            f"expected vectors of dimension {dim}, got {array.shape[1]}; were they made by another model?"
        )
    if not 1 <= array.shape[1] <= MAX_DIM:
        raise InvalidVectorsError(f"expected vectors of 1 to {MAX_DIM:,} values, got {array.shape[1]}")
    return array


def finite_floats(block: npt.NDArray[Any], first_row: int = 0) -> Floats:
    """Return the rows as C-contiguous float32, or raise if a value is not finite in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        floats = np.ascontiguousarray(block, dtype=np.float32)
    finite = np.isfinite(floats)
    if not finite.all():
        row = int(np.argmin(finite.all(axis=1)))
        value = floats[row][~finite[row]][0]
        raise InvalidVectorsError(f"expected finite float32 values, got {value} in row {first_row + row}")
    return floats


def to_float32(X: npt.NDArray[np.float64]) -> Floats:
    """Round to float32; what is beyond its range becomes the largest finite value."""
    return np.clip(X, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32)


def in_blocks(X: npt.NDArray[Any], out: npt.NDArray[Any], encode: Callable[[Floats], npt.NDArray[Any]]) -> None:
    """Fill `out` with ``encode(rows)``, checking and converting a block of rows at a time."""
    for start in range(0, len(X), BLOCK_ROWS):
        stop = start + BLOCK_ROWS
        out[start:stop] = encode(finite_floats(X[start:stop], start))


class Step(ABC):
    """One step of compression: learns in `fit`, then turns each vector into its code, whatever its company.

    All learning happens in `fit`; ``encode(X)[i]`` equals ``encode(X[i:i+1])[0]`` bit for bit. Derive from `Reducer` or
    `Quantizer`, not from this class.

    A step is written in a codec string as `step_id`, or its shorter `short_name`, with an optional argument behind a
    colon. The argument says all there is to configure.
    """

    step_id: ClassVar[str]
    """Names the stored bytes, not the class: it never changes its meaning."""

    short_name: ClassVar[str | None] = None
    """The name that codec strings print, where it is not `step_id`."""

    learns: ClassVar[bool] = True
    """Whether `fit` looks at the vectors, not only at their dimension."""

    asymmetric: ClassVar[bool] = False
    """Whether queries are encoded differently from documents."""

    _in_dim: int | None = None

    # -- configuration -------------------------------------------------------------------------------------------

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Build the step from what stands behind the colon in a codec string (None: no colon).

        Raises
        ------
        CodecError
            If the argument cannot be read. The default takes no argument.
        """
        if argument is not None:
            raise CodecError(f"{cls.name()} takes no argument, got {argument!r}")
        return cls()

    @property
    def argument(self) -> str | None:
        """What stands behind the colon in a codec string, None for nothing."""
        return None

    @classmethod
    def name(cls) -> str:
        """Return the name that codec strings print."""
        return cls.short_name or cls.step_id

    @property
    def token(self) -> str:
        """The step as a codec string writes it."""
        return self.name() if self.argument is None else f"{self.name()}:{self.argument}"

    def get_config(self) -> dict[str, Any]:
        """Return the configuration as JSON data with an ``"id"``."""
        config: dict[str, Any] = {"id": self.step_id}
        if self.argument is not None:
            config["argument"] = self.argument
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], /) -> Self:
        """Rebuild the (unfitted) step from `get_config`.

        Raises
        ------
        CodecError
            If the configuration belongs to another step or has keys that this one does not know.
        """
        if config.get("id") != cls.step_id:
            raise CodecError(f"expected the configuration of {cls.step_id!r}, got {config.get('id')!r}")
        if unknown := sorted(set(config) - {"id", "argument"}):
            raise CodecError(f"{cls.step_id} knows no configuration key {', '.join(map(repr, unknown))}")
        argument = config.get("argument")
        if argument is not None and not isinstance(argument, str):
            raise CodecError(f"expected the argument of {cls.step_id} as a string, got {argument!r}")
        return cls.from_argument(argument)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.argument is None else repr(self.argument)})"

    def __eq__(self, other: object) -> bool:
        """Compare configurations; what was learned does not count."""
        return type(other) is type(self) and isinstance(other, Step) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash((self.step_id, self.argument))

    # -- learning ------------------------------------------------------------------------------------------------

    @property
    def needs_fit(self) -> bool:
        """Whether `fit` looks at the vectors; if not, ``fit(np.empty((0, dim)))`` is enough."""
        return self.learns

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` or `set_state` has been called."""
        return self._in_dim is not None

    @property
    def in_dim(self) -> int:
        """Dimension of the vectors that the step takes.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        if self._in_dim is None:
            raise NotFittedError(f"{self!r} has not been fitted; call fit with a sample of the vectors first")
        return self._in_dim

    def fit(self, X: npt.ArrayLike, /, *, seed: int = 0) -> Self:
        """Learn from a sample of vectors; the same sample and seed give the same codes.

        Parameters
        ----------
        X : array_like of shape (n, dim)
            Real numbers, finite in float32. May have no rows if `needs_fit` is False.
        seed : int, default=0
            Seed of what is drawn at random.

        Returns
        -------
        Self

        Raises
        ------
        InvalidVectorsError
            If the vectors are not finite, or there are none to learn from.
        CodecError
            If the step cannot be applied to vectors of this dimension.
        """
        floats = finite_floats(as_matrix(X))
        if self.needs_fit and not len(floats):
            raise InvalidVectorsError(f"{self!r} learns from the vectors: expected at least one, got none")
        self._in_dim = None
        self._fit(floats, seed)
        self._in_dim = floats.shape[1]
        return self

    @abstractmethod
    def _fit(self, X: Floats, seed: int) -> None:
        """Learn from checked vectors; `in_dim` is set afterwards."""

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
            raise CodecError(f"the learned state of {self.step_id} holds no valid in_dim")
        for name, array in arrays.items():
            if array.dtype.kind in "f" and not np.isfinite(array).all():
                raise CodecError(f"the learned state of {self.step_id} holds values in {name!r} that are not finite")
        self._set_arrays(arrays, int(in_dim))
        self._in_dim = int(in_dim)
        return self

    def _get_arrays(self) -> State:
        return {}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        check_arrays(self, arrays, {})

    # -- use -----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def _out_width(self) -> int:
        """Columns of the array that `encode` returns."""

    @property
    def _query_width(self) -> int:
        """Columns of the array that `encode_queries` returns."""
        return self._out_width

    _out_dtype: ClassVar[npt.DTypeLike]

    def encode(self, X: npt.ArrayLike, /) -> npt.NDArray[Any]:
        """Encode documents.

        Parameters
        ----------
        X : array_like of shape (n, in_dim)
            Real numbers, finite in float32.

        Returns
        -------
        ndarray
            Float32 of shape (n, out_dim) from reducers, uint8 of shape (n, row_bytes) from quantizers.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidVectorsError
            If the vectors have another dimension than those of `fit`, or hold NaN or infinity.
        """
        return self._run(X, self._encode, self._out_width)

    def encode_queries(self, X: npt.ArrayLike, /) -> npt.NDArray[Any]:
        """Encode queries; takes, returns and raises the same as `encode`.

        Queries of `Int2` and `LloydMax` are wider than documents: ``int8``, of shape (n, in_dim).
        """
        return self._run(X, self._encode_queries, self._query_width)

    def query_offset(self, X: npt.ArrayLike, /) -> Floats:
        """Return what must be added to all scores of each query for them to be the dot products meant.

        Returns
        -------
        ndarray of shape (n,)
            Zeros, unless documents were centred.
        """
        matrix = as_matrix(X, self.in_dim)
        out = np.zeros(len(matrix), np.float32)
        in_blocks(matrix, out, self._query_offset)
        return out

    def _run(self, X: npt.ArrayLike, encode: Callable[[Floats], npt.NDArray[Any]], width: int) -> npt.NDArray[Any]:
        matrix = as_matrix(X, self.in_dim)
        out = np.empty((len(matrix), width), self._out_dtype)
        in_blocks(matrix, out, encode)
        return out

    @abstractmethod
    def _encode(self, X: Floats) -> npt.NDArray[Any]:
        """Encode checked, C-contiguous rows."""

    def _encode_queries(self, X: Floats) -> npt.NDArray[Any]:
        return self._encode(X)

    def _query_offset(self, X: Floats) -> Floats:
        return np.zeros(len(X), np.float32)

    @abstractmethod
    def decode(self, codes: npt.NDArray[Any], /) -> Floats:
        """Return the vectors of shape (n, in_dim) that the codes stand for, as well as they are known."""


def check_arrays(step: Step, arrays: State, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `CodecError` unless the arrays are exactly those named, float and of the given shapes."""
    if set(arrays) != set(shapes):
        raise CodecError(
            f"expected the learned arrays {sorted(shapes)} for {step.step_id}, got {sorted(arrays)}; "
            "was the codec stored by another version?"
        )
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind != "f":
            raise CodecError(
                f"expected {name!r} of {step.step_id} as floats of shape {shape}, "
                f"got {arrays[name].dtype} of shape {arrays[name].shape}"
            )


class Reducer(Step):
    """A step from float32 vectors to fewer (or turned) float32 values, keeping their dot products."""

    _out_dtype = np.float32

    @property
    @abstractmethod
    def out_dim(self) -> int:
        """Dimension of the vectors that come out."""

    @property
    def _out_width(self) -> int:
        return self.out_dim

    def bound(self, in_dim: int | None) -> int | None:
        """Return `out_dim` as far as it is known before `fit` (None: unknown) for at most `in_dim` values going in.

        Raises
        ------
        CodecError
            If more values are asked for than go in.
        """
        return in_dim

    def kept_dim(self, in_dim: int) -> int:
        """Return what `out_dim` will be for vectors of `in_dim` values.

        Raises
        ------
        CodecError
            If more values are asked for than go in.
        """
        return in_dim


class Quantizer(Step):
    """A step from float32 vectors to rows of bytes that usearch and numkong read directly."""

    _out_dtype = np.uint8

    @property
    @abstractmethod
    def layout(self) -> CodeLayout:
        """How the codes lie in memory, and what a score over them means."""

    @property
    def _out_width(self) -> int:
        return self.layout.row_bytes

    @property
    def _query_width(self) -> int:
        return self.layout.compared.row_bytes

    def decode(self, codes: npt.NDArray[Any], /) -> Floats:
        """Return the vectors of shape (n, in_dim) that the codes stand for.

        Parameters
        ----------
        codes : ndarray of shape (n, row_bytes)
            As `encode` returned them.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidVectorsError
            If the codes are not uint8 rows as wide as those of `encode`.
        """
        width = self._out_width
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != width:
            raise InvalidVectorsError(
                f"expected codes as uint8 of shape (n, {width}), got {codes.dtype} of shape {codes.shape}"
            )
        return self._decode(np.ascontiguousarray(codes))

    @abstractmethod
    def _decode(self, codes: Codes) -> Floats:
        """Decode checked, C-contiguous codes."""
