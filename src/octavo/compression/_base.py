"""The contract of whatever is learned here: sizes, configuration, learned state, and the steps of a codec.

`Learner` is what steps and the encoders of the candidate stage share: a configuration that is JSON, `fit`, and learned
arrays that can be taken out and put back. `Step` adds the encoding of vectors, block by block.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._arrays import MAX_DIM, Codes, Floats, check_matrix, finite_floats, in_blocks, row_lengths
from octavo._layout import CodeLayout
from octavo._validation import check_flag, check_integer
from octavo.errors import CodecError, InvalidVectorsError, NotFittedError

State: TypeAlias = dict[str, npt.NDArray[Any]]

#: Type and shape of each learned array; -1 where any length will do.
Shapes: TypeAlias = dict[str, tuple[npt.DTypeLike, tuple[int, ...]]]

#: Vectors whose lengths differ by less than this part are taken for vectors of one length.
_EQUAL = 1e-3

_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(%?)")

#: From this many dimensions on a percentage is rounded to a multiple of 8, so that codes of any kind fill whole bytes.
ROUND_FROM = 64


class Size:
    """A number of dimensions, as the user wrote it.

    Parameters
    ----------
    text : str or int
        ``192``, ``"192"`` or ``"50%"``.

    Examples
    --------
    >>> Size("50%").resolve(384), Size("33%").resolve(384), Size("33%").resolve(10), Size(5).resolve(384)
    (192, 128, 3, 5)
    """

    def __init__(self, text: str | int) -> None:
        match = None if isinstance(text, bool) else _SIZE.fullmatch(str(text))
        if match is None or (not match[2] and "." in match[1]):
            raise CodecError(f"expected a number of dimensions or a percentage such as 50%, got {text!r}")
        number = float(match[1])
        if match[2]:
            if not 0 < number <= 100:
                raise CodecError(f"expected a percentage above 0 and at most 100, got {text!r}")
        elif number < 1:
            raise CodecError(f"expected at least 1 dimension, got {text!r}")
        self.count = None if match[2] else int(match[1])
        self.percent = number if match[2] else None

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.percent:.9g}%"

    def resolve(self, dim: int) -> int:
        """Return the number of dimensions to keep out of `dim`.

        Raises
        ------
        CodecError
            If it is more than `dim`.
        """
        if self.count is not None:
            if self.count > dim:
                raise CodecError(f"cannot keep {self.count} dimensions: only {dim} go in")
            return self.count
        assert self.percent is not None  # one of the two is set
        if self.percent == 100:
            return dim
        unit = 8 if dim >= ROUND_FROM else 1
        kept = math.floor(dim * self.percent / 100 / unit + 0.5) * unit
        return min(max(kept, unit), dim)


class Learner(ABC):
    """Something with a configuration that learns from vectors, and whose learned state can be stored.

    The configuration is what the constructor was given, JSON data with an ``"id"``; what `fit` learned is a set of named
    arrays. The two rebuild it: ``type(x).from_config(x.get_config()).set_state(x.get_state())``.
    """

    _in_dim: int | None = None

    @property
    @abstractmethod
    def _id(self) -> str:
        """What the configuration is told from others by."""

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """Return the configuration without the id, as JSON data."""

    def get_config(self) -> dict[str, Any]:
        """Return the configuration as JSON data with an ``"id"``."""
        return {"id": self._id, **self._options()}

    def __eq__(self, other: object) -> bool:
        """Compare configurations; what was learned does not count."""
        return type(other) is type(self) and isinstance(other, Learner) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash((self._id, repr(sorted(self._options().items()))))

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` or `set_state` has been called."""
        return self._in_dim is not None

    @property
    def in_dim(self) -> int:
        """Dimension of the vectors that go in.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        if self._in_dim is None:
            raise NotFittedError(f"{self!r} has not been fitted; call fit with a sample of the vectors first")
        return self._in_dim

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
            raise CodecError(f"the learned state of {self._id} holds no valid in_dim")
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise CodecError(f"the learned state of {self._id} holds values in {name!r} that are not finite")
        self._check_arrays(arrays, int(in_dim))
        self._set_arrays(arrays, int(in_dim))
        self._in_dim = int(in_dim)
        return self

    @property
    def state_bytes(self) -> int:
        """Bytes of the learned arrays, 0 before `fit`: what a process holds beside the codes."""
        return sum(array.nbytes for array in self._get_arrays().values()) if self.is_fitted else 0

    def _shapes(self, in_dim: int) -> Shapes:
        """Return type and shape of each learned array."""
        return {}

    def _check_arrays(self, arrays: State, in_dim: int) -> None:
        wanted = self._shapes(in_dim)
        if set(arrays) != set(wanted):
            raise CodecError(
                f"expected the learned arrays {sorted(wanted)} for {self._id}, got {sorted(arrays)}; "
                "was the codec stored by another version?"
            )
        for name, (dtype, shape) in wanted.items():
            array = arrays[name]
            fits = len(array.shape) == len(shape) and all(b in (-1, a) for a, b in zip(array.shape, shape, strict=True))
            if array.dtype != dtype or not fits:
                raise CodecError(
                    f"expected {name!r} of {self._id} as {np.dtype(dtype)} of shape {shape}, "
                    f"got {array.dtype} of shape {array.shape}"
                )

    def _get_arrays(self) -> State:
        """Return what `fit` learned."""
        return {}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:  # noqa: B027 - most learn nothing
        """Restore what `_get_arrays` returned; types and shapes have been checked."""


def lengths_differ(X: Floats) -> bool:
    """Tell whether vectors differ in length by more than rounding does, zeros aside."""
    found = row_lengths(X)
    found = found[found > 0]
    return bool(len(found)) and bool(found.max() > (1 + _EQUAL) * found.min())


class Step(Learner):
    """One step of compression: learns in `fit`, then turns each vector into its code, whatever its company.

    All learning happens in `fit`; ``encode(X)[i]`` equals ``encode(X[i:i+1])[0]`` bit for bit. Derive from `Reducer` or
    `Quantizer`, not from this class.

    A step is written in a codec string as `step_id`, or its shorter `short_name`, with an optional argument behind a
    colon. The argument says all there is to configure.

    Examples
    --------
    >>> from octavo.compression import Int8
    >>> step = Int8().fit(np.eye(4, dtype=np.float32))
    >>> isinstance(step, Step), step.token, step.encode(np.eye(4)).shape
    (True, 'int8', (4, 4))
    """

    step_id: ClassVar[str]
    """Names the stored bytes, not the class: it never changes its meaning."""

    short_name: ClassVar[str | None] = None
    """The name that codec strings print, where it is not `step_id`."""

    learns: ClassVar[bool] = True
    """Whether `fit` looks at the vectors, not only at their dimension."""

    asymmetric: ClassVar[bool] = False
    """Whether queries are encoded differently from documents."""

    # -- configuration -------------------------------------------------------------------------------------------

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Build the step from what stands behind the colon in a codec string (None: no colon).

        Parameters
        ----------
        argument : str or None
            The argument.

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

    @property
    def _id(self) -> str:
        return self.step_id

    def _options(self) -> dict[str, Any]:
        return {} if self.argument is None else {"argument": self.argument}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], /) -> Self:
        """Rebuild the (unfitted) step from `get_config`.

        Parameters
        ----------
        config : mapping
            What `get_config` returned.

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

    # -- learning ------------------------------------------------------------------------------------------------

    @property
    def needs_fit(self) -> bool:
        """Whether `fit` looks at the vectors; if not, ``fit(np.empty((0, dim)))`` is enough."""
        return self.learns

    def fit(self, X: npt.ArrayLike, /, *, seed: int = 0, lengths: bool | None = None) -> Self:
        """Learn from a sample of vectors; the same sample and seed give the same codes.

        Parameters
        ----------
        X : array_like of shape (n, dim)
            Real numbers, finite in float32. May have no rows if `needs_fit` is False.
        seed : int, default=0
            Seed of what is drawn at random.
        lengths : bool, optional
            Whether vectors differ in length and scores shall tell (metric ``"dot"``). Then quantizers to eight bits and fewer
            that learn code directions, and keep the length of each vector in two bytes behind its codes; otherwise reducers
            that learn stretch what they keep to the length that went in, so that scores are cosines. If left out, the
            sample decides.

        Returns
        -------
        Self
            The fitted step itself.

        Raises
        ------
        InvalidVectorsError
            If the vectors are not finite, or there are none to learn from.
        CodecError
            If the step cannot be applied to vectors of this dimension.
        """
        floats = finite_floats(check_matrix(X))
        seed = check_integer(seed, "seed", least=0)
        if self.needs_fit and not len(floats):
            raise InvalidVectorsError(f"{self!r} learns from the vectors: expected at least one, got none")
        self._in_dim = None
        self._keeps_lengths = lengths_differ(floats) if lengths is None else check_flag(lengths, "lengths")
        self._fit(floats, seed)
        self._in_dim = floats.shape[1]
        return self

    _keeps_lengths: bool
    """Whether lengths differ and count, for `_fit`; what depends on it later belongs into the learned state."""

    @abstractmethod
    def _fit(self, X: Floats, seed: int) -> None:
        """Learn from checked vectors; `in_dim` is set afterwards."""

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
        """Encode queries; raises the same as `encode`.

        Parameters
        ----------
        X : array_like of shape (n, in_dim)
            See `encode`.

        Returns
        -------
        ndarray
            As from `encode`; where `layout.compared` differs from `layout`, queries are laid out as the former says.
        """
        return self._run(X, self._encode_queries, self._query_width)

    def query_offset(self, X: npt.ArrayLike, /) -> Floats:
        """Return what must be added to all scores of each query for them to be the dot products meant.

        Parameters
        ----------
        X : array_like of shape (n, in_dim)
            Queries.

        Returns
        -------
        ndarray of shape (n,)
            Zeros, unless documents were centred.
        """
        matrix = check_matrix(X, self.in_dim)
        out = np.zeros(len(matrix), np.float32)
        in_blocks(matrix, out, self._query_offset)
        return out

    def _run(self, X: npt.ArrayLike, encode: Callable[[Floats], npt.NDArray[Any]], width: int) -> npt.NDArray[Any]:
        matrix = check_matrix(X, self.in_dim)
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


