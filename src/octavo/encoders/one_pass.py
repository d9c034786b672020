"""Models that give several kinds of vectors of a text at once, as BGE-M3 does: asked once for all that a collection keeps."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from octavo.errors import InvalidVectorsError

#: What a model is asked for, and under which key it answers.
_OUTPUTS = {
    "dense": ("return_dense", "dense_vecs"),
    "sparse": ("return_sparse", "lexical_weights"),
    "tokens": ("return_colbert_vecs", "colbert_vecs"),
}


#: Texts of a question that does not make the answer before it forgotten.
_FEW = 8


def gives_several(model: Any) -> bool:
    """Tell whether a model gives dense, sparse and token vectors in one call, as FlagEmbedding's ``BGEM3FlagModel`` does."""
    encode = getattr(model, "encode", None)
    if isinstance(model, type) or encode is None:
        return False
    try:
        parameters = inspect.signature(encode).parameters
    except (TypeError, ValueError):
        return False
    return all(option in parameters for option, _ in _OUTPUTS.values())


class OnePass:
    """Asks a model once for what several encoders want of the same texts, which follow each other.

    A question about a few texts in between, by which a collection finds out that the model is its own, changes nothing.

    Parameters
    ----------
    model : object
        See `gives_several`.
    """

    #: By the identity of the model, which lives as long as the entry does: as long as there is an encoder made of it.
    _known: ClassVar[weakref.WeakValueDictionary[int, OnePass]] = weakref.WeakValueDictionary()

    def __init__(self, model: Any) -> None:
        self._model = model
        self._wanted: set[str] = set()
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, tuple[str, ...]], Mapping[str, Any]] = {}

    @classmethod
    def of(cls, model: Any) -> OnePass:
        """Return the one of a model: all encoders made of the same model share it."""
        return cls._known.setdefault(id(model), cls(model))

    def encoders(self, name: str) -> tuple[Callable[[Sequence[str]], Any], Callable[[Sequence[str]], Any]]:
        """Return what makes "dense", "sparse" or "tokens" of documents, and of queries; from now on it is asked for."""
        self._wanted.add(name)
        return partial(self.output, name, "documents"), partial(self.output, name, "queries")

    def output(self, name: str, kind: str, texts: Sequence[str]) -> Any:
        """Return one kind of vectors of texts.

        Parameters
        ----------
        name : {"dense", "sparse", "tokens"}
            Which vectors.
        kind : {"documents", "queries"}
            What the texts are.
        texts : sequence of str
            The texts.

        Raises
        ------
        InvalidVectorsError
            When the model answers without them.
        """
        key = kind, tuple(texts)
        with self._lock:
            self._wanted.add(name)
            answer = self._answers.get(key)
            if answer is None or name not in answer:
                answer = self._ask(kind, list(texts))
                large = [each for each in self._answers if len(each[1]) > _FEW] if len(texts) <= _FEW else []
                self._answers = {each: self._answers[each] for each in large} | {key: answer}
            return answer[name]

    def _ask(self, kind: str, texts: list[str]) -> Mapping[str, Any]:
        method = getattr(self._model, "encode_queries" if kind == "queries" else "encode_corpus", None)
        options = {option: output in self._wanted for output, (option, _) in _OUTPUTS.items()}
        answer = (method or self._model.encode)(texts, **options)
        found = {output: answer.get(_OUTPUTS[output][1]) for output in self._wanted}
        missing = [output for output, vectors in found.items() if vectors is None]
        if missing:
            raise InvalidVectorsError(
                f"expected {_OUTPUTS[missing[0]][1]!r} in the answer of {type(self._model).__name__}, as asked, got "
                f"{sorted(answer)}"
            )
        return found
