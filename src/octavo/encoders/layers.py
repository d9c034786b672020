"""Models that stop at one of their first layers: how they are named, cut and told from whole ones."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from octavo._validation import check_integer
from octavo.errors import InputTypeError, ParameterError

#: Beside the weights of a model that `octavo train` made: what it was trained for.
RECORD_NAME = "octavo-training.json"

_NAMED = re.compile(r"(?P<name>.+)@layers=(?P<layers>\d+)(?:,query_layers=(?P<query>\d+))?", re.DOTALL)


def layered_name(name: str, layers: int | None, query_layers: int | None = None) -> str:
    """Return what a model is called of which only the first layers are used.

    Parameters
    ----------
    name : str
        The model's own name, or its folder.
    layers : int or None
        How many layers documents, and queries if nothing else is said, go through; None for all.
    query_layers : int, optional
        How many layers queries go through.

    Raises
    ------
    ParameterError
        When a number is below 1, the name says so already, or queries have layers of their own and documents have all.

    Examples
    --------
    >>> layered_name("all-MiniLM-L6-v2", 3)
    'all-MiniLM-L6-v2@layers=3'
    >>> layered_name("trained", 6, 2)
    'trained@layers=6,query_layers=2'
    """
    if layers is None and query_layers is None:
        return name
    if split_name(name)[1] is not None:
        raise ParameterError(f"expected layers once, but the model's name says them already: {name!r}")
    if layers is None:
        raise ParameterError("expected layers= beside query_layers=: how many layers documents go through")
    layers = check_integer(layers, "layers", least=1)
    if query_layers is None:
        return f"{name}@layers={layers}"
    query_layers = check_integer(query_layers, "query_layers", least=1)
    if query_layers > layers:
        raise ParameterError(f"expected query_layers of at most the {layers} layers of documents, got {query_layers}")
    return f"{name}@layers={layers}" + (f",query_layers={query_layers}" if query_layers != layers else "")


def split_name(name: str) -> tuple[str, int | None, int | None]:
    """Return a model's own name, and the layers of documents and of queries; None where the name does not tell.

    Examples
    --------
    >>> split_name("trained@layers=6,query_layers=2")
    ('trained', 6, 2)
    >>> split_name("trained@layers=3"), split_name("user@host/model")
    (('trained', 3, None), ('user@host/model', None, None))
    """
    found = _NAMED.fullmatch(name)
    if found is None or Path(name).exists():
        return name, None, None
    query = found["query"]
    return found["name"], int(found["layers"]), int(query) if query is not None else None


def with_layers(encoder: Any, layers: int | None, query_layers: int | None = None) -> Any:
    """Return an encoder of which only the first layers are used; see `layered_name`.

    Parameters
    ----------
    encoder : str or sentence-transformers model
        Whatever `octavo.open` takes, as long as it has layers. A model is copied, never changed.
    layers, query_layers : int or None
        How many layers documents, and queries, go through.

    Raises
    ------
    ParameterError
        When it has no such layers, or they were not aligned.
    InputTypeError
        When it is no model whose layers can be counted.
    """
    if layers is None and query_layers is None:
        return encoder
    if encoder is None:
        raise ParameterError("expected encoder= beside layers=: the model whose layers are meant")
    if isinstance(encoder, str):
        return layered_name(encoder, layers, query_layers)
    if not hasattr(encoder, "named_modules"):
        raise InputTypeError(
            f"expected layers= with a sentence-transformers model or the name of one, got {type(encoder).__name__}"
        )
    own = getattr(encoder, "model_name", None)
    card = getattr(getattr(encoder, "model_card_data", None), "base_model", None)
    name = own if isinstance(own, str) else card if isinstance(card, str) else type(encoder).__qualname__
    cut = copied(encoder)
    use_layers(cut, layers, query_layers, name)
    cut.model_name = layered_name(name, layers, query_layers)
    return cut


def use_layers(model: Any, layers: int | None, query_layers: int | None, name: str) -> None:
    """Cut a sentence-transformers model to its first layers, in place; queries may go through fewer than documents.

    Raises
    ------
    ParameterError
        When there are no such layers, or queries should go through fewer and the model was not trained for that.
    """
    if layers is None:
        return
    queries = None
    if query_layers is not None and query_layers != layers:
        _check_aligned(name, layers, query_layers)
        queries = copied(model)
        keep_layers(queries, query_layers)
    keep_layers(model, layers)
    if queries is not None:
        model.encode_query = queries.encode_query


def _check_aligned(name: str, layers: int, query_layers: int) -> None:
    record = training_record(name) or {}
    aligned = record.get("aligned_layers") or []
    if layers not in aligned or query_layers not in aligned or layers != max(aligned):
        known = (
            f"; it was trained with queries of {aligned} layers against documents of {max(aligned)}" if aligned else ""
        )
        raise ParameterError(
            f"expected query_layers only of a model that was trained for it, because the vectors of {query_layers} layers of "
            f"{name!r} need not lie where those of {layers} do{known}. Leave query_layers out, or train it: octavo train "
            "starbucks --align-queries"
        )


def training_record(name: str) -> dict[str, Any] | None:
    """Return what `octavo train` wrote beside the weights of a model in a folder; None if it did not make it."""
    try:
        record = json.loads((Path(name).expanduser() / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def copied(model: Any) -> Any:
    """Return a copy of a model that shares its weights: layers can be taken from it, and nothing is kept twice."""
    _find_layers(model)  # of anything else there is no telling what a copy shares
    return copy.deepcopy(model, {id(weight): weight for weight in [*model.parameters(), *model.buffers()]})


def keep_layers(model: Any, layers: int) -> None:
    """Cut a sentence-transformers model down to its first transformer layers, in place.

    Pooling, and what follows it, then works on the output of the last layer kept.

    Raises
    ------
    ParameterError
        When there are no such layers, or fewer than asked for.
    """
    parent, attribute, total = _find_layers(model)
    if not 1 <= layers <= total:
        raise ParameterError(f"expected layers between 1 and the model's {total}, got {layers}")
    setattr(parent, attribute, getattr(parent, attribute)[:layers])


def layer_count(model: Any) -> int:
    """Return how many transformer layers a sentence-transformers model has."""
    return _find_layers(model)[2]


def _find_layers(model: Any) -> tuple[Any, str, int]:
    """Return where the list of layers hangs: the only list of modules as long as the configuration says."""
    modules: Callable[[], Any] | None = getattr(model, "named_modules", None)
    configurations = [m.config for _, m in modules() if hasattr(m, "config")] if modules is not None else []
    # Not every architecture calls it the same, but all map the usual name to theirs.
    count = next((n for c in configurations if isinstance(n := getattr(c, "num_hidden_layers", None), int)), None)
    if modules is None or count is None:
        raise ParameterError("layers cuts the transformer of a sentence-transformers model; this model has none")
    found = [
        (parent, attribute, count)
        for _, parent in modules()
        for attribute, child in parent.named_children()
        if type(child).__name__ == "ModuleList" and len(child) == count
    ]
    if len(found) != 1:
        raise ParameterError(f"expected one list of {count} layers in the model, found {len(found)}; it cannot be cut")
    return found[0]
