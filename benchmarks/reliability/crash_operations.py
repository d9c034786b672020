"""What the crash matrix does to a collection, and what must be in it afterwards."""

from __future__ import annotations

import errno
import functools
import io
import os
import signal
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

import octavo
from octavo.errors import OctavoError, StorageError

DIM = 16

#: Where copies of the collection lie in the sandbox.
COPIED = Path("new", "level", "copy")
EXPORTED = Path("out")

#: Version of each document by id: text, metadata and vectors follow from both.
Model: TypeAlias = dict[str, int]


def text_of(identifier: str, version: int) -> str:
    """A text with a word that all have, and one that no other has."""
    return f"common {word_of(identifier, version)} " + "filler " * (zlib.crc32(identifier.encode()) % 40)


def word_of(identifier: str, version: int) -> str:
    """The word that only this version of the document has."""
    return f"w{zlib.crc32(f'{identifier}/{version}'.encode()):08x}"


def metadata_of(identifier: str, version: int) -> dict[str, Any]:
    """Metadata; half of the documents are even."""
    return {"version": version, "even": zlib.crc32(identifier.encode()) % 2 == 0}


def tokens_of(identifier: str, version: int) -> np.ndarray:
    """Token vectors of shape (3, DIM), of unit length; the first is the vector of a plain collection."""
    rng = np.random.default_rng(zlib.crc32(f"{identifier}/{version}".encode()))
    tokens = rng.standard_normal((3, DIM)).astype(np.float32)
    return tokens / np.linalg.norm(tokens, axis=1, keepdims=True)


def is_page(identifier: str) -> bool:
    """Tell whether a document is the image of a page."""
    return identifier.startswith("p")


@functools.cache
def image_of(identifier: str, version: int) -> bytes:
    """A PNG of some 7 KB, which no page of SQLite's holds; no other document has its pixels."""
    rng = np.random.default_rng(zlib.crc32(f"{identifier}/{version}".encode()))
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def document_of(identifier: str, version: int) -> str | octavo.PageImage:
    """The document that is added: a text, or the image of a page with that text."""
    text = text_of(identifier, version)
    return octavo.PageImage(image_of(identifier, version), text=text) if is_page(identifier) else text


def add(kb: octavo.Collection, documents: Model) -> None:
    """Add documents in one batch."""
    ids = list(documents)
    tokens = [tokens_of(*item) for item in documents.items()]
    given = (
        {"token_vectors": tokens}
        if isinstance(kb, octavo.MultiVectorCollection)
        else {"vectors": [t[0] for t in tokens]}
    )
    kb.add(
        [document_of(*item) for item in documents.items()],
        ids=ids,
        metadata=[metadata_of(*item) for item in documents.items()],
        batch_size=len(ids),
        **given,
    )


@dataclass(frozen=True)
class Step:
    """One acknowledged call.

    Parameters
    ----------
    run : callable
        Takes the collection and the sandbox.
    added : dict
        Documents that it adds or replaces.
    deleted : callable, optional
        Which ids it deletes.
    makes : Path, optional
        A directory in the sandbox that appears by it.
    """

    run: Callable[[octavo.Collection, Path], object]
    added: Model = field(default_factory=dict)
    deleted: Callable[[Model], Iterable[str]] = lambda model: ()
    makes: Path | None = None

    def after(self, model: Model) -> Model:
        """Return what is in the collection when the step has been carried out."""
        gone = set(self.deleted(model))
        return {key: version for key, version in (model | self.added).items() if key not in gone}


@dataclass(frozen=True)
class Operation:
    """A collection, made without faults, and the steps that are carried out on it with faults.

    Parameters
    ----------
    steps : list of Step
        Acknowledged one by one.
    before : list of Step
        How the collection is made; none where the steps make it.
    late : bool
        Many vectors a document.
    index : {"cells", "graph"}, optional
        Let small collections have this index.
    damage : callable, optional
        What is done to the files before the steps.
    replaced : dict, optional
        What is in a copy that the steps replace, at `COPIED`: there must be a collection at any time.
    relative : bool
        Open it by a relative path.
    options : dict
        For `octavo.open`.
    """

    steps: list[Step]
    before: list[Step] = field(default_factory=list)
    late: bool = False
    index: str | None = None
    damage: Callable[[Path], None] | None = None
    replaced: Model | None = None
    relative: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, path: Path) -> octavo.Collection:
        """Open the collection, or make it."""
        self.patch()
        options = self.options | ({"index": self.index} if self.index is not None else {})
        if self.relative:
            os.chdir(path.parent)
            path = Path(path.name)
        if self.late:
            return octavo.open_multi_vector(
                path, codec="float16", fit_after=50, pool_factor=1, lock_timeout=5, **options
            )
        return octavo.open(path, **{"codec": "int8 > float16", "fit_after": 100, "lock_timeout": 5} | options)

    def patch(self) -> None:
        """Let the planner build an index for the few documents that a trial has time for."""
        if self.index is not None:
            from octavo.index import planner

            planner.limits = planner.Limits(
                graph_min=50, cells_min=50, tail_max=20, few=5, token_cells_min=50, token_tail_max=20
            )

    def model(self, steps: Iterable[Step] = ()) -> Model:
        """Return what is in the collection after `before` and some steps."""
        model: Model = {}
        for step in [*self.before, *steps]:
            model = step.after(model)
        return model


