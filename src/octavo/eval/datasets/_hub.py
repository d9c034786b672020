"""Retrieval data sets of the Hugging Face hub, by their name there or by the name of an MTEB task."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from octavo.errors import MissingExtraError, ParameterError
from octavo.eval.datasets._base import Dataset, DatasetError, Qrels, Titled, judge


class _HuggingFace:
    """Repositories laid out as BEIR's: configurations ``corpus`` and ``queries``, judgements in ``default`` or ``qrels``."""

    name = "hf"

    def recognises(self, source: str, /) -> bool:
        return False  # a name could be anything: it has to be written hf:owner/name

    def load(self, source: str, /, *, split: str | None, corpus: str | None) -> Dataset:
        return load_from_hub(source, None, split, corpus, name=source.rpartition("/")[2], source=self.name)


class _Mteb:
    """Retrieval tasks of MTEB: their data at the revision that MTEB pins; the scores are ir-measures', not MTEB's."""

    name = "mteb"

    def recognises(self, source: str, /) -> bool:
        return False  # it has to be written mteb:Task

    def load(self, source: str, /, *, split: str | None, corpus: str | None) -> Dataset:
        try:
            mteb: Any = importlib.import_module("mteb")
        except ModuleNotFoundError as error:
            if error.name != "mteb":
                raise
            raise MissingExtraError(
                f"reading the MTEB task {source!r} needs mteb. Install it: pip install 'octavo[mteb]'; or read it with "
                "hf:owner/name or from a BEIR folder"
            ) from None
        try:
            task = mteb.get_task(source)
        except KeyError as error:
            raise DatasetError(f"expected the name of an MTEB task, got {source!r}: {error}") from error
        described = task.metadata
        if described.type != "Retrieval":
            raise DatasetError(f"expected an MTEB task of type Retrieval, got {source!r} of type {described.type}")
        place = described.dataset
        found = load_from_hub(place["path"], place.get("revision"), split, corpus, name=source, source=self.name)
        return replace(found, ignore_identical_ids=bool(getattr(task, "ignore_identical_ids", False)))


def load_from_hub(
    repository: str, revision: str | None, split: str | None, corpus: str | None, *, name: str, source: str
) -> Dataset:
    """Download a data set, or read it from the hub's own cache.

    Raises
    ------
    MissingExtraError
        When the package datasets is not installed.
    DatasetError
        When it cannot be had, or is laid out in another way.
    """
    if corpus is not None:
        raise ParameterError(f"a data set of the hub brings its own documents, got corpus={corpus!r}")
    try:
        load: Callable[..., Any] = importlib.import_module("datasets").load_dataset
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise MissingExtraError(
            f"reading {repository!r} from the hub needs the package datasets. Install it: pip install datasets; or give a "
            "BEIR folder"
        ) from None
    split = split or "test"
    documents = _configuration(load, repository, "corpus", revision)
    queries = _configuration(load, repository, "queries", revision)
    judgements = _judgements(load, repository, revision, split)
    qrels: Qrels = {}
    for row in judgements:
        judge(qrels, str(row["query-id"]), str(row["corpus-id"]), int(row["score"]), name)
    return Dataset.judged(
        name=name,
        split=split,
        source=source,
        corpus={_id(row): Titled(row.get("title") or "", row["text"] or "") for row in documents},
        queries={_id(row): row["text"] for row in queries},
        qrels=qrels,
    )


def _id(row: Mapping[str, Any]) -> str:
    return str(row["_id"] if "_id" in row else row["id"])


def _configuration(load: Callable[..., Any], repository: str, name: str, revision: str | None) -> Any:
    splits = _fetch(load, repository, name, revision)
    return splits[name] if name in splits else splits[next(iter(splits))]


def _judgements(load: Callable[..., Any], repository: str, revision: str | None, split: str) -> Any:
    # Both layouts are in use: judgements beside the texts, and in a repository of their own.
    attempts = ((repository, "default", revision), (repository, "qrels", revision), (f"{repository}-qrels", None, None))
    errors = []
    for place, name, pinned in attempts:
        try:
            splits = _fetch(load, place, name, pinned)
        except DatasetError as error:
            errors.append(str(error))
            continue
        if split in splits:
            return splits[split]
        errors.append(f"{place} has the splits {', '.join(splits)}")
    raise DatasetError(f"expected judgements of split {split!r} of {repository!r}: {'; '.join(errors)}")


def _fetch(load: Callable[..., Any], repository: str, name: str | None, revision: str | None) -> Any:
    try:
        return load(repository, name, revision=revision)
    except (OSError, ValueError) as error:  # no network, no such repository, no such configuration
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DatasetError(f"{repository!r} ({name or 'default'}) could not be read from the hub: {first}") from error


HF = _HuggingFace()
MTEB = _Mteb()
