"""Codecs: one or more tiers, coarse to fine, written as one string.

::

    codec := tier { ">" tier }            coarse to fine
    tier  := step { "|" step }            reducers first, one quantizer last (none: float32)
    step  := name [ ":" argument ]
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt

from octavo._arrays import Codes, Floats, check_matrix, finite_floats, in_blocks
from octavo.compression import _serialization
from octavo.compression._base import Reducer, Step
from octavo.compression._pipeline import Fitted, Pipeline, find_misplaced
from octavo.compression._registry import is_step_name, loaded_step, step_class, step_names
from octavo.errors import CodecError, InputTypeError, InvalidVectorsError, ParameterError


class Codec:
    """One or more tiers, coarse to fine; the first finds candidates, the others rescore them.

    Parameters
    ----------
    tiers : iterable of Pipeline
        At least one.

    Examples
    --------
    >>> codec = Codec.parse("svd:50%|float8 > int8")
    >>> X = np.random.default_rng(0).normal(size=(1000, 384)).astype(np.float32)
    >>> coarse, fine = codec.fit(X, lengths=False).tiers
    >>> coarse.encode(X).shape, fine.encode(X).shape
    ((1000, 192), (1000, 384))
    >>> Codec.from_bytes(codec.to_bytes()) == codec == Codec.parse(str(codec))
    True
    """

    def __init__(self, tiers: Iterable[Pipeline]) -> None:
        self._tiers = list(tiers)
        if not self._tiers:
            raise CodecError("a codec needs at least one tier")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the unfitted codec that a codec string describes, such as ``"rabitq:1 > int8"``.

        Parameters
        ----------
        text : str
            Tiers, coarse to fine, parted by ``>``; each of steps parted by ``|``.

        Raises
        ------
        CodecError
            If the string cannot be read; the message points at the place and lists what could stand there.
        """
        return cls(_parse_tiers(text))

    @classmethod
    def identity(cls, dim: int) -> Self:
        """Return a fitted codec of one float32 tier: what a collection uses until it has something to fit on.

        Parameters
        ----------
        dim : int
            Values of a vector.

        Examples
        --------
        >>> Codec.identity(384).tiers[0].layout
        CodeLayout(kind='f32', dim=384, scale=1.0, centred=False, lengths=False, query=False)
        """
        return cls.parse("float32").fit(np.empty((0, dim), np.float32))

    @property
    def tiers(self) -> list[Pipeline]:
        """The tiers, coarse to fine."""
        return list(self._tiers)

    def __str__(self) -> str:
        return " > ".join(map(str, self._tiers))

    def __repr__(self) -> str:
        return f"Codec.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Compare what is written in the codec string; what was learned does not count."""
        return isinstance(other, Codec) and other._tiers == self._tiers

    def __hash__(self) -> int:
        return hash(tuple(self._tiers))

    def __len__(self) -> int:
        return len(self._tiers)

    def __iter__(self) -> Iterator[Pipeline]:
        return iter(self._tiers)

    @property
    def needs_fit(self) -> bool:
        """Whether a step looks at the vectors; if not, ``fit(np.empty((0, dim)))`` is enough."""
        return any(tier.needs_fit for tier in self._tiers)

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` has been called, or the codec was stored fitted."""
        return all(tier.is_fitted for tier in self._tiers)

    @property
    def in_dim(self) -> int:
        """Dimension of the vectors that the codec takes.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        return self._tiers[0].in_dim

    def check_dim(self, dim: int) -> None:
        """Raise `CodecError` if a reducer keeps more dimensions than there are in vectors of `dim`.

        Parameters
        ----------
        dim : int
            Values of a vector.

        Examples
        --------
        >>> Codec.parse("truncate:256|int8").check_dim(64)
        Traceback (most recent call last):
        octavo.errors.CodecError: the codec 'truncate:256|int8' does not fit vectors of 64 dimensions: cannot keep 256...
        """
        for tier in self._tiers:
            left = dim
            for reducer in tier.reducers:
                try:
                    left = reducer.out_dim_for(left)
                except CodecError as err:
                    raise CodecError(
                        f"the codec {str(self)!r} does not fit vectors of {dim} dimensions: {err}; ask for fewer"
                    ) from err

    def fit(self, X: npt.ArrayLike, /, *, seed: int = 0, lengths: bool | None = None) -> Self:
        """Fit all tiers on a sample of vectors; reducers that tiers have in common are fitted once and then shared.

        Parameters
        ----------
        X : array_like of shape (n, dim)
            Real numbers, finite in float32. May have no rows if `needs_fit` is False.
        seed : int, default=0
            Seed of what is drawn at random; the same sample and seed give the same codes.
        lengths : bool, optional
            Whether vectors differ in length and scores shall tell; see `Step.fit`. If left out, the sample decides.

        Returns
        -------
        Codec
            This codec.

        Raises
        ------
        InvalidVectorsError
            If the vectors are not finite, or there are none to learn from.
        CodecError
            If a step cannot be applied to vectors of this dimension.
        """
        floats = finite_floats(check_matrix(X))
        if self.needs_fit and not len(floats):
            raise InvalidVectorsError(f"{self!r} learns from the vectors: expected at least one, got none")
        done: Fitted = {}
        # Fresh steps: a failure half-way must not leave this codec half old, half new.
        tiers = [tier.unfitted() for tier in self._tiers]
        for tier in tiers:
            tier.fit_sharing(floats, seed, lengths, done)
        self._tiers = tiers
        return self

    def encode(self, X: npt.ArrayLike, /) -> list[Codes]:
        """Encode documents for all tiers, applying reducers that they share only once.

        Parameters
        ----------
        X : array_like of shape (n, in_dim)
            Real numbers, finite in float32.

        Returns
        -------
        list of ndarray of shape (n, row_bytes)
            One a tier, the same as each tier's own `encode` gives.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidVectorsError
            If the vectors have another dimension than those of `fit`, or hold NaN or infinity.
        """
        matrix = check_matrix(X, self.in_dim)
        widths = [tier.layout.row_bytes for tier in self._tiers]
        ends = np.cumsum([0, *widths])
        rows = np.empty((len(matrix), int(ends[-1])), np.uint8)
        in_blocks(matrix, rows, self._encode_block)
        return [np.ascontiguousarray(rows[:, a:b]) for a, b in pairwise(ends)]

    def _encode_block(self, X: Floats) -> npt.NDArray[Any]:
        done: dict[tuple[int, ...], Floats] = {(): X}
        codes = []
        for tier in self._tiers:
            key: tuple[int, ...] = ()
            for reducer in tier.reducers:
                before, key = key, (*key, id(reducer))
                if key not in done:
                    done[key] = reducer._encode(done[before])
            codes.append(tier.quantizer._encode(done[key]))
        return np.concatenate(codes, axis=1)

    @property
    def state_bytes(self) -> int:
        """Bytes of what was learned, shared steps once: what a process holds beside the codes.

        Examples
        --------
        >>> Codec.parse("svd:50%|int8").fit(np.ones((9, 16))).state_bytes
        581
        """
        steps = {id(step): step for tier in self._tiers for step in tier.steps}
        return sum(step.state_bytes for step in steps.values())

    def to_bytes(self) -> bytes:
        """Return configuration and learned state as bytes, without pickle; see ``_serialization`` for the format."""
        return _serialization.dump(self._tiers)

    @classmethod
    def from_bytes(cls, data: bytes, /) -> Self:
        """Return the codec that `to_bytes` stored.

        Parameters
        ----------
        data : bytes
            Configuration and learned state.

        Raises
        ------
        CodecError
            If the bytes are damaged, of another version, or describe something that cannot be.
        """
        tiers = _serialization.load(bytes(data))
        codec = cls(tiers)
        if codec.is_fitted and len({tier.in_dim for tier in tiers}) > 1:
            raise CodecError("the stored codec has tiers for vectors of different dimensions")
        return codec


# -- codec strings ---------------------------------------------------------------------------------------------------


def _parse_tiers(text: str) -> list[Pipeline]:
    """Return the unfitted tiers that a codec string describes.

    Raises
    ------
    InputTypeError
        If `text` is not a string.
    CodecError
        If it is not a codec string; the message points at the place and lists what could stand there.
    """
    if not isinstance(text, str):
        raise InputTypeError(f"expected a codec string such as 'svd:50%|float8 > int8', got {text!r}")
    return [_parse_tier(text, tier, at) for tier, at in _split(text, 0, ">")]


def _parse_tier(text: str, tier: str, start: int) -> Pipeline:
    spans: list[tuple[str, int]] = []
    steps: list[Step] = []
    for raw, at in _split(tier, start, "|"):
        token = raw.strip()
        at += len(raw) - len(raw.lstrip())
        if not token:
            _fail(text, at, 1, "a step is missing", f"expected one of: {_alternatives()}")
        spans.append((token, at))
        steps.append(_parse_step(text, token, at))
    if misplaced := find_misplaced(steps):
        index, why = misplaced
        token, at = spans[index]
        _fail(text, at, len(token), why, "reducers come first, each keeping no more than it gets, then one quantizer")
    return Pipeline(steps)


def _parse_step(text: str, token: str, at: int) -> Step:
    name, colon, argument = token.partition(":")
    if not is_step_name(name):
        close = difflib.get_close_matches(name.lower(), step_names(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        _fail(text, at, max(len(name), 1), f"unknown step {name!r}", f"{hint}expected one of: {_alternatives()}")
    cls = step_class(name)
    try:
        return cls.from_argument(argument if colon else None)
    except ParameterError as err:
        skip = len(name) + 1 if argument else 0
        raise _error(text, at + skip, max(len(token) - skip, 1), str(err), "") from err


def _split(text: str, start: int, separator: str) -> list[tuple[str, int]]:
    """Return the parts of `text`, each with its position, `text` itself standing at `start`."""
    parts = []
    for part in text.split(separator):
        parts.append((part, start))
        start += len(part) + len(separator)
    return parts


def _alternatives() -> str:
    """Return all steps, reducers before quantizers, as they may be written."""
    reducers: list[str] = []
    quantizers: list[str] = []
    others: list[str] = []  # not imported only to word a message: that may fail
    for name in step_names():
        cls = loaded_step(name)
        (others if cls is None else reducers if issubclass(cls, Reducer) else quantizers).append(name)
    more = f"; {', '.join(others)} (from installed packages)" if others else ""
    return f"{', '.join(reducers)} (reducers); {', '.join(quantizers)} (quantizers){more}"


def _error(text: str, at: int, length: int, problem: str, expected: str) -> CodecError:
    # Tabs and line breaks would shift the caret away from what it points at.
    shown = "".join(c if c.isprintable() else " " for c in text)
    lines = [problem, f"    {shown}", f"    {' ' * at}{'^' * length}", expected]
    return CodecError("\n".join(line for line in lines if line))


def _fail(text: str, at: int, length: int, problem: str, expected: str) -> NoReturn:
    raise _error(text, at, length, problem, expected)
