"""Pooling of the patches of page images: by place (`SpatialPooling`), and with what is no patch left alone (either way)."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, unit_rows
from octavo.compression.token_matrices import TokenMatrices
from octavo.compression.token_pooling import Labels, TokenPooling, mean_directions
from octavo.errors import CodecError, InvalidVectorsError, ParameterError

#: Which row of its matrix each patch of an image is: whole numbers of shape (rows, columns); -1 where there is none.
Grid: TypeAlias = npt.NDArray[np.int64]


class SpatialPooling(TokenPooling):
    """Replace the patch vectors of page images by the means of regions of neighbouring, similar patches.

    Two regions become one only where they touch, those first that it costs least by Ward's criterion: what is alike and lies
    side by side (margins, a paragraph, a picture) becomes one vector, whatever its shape, and the same word in two corners of
    a page stays two. Everything that is no patch (prompt, special tokens) is kept as it is. Costs a fraction of hierarchical
    pooling, which compares every patch with every other.

    Documents without a grid (texts, or images of models that do not say how patches lie) are pooled as `TokenPooling` does.

    Parameters
    ----------
    factor : int, optional
        Pool n patches into ``max(n // factor, 1)`` regions; 9 unless another size is given.
    n_vectors : int, optional
        Keep at most so many vectors a document, as far as those that are no patches leave room.
    protected : int, default=1
        Leading tokens that are left alone of documents without a grid.

    References
    ----------
    Ma, Y., Li, J., Zang, Y., et al. (2025). Towards storage-efficient visual document retrieval: an empirical study on
    reducing patch-level embeddings. arXiv:2506.04997.

    Ward, J. H. (1963). Hierarchical grouping to optimize an objective function. JASA 58(301).

    Examples
    --------
    >>> patches = np.float32([[1, 0], [1, 0], [0, 1], [1, 0]])
    >>> SpatialPooling(factor=2).pool_page(patches, np.array([[0, 1], [2, 3]])).round(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, factor: int | None = None, *, n_vectors: int | None = None, protected: int = 1) -> None:
        super().__init__(9 if factor is n_vectors is None else factor, n_vectors=n_vectors, protected=protected)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration as JSON data with an ``"id"``."""
        return super().get_config() | {"id": "pool-grid"}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], /) -> Self:
        """Rebuild the pooling from `get_config`.

        Parameters
        ----------
        config : mapping
            What `get_config` returned.

        Raises
        ------
        CodecError
            If the configuration is another's or has keys that this class does not know.
        """
        options = dict(config)
        if options.pop("id", None) != "pool-grid":
            raise CodecError(f"expected the configuration of spatial pooling, got {dict(config)!r}")
        if unknown := sorted(set(options) - {"factor", "n_vectors", "protected"}):
            raise CodecError(f"spatial pooling knows no configuration key {', '.join(map(repr, unknown))}")
        return cls(**options)

    def __repr__(self) -> str:
        return super().__repr__().replace("TokenPooling", "SpatialPooling", 1)

    def pool_page(self, matrix: npt.ArrayLike, grid: Any) -> Floats:
        """Pool the vectors of one page.

        Parameters
        ----------
        matrix : array_like of shape (n, dim)
            Patches, and whatever else the model gives.
        grid : array_like of shape (rows, columns)
            Which row of the matrix each patch is; -1 where there is none.

        Returns
        -------
        ndarray of shape (n_pooled, dim)
            Of unit length: what is no patch first, then the regions in the order of their first patches.

        Raises
        ------
        ParameterError
            When the grid is none, or does not fit the matrix.
        """
        units = unit_rows(TokenMatrices.of([matrix]).flat, keep_zeros=True)
        checked = checked_grid(grid)
        if not _fits(checked, len(units)):
            raise ParameterError(f"expected a grid of rows below {len(units)}, got one up to {checked.max()}")
        return _pool_page(self, units, checked)


def checked_grid(grid: Any) -> Grid:
    """Return a grid of patches, each of which is another row.

    Raises
    ------
    ParameterError
        When it is not such a grid.
    """
    array = np.asarray(grid)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "iu":
        raise ParameterError(
            f"expected a grid of patches as whole numbers of shape (rows, columns), got {array.dtype} of shape {array.shape}"
        )
    found = array.astype(np.int64)
    inside = found[found >= 0]
    if not len(inside) or len(np.unique(inside)) < len(inside) or found.min() < -1:
        raise ParameterError(
            "expected a grid that names each row of the matrix at most once, and -1 where there is no patch"
        )
    return found


def pooling_from_config(config: Mapping[str, Any]) -> TokenPooling:
    """Return the pooling that a stored configuration describes.

    Raises
    ------
    CodecError
        If it is none that is known.
    """
    return (SpatialPooling if config.get("id") == "pool-grid" else TokenPooling).from_config(config)


def needs_grids(config: Mapping[str, Any]) -> bool:
    """Tell whether pooling does anything for which it matters where patches lie."""
    return config.get("factor") != 1


def pool_documents(
    config: Mapping[str, Any], tokens: TokenMatrices, grids: Sequence[Grid | None] | None = None
) -> TokenMatrices:
    """Pool the token vectors of documents, some of which may be images whose patches lie in a known grid.

    Parameters
    ----------
    config : mapping
        Of a pooling.
    tokens : TokenMatrices
        Of unit length.
    grids : sequence of (ndarray or None), optional
        One a document. A grid that does not fit the document's matrix is passed over: the model has done something of its own
        with its patches.
    """
    pooling = pooling_from_config(config)
    if grids is None or all(grid is None for grid in grids):
        return pooling.pool(tokens)
    if len(grids) != len(tokens):
        raise InvalidVectorsError(f"expected a grid (or None) for each of {len(tokens)} documents, got {len(grids)}")
    found: list[Floats] = []
    for number, grid in enumerate(grids):
        if grid is not None and _fits(grid, len(tokens[number])):
            found.append(_pool_page(pooling, unit_rows(tokens[number], keep_zeros=True), grid))
        else:
            found.append(pooling.pool([tokens[number]])[0])
    return TokenMatrices.of(found, dim=tokens.dim)


def _fits(grid: Grid, n: int) -> bool:
    return int(grid.max()) < n


def _pool_page(pooling: TokenPooling, units: Floats, grid: Grid) -> Floats:
    cells = grid[grid >= 0]
    others = np.ones(len(units), np.bool_)
    others[cells] = False
    kept, patches = units[others], units[cells]
    if pooling.n_vectors is not None:
        sized = TokenPooling(n_vectors=max(pooling.n_vectors - len(kept), 1), protected=0)
    elif pooling.factor is not None:
        sized = TokenPooling(pooling.factor, protected=0)
    else:
        sized = TokenPooling(distance=pooling.distance, protected=0)
    if not isinstance(pooling, SpatialPooling):
        return np.concatenate([kept, sized.pool([patches])[0]])
    n = len(patches)
    k = min(n, sized.n_vectors) if sized.n_vectors is not None else max(n // (sized.factor or 1), 1)
    labels = region_labels(patches, grid >= 0, k)
    return np.concatenate([kept, mean_directions(patches, labels)])


def region_labels(patches: Floats, there: npt.NDArray[np.bool_], k: int) -> Labels:
    """Put the patches of a grid into `k` regions of neighbours, by Ward's criterion.

    Parameters
    ----------
    patches : ndarray of shape (n, dim)
        Row by row, of those cells that are there.
    there : ndarray of shape (rows, columns), bool
        Which cells there are. Where they fall into more than `k` pieces that do not touch, the pieces stay.
    k : int
        How many regions are wanted.

    Returns
    -------
    ndarray of shape (n,), int64
        For each patch the smallest patch of its region.
    """
    n = len(patches)
    number = np.full(there.shape, -1, np.int64)
    number[there] = np.arange(n)
    pairs = np.concatenate(
        [
            np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], axis=1),
            np.stack([number[:-1].ravel(), number[1:].ravel()], axis=1),
        ]
    )
    pairs = pairs[(pairs >= 0).all(axis=1)]
    means = patches.astype(np.float64)
    sizes = np.ones(n)
    version = [0] * n
    alive = [True] * n
    parent = list(range(n))
    neighbours: list[set[int]] = [set() for _ in range(n)]
    for a, b in pairs.tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    costs = 0.5 * ((means[pairs[:, 0]] - means[pairs[:, 1]]) ** 2).sum(axis=1)
    heap = [(cost, a, b, 0, 0) for cost, (a, b) in zip(costs.tolist(), pairs.tolist(), strict=True)]
    heapq.heapify(heap)
    left = n
    while left > k and heap:
        _, a, b, seen_a, seen_b = heapq.heappop(heap)
        if not (alive[a] and alive[b]) or version[a] != seen_a or version[b] != seen_b:
            continue
        total = sizes[a] + sizes[b]
        means[a] = (means[a] * sizes[a] + means[b] * sizes[b]) / total
        sizes[a] = total
        alive[b], parent[b] = False, a  # a < b: pairs are named by their smaller patch first
        version[a] += 1
        left -= 1
        around = neighbours[a] | neighbours[b]
        around -= {a, b}
        neighbours[a], neighbours[b] = around, set()
        if not around:
            continue
        listed = sorted(around)
        for other in listed:
            neighbours[other].discard(b)
            neighbours[other].add(a)
        difference = means[listed] - means[a]
        weights = sizes[listed] * total / (sizes[listed] + total)
        for other, cost in zip(listed, (weights * (difference**2).sum(axis=1)).tolist(), strict=True):
            first, second = (a, other) if a < other else (other, a)
            heapq.heappush(heap, (cost, first, second, version[first], version[second]))
    labels = np.array(parent, np.int64)
    while not np.array_equal(further := labels[labels], labels):
        labels = further
    return labels
