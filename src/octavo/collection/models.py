"""The encoders that an open collection holds, and which of them speaks for which vectors.

A collection has vectors of one model, and while it is being changed (`Collection.reencode`) those of two. A process may hold
the old model, the new one, or both; it may have been started before the change, or open the collection in the middle of it.
Which encoder made which vectors is told by the vectors themselves: see `octavo.collection.model_check`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from octavo._arrays import as_matrix, unit_rows
from octavo.collection.model_check import LocalTokens, LocalVectors, ModelCheck
from octavo.encoders.dense import TextOnly
from octavo.encoders.tokens import TokenEncoder, unit_tokens
from octavo.errors import InvalidVectorsError, MismatchError, OctavoError
from octavo.retrievers.search import Queries
from octavo.store.reencoding import Serve
from octavo.store.store import Store
from octavo.words import WordQuery

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Roles:
    """Who speaks for which vectors in one state of a collection.

    Parameters
    ----------
    space : int
        Number of the space that the collection has.
    reencoding : str or None
        Which change of the model is under way.
    current : encoder or None
        Made the vectors that the collection has, if it is at hand.
    coming : encoder or None
        Makes those that it is being changed to, if it is at hand.
    """

    space: int
    reencoding: str | None
    current: Any
    coming: Any


@dataclass(frozen=True)
class Change:
    """A change of the model that is under way, as far as encoders are concerned.

    Parameters
    ----------
    identity : str
        Tells it from other changes.
    encoder : str
        Name of the new model.
    late : bool
        Whether that gives many vectors a text.
    serve : {"both", "old"}
        What answers searches meanwhile.
    dim : int
        Dimension of the new vectors.
    metric : str
        How they are compared.
    """

    identity: str
    encoder: str
    late: bool
    serve: Serve
    dim: int
    metric: str


class Spaces(Protocol):
    """The vectors that a collection has, and those of a change that is under way."""

    @property
    def late(self) -> bool:
        """Whether documents have many vectors."""
        ...

    def now(self) -> tuple[int, Change | None]:
        """Return the number of the space that the collection has, and the change: in the newest state that is known."""
        ...

    def check(self, *, coming: bool) -> ModelCheck:
        """Return what compares an encoder with the one that made the vectors of a space."""
        ...


class LocalSpaces:
    """Those of a collection of files.

    Parameters
    ----------
    store : Store
        The files.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def late(self) -> bool:
        """See `Spaces`."""
        return bool(self._store.settings.multi_vector)

    def now(self) -> tuple[int, Change | None]:
        """See `Spaces`."""
        snapshot = self._store.snapshot
        state = snapshot.reencoding
        if snapshot.next is None or state is None:
            return snapshot.space, None
        metric = state.kind.get("metric", self._store.settings.metric) or "cosine"  # the settings, without making them
        change = Change(state.identity, state.encoder["name"], state.late, state.serve, state.dim, metric)
        return snapshot.space, change

    def check(self, *, coming: bool) -> ModelCheck:
        """See `Spaces`."""
        state = self._store.snapshot.reencoding
        late = state.late if coming and state is not None else self.late
        return ModelCheck((LocalTokens if late else LocalVectors)(self._store, coming=coming))


