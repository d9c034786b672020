"""Questions, documents and judgements, from whatever format they come in.

A format is a `DatasetLoader`; `register_loader` adds one, and so does a package with an entry point in the group
``octavo.eval.datasets`` whose value is such an object. Formats that come along: ``beir``, ``trec``, ``csv``, ``mteb``
and ``hf``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from octavo._validation import check_flag
from octavo.errors import InputTypeError, ParameterError
from octavo.eval.datasets._base import Dataset, DatasetError, DatasetLoader
from octavo.eval.datasets._beir import BEIR as _BEIR
from octavo.eval.datasets._csv import CSV as _CSV
from octavo.eval.datasets._hub import HF as _HF
from octavo.eval.datasets._hub import MTEB as _MTEB
from octavo.eval.datasets._trec import TREC as _TREC

__all__ = ["Dataset", "DatasetError", "DatasetLoader", "load_dataset", "loader_names", "register_loader"]

_ENTRY_POINTS = "octavo.eval.datasets"

_loaders: dict[str, DatasetLoader] = {loader.name: loader for loader in (_BEIR, _TREC, _CSV, _HF, _MTEB)}

#: Not empty once the installed packages have been asked for theirs.
_loaded: list[bool] = []


def register_loader(loader: DatasetLoader) -> DatasetLoader:
    """Add a format; the last one registered is asked first whether it recognises a source.

    Parameters
    ----------
    loader : DatasetLoader
        Reads the format.

    Returns
    -------
    DatasetLoader
        The same.

    Raises
    ------
    InputTypeError
        When it has no ``name``, ``recognises`` or ``load``.
    """
    if not isinstance(loader, DatasetLoader):
        raise InputTypeError(f"expected a loader with name, recognises() and load(), got {type(loader).__name__}")
    _loaders[loader.name] = loader
    return loader


def loader_names() -> list[str]:
    """Return the names of all formats, those of installed packages included."""
    _load_formats()
    return sorted(_loaders)


def load_dataset(
    source: str | os.PathLike[str] | Dataset,
    *,
    split: str | None = None,
    corpus: str | os.PathLike[str] | None = None,
    ignore_identical_ids: bool | None = None,
) -> Dataset:
    """Read a data set in any known format.

    Parameters
    ----------
    source : str, path-like or Dataset
        A path or a name; ``format:source`` says which format it is in. A `Dataset` is returned as it is.
    split : str, optional
        Which judgements, where there are several; by default ``test``, or the only ones.
    corpus : str or path-like, optional
        Documents, for formats that do not keep them beside the questions.
    ignore_identical_ids : bool, optional
        Leave a document out of the results of the query that has its id, as BEIR does for ArguAna; by default what the
        format says of itself (of MTEB's tasks, it is known), otherwise not.

    Returns
    -------
    Dataset
        In memory.

    Raises
    ------
    DatasetError
        When it cannot be read.
    ParameterError
        When no format recognises it.

    Examples
    --------
    >>> load_dataset("nowhere/at/all")
    Traceback (most recent call last):
        ...
    octavo.errors.ParameterError: expected a data set in one of the formats beir, csv, hf, mteb, trec, but there is \
nothing at 'nowhere/at/all'
    """
    if isinstance(source, Dataset):
        if split is not None or corpus is not None:
            raise ParameterError("split and corpus say how to read a data set, but this one is in memory already")
        return _with_identical_ids(source, ignore_identical_ids)
    text = os.fspath(source)
    _load_formats()
    prefix, colon, rest = text.partition(":")
    if colon and prefix in _loaders:
        loader, text = _loaders[prefix], rest
    else:
        found = next((loader for loader in reversed(_loaders.values()) if loader.recognises(text)), None)
        if found is None:
            there = "got" if Path(text).exists() else "but there is nothing at"
            raise ParameterError(
                f"expected a data set in one of the formats {', '.join(sorted(_loaders))}, {there} {text!r}"
            )
        loader = found
    loaded = loader.load(text, split=split, corpus=os.fspath(corpus) if corpus is not None else None)
    return _with_identical_ids(loaded, ignore_identical_ids)


def _with_identical_ids(dataset: Dataset, ignore: bool | None) -> Dataset:
    if ignore is None or ignore is dataset.ignore_identical_ids:
        return dataset
    return replace(dataset, ignore_identical_ids=check_flag(ignore, "ignore_identical_ids"))


def _load_formats() -> None:
    if not _loaded:
        _loaded.append(True)
        for point in metadata.entry_points(group=_ENTRY_POINTS):
            register_loader(point.load())
