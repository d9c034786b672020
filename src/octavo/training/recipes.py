"""What a model is trained for: fewer dimensions, fewer layers, both along a schedule, or token vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from octavo._validation import check_flag, check_integer, check_number
from octavo.encoders.layers import layer_count
from octavo.errors import ParameterError
from octavo.eval.running.sweeps import grid_points
from octavo.training.rounding import Rounding

#: Layers (None for all) and dimensions that a model is used with.
Size = tuple[int | None, int]


def _dims(dims: Any) -> tuple[int, ...] | None:
    if dims is None:
        return None
    if isinstance(dims, str) or not isinstance(dims, Sequence) or not dims:
        raise ParameterError(f"expected dims as a list of integers, got {dims!r}")
    return tuple(sorted({check_integer(dim, "a dimension in dims", least=1) for dim in dims}, reverse=True))


def _halves(dim: int) -> tuple[int, ...]:
    """Return a dimension and what halving it gives, down to a sixteenth, but not below 8."""
    found = [dim]
    while found[-1] % 2 == 0 and found[-1] // 2 >= max(8, dim // 16):
        found.append(found[-1] // 2)
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """What all recipes have in common.

    Parameters
    ----------
    codec : str, optional
        Round documents to this quantizer while training, such as ``"int8"`` or ``"rabitq:2"``: the model learns to be kept
        that way. See `octavo.training.rounding.Rounding`.
    """

    codec: str | None = None

    name: ClassVar[str]
    late: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.rounding()

    def rounding(self) -> Rounding | None:
        """Return what rounds vectors, or None."""
        return Rounding(self.codec) if self.codec is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"recipe": self.name, **asdict(self)}

    @abstractmethod
    def sizes(self, model: Any) -> list[Size]:
        """Return the sizes that a model is trained for, and measured at while it is.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.

        Returns
        -------
        list of (int or None, int)
            Layers, None for all, and dimensions; the largest first.

        Raises
        ------
        ParameterError
            When it has no such sizes.
        """

    @abstractmethod
    def loss(self, model: Any, teacher: Any) -> Any:
        """Return what is minimised.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.
        teacher : Teacher or None
            Whose scores are learned, too.

        Returns
        -------
        torch.nn.Module
            Ready for sentence-transformers' trainer.
        """

    def aligned_layers(self, model: Any) -> list[int]:
        """Return the layers whose queries may meet the documents of the largest; none where nobody trained that.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.

        Returns
        -------
        list of int
            In ascending order.
        """
        return []


@dataclass(frozen=True, kw_only=True)
class Matryoshka(Recipe):
    """The first dimensions say most: vectors may be cut short.

    Parameters
    ----------
    codec : str, optional
        Round documents to this quantizer while training, such as ``"int8"`` or ``"rabitq:2"``: the model learns to be kept
        that way.
    dims : sequence of int, optional
        What they may be cut to; halves down to a sixteenth by default. The whole vector is always among them.

    References
    ----------
    Kusupati et al., "Matryoshka Representation Learning", 2022. arXiv:2205.13147.

    Examples
    --------
    >>> Matryoshka(dims=[64, 128]).dims
    (128, 64)
    """

    dims: Sequence[int] | None = None

    name: ClassVar[str] = "matryoshka"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "dims", _dims(self.dims))

    def _widths(self, model: Any) -> tuple[int, ...]:
        """Return the dimensions for a model, the whole first."""
        dim = int(model.get_embedding_dimension())
        wanted = tuple(self.dims) if self.dims is not None else _halves(dim)
        if wanted[0] > dim:
            raise ParameterError(f"expected dims of at most the model's {dim}, got {wanted[0]}")
        return wanted if dim in wanted else (dim, *wanted)  # or the whole vector would not be trained

    def sizes(self, model: Any) -> list[Size]:
        """Return the whole model with each number of dimensions.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.

        Returns
        -------
        list of (int or None, int)
            Layers, None for all, and dimensions; the largest first.
        """
        return [(None, dim) for dim in self._widths(model)]

    def loss(self, model: Any, teacher: Any) -> Any:
        """Return sentence-transformers' loss around ours.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.
        teacher : Teacher or None
            Whose scores are learned, too.

        Returns
        -------
        torch.nn.Module
            Ready for sentence-transformers' trainer.
        """
        from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

        from octavo.training.losses import RankingLoss

        ranking = RankingLoss(model, rounding=self.rounding(), teacher=teacher)
        return MatryoshkaLoss(model, ranking, list(self._widths(model)))


@dataclass(frozen=True, kw_only=True)
class Matryoshka2d(Matryoshka):
    """Both the first dimensions and the first layers say most; each step trains the whole and one random size.

    Parameters
    ----------
    codec : str, optional
        Round documents to this quantizer while training, such as ``"int8"`` or ``"rabitq:2"``: the model learns to be kept
        that way.
    dims : sequence of int, optional
        As for `Matryoshka`.

    References
    ----------
    Li et al., "2D Matryoshka Sentence Embeddings", 2024. arXiv:2402.14776.

    Examples
    --------
    >>> Matryoshka2d(dims=[64, 128], codec="int8").codec
    'int8'
    """

    name: ClassVar[str] = "2d"

    def sizes(self, model: Any) -> list[Size]:
        """Return the diagonal: as many steps from the smallest to the largest as there are dimensions.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.

        Returns
        -------
        list of (int or None, int)
            Layers, None for all, and dimensions; the largest first.
        """
        dims = self._widths(model)
        layers = layer_count(model)
        return [(max(1, round(layers * (len(dims) - at) / len(dims))), dim) for at, dim in enumerate(dims)]

    def loss(self, model: Any, teacher: Any) -> Any:
        """Return sentence-transformers' loss around ours.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.
        teacher : Teacher or None
            Whose scores are learned, too.

        Returns
        -------
        torch.nn.Module
            Ready for sentence-transformers' trainer.
        """
        from sentence_transformers.sentence_transformer.losses import Matryoshka2dLoss

        from octavo.training.losses import RankingLoss

        ranking = RankingLoss(model, rounding=self.rounding(), teacher=teacher)
        return Matryoshka2dLoss(model, ranking, list(self._widths(model)))


@dataclass(frozen=True, kw_only=True)
class Starbucks(Recipe):
    """A fixed list of sizes, each with layers and dimensions of its own, all trained in every step.

    Parameters
    ----------
    codec : str, optional
        Round documents to this quantizer while training, such as ``"int8"`` or ``"rabitq:2"``: the model learns to be kept
        that way.
    points : sequence of (int, int), optional
        Layers and dimensions; by default the six of `octavo eval run --grid starbucks`. The whole model is always among them.
    alignment : float, default=1
        How much scores of small sizes are pulled towards those of the whole model; 0 leaves that out.
    align_queries : bool, default=False
        Train queries of fewer layers against documents of all, so that `octavo.open` takes ``query_layers=``.

    References
    ----------
    Zhuang et al., "Starbucks: Improved Training for 2D Matryoshka Embeddings", 2024. arXiv:2410.13230.

    Examples
    --------
    >>> Starbucks(points=[(2, 64), (6, 384)], align_queries=True).points
    ((2, 64), (6, 384))
    """

    points: Sequence[tuple[int, int]] | None = None
    alignment: float = 1.0
    align_queries: bool = False

    name: ClassVar[str] = "starbucks"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.alignment, "alignment", least=0)
        check_flag(self.align_queries, "align_queries")
        if self.points is not None:
            listed: Any = self.points
            if isinstance(listed, str) or not isinstance(listed, Sequence) or not listed:
                raise ParameterError(f"expected points as a list of pairs, layers and dimensions, got {self.points!r}")
            pairs = []
            for point in self.points:
                given: Any = point
                if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2:
                    raise ParameterError(f"expected points as pairs of layers and dimensions, got {point!r}")
                pairs.append(
                    (check_integer(point[0], "layers", least=1), check_integer(point[1], "dimensions", least=1))
                )
            object.__setattr__(self, "points", tuple(dict.fromkeys(pairs)))

    def sizes(self, model: Any) -> list[Size]:
        """Return the points, the whole model first.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.

        Returns
        -------
        list of (int or None, int)
            Layers, None for all, and dimensions; the largest first.
        """
        return list(self._points(model))

    def _points(self, model: Any) -> list[tuple[int, int]]:
        layers, dim = layer_count(model), int(model.get_embedding_dimension())
        points = list(self.points) if self.points is not None else grid_points("Starbucks", layers, dim)
        for depth, width in points:
            if depth > layers or width > dim:
                raise ParameterError(
                    f"expected points within the model's {layers} layers and {dim} dimensions, got {depth}:{width}"
                )
        return sorted({*points, (layers, dim)}, reverse=True)

    def loss(self, model: Any, teacher: Any) -> Any:
        """Return our loss over all points.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.
        teacher : Teacher or None
            Whose scores are learned, too.

        Returns
        -------
        torch.nn.Module
            Ready for sentence-transformers' trainer.
        """
        from octavo.training.losses import RankingLoss, StarbucksLoss

        ranking = RankingLoss(model, rounding=self.rounding(), teacher=teacher)
        points = self._points(model)
        return StarbucksLoss(model, ranking, points, alignment=self.alignment, align_queries=self.align_queries)

    def aligned_layers(self, model: Any) -> list[int]:
        """Return the layers of all points, if queries were aligned.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.

        Returns
        -------
        list of int
            In ascending order.
        """
        return sorted({layers for layers, _ in self._points(model)}) if self.align_queries else []


@dataclass(frozen=True, kw_only=True)
class Late(Recipe):
    """A head on a dense model that gives a short vector a token, for late interaction.

    Parameters
    ----------
    codec : str, optional
        Round documents to this quantizer while training, such as ``"int8"`` or ``"rabitq:2"``: the model learns to be kept
        that way.
    dim : int, default=128
        Dimensions of a token vector.
    pool_factor : int, default=1
        Cluster the tokens of each document while training, as ``pooling=`` of a collection does afterwards: 3 keeps a third.
        The model learns vectors that survive it. The clusters are not saved with the model.

    References
    ----------
    Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT",
    SIGIR 2020.

    Veneroso et al., "CRISP: Clustering Multi-Vector Representations for Denoising and Pruning", 2025. arXiv:2505.11471.

    Examples
    --------
    >>> Late(pool_factor=3).dim
    128
    """

    dim: int = 128
    pool_factor: int = 1

    name: ClassVar[str] = "late"
    late: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "dim", check_integer(self.dim, "dim", least=1))
        object.__setattr__(self, "pool_factor", check_integer(self.pool_factor, "pool_factor", least=1))

    def sizes(self, model: Any) -> list[Size]:
        """Return the only size.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.

        Returns
        -------
        list of (int or None, int)
            Layers, None for all, and dimensions; the largest first.
        """
        return [(None, self.dim)]

    def loss(self, model: Any, teacher: Any) -> Any:
        """Return sentence-transformers' loss with our scores.

        Parameters
        ----------
        model : SentenceTransformer
            What is trained.
        teacher : Teacher or None
            Whose scores are learned, too.

        Returns
        -------
        torch.nn.Module
            Ready for sentence-transformers' trainer.
        """
        from octavo.training.losses import LateRankingLoss

        return LateRankingLoss(model, rounding=self.rounding(), teacher=teacher)


#: By the name on the command line.
RECIPES: dict[str, type[Recipe]] = {kind.name: kind for kind in (Matryoshka, Matryoshka2d, Starbucks, Late)}
