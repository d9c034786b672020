"""What a collection takes on one machine: the same arithmetic that `Collection.info` shows the result of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octavo._layout import CodeLayout
from octavo._validation import check_choice, check_flag, check_integer, check_number
from octavo.compression import Codec
from octavo.errors import ParameterError
from octavo.index import planner, token_cells
from octavo.index.cells import bytes_for
from octavo.planning import _measured as measured

#: Offset of a document's first token in the file of tokens.
_OFFSET_BYTES = 8

#: Characters for a byte of an image.
_BASE64 = 4 / 3


@dataclass(frozen=True)
class Workload:
    """What there is to store.

    Parameters
    ----------
    documents : int
        Documents; chunks count as documents.
    dim : int
        Values of a vector (of a token vector, where there are tokens).
    codec : str
        As in `octavo.open`.
    text_bytes, id_bytes, metadata_bytes : float
        UTF-8 bytes of one document's text, id and metadata (as JSON), on average.
    metadata_fields : float
        Values in the metadata of one document, on average.
    tokens : float, optional
        Token vectors of a document before pooling, on average; None for one vector a document.
    pool_factor : int, default=2
        Tokens pooled into one.
    connectivity : int, default=16
        Links of a graph: of the local one, where it is asked for, and of Qdrant's.
    full_text : bool, default=True
        Whether there will be searches by words; their index is built by the first.
    index : {"cells", "graph"}, default="cells"
        What finds candidates in a local collection.
    sparse_terms : float, default=0
        Terms of a document's learned sparse vector, on average; 0 where there are none.
    protected : float, default=1
        Token vectors of a document that pooling leaves alone: of a page image all that are no patches.
    image_bytes : float, default=0
        Bytes of a document's image file, where it is stored in the collection, on average.

    Raises
    ------
    ParameterError
        When a number cannot be, or a codec with several tiers is asked for tokens.

    Examples
    --------
    >>> Workload(1_000_000, 128, "svd:64|int8", tokens=100).stored_tokens
    50.0
    """

    documents: int
    dim: int
    codec: str = "int8"
    text_bytes: float = 1000.0
    id_bytes: float = 16.0
    metadata_bytes: float = 100.0
    metadata_fields: float = 4.0
    tokens: float | None = None
    pool_factor: int = 2
    connectivity: int = 16
    full_text: bool = True
    index: str = "cells"
    sparse_terms: float = 0.0
    protected: float = 1.0
    image_bytes: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("documents", 1), ("dim", 1), ("pool_factor", 1), ("connectivity", 2)):
            object.__setattr__(self, name, check_integer(getattr(self, name), name, least=least))
        for name in (
            "text_bytes",
            "id_bytes",
            "metadata_bytes",
            "metadata_fields",
            "sparse_terms",
            "protected",
            "image_bytes",
        ):
            object.__setattr__(self, name, check_number(getattr(self, name), name, least=0))
        if self.tokens is not None:
            object.__setattr__(self, "tokens", check_number(self.tokens, "tokens", least=1))
        check_flag(self.full_text, "full_text")
        check_choice(self.index, "index", ("cells", "graph"))
        if self.tokens is not None and len(Codec.parse(self.codec)) > 1:
            raise ParameterError(f"expected a codec of one tier for token vectors, got {self.codec!r}")
        tier_layouts(self.codec, self.dim)

    @property
    def stored_tokens(self) -> float:
        """Token vectors of a document that are left after pooling, on average."""
        if self.tokens is None:
            return 0.0
        if self.pool_factor == 1 or self.tokens <= self.protected:
            return self.tokens
        return self.protected + max((self.tokens - self.protected) // self.pool_factor, 1.0)

    @property
    def image_text_bytes(self) -> float:
        """Bytes of the text that a stored image is kept as."""
        return _BASE64 * self.image_bytes

    @property
    def layouts(self) -> list[CodeLayout]:
        """How the codes of each tier lie, coarse to fine: of the vectors, or of the candidate vectors of tokens."""
        return tier_layouts(self.codec if self.tokens is None else "int8", self.dim)

    @property
    def token_bytes(self) -> float:
        """Bytes of the codes of one document's tokens, and of their place in the file."""
        if self.tokens is None:
            return 0.0
        return self.stored_tokens * tier_layouts(self.codec, self.dim)[0].row_bytes + _OFFSET_BYTES


@dataclass(frozen=True)
class LocalSize:
    """What a collection takes on one machine.

    Parameters
    ----------
    ram, disk : dict of str to float
        Bytes by part, named as in `CollectionInfo`. In RAM, ``coarse tier`` and the index are mapped files: page cache that
        searches want to find there, not memory of the process's own.
    add_hours : float
        Hours on one core to add documents whose vectors are there: writing them, and building the index.

    Examples
    --------
    >>> size = local_size(Workload(1_000_000, 384, "int8"))
    >>> f"{size.ram['coarse tier'] / 1e6:.0f} MB"
    '384 MB'
    """

    ram: dict[str, float]
    disk: dict[str, float]
    add_hours: float

    @property
    def ram_bytes(self) -> float:
        """Bytes in RAM, all parts."""
        return sum(self.ram.values())

    @property
    def disk_bytes(self) -> float:
        """Bytes on disk, all parts."""
        return sum(self.disk.values())


