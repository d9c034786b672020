"""What encoders around a model of whatever kind have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class ModelEncoder(ABC):
    """An encoder around a model, with a name; pickled as the two.

    Parameters
    ----------
    model : str, callable or object
        The model, or another such encoder, which is shared.
    name : str, optional
        What to call it in messages and in the manifest.
    """

    def __init__(self, model: Any, *, name: str | None = None) -> None:
        self._backend: Any = self._backend_of(model)
        self._model: Any = model._model if isinstance(model, type(self)) else model
        self.name: str = name if name is not None else self._backend.name
        self.prompts: dict[str, str] = self._backend.prompts

    @staticmethod
    @abstractmethod
    def _backend_of(model: Any) -> Any:
        """Return what a model does, with `name`, `documents`, `queries` and `prompts`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self._model, self.name)  # a model given by name is loaded again


def _unpickled(kind: type[ModelEncoder], model: Any, name: str) -> ModelEncoder:
    return kind(model, name=name)
