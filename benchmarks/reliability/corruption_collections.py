"""The collections that `corruption_matrix.py` damages, and the questions that it asks them.

Each collection is built twice, from two seeds, so that a file can be swapped with the same-named file of another one; and
it is copied at an earlier commit, so that a file can be replaced by an older version of itself. The answers to all questions
are written down after each commit: they are what an undamaged collection says.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo.index import planner
from octavo.store.sqlite import connect_file, fold

DIM = 32
ROWS = 400
BATCH = 80
WORDS = 20
K = 10

#: Documents whose vectors are the queries.
QUERIES = range(0, ROWS, 37)

#: File in a prepared folder with the answers after each commit.
STATES = "states.json"


@dataclass(frozen=True)
class Recipe:
    """How one of the collections is made.

    Parameters
    ----------
    codec : str or None
        Its codec; None takes the default.
    late : bool, default=False
        Many vectors a document.
    fit_after : int, default=100
        Documents before the codec is fitted.
    dead : bool, default=False
        Delete some documents and compact, then delete more.
    log : bool, default=False
        Copy it while it is open, so that its last commits are in the write-ahead log.
    index : str, default="cells"
        What finds candidates.
    """

    codec: str | None
    late: bool = False
    fit_after: int = 100
    dead: bool = False
    log: bool = False
    index: str = "cells"


RECIPES = {
    "int8": Recipe("int8"),
    "graph": Recipe("int8", index="graph"),
    "binary-int8": Recipe("binary > int8"),
    "rabitq-int8": Recipe("rabitq:1 > int8", dead=True),
    "svd-float8-int8": Recipe("svd:50%|float8 > int8"),
    "unfitted": Recipe("int8", fit_after=10 * ROWS),
    "compacted": Recipe("int8 > float16", dead=True),
    "late": Recipe(None, late=True),
    "with-log": Recipe("int8", log=True),
}


def small_indexes() -> None:
    """Have cells and graphs for a few hundred documents, so that there are files of them to damage."""
    planner.limits = planner.Limits(
        graph_min=100, cells_min=100, tail_max=50, few=10, token_cells_min=100, token_tail_max=50
    )


def prepare(folder: Path, recipe: Recipe, seed: int) -> None:
    """Build a collection as ``now`` in `folder`, with ``old``, its state a few commits ago, and the states' answers."""
    small_indexes()
    path, states = folder / "kb", []

    def committed() -> None:
        states.append(plain(dict(answers(kb))))

    with _open(path, recipe) as kb:
        committed()
        for start in range(0, ROWS, BATCH):
            _add(kb, range(start, start + BATCH), seed)
            kb._index.wait()
            committed()
            if start == 2 * BATCH:
                kb.flush()
                _copy_open(path, folder / "old", keep_log=recipe.log)
            elif start == 3 * BATCH and recipe.dead:
                kb.delete([str(i) for i in range(0, start, 3)])
                kb.compact()
                kb._index.wait()
                committed()
        kb.delete(["5", "77", "301"])
        committed()
        kb.flush()
        _copy_open(path, folder / "now", keep_log=recipe.log)
    shutil.rmtree(path)
    (folder / STATES).write_text(json.dumps(states))


def _copy_open(path: Path, destination: Path, *, keep_log: bool) -> None:
    """Copy an open collection between commits; without `keep_log` its log is folded into the database."""
    shutil.copytree(path, destination)
    if not keep_log:
        with contextlib.closing(connect_file(destination / "octavo.db", patience=5)) as connection:
            fold(connection, empty=True)


def _open(path: Path, recipe: Recipe) -> Any:
    if recipe.late:
        return octavo.open_multi_vector(path, codec=recipe.codec, fit_after=recipe.fit_after, index=recipe.index)
    return octavo.open(path, codec=recipe.codec, fit_after=recipe.fit_after, index=recipe.index)


def _add(kb: Any, rows: range, seed: int) -> None:
    texts = [f"word{i % WORDS} number{i} of{seed}" for i in rows]
    metadata = [{"n": i, "group": f"group {i % WORDS}", "tags": [i % 3, f"t{i % 7}"]} for i in rows]
    vectors = [_vectors(i, seed) for i in rows]
    if isinstance(kb, octavo.MultiVectorCollection):
        given: dict[str, Any] = {"token_vectors": vectors}
    else:
        given = {"vectors": np.stack([tokens[0] for tokens in vectors])}
    kb.add(texts, ids=[str(i) for i in rows], metadata=metadata, **given)


def _vectors(row: int, seed: int) -> np.ndarray:
    # They nearly lie in half of the dimensions, as those of real models nearly do, so that halving them loses little.
    rng = np.random.default_rng([seed, row])
    basis = np.random.default_rng(seed).standard_normal((DIM // 2, DIM))
    values = rng.standard_normal((1 + row % 4, DIM // 2)) @ basis + 0.1 * rng.standard_normal((1 + row % 4, DIM))
    return values.astype(np.float32)


# ---------------------------------------------------------------------- questions


def answers(kb: Any, seed: int = 0) -> Iterator[tuple[str, Any]]:
    """Ask everything; an error of Octavo's own is an answer, ``{"error": ..., "message": ...}``."""
    for name, question in _questions(kb, seed):
        try:
            yield name, question()
        except octavo.OctavoError as err:
            yield name, {"error": type(err).__name__, "message": str(err)}


def _questions(kb: Any, seed: int) -> list[tuple[str, Callable[[], Any]]]:
    late = isinstance(kb, octavo.MultiVectorCollection)
    ids = [str(i) for i in range(ROWS)]
    queries = [_vectors(i, seed) if late else _vectors(i, seed)[0] for i in QUERIES]

    def vectors() -> list[list[Any]]:
        there = kb.ids()
        matrices = kb.get_token_vectors(there) if late else kb.get_vectors(there)
        return [[i, zlib.crc32(np.ascontiguousarray(row).tobytes())] for i, row in zip(there, matrices, strict=True)]

    def search(**options: Any) -> list[list[str]]:
        return [found.ids for found in kb.search_batch(queries if late else np.stack(queries), K, **options)]

    def words() -> list[list[str]]:
        return [sorted(kb.search(f"word{i}", ROWS, mode="text").ids) for i in range(WORDS)]

    return [
        ("documents", lambda: [[d.id, d.text, d.metadata] for d in kb.documents()]),
        ("length", lambda: len(kb)),
        ("contains", lambda: kb.contains(ids)),
        ("vectors", vectors),
        ("exact", lambda: search(exact=True)),
        ("default", search),
        ("index", lambda: search(exact=False)),
        ("index, filtered", lambda: search(exact=False, filter={"n": {"$lt": ROWS // 2}})),
        ("text", words),
        ("numbers", lambda: [kb.count({"n": i}) for i in range(0, ROWS, 3)]),
        ("groups", lambda: [kb.ids({"group": f"group {i}"}) for i in range(WORDS)]),
        ("tags", lambda: [kb.count({"tags": {"$contains": f"t{i}"}}) for i in range(7)]),
        ("filtered", lambda: search(filter={"n": {"$lt": ROWS // 2}}, exact=True)),
    ]


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """Return answers as they come back from JSON, for comparing."""
    result: dict[str, Any] = json.loads(json.dumps(found))
    return result