def tier_layouts(codec: str, dim: int) -> list[CodeLayout]:
    """Return how the codes of each tier lie in memory, without fitting what has to learn.

    Examples
    --------
    >>> [layout.row_bytes for layout in tier_layouts("binary > svd:50%|float8", 1024)]
    [128, 512]
    """
    return [tier.layout_for(dim) for tier in Codec.parse(codec)]


def local_size(workload: Workload) -> LocalSize:
    """Return what a collection takes on one machine, from the formulae in ``docs/scale.md``.

    Examples
    --------
    >>> size = local_size(Workload(1_000_000, 384, "binary > int8", text_bytes=300))
    >>> {name: round(value / 1_000_000) for name, value in size.ram.items()}
    {'alive mask': 1, 'coarse tier': 48, 'codec': 0, 'cells': 64}
    """
    n, coarse = workload.documents, workload.layouts[0]
    ram: dict[str, float] = {"alive mask": n * measured.ALIVE_BYTES, "coarse tier": n * coarse.row_bytes}
    if learned := sum(tier.state_bytes_for(workload.dim) for tier in Codec.parse(workload.codec)):
        ram["codec"] = learned
    disk: dict[str, float] = {f"tier {i}": n * layout.row_bytes for i, layout in enumerate(workload.layouts)}
    if workload.tokens is not None:
        disk["tokens"] = n * workload.token_bytes
        if n >= planner.limits.token_cells_min:
            ram["token cells"] = disk["token cells"] = token_cells.bytes_for(
                n, int(n * workload.stored_tokens), workload.dim
            )
    if workload.sparse_terms:
        each = measured.SPARSE_TERM_BYTES * workload.sparse_terms + measured.SPARSE_SCALE_BYTES
        ram["sparse"] = disk["sparse"] = n * each
    disk["documents"] = n * document_bytes(workload)
    if workload.index == "cells":
        if n >= planner.cells_min(coarse):
            ram["cells"] = disk["cells"] = bytes_for(n, workload.dim)
    elif n >= planner.graph_min(coarse):
        node = graph_node_bytes(coarse, workload.connectivity)
        ram["graph"] = n * (node + measured.GRAPH_TABLE_BYTES)
        disk["graph"] = n * node
    if workload.full_text:
        disk["full text"] = n * workload.text_bytes * measured.FULL_TEXT_SHARE
    each = add_us(coarse, n) if workload.index == "graph" else cells_add_us(coarse, workload.dim, n)
    return LocalSize(ram, disk, n * each / 3.6e9)


def cells_add_us(layout: CodeLayout, dim: int, n: int) -> float:
    """Return the microseconds of one core to add one of `n` documents with a ready vector, its share of the cells included."""
    us = measured.ADD_PLAIN_US
    return us + (measured.CELLS_VALUE_US * dim if n >= planner.cells_min(layout) else 0.0)


def graph_node_bytes(layout: CodeLayout, connectivity: int) -> float:
    """Return the bytes of one document in a graph: its codes (those of 4 and 2 bits as bytes) and its links."""
    codes = layout.linked_bytes
    return codes + measured.GRAPH_BASE_BYTES + measured.GRAPH_LINK_BYTES * connectivity


def document_bytes(workload: Workload) -> float:
    """Return the bytes of one document in SQLite: its row, the index of ids, the index of metadata.

    Rows of different lengths leave half a row of each page empty, on average.
    """
    texts = workload.text_bytes + workload.image_text_bytes + workload.id_bytes + workload.metadata_bytes
    row = texts + measured.ROW_OVERHEAD
    if row > measured.LONGEST_IN_PAGE:
        stored = row + measured.OVERFLOW_LOSS
    else:
        stored = measured.PAGE_BYTES / max(1.0, measured.PAGE_USED / row - 0.5)
    fields = measured.FIELD_BYTES * workload.metadata_fields
    return stored + workload.id_bytes + measured.ID_OVERHEAD + fields


def add_us(layout: CodeLayout, n: int) -> float:
    """Return the microseconds of one core to add one of `n` documents with a ready vector."""
    us = measured.ADD_BASE_US + measured.ADD_BYTE_US * layout.row_bytes
    if layout.kind not in ("b1", "i8", "i4", "i2"):
        us += measured.ADD_FLOAT_US
    return us * max(1.0, float(np.log(n) / np.log(measured.ADD_MEASURED_AT)))
