"""Approximate search over a usearch graph in the codes' own scalar type."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from octavo._arrays import Codes, Rows, Scores
from octavo._layout import CodeLayout
from octavo._validation import check_integer, check_integers
from octavo.errors import CorruptCollectionError, MismatchError, ParameterError, StorageError
from octavo.index._gate import Gate
from octavo.index.planner import CORES

#: Scalar type that usearch stores, the numpy type under which it takes the codes, for each kind of code.
_SCALARS: dict[str, tuple[str, type[np.generic]]] = {
    "f32": ("F32", np.float32),
    "f16": ("F16", np.float16),
    "bf16": ("BF16", np.uint16),
    "e4m3": ("E4M3", np.uint8),
    "e5m2": ("E5M2", np.uint8),
    "i8": ("I8", np.int8),
    "i4": ("I8", np.int8),
    "i2": ("I8", np.int8),
    "b1": ("B1", np.uint8),
    "r1": ("B1", np.uint8),
    "r2": ("I8", np.int8),
    "r3": ("I8", np.int8),
    "r4": ("I8", np.int8),
}
#: What holds rows that have lengths of their own.
_WITH_LENGTHS: tuple[str, type[np.generic]] = ("BF16", np.uint16)
#: Where a query's values are cut into three levels to be compared with single bits: those of a normal variable.
_CUT = 0.6

#: Memory beside the file, for each row of a mapped graph: pointers to node and codes, and a share of the table of keys.
_MAPPED_ROW_BYTES = 64

_FREE_KEY = np.iinfo(np.uint64).max


class Graph:
    """A navigable small-world graph over the codes of the documents.

    Slots are the caller's numbers for rows. All methods may be called from several threads at once.

    Parameters
    ----------
    layout : CodeLayout
        What the codes are. ``i4``, ``i2`` and ``r2`` to ``r4`` are held as ``i8``, because usearch has no narrower integers;
        ``b1`` and ``r1`` are compared by Hamming distance (the latter twice over, so that queries have three levels),
        everything else by inner product; where rows have lengths they are held as ``bf16``, scaled by them.
    connectivity : int, default=16
        Links per node above the ground level; twice as many there.
    expansion_add : int, default=128
        Candidates looked at when a row is linked. More gives a better graph and a slower build.

    References
    ----------
    Malkov, Y. A. and Yashunin, D. A. (2020). Efficient and robust approximate nearest neighbor search using
    hierarchical navigable small world graphs. IEEE TPAMI 42(4).

    Examples
    --------
    >>> codes = np.array([[1, 0], [0, 2], [1, 1]], dtype=np.int8).view(np.uint8)
    >>> graph = Graph(CodeLayout("i8", 2))
    >>> graph.add(np.arange(3), codes, threads=1)
    >>> slots, scores = graph.search(codes[1:2], k=2, ef=16)
    >>> slots.tolist(), scores.tolist()
    ([[1, 2]], [[4.0, 2.0]])
    """

    def __init__(self, layout: CodeLayout, connectivity: int = 16, expansion_add: int = 128) -> None:
        self.layout = layout
        # usearch lets searches, insertions and removals overlap, but growing moves tables that searches read. So
        # growing waits for searches to leave, and writers take turns.
        self._gate = Gate()
        self._writing = threading.Lock()
        self._mapped = False
        self.connectivity = check_integer(connectivity, "connectivity", least=2)
        self.expansion_add = check_integer(expansion_add, "expansion_add", least=1)
        # Importing usearch takes longer than importing the rest of Octavo, and collections that stay small never need it.
        from usearch.compiled import Index, MetricKind, ScalarKind

        scalar, self._dtype = _WITH_LENGTHS if layout.lengths else _SCALARS[layout.kind]
        self._scalar = getattr(ScalarKind, scalar)
        self._hamming = scalar == "B1"
        self._ndim = layout.dim
        if layout.lengths:
            self._ndim += 1 + layout.has_factors
        elif layout.kind == "r1":
            self._ndim = 8 * layout.linked_bytes
        self._index = Index(
            ndim=self._ndim,
            dtype=self._scalar,
            connectivity=self.connectivity,
            expansion_add=self.expansion_add,
            # usearch explores max(expansion_search, count) candidates. The former is shared by all threads, so it stays
            # at 1 and each search asks for as many results as it wants to explore.
            expansion_search=1,
            metric_kind=MetricKind.Hamming if self._hamming else MetricKind.IP,
            multi=False,
        )

    def __len__(self) -> int:
        return int(self._index.size)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,} slots, {self.layout.kind} x {self.layout.dim}>"

    @property
    def mapped(self) -> bool:
        """Whether nodes and codes are read from the file where they lie; nothing can be added or removed then."""
        return self._mapped

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that the graph takes, its copy of the codes included, within about a tenth.

        Of a mapped graph the greater part, the length of its file, is page cache that the system can take back.
        """
        rows, capacity = len(self), int(self._index.capacity)
        if self._mapped:  # the file, and tables of pointers and keys
            return int(self._index.serialized_length) + _MAPPED_ROW_BYTES * rows
        # usearch's own `memory_usage` counts address space that it reserves in steps of 16 MiB and has not touched, up
        # to three times too much. These factors fit how a process grew with 30,000 to 66,000 rows of 48 to 384 bytes.
        return int(self._index.serialized_length) + 96 * rows + 24 * capacity

    def contains(self, slots: Rows) -> NDArray[np.bool_]:
        """Tell which slots are linked: bool array of the same length."""
        return np.asarray(self._index.contains_many(_keys(slots)), dtype=np.bool_)

    def add(self, slots: Rows, codes: Codes, threads: int = 0) -> None:
        """Link rows into the graph.

        Parameters
        ----------
        slots : ndarray of shape (n,), int
            Numbers of the rows, each new.
        codes : ndarray of shape (n, row_bytes)
            Their codes, uint8; copied.
        threads : int, default=0
            Threads to use; 0 means all cores.

        Raises
        ------
        ParameterError
            If a slot is already linked or given twice, a shape does not fit, or the graph is mapped. Nothing was added
            then.
        """
        self._check_writable()
        self.layout.check(codes, "document codes")
        keys = _keys(slots)
        if keys.shape[0] != codes.shape[0]:
            raise ParameterError(f"expected one slot a row, got {keys.shape[0]} slots for {codes.shape[0]} rows")
        if keys.shape[0] == 0:
            return
        if np.unique(keys).shape[0] != keys.shape[0]:
            raise ParameterError("expected each slot once, got one of them twice")
        native, threads = self._documents(codes), _cores(threads)
        with self._writing:
            known = self.contains(slots)
            if known.any():
                raise ParameterError(
                    f"slot {int(keys[known][0])} is already in the graph; remove it first or give the row a new slot"
                )
            done, total = 0, keys.shape[0]
            while done < total:
                room = int(self._index.capacity) - len(self)
                if room == 0:
                    # One row makes usearch double its tables; the rest of the rows then fit beside running searches.
                    with self._gate.alone():
                        self._add(keys[done : done + 1], native[done : done + 1], 1)
                    done += 1
                else:
                    # usearch reserves a power of two, so stopping at the present one is what keeps it from growing.
                    end = min(total, done + room)
                    self._add(keys[done:end], native[done:end], threads)
                    done = end

    def remove(self, slots: Rows) -> int:
        """Take slots out of the results; their nodes stay as stepping stones until the graph is rebuilt.

        Parameters
        ----------
        slots : sequence of int
            Which; those that are not there are no error.

        Returns
        -------
        int
            How many of the slots were there.

        Raises
        ------
        ParameterError
            If the graph is mapped.
        """
        self._check_writable()
        with self._writing:
            return int(self._index.remove_many(_keys(slots).tolist(), compact=False, threads=1))

    def search(self, queries: Codes, k: int, ef: int, *, threads: int = 1) -> tuple[Rows, Scores]:
        """Find likely best slots for each query.

        Parameters
        ----------
        queries : ndarray of shape (m, row_bytes)
            Query codes, uint8, laid out as `layout.compared`.
        k : int
            Results per query, at least 1.
        ef : int
            Candidates to explore; more finds more of the true neighbours and takes longer. At least `k` are explored.
        threads : int, default=1
            Threads to use; 0 means all cores.

        Returns
        -------
        slots : ndarray of shape (m, k), int64
            Best first; -1 where fewer than `k` were found.
        scores : ndarray of shape (m, k), float32
            Similarities, higher is better; -inf where the slot is -1. Those of float codes carry the rounding of a
            float32 distance.
        """
        self.layout.compared.check(queries, "query codes")
        k, ef, threads = check_integer(k, "k", least=1), check_integer(ef, "ef", least=1), _cores(threads)
        m, size = queries.shape[0], len(self)
        slots = np.full((m, k), -1, dtype=np.int64)
        scores = np.full((m, k), -np.inf, dtype=np.float32)
        if m == 0 or size == 0:
            return slots, scores
        count = min(max(k, ef), size)
        native, terms = self._queries(queries)
        with self._gate.together():
            keys, distances, counts, _, _ = self._index.search_many(native, count, threads=threads, dtype=self._scalar)
        # A slot that another thread removed meanwhile comes back under usearch's free key.
        found = (np.arange(count) < counts[:, None]) & (keys != _FREE_KEY)
        width = min(k, count)
        if not found[:, :width].all():
            order = np.argsort(~found, axis=1, kind="stable")
            keys, distances, found = (np.take_along_axis(a, order, axis=1) for a in (keys, distances, found))
        found = found[:, :width]
        slots[:, :width][found] = keys[:, :width][found].astype(np.int64)
        distances = np.where(found, distances[:, :width], 0)  # elsewhere they are not numbers
        scores[:, :width][found] = self._scores(distances, terms)[found]
        return slots, scores

    @property
    def file_bytes(self) -> int:
        """Bytes of the file that `save` writes."""
        return int(self._index.serialized_length)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the graph, codes included, in usearch's own format."""
        with self._writing:
            self._index.save_index_to_path(os.fspath(path))

    def copy(self) -> Self:
        """Return an independent graph in memory, which can grow even if this one is mapped."""
        other = type(self)(self.layout, self.connectivity, self.expansion_add)
        with self._writing:
            other._index = self._index.copy()
        other._index.expansion_search = 1
        other._index.expansion_add = self.expansion_add
        return other

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        layout: CodeLayout,
        *,
        connectivity: int = 16,
        expansion_add: int = 128,
        mapped: bool = False,
    ) -> Self:
        """Read a graph that `save` wrote.

        usearch trusts what it reads: a damaged file can end the process. Verify the file's checksum before.

        Parameters
        ----------
        path : str or path-like
            The file.
        layout : CodeLayout
            What the codes are.
        connectivity, expansion_add : int
            For rows that are added later.
        mapped : bool, default=False
            Read nodes and codes from the file as searches touch them, instead of copying them into the process's own
            memory. The file must stay as it is (deleting it is fine where the system keeps mapped files alive), and
            nothing can be added or removed: take a `copy` for that.

        Raises
        ------
        CorruptCollectionError
            If usearch refuses the file.
        MismatchError
            If the file holds vectors of another type or dimension.
        """
        graph = cls(layout, connectivity, expansion_add)
        try:
            if mapped:
                _view(graph._index, os.fspath(path))
            else:
                graph._index.load_index_from_path(os.fspath(path))
        except (OSError, RuntimeError, ValueError) as error:
            raise CorruptCollectionError(f"usearch cannot read the graph {Path(path)}: {error}; rebuild it") from error
        index = graph._index
        if index.dtype != graph._scalar or index.ndim != graph._ndim:
            raise MismatchError(
                f"expected a graph of {graph._scalar.name} x {graph._ndim}, {Path(path)} holds "
                f"{index.dtype.name} x {index.ndim}; rebuild it"
            )
        index.expansion_search = 1
        index.expansion_add = graph.expansion_add
        graph._mapped = mapped
        return graph

    def _check_writable(self) -> None:
        if self._mapped:
            raise ParameterError("this graph is mapped from its file and cannot change; change graph.copy() instead")

    def _add(self, keys: NDArray[np.uint64], native: NDArray[Any], threads: int) -> None:
        try:
            self._index.add_many(keys, native, threads=threads, dtype=self._scalar)
        except (MemoryError, RuntimeError) as error:  # slots and shapes have been checked: what is left is memory
            raise StorageError(
                errno.ENOMEM,
                f"the graph of {len(self):,} rows could not take {len(keys):,} more: {error}; nothing that is stored is lost, "
                "and searches find it without the graph: free some memory, or use index='cells', which takes little",
            ) from error

    def _documents(self, codes: Codes) -> NDArray[Any]:
        """Return rows as usearch holds them."""
        layout = self.layout
        if layout.lengths:
            factors, lengths = layout.terms(codes)
            assert lengths is not None  # the layout has them
            terms = [np.ones(len(codes), np.float32)]
            values = layout.values(codes)
            if factors is not None:
                values = values * factors[:, None]
                terms.insert(0, factors * factors)
            return _bfloat16(np.column_stack([values, *terms]) * lengths[:, None])
        if layout.kind == "r1":
            bits = codes[:, : layout.code_bytes]
            return np.concatenate([bits, bits], axis=1)
        if layout.kind in ("i4", "i2", "r2", "r3", "r4"):
            return layout.unpack(codes)
        return codes.view(self._dtype)

    def _queries(self, queries: Codes) -> tuple[NDArray[Any], Scores | None]:
        """Return queries as usearch compares them, and the terms of their scores where the layout is centred."""
        layout = self.layout
        if not layout.centred:
            if layout.kind == "i4":
                return layout.unpack(queries), None
            return queries.view(self._dtype), None
        terms, codes = layout.split(queries)
        if layout.lengths:
            step, square, offset = terms
            values = CodeLayout(layout.compared.kind, layout.dim).values(codes) * step[:, None]
            last = [square, offset] if layout.has_factors else [offset]
            return _bfloat16(np.column_stack([values, *last])), terms
        if layout.kind == "r1":
            whole = codes.view(np.int8).astype(np.float32)
            cut = _CUT * np.sqrt(np.square(whole).mean(axis=1, keepdims=True))
            return np.concatenate([np.packbits(whole > -cut, axis=1), np.packbits(whole > cut, axis=1)], axis=1), terms
        return codes.view(self._dtype), terms

    def _scores(self, distances: NDArray[np.float32], terms: Scores | None) -> Scores:
        if self._hamming:
            if terms is None:
                return self.layout.to_scores(distances)
            return np.float32(1.0) - distances * np.float32(1.0 / self.layout.dim)
        products = np.float32(1.0) - distances  # usearch's inner product distance is 1 - dot
        if terms is None:
            return self.layout.to_scores(products)
        if self.layout.lengths or self.layout.has_factors:
            return products
        step, _, offset = terms
        scores: Scores = products * step[:, None] + offset[:, None]
        return scores


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to bfloat16, the range of float32 in two bytes; what is beyond it becomes the largest value."""
    largest = np.array(0x7F7F0000, np.uint32).view(np.float32)
    bits = np.ascontiguousarray(np.clip(values, -largest, largest), np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _view(index: Any, path: str) -> None:
    """Map a file, and keep descriptor 0 open.

    usearch closes descriptor 0, whosever it is, when it cannot open or map a file: one that is missing or empty (looked for
    here first), or any while no descriptor or address space is left.
    """
    if os.stat(path).st_size == 0:
        raise ValueError("the file is empty")
    try:
        kept = os.dup(0)
    except OSError:  # it is closed, or none is left
        kept = -1
    try:
        index.view_index_from_path(path)
    except BaseException:
        if kept >= 0 and not _is_open(0):
            os.dup2(kept, 0)
        raise
    finally:
        if kept >= 0:
            os.close(kept)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _cores(threads: int) -> int:
    """Resolve a number of threads, no more than usearch has room for without moving what running searches use."""
    return min(check_integer(threads, "threads", least=0) or CORES, CORES)


def _keys(slots: Rows) -> NDArray[np.uint64]:
    slots = check_integers(slots, "slots")
    if slots.size and slots.min() < 0:
        raise ParameterError(f"expected slots of 0 or more, got {int(slots.min())}")
    return slots.astype(np.uint64)