def ids(first: int, last: int, version: int = 0) -> Model:
    """Documents of consecutive numbers."""
    return {f"d{number}": version for number in range(first, last)}


def pages(first: int, last: int, version: int = 0) -> Model:
    """Page images of consecutive numbers."""
    return {f"p{number}": version for number in range(first, last)}


def adding(documents: Model) -> Step:
    """A step that adds documents."""
    return Step(lambda kb, _: add(kb, documents), documents)


def _even(model: Model) -> list[str]:
    return [identifier for identifier, version in model.items() if metadata_of(identifier, version)["even"]]


def _flip(pattern: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        for file in path.glob(pattern):
            data = bytearray(file.read_bytes())
            for position in range(0, len(data), 500):
                data[position] ^= 0xFF
            file.write_bytes(data)

    return damage


def _verify(kb: octavo.Collection, _: Path) -> None:
    report = kb.verify(repair=True)
    assert report.ok, report.problems


def _add_in_a_child(kb: octavo.Collection, documents: Model) -> None:
    """Have a forked child add documents; what befalls it befalls this process."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        status = 1
        try:
            add(kb, documents)
            status = 0
        except OctavoError:
            status = 2
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    if (code := os.waitstatus_to_exitcode(status)) == 2:
        raise StorageError(errno.EIO, "the child could not add its documents")
    assert code == 0, f"the child ended with {code}"


def forking(documents: Model) -> Step:
    """A step in which a forked child adds documents."""
    return Step(lambda kb, _: _add_in_a_child(kb, documents), documents)


#: Where a relative path means another directory, which a write must not make.
CHDIR = Step(lambda kb, sandbox: os.chdir(sandbox.parent))

DELETE_IDS = Step(lambda kb, _: kb.delete([f"d{i}" for i in range(40, 70)]), deleted=lambda model: ids(40, 70))
DELETE_EVEN = Step(lambda kb, _: kb.delete(filter={"even": True}), deleted=_even)
DELETE_PAGES = Step(lambda kb, _: kb.delete([f"p{i}" for i in range(10, 30)]), deleted=lambda model: pages(10, 30))
TEXT = Step(lambda kb, _: kb.search("common", 3, mode="text"))
COMPACT = Step(lambda kb, _: kb.compact())
SECURE = Step(lambda kb, _: kb.compact(secure=True))
REFIT = Step(lambda kb, _: kb.refit())
FLUSH = Step(lambda kb, _: kb.flush())
REPAIR = Step(_verify)
TUNE = Step(lambda kb, _: kb.tune(0.3, k=3, n_queries=4))
COPY = Step(lambda kb, sandbox: kb.snapshot(sandbox / COPIED), makes=COPIED)
RESTORE = Step(lambda kb, sandbox: octavo.restore(sandbox / "kb", sandbox / COPIED, overwrite=True))
EXPORT = Step(lambda kb, sandbox: kb.export(sandbox / EXPORTED), makes=EXPORTED)

_FITTED = [adding(ids(0, 150))]
_INDEXED = [*_FITTED, FLUSH]
_PAGES = [adding(ids(0, 20) | pages(0, 60))]

OPERATIONS: dict[str, Operation] = {
    "create": Operation([adding(ids(0, 40)), adding(ids(40, 60))]),
    "add": Operation([adding(ids(150, 190)), adding(ids(190, 230))], _FITTED),
    "add, replacing": Operation([adding(ids(130, 170, 1)), adding(ids(100, 190, 2))], _FITTED),
    "delete by id": Operation([DELETE_IDS, adding(ids(150, 160))], _FITTED),
    "delete by filter": Operation([DELETE_EVEN, adding(ids(150, 160))], _FITTED),
    "compact": Operation([COMPACT, adding(ids(150, 170))], [*_FITTED, DELETE_IDS]),
    "compact, secure": Operation([SECURE, adding(ids(150, 170))], [*_FITTED, TEXT, DELETE_IDS]),
    "refit": Operation([REFIT, adding(ids(150, 170))], _FITTED),
    "fit on threshold": Operation([adding(ids(80, 120)), adding(ids(120, 140))], [adding(ids(0, 80))]),
    "verify, repairing": Operation([REPAIR, adding(ids(150, 170))], _FITTED, damage=_flip("*-0.vec")),
    "graph checkpoint": Operation([adding(ids(150, 210)), FLUSH, adding(ids(210, 240)), FLUSH], _FITTED, index="graph"),
    "cells: first training": Operation(
        [adding(ids(40, 120)), FLUSH, adding(ids(120, 130))], [adding(ids(0, 40))], index="cells"
    ),
    "cells: segments": Operation(
        [adding(ids(150, 180)), FLUSH, adding(ids(180, 205)), FLUSH, adding(ids(205, 260)), FLUSH],
        _INDEXED,
        index="cells",
    ),
    "cells: beside a stream": Operation(
        [adding(ids(150 + 40 * i, 190 + 40 * i)) for i in range(5)], _INDEXED, index="cells"
    ),
    "cells: trained anew": Operation(
        [adding(ids(120, 250)), adding(ids(250, 390)), FLUSH], [adding(ids(0, 120)), FLUSH], index="cells"
    ),
    "cells: compact": Operation([COMPACT, FLUSH, adding(ids(150, 180)), FLUSH], [*_INDEXED, DELETE_IDS], index="cells"),
    "cells: compact, secure": Operation([SECURE, FLUSH, adding(ids(150, 180))], [*_INDEXED, DELETE_IDS], index="cells"),
    "cells: refit, taken over": Operation([REFIT, FLUSH, adding(ids(150, 180))], _INDEXED, index="cells"),
    "cells: repair": Operation(
        [REPAIR, adding(ids(150, 180)), FLUSH], _INDEXED, damage=_flip("*.segment"), index="cells"
    ),
    "cells: repair of centroids": Operation(
        [REPAIR, adding(ids(150, 180)), FLUSH], _INDEXED, damage=_flip("*.cells"), index="cells"
    ),
    "cells: snapshot": Operation([COPY, adding(ids(150, 160))], [*_INDEXED, DELETE_IDS], index="cells"),
    "text index": Operation([TEXT, adding(ids(150, 170)), TEXT], [*_FITTED, TEXT, DELETE_IDS]),
    "snapshot": Operation([COPY, adding(ids(150, 160))], [*_FITTED, DELETE_IDS]),
    "restore, replacing": Operation(
        [RESTORE, adding(ids(150, 160))], [*_FITTED, COPY, DELETE_IDS], replaced=ids(0, 150)
    ),
    "export": Operation([EXPORT, adding(ids(150, 160))], [*_FITTED, DELETE_IDS]),
    "fork": Operation(
        [forking(ids(150, 170)), adding(ids(170, 190)), forking(ids(180, 200, 1)), adding(ids(195, 205, 2))], _FITTED
    ),
    "fork, fitting": Operation([forking(ids(60, 120)), adding(ids(120, 150))], [adding(ids(0, 60))]),
    "chdir": Operation([adding(ids(150, 170)), CHDIR, adding(ids(170, 190)), COMPACT], _FITTED, relative=True),
    "tune": Operation([TUNE, adding(ids(150, 160))], _INDEXED, index="cells"),
    "late: create and fit": Operation([adding(ids(0, 30)), adding(ids(30, 60))], late=True),
    "late: add": Operation([adding(ids(60, 90)), adding(ids(80, 100, 1))], [adding(ids(0, 70))], late=True),
    "late: compact": Operation([COMPACT, adding(ids(80, 90))], [adding(ids(0, 80)), DELETE_IDS], late=True),
    "token cells: first training": Operation(
        [adding(ids(40, 120)), FLUSH, adding(ids(120, 130))], [adding(ids(0, 40))], late=True, index="cells"
    ),
    "token cells: segments, trained anew": Operation(
        [adding(ids(150, 180)), FLUSH, adding(ids(180, 205)), FLUSH, adding(ids(205, 260)), FLUSH],
        _INDEXED,
        late=True,
        index="cells",
    ),
    "token cells: compact": Operation(
        [COMPACT, FLUSH, adding(ids(150, 180)), FLUSH], [*_INDEXED, DELETE_IDS], late=True, index="cells"
    ),
    "token cells: compact, secure": Operation(
        [SECURE, FLUSH, adding(ids(150, 180))], [*_INDEXED, DELETE_IDS], late=True, index="cells"
    ),
    "token cells: repair": Operation(
        [REPAIR, adding(ids(150, 180)), FLUSH], _INDEXED, damage=_flip("*.postings"), late=True, index="cells"
    ),
    "token cells: repair of centroids": Operation(
        [REPAIR, adding(ids(150, 180)), FLUSH], _INDEXED, damage=_flip("*.centroids"), late=True, index="cells"
    ),
    "late: repair": Operation([REPAIR, adding(ids(80, 90))], [adding(ids(0, 80))], late=True, damage=_flip("*-0.vec")),
    "page images: create and fit": Operation([adding(pages(0, 30)), adding(ids(0, 10) | pages(30, 60))], late=True),
    "page images: add, replacing": Operation([adding(pages(50, 80, 1)), adding(pages(70, 90, 2))], _PAGES, late=True),
    "page images: delete": Operation([DELETE_PAGES, DELETE_EVEN, adding(pages(60, 70))], _PAGES, late=True),
    "page images: compact": Operation([COMPACT, adding(pages(60, 70))], [*_PAGES, DELETE_PAGES], late=True),
    "page images: compact, secure": Operation([SECURE, adding(pages(60, 70))], [*_PAGES, DELETE_PAGES], late=True),
    "page images: snapshot": Operation([COPY, adding(pages(60, 70))], [*_PAGES, DELETE_PAGES], late=True),
    "page images: export": Operation([EXPORT, adding(pages(60, 70))], [*_PAGES, DELETE_PAGES], late=True),
}
