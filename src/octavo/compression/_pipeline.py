"""Steps one behind the other: reducers, then one quantizer. A tier of a codec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._arrays import BLOCK_ROWS, Codes, Floats
from octavo._layout import CodeLayout
from octavo.compression._base import Quantizer, Reducer, State, Step, lengths_differ
from octavo.compression._quantizers import Float32
from octavo.compression._registry import step_from_config
from octavo.errors import CodecError, NotFittedError

#: Reducers fitted on the same vectors: for each run of leading ones the last of them, fitted, and the vectors as it gives them.
Fitted: TypeAlias = dict[tuple[Reducer, ...], tuple[Reducer, Floats]]


def find_misplaced(steps: Sequence[Step]) -> tuple[int, str] | None:
    """Return the position of the first step that cannot stand where it does, and why; None if all can."""
    dim: int | None = None
    for i, step in enumerate(steps):
        if isinstance(step, Quantizer):
            if i + 1 < len(steps):
                follower = steps[i + 1]
                what = "a second quantizer" if isinstance(follower, Quantizer) else "a reducer"
                return i + 1, f"{what}, {follower.token!r}, stands behind the quantizer {step.token!r}"
        elif isinstance(step, Reducer):
            try:
                dim = step.bound(dim)
            except CodecError as err:
                return i, f"{step.token!r} cannot stand here: {err}"
        else:
            return i, f"{step!r} is neither a reducer nor a quantizer"
    return None


class Pipeline(Quantizer):
    """Reducers, then one quantizer, used as one quantizer.

    Parameters
    ----------
    steps : iterable of Step
        Any number of reducers, then one quantizer. Without a quantizer, `Float32` is added.

    Raises
    ------
    CodecError
        If there is no step, a step stands behind the quantizer, or a reducer asks for more dimensions than go in.

    Examples
    --------
    >>> from octavo.compression import SVD, Int8
    >>> X = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float32)
    >>> pipeline = Pipeline([SVD("50%"), Int8()]).fit(X, lengths=False)
    >>> str(pipeline), pipeline.layout.kind, pipeline.encode(X).shape
    ('svd:50%|int8', 'i8', (100, 8))
    """

    step_id = "pipeline"

    def __init__(self, steps: Iterable[Step]) -> None:
        listed = [inner for step in steps for inner in (step.steps if isinstance(step, Pipeline) else [step])]
        if not listed:
            raise CodecError("a pipeline needs at least one step")
        if misplaced := find_misplaced(listed):
            raise CodecError(f"{misplaced[1]}; reducers come first, then one quantizer")
        *reducers, last = listed
        if isinstance(last, Quantizer):
            quantizer = last
        else:
            reducers, quantizer = listed, Float32()
        self._reducers = [step for step in reducers if isinstance(step, Reducer)]
        self._quantizer: Quantizer = quantizer
        #: Whether `query_offset` may give anything but zeros: a reducer centres documents and leaves queries as they are.
        self.shifts_queries = any(step.asymmetric for step in self._reducers)
        self._learned_layout: CodeLayout | None = None
        if all(step.is_fitted for step in self.steps):
            self._check_chain(self.steps[0].in_dim)
            self._adopt()

    @property
    def steps(self) -> list[Step]:
        """The reducers and the quantizer."""
        return [*self._reducers, self._quantizer]

    @property
    def reducers(self) -> list[Reducer]:
        """The reducers."""
        return list(self._reducers)

    @property
    def quantizer(self) -> Quantizer:
        """The quantizer."""
        return self._quantizer

    # -- configuration -------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """The pipeline as a codec string writes it."""
        return "|".join(step.token for step in self.steps)

    def __str__(self) -> str:
        return self.token

    def __repr__(self) -> str:
        return f"Pipeline([{', '.join(map(repr, self.steps))}])"

    def __hash__(self) -> int:
        return hash(tuple(self.steps))

    def __eq__(self, other: object) -> bool:
        """Compare configurations; what was learned does not count."""
        return isinstance(other, Pipeline) and other.steps == self.steps

    def get_config(self) -> dict[str, Any]:
        """Return the configuration as JSON data with an ``"id"``."""
        return {"id": self.step_id, "steps": [step.get_config() for step in self.steps]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], /) -> Self:
        """Rebuild the (unfitted) pipeline from `get_config`."""
        if config.get("id") != cls.step_id or set(config) != {"id", "steps"} or not isinstance(config["steps"], list):
            raise CodecError(f"expected the configuration of a pipeline, got {dict(config)!r}")
        return cls(step_from_config(step) for step in config["steps"])

    def unfitted(self) -> Pipeline:
        """Return a pipeline of the same configuration that has learned nothing."""
        return Pipeline(type(step).from_config(step.get_config()) for step in self.steps)

    # -- learning ------------------------------------------------------------------------------------------------

    @property
    def needs_fit(self) -> bool:
        """Whether a step looks at the vectors, not only at their dimension."""
        return any(step.needs_fit for step in self.steps)

    def fit(self, X: npt.ArrayLike, /, *, seed: int = 0, lengths: bool | None = None) -> Self:
        """Fit the steps one behind the other, each on what the one before it makes of the vectors.

        Parameters
        ----------
        X, seed, lengths
            See `Step.fit`.

        Returns
        -------
        Self
            The fitted pipeline itself.
        """
        super().fit(X, seed=seed, lengths=lengths)
        self._adopt()
        return self

    def _adopt(self) -> None:
        """Take over what the fitted steps say: asked once here instead of at every query."""
        self._in_dim = self.steps[0].in_dim
        self._learned_layout = self._quantizer.layout

    def _fit(self, X: Floats, seed: int) -> None:
        self._learned_layout = None
        self._fit_steps(X, seed, self._keeps_lengths, {})

    def fit_sharing(self, X: Floats, seed: int, lengths: bool | None, done: Fitted) -> None:
        """Fit on checked vectors, taking over what other pipelines fitted on the same.

        Parameters
        ----------
        X : ndarray of shape (n, dim), float32
            Checked vectors.
        seed : int
            Seed of what is drawn at random.
        lengths : bool or None
            See `Step.fit`.
        done : dict
            What other pipelines have fitted on the same vectors; what is fitted here is added to it.
        """
        self._in_dim, self._learned_layout = None, None
        self._fit_steps(X, seed, lengths, done)
        self._adopt()

    def _fit_steps(self, X: Floats, seed: int, lengths: bool | None, done: Fitted) -> None:
        vectors = X
        if lengths is None:
            lengths = lengths_differ(X)  # of what goes in: a reducer that centres changes them
        for i, reducer in enumerate(self._reducers):
            key = tuple(self._reducers[: i + 1])
            if key not in done:
                reducer.fit(vectors, seed=seed, lengths=lengths)
                done[key] = reducer, reducer.encode(vectors)
            self._reducers[i], vectors = done[key]
        self._quantizer.fit(vectors, seed=seed, lengths=lengths)

    def _get_arrays(self) -> State:
        return {f"{i}.{name}": array for i, step in enumerate(self.steps) for name, array in step.get_state().items()}

    def set_state(self, state: Mapping[str, npt.NDArray[Any]], /) -> Self:
        """Restore what `get_state` returned; see `Step.set_state`."""
        super().set_state(state)
        self._adopt()
        return self

    def _check_arrays(self, arrays: State, in_dim: int) -> None:
        pass  # each step checks its own

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        self._learned_layout = None
        rest = dict(arrays)
        for i, step in enumerate(self.steps):
            prefix = f"{i}."
            step.set_state({name[len(prefix) :]: rest.pop(name) for name in list(rest) if name.startswith(prefix)})
        if rest:
            raise CodecError(f"the learned state of the pipeline holds unknown arrays: {', '.join(sorted(rest))}")
        self._check_chain(in_dim)

    def _check_chain(self, in_dim: int) -> None:
        """Raise `CodecError` unless each fitted step takes what the one before it gives."""
        dim = in_dim
        for step in self.steps:
            if step.in_dim != dim:
                raise CodecError(f"{step!r} was fitted for {step.in_dim} dimensions, but {dim} go in")
            dim = step.out_dim if isinstance(step, Reducer) else dim

    # -- use -----------------------------------------------------------------------------------------------------

    @property
    def layout(self) -> CodeLayout:
        """How the codes lie in memory, and what a score over them means."""
        if self._learned_layout is None:
            raise NotFittedError(f"{self!r} has not been fitted; call fit with a sample of the vectors first")
        return self._learned_layout

    def state_bytes_for(self, dim: int) -> int:
        """Return how many bytes will be learned from vectors of `dim` values, without learning: those of all steps.

        Parameters
        ----------
        dim : int
            Values of a vector.

        Returns
        -------
        int
            Bytes of the learned arrays.

        Examples
        --------
        >>> from octavo.compression import SVD, Int8
        >>> pipeline = Pipeline([SVD("50%"), Int8()])
        >>> expected = pipeline.state_bytes_for(16)
        >>> expected == sum(step.state_bytes for step in pipeline.fit(np.ones((9, 16))).steps)
        True
        """
        total = 0
        for reducer in self._reducers:
            shapes = reducer._shapes(dim).values()
            total += sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in shapes)
            dim = reducer.out_dim_for(dim)
        return total + self.unfitted()._quantizer.fit(np.ones((1, dim), np.float32), lengths=False).state_bytes

    def layout_for(self, dim: int, *, lengths: bool = False) -> CodeLayout:
        """Return how codes of vectors of `dim` values will lie in memory, without fitting what has to learn.

        Parameters
        ----------
        dim : int
            Values of a vector.
        lengths : bool, default=False
            See `Step.fit`.

        Returns
        -------
        CodeLayout
            Only its scale is a guess: that is learned.

        Raises
        ------
        CodecError
            If a reducer asks for more dimensions than go in.

        Examples
        --------
        >>> from octavo.compression import SVD, Int8
        >>> Pipeline([SVD("50%"), Int8()]).layout_for(384).row_bytes
        192
        """
        for reducer in self._reducers:
            dim = reducer.out_dim_for(dim)
        # A quantizer's row depends on the number of values alone, so one vector is enough to ask it.
        return self.unfitted()._quantizer.fit(np.ones((1, dim), np.float32), lengths=lengths).layout

    def _encode(self, X: Floats) -> npt.NDArray[Any]:
        for step in self._reducers:
            X = step._encode(X)
        return self._quantizer._encode(X)

    def _encode_queries(self, X: Floats) -> npt.NDArray[Any]:
        for step in self._reducers:
            X = step._encode_queries(X)
        return self._quantizer._encode_queries(X)

    def encode_ready_queries(self, X: Floats) -> Codes:
        """Return the same as `encode_queries` for queries that were checked: none is looked at again.

        Parameters
        ----------
        X : ndarray of shape (n, in_dim), float32
            Finite, in C order.

        Returns
        -------
        ndarray of shape (n, row_bytes)
            Laid out as `layout.compared` says.
        """
        if len(X) > BLOCK_ROWS:
            return self.encode_queries(X)
        return np.ascontiguousarray(self._encode_queries(X), np.uint8)

    def _query_offset(self, X: Floats) -> Floats:
        offset = np.zeros(len(X), np.float32)
        for step in self._reducers:
            offset += step._query_offset(X)
            X = step._encode_queries(X)
        return offset

    def _decode(self, codes: Codes) -> Floats:
        vectors = self._quantizer.decode(codes)
        for step in reversed(self._reducers):
            vectors = step.decode(vectors)
        return vectors