class Reducer(Step):
    """A step from float32 vectors to fewer (or turned) float32 values, keeping their dot products.

    Examples
    --------
    >>> from octavo.compression import Truncate
    >>> Truncate(2).fit(np.eye(4, dtype=np.float32)).encode([[1.0, 2.0, 3.0, 4.0]]).shape
    (1, 2)
    """

    _out_dtype = np.float32

    @property
    @abstractmethod
    def out_dim(self) -> int:
        """Dimension of the vectors that come out."""

    @property
    def _out_width(self) -> int:
        return self.out_dim

    def bound(self, in_dim: int | None) -> int | None:
        """Return `out_dim` as far as it is known before `fit`.

        Parameters
        ----------
        in_dim : int or None
            The most that go in, where it is known.

        Returns
        -------
        int or None
            The most that come out, where it is known.

        Raises
        ------
        CodecError
            If more values are asked for than go in.
        """
        return in_dim

    def decode(self, codes: npt.NDArray[Any], /) -> Floats:
        """Turn reduced vectors back.

        Parameters
        ----------
        codes : ndarray of shape (n, out_dim)
            Reduced vectors.

        Returns
        -------
        ndarray of shape (n, in_dim), float32
            The vectors that they stand for, as well as they are known.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidVectorsError
            If the vectors do not have `out_dim` values.
        """
        return self._decode(check_matrix(codes, self.out_dim, "reduced vectors"))

    @abstractmethod
    def _decode(self, X: npt.NDArray[Any]) -> Floats:
        """Decode vectors that have been checked for their shape."""

    def out_dim_for(self, in_dim: int) -> int:
        """Return what `out_dim` will be once the step is fitted on vectors of `in_dim` values.

        Parameters
        ----------
        in_dim : int
            Values of a vector that goes in.

        Returns
        -------
        int
            Values of one that comes out.

        Raises
        ------
        CodecError
            If the step cannot be applied to such vectors.
        """
        return in_dim


class Quantizer(Step):
    """A step from float32 vectors to rows of bytes that usearch and numkong read directly.

    Examples
    --------
    >>> from octavo.compression import Binary
    >>> quantizer = Binary().fit(np.ones((1, 16), np.float32))
    >>> quantizer.layout.kind, quantizer.encode(np.ones((1, 16))).shape
    ('b1', (1, 2))
    """

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
        """Return the vectors that codes stand for.

        Parameters
        ----------
        codes : ndarray of shape (n, row_bytes)
            As `encode` returned them.

        Returns
        -------
        ndarray of shape (n, in_dim), float32
            The vectors, as well as they are known.

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