class Models:
    """Tells the encoders of an open collection apart.

    Parameters
    ----------
    spaces : Spaces
        The collection's vectors.
    encoder : encoder or None
        What it was opened with.
    previous : encoder or None
        The model that it is, or was, changed from.
    """

    def __init__(self, spaces: Spaces, encoder: Any, previous: Any = None) -> None:
        self._spaces = spaces
        self.encoder, self.previous = encoder, previous
        self.coming: Any = None  # which this process re-encodes with
        self._roles: Roles | None = None

    @property
    def any(self) -> Any:
        """An encoder of the collection, if there is one at hand."""
        return self.encoder if self.encoder is not None else self.coming

    @property
    def alone(self) -> bool:
        """Whether the last queries were encoded by the new model alone, while the collection is being changed."""
        roles = self._roles
        return roles is not None and roles.current is None and roles.coming is not None

    def forget(self) -> None:
        """Ask again which encoder is which, when that matters next."""
        self._roles = None

    def assign(self, current: Any, coming: Any) -> None:
        """Say who is who in the state that the collection is in."""
        self._roles = Roles(*_key(*self._spaces.now()), current, coming)

    def roles(self) -> Roles:
        """Return who speaks for which vectors in the newest state that this process has seen.

        Raises
        ------
        MismatchError
            When no encoder that is at hand made any of the vectors.
        """
        (space, change), known = self._spaces.now(), self._roles
        key = _key(space, change)
        if known is not None and (known.space, known.reencoding) == key:
            return known
        if change is None and self.previous is None:
            found = self.encoder, None  # whether it is the one is asked when it encodes
        elif change is None:
            found = self._of_two(), None
        else:
            found = self._while_changing(change)
        roles = self._roles = Roles(*key, *found)
        return roles

    @property
    def _mine(self) -> list[Any]:
        return [encoder for encoder in (self.encoder, self.previous, self.coming) if encoder is not None]

    def _of_two(self) -> Any:
        """Return which of two encoders made the vectors of a collection whose model is not being changed."""
        first: MismatchError | None = None
        for encoder in self._mine:
            fits, error = self._verdict(encoder, coming=False)
            if fits is not False:
                return encoder
            first = first or error
        if first is not None:
            raise first
        return None

    def _while_changing(self, change: Change) -> tuple[Any, Any]:
        """Return which encoder made the vectors that the collection has, and which makes the new ones."""
        mine = [encoder for encoder in self._mine if not isinstance(encoder, TextOnly)]
        old = [self._verdict(encoder, coming=False) for encoder in mine]
        new = [self._verdict(encoder, coming=True)[0] for encoder in mine]
        coming = next((encoder for encoder, fits in zip(mine, new, strict=True) if fits), None)
        if coming is None:  # there is no document yet to tell it by
            unknown = (encoder for encoder, fits in zip(mine, new, strict=True) if fits is None)
            coming = next((encoder for encoder in unknown if encoder.name == change.encoder), None)
        for wanted in (True, None):
            for encoder, (fits, _) in zip(mine, old, strict=True):
                if fits is wanted and encoder is not coming:
                    return encoder, coming
        if coming is None and mine:
            assert old[0][1] is not None  # none of them fits
            raise old[0][1]
        return None, coming

    def maker(self) -> Any:
        """Return the encoder that made the vectors that the collection has, if it is at hand."""
        known, (space, change) = self._roles, self._spaces.now()
        asked = change is not None or self.previous is not None
        if asked and known is not None and (known.space, known.reencoding) == _key(space, change):
            return known.current
        mine = [encoder for encoder in (self.encoder, self.previous) if encoder is not None]
        mine = [encoder for encoder in mine if not isinstance(encoder, TextOnly)]
        return next((encoder for encoder in mine if self._verdict(encoder, coming=False)[0] is not False), None)

    def has_made(self, encoder: Any) -> bool:
        """Tell whether an encoder certainly is the one that made the vectors that the collection has, as they came."""
        entry = self._spaces.check(coming=False).known.read_encoder()
        if entry is None or entry["name"] != encoder.name or entry.get("refitted"):
            return False
        return self._verdict(encoder, coming=False)[0] is True

    def _verdict(self, encoder: Any, *, coming: bool) -> tuple[bool | None, MismatchError | None]:
        """Tell whether an encoder made the vectors of a space; None where that cannot be told, and why it did not."""
        check = self._spaces.check(coming=coming)
        entry = check.known.read_encoder()
        if entry is None:
            return None, None
        _, change = self._spaces.now()
        late = change.late if coming and change is not None else self._spaces.late
        if late != isinstance(encoder, TokenEncoder):
            return False, MismatchError(
                f"the collection was built with encoder {entry['name']!r}, which gives {'many vectors' if late else 'one'} a "
                f"text; {encoder.name!r} gives {'one' if late else 'many'}"
            )
        ids, texts, _ = check.known.sample(entry.get("sample", ()))
        if not ids:
            return None, None
        try:
            answers: list[Any] = [encoder.encode_documents(texts[:1])]
        except OctavoError:
            raise
        except Exception as error:  # a service that is down must not stop the other model
            _log.warning(
                "encoder %r could not encode a stored document, so its name has to do: %r", encoder.name, error
            )
            return (True if encoder.name == entry["name"] else None), None

        def encode(asked: list[str]) -> Any:
            return answers.pop() if answers and asked == texts[:1] else encoder.encode_documents(asked)

        try:
            check.run(encoder.name, width(answers[0]), encode)
        except MismatchError as error:
            return False, error
        return (True if check.settled else None), None

    # ------------------------------------------------------------------ encoding

    def queries(
        self, texts: Sequence[str], words: Sequence[str | WordQuery] | None, first: Callable[[], Queries]
    ) -> Queries:
        """Return queries by the models that are to answer while the collection is being changed.

        Parameters
        ----------
        texts : sequence of str
            The queries.
        words : sequence of str or None
            The words to look for, where they are others.
        first : callable
            Encodes them by the model that the collection has.
        """
        roles, (_, change) = self.roles(), self._spaces.now()
        read = following = None
        failure: Exception | None = None
        if roles.current is not None:
            try:
                read = first()
            except OctavoError:
                raise
            except Exception as error:
                failure = error
        if roles.coming is not None and change is not None and (read is None or change.serve == "both"):
            try:
                following = encoded_queries(roles.coming, texts, change.dim, change.metric)
            except OctavoError:
                raise
            except Exception as error:
                failure = failure or error
        if failure is not None:
            if read is None and following is None:
                raise failure
            _log.warning("one of the two models could not encode a query, the other one answers alone: %r", failure)
        elif read is None and following is None:
            read = first()  # which says what is missing
        if read is None:
            read = Queries(words=words if words is not None else list(texts))
        return replace(read, space=roles.space, next=following, reencoding=roles.reencoding)


def encoded_queries(encoder: Any, texts: Sequence[str], dim: int | None, metric: str) -> Queries:
    """Return texts as an encoder gives them, ready to be compared."""
    given = encoder.encode_queries(list(texts))
    if isinstance(encoder, TokenEncoder):
        tokens = unit_tokens(given, dim, "query")
        empty = np.flatnonzero(tokens.lengths == 0)
        if len(empty):
            raise InvalidVectorsError(f"expected at least one token vector a query, got none for query {int(empty[0])}")
        return Queries(tokens=tokens)
    matrix = as_matrix(given, dim, "queries")
    return Queries(vectors=unit_rows(matrix, keep_zeros=True) if metric == "cosine" else matrix)


def width(vectors: Any) -> int | None:
    """Return the dimension of what an encoder gave; None where it cannot be told."""
    return next((int(matrix.shape[-1]) for matrix in vectors if matrix.size), None)


def _key(space: int, change: Change | None) -> tuple[int, str | None]:
    return space, change.identity if change is not None else None
