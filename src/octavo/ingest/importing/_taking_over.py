"""What every importer does once it knows how to read its store: look at all of it, then write a collection of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from octavo._arrays import Floats
from octavo._files import as_path, followed, fresh_directory, is_occupied
from octavo._progress import progress_bar
from octavo._validation import check_choice, check_flag, check_integer
from octavo.collection.collection import Collection
from octavo.collection.rebuild import Blueprint, open_from_blueprint
from octavo.compression import Codec
from octavo.encoders.dense import Encoder, as_encoder, cosine, fingerprint
from octavo.errors import InputTypeError, InvalidVectorsError, MismatchError, OctavoError, ParameterError
from octavo.ingest.rows import SourceError
from octavo.store.documents import normal_metadata

#: How far from 1 the length of a vector may be that was scaled to unit length and stored as float16.
_UNIT = 2e-3

#: Documents whose texts are encoded to find out whether a model is the one that made the vectors.
_COMPARED = 8

#: Two vectors of one text that are closer than this come from the same model; the second where the store has rounded one.
_SAME_MODEL, _SAME_MODEL_ROUNDED = 0.99, 0.5

#: Fields that are named of what was left out.
_NAMED = 20


@dataclass
class Records:
    """Some records of a store: a row of the matrix for each."""

    ids: list[str]
    texts: list[str]
    metadata: list[dict[str, Any]]
    vectors: Floats
    embed_texts: list[str | None] | None = None


class Readable(Protocol):
    """A store that is open for reading."""

    #: What it is, for messages: the path, and the collection or table in it.
    place: str
    #: Records in it.
    count: int
    #: How it compares vectors: ``cosine``, ``dot`` or ``l2``.
    distance: str
    #: What rounds its vectors, so that they are not those of the model any more; None for nothing.
    rounded_by: str | None

    def records(self, batch_size: int) -> Iterator[Records]:
        """Yield all records, in the same order each time."""
        ...

    def left_out(self) -> dict[str, int]:
        """Tell what of the store has no place in a collection, and how many of each; complete after all has been read."""
        ...


@dataclass(frozen=True)
class ImportReport:
    """What was taken over from another store.

    Parameters
    ----------
    source : str
        The store.
    documents : int
        Documents in the collection.
    dim : int
        Dimension of their vectors.
    distance : str
        How the store compared vectors: ``cosine``, ``dot`` or ``l2``.
    metric : str
        How the collection compares them: ``cosine`` or ``dot``.
    codec : str
        What the collection compresses them with.
    model : str or None
        The model that was checked and recorded.
    rounded_by : str or None
        What had rounded the vectors in the store; None where they were those of the model.
    without_text : int
        Documents whose text is empty.
    left_out : dict of str to int
        What was not taken over, and how often.

    Examples
    --------
    >>> from octavo.ingest.importing import ImportReport
    >>> report = ImportReport("index.faiss", 3, 8, "l2", "cosine", "int8", None, None, 0)
    >>> report.documents, report.left_out
    (3, {})
    """

    source: str
    documents: int
    dim: int
    distance: str
    metric: str
    codec: str
    model: str | None
    rounded_by: str | None
    without_text: int
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Wishes:
    """What the caller wants of the collection; see `import_faiss`."""

    path: Path
    encoder: Encoder | None
    metric: str | None
    codec: str | None
    batch_size: int
    progress: bool

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        encoder: Any,
        metric: str | None,
        codec: str | None,
        batch_size: int,
        progress: bool,
    ) -> Wishes:
        """Check what was given, before any store is opened.

        Raises
        ------
        ParameterError
            When there is something at `path`, or a value cannot be used.
        """
        if metric is not None:
            check_choice(metric, "metric", ("cosine", "dot"))
        wishes = cls(
            as_path(path, "path"),
            as_encoder(encoder) if encoder is not None else None,
            metric,
            str(Codec.parse(codec)) if codec is not None else None,
            check_integer(batch_size, "batch_size", least=1),
            check_flag(progress, "progress"),
        )
        if is_occupied(followed(wishes.path)):
            raise ParameterError(
                f"expected a new or empty directory for the collection, but {wishes.path} holds something; an import makes "
                "a collection of its own, and one that was interrupted left nothing behind"
            )
        return wishes


def take_over(store: Readable, wishes: Wishes) -> ImportReport:
    """Read a store twice: to know that all of it can be read, and to write it.

    Raises
    ------
    SourceError
        When a record cannot be taken over; nothing was written.
    MismatchError
        When the encoder is not the one that made the vectors, or the distance has no counterpart; nothing was written.
    """
    survey = _Survey(store, wishes)
    metric = _metric_of(store, wishes.metric, survey)
    model = _check_model(store, wishes.encoder, survey)
    blueprint = Blueprint({"metric": metric}, wishes.codec or "int8", survey.dim, encoder=model)
    with (
        fresh_directory(wishes.path, "the collection") as draft,
        closing(open_from_blueprint(draft, blueprint)) as collection,
    ):
        _write(store, collection, wishes, survey)
        if wishes.codec is not None:
            collection.fit()  # however few they are: the codec was asked for
        codec = collection.codec
        if len(collection) != survey.documents:
            raise SourceError(f"{store.place} has changed while it was read; import it again when nobody writes to it")
    return ImportReport(
        store.place,
        survey.documents,
        survey.dim,
        store.distance,
        metric,
        codec,
        model["name"] if model is not None else None,
        store.rounded_by,
        survey.without_text,
        dict(sorted((store.left_out() | survey.fields_left_out).items())),
    )


def _write(store: Readable, collection: Collection, wishes: Wishes, survey: _Survey) -> None:
    with progress_bar("import", survey.documents, shown=wishes.progress) as advance:
        for part in store.records(wishes.batch_size):
            metadata = [_kept(one, identifier)[0] for one, identifier in zip(part.metadata, part.ids, strict=True)]
            collection.add(
                part.texts,
                ids=part.ids,
                metadata=metadata,
                vectors=part.vectors,
                embed_texts=part.embed_texts,
                batch_size=wishes.batch_size,
            )
            advance(len(part.ids))


class _Survey:
    """All of a store, looked at without keeping it."""

    def __init__(self, store: Readable, wishes: Wishes) -> None:
        self.documents = 0
        self.dim = 0
        self.without_text = 0
        self.fields_left_out: dict[str, int] = {}
        self.has_unit_length = True
        self.example: tuple[str, float] = ("", 1.0)  # of a vector that has another length
        self.sample: list[tuple[str, str, Floats]] = []
        self._store = store
        self._fields: Counter[str] = Counter()
        ids: set[str] = set()
        with progress_bar("read", store.count, shown=wishes.progress) as advance:
            for part in store.records(wishes.batch_size):
                self._look_at(part, ids)
                advance(len(part.ids))
        if not self.documents:
            raise SourceError(f"{store.place} holds no vectors; there is nothing to import")
        named = self._fields.most_common(_NAMED)
        self.fields_left_out = dict(named)
        rest = sum(self._fields.values()) - sum(count for _, count in named)
        if rest:
            self.fields_left_out["other metadata fields"] = rest

    def _look_at(self, part: Records, ids: set[str]) -> None:
        if not part.ids:
            return
        store, dim = self._store, part.vectors.shape[1]
        if self.dim and dim != self.dim:
            raise SourceError(
                f"{store.place} holds vectors of dimension {self.dim} and of {dim}, from {part.ids[0]!r} on"
            )
        self.dim = dim
        bad = np.flatnonzero(~np.isfinite(part.vectors).all(axis=1))
        if len(bad):
            raise InvalidVectorsError(
                f"{store.place}: the vector of {part.ids[bad[0]]!r} holds NaN or infinity; mend or remove it there"
            )
        for identifier, text in zip(part.ids, part.texts, strict=True):
            if not isinstance(identifier, str) or not identifier:
                raise SourceError(f"{store.place}: expected ids that are strings, got {identifier!r}")
            if identifier in ids:
                raise SourceError(f"{store.place} has two records with the id {identifier!r}; ids have to be different")
            _check_unicode(store, identifier, identifier, text)
            ids.add(identifier)
        for number, (identifier, metadata) in enumerate(zip(part.ids, part.metadata, strict=True)):
            _, lost = _kept(metadata, identifier)
            self._fields.update(lost)
            if part.texts[number].strip():
                if len(self.sample) < _COMPARED:
                    embedded = part.embed_texts[number] if part.embed_texts is not None else None
                    self.sample.append((identifier, embedded or part.texts[number], part.vectors[number].copy()))
            else:
                self.without_text += 1
        lengths = np.linalg.norm(part.vectors, axis=1)
        other = np.flatnonzero(np.abs(lengths - 1) > _UNIT)
        if len(other) and self.has_unit_length:
            self.has_unit_length = False
            self.example = part.ids[other[0]], float(lengths[other[0]])
        self.documents += len(part.ids)


def _check_unicode(store: Readable, identifier: str, *texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise SourceError(
                f"{store.place}: the record {identifier!r} holds a lone surrogate, which is no valid Unicode; mend it there"
            ) from None


def _kept(metadata: dict[str, Any], identifier: str) -> tuple[dict[str, Any], list[str]]:
    """Return the metadata that a collection can hold, and what was left out."""
    where = f"the record {identifier!r}"
    try:
        return normal_metadata(metadata, where), []
    except (OctavoError, RecursionError):
        kept: dict[str, Any] = {}
        lost = []
    for name, value in metadata.items():
        try:
            kept |= normal_metadata({name: value}, where)
        except (InputTypeError, ParameterError, RecursionError):
            shown = name if isinstance(name, str) and name.isprintable() else repr(name)
            lost.append(f"metadata field {shown!r} ({type(value).__name__})")
    return kept, lost


def _metric_of(store: Readable, wanted: str | None, survey: _Survey) -> str:
    """Return the metric that ranks as the store does, or the one that was asked for."""
    if wanted is not None:
        return wanted
    if store.distance == "cosine" or (survey.has_unit_length and store.distance in ("dot", "l2")):
        return "cosine"  # of vectors of unit length, all three rank alike
    if store.distance == "dot":
        return "dot"
    identifier, length = survey.example
    raise MismatchError(
        f"{store.place} compares vectors by {'Euclidean distance' if store.distance == 'l2' else store.distance}, and they are "
        f"not of unit length (that of {identifier!r} has {length:.4g}), so no metric of a collection ranks as it does; choose "
        "one all the same, cosine for most models: metric='cosine' or metric='dot'"
    )


def _check_model(store: Readable, encoder: Encoder | None, survey: _Survey) -> dict[str, Any] | None:
    """Return what a collection remembers of its encoder, once that has encoded some of the texts again.

    Raises
    ------
    MismatchError
        When it gives other vectors.
    """
    if encoder is None:
        return None
    if not survey.sample:
        raise ParameterError(
            f"{store.place} holds no texts, so whether {encoder.name!r} made its vectors cannot be checked; leave the model out"
        )
    fresh = np.asarray(encoder.encode_documents([text for _, text, _ in survey.sample]), np.float32)
    if fresh.shape != (len(survey.sample), survey.dim):
        raise MismatchError(
            f"{store.place} holds vectors of dimension {survey.dim}, the model {encoder.name!r} makes such of "
            f"{fresh.shape[-1]}: it is another one"
        )
    bound = _SAME_MODEL if store.rounded_by is None else _SAME_MODEL_ROUNDED
    found = [cosine(one, vector) for one, (_, _, vector) in zip(fresh, survey.sample, strict=True)]
    good = [value >= bound for value in found]
    if 2 * sum(good) < len(good):
        worst = int(np.argmin(found))
        raise MismatchError(
            f"the model {encoder.name!r} gives other vectors than those in {store.place}: of {len(found)} texts, "
            f"{len(found) - sum(good)} differ (cosine {found[worst]:.3f} for {survey.sample[worst][0]!r}); name the model that "
            "made them, with its prompts, or leave it out"
        )
    prompts = getattr(encoder, "prompts", None)
    return fingerprint(encoder.name, dict(prompts) if isinstance(prompts, dict) else {}, survey.dim) | {
        "sample": [identifier for (identifier, _, _), same in zip(survey.sample, good, strict=True) if same]
    }


def as_text(value: Any, what: str) -> str:
    """Return a text of a store; nothing becomes an empty one.

    Raises
    ------
    SourceError
        When it is something else.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SourceError(f"{what}: expected a text, got {type(value).__name__}")
    return value


def as_identifier(value: Any, what: str) -> str:
    """Return an id of a store as a string.

    Raises
    ------
    SourceError
        When it is neither a string nor an integer.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | np.integer) or value == "":
        raise SourceError(f"{what}: expected an id that is a string or an integer, got {value!r}")
    return str(value)


def chosen(names: Sequence[str], wanted: str | None, what: str, place: str, option: str) -> str:
    """Return the one that is meant of several collections, tables or columns.

    Raises
    ------
    ParameterError
        When it is not there, or not clear.
    """
    listed = ", ".join(map(repr, sorted(names))) or "none"
    if wanted is not None:
        if wanted not in names:
            raise ParameterError(f"there is no {what} {wanted!r} in {place}; there are: {listed}")
        return wanted
    if len(names) != 1:
        raise ParameterError(f"expected one {what} in {place}, found {len(names)}: {listed}; name one with {option}")
    return names[0]
