"""Write a measured configuration down as the code and the command that rebuild it."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from typing import Any

from octavo.encoders.layers import layered_name
from octavo.encoders.models import is_attribute
from octavo.eval.configurations import WITHOUT_VECTORS
from octavo.eval.results import Result
from octavo.eval.vectors import READY
from octavo.store.settings import DEFAULT_FIT_AFTER

_QDRANT_PATH = "kb.qdrant"
_QUESTION = "your question"


@dataclass(frozen=True)
class Recipe:
    """How to use a configuration; `to_dict` gives JSON.

    Parameters
    ----------
    python : str
        Lines that open a collection with it and search it.
    shell : str or None
        The command that builds such a collection; None where the command line has no option for one of its choices.
    """

    python: str
    shell: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def recipe(result: Result) -> Recipe:
    """Return the lines that use a result's configuration: a whole program, which runs as it is pasted."""
    chosen = result.configuration
    made = {"codec": chosen.codec}
    if chosen.metric != "cosine":
        made["metric"] = chosen.metric
    opened = [f"{name}={value!r}" for name, value in made.items() if value is not None]
    if chosen.pool_factor is not None:
        opened.append(f"pool_factor={chosen.pool_factor}")
    if chosen.has_graph and chosen.store is None:
        opened.append('index="graph"')
    if chosen.connectivity != 16:
        opened.append(f"connectivity={chosen.connectivity}")
    if chosen.codec is not None and result.dataset.documents < DEFAULT_FIT_AFTER:
        opened.append(f"fit_after={result.dataset.documents}")  # what was measured was compressed at that size already
    imports, prepared, encoder = _encoder(result)
    opened = [f"encoder={encoder}", *opened] if encoder is not None else opened
    if chosen.sparse is not None:
        module, _, attribute = chosen.sparse.partition(":")
        if is_attribute(chosen.sparse):
            imports.append(f"import {module}")
        written = f"{module}.{attribute}" if is_attribute(chosen.sparse) else repr(chosen.sparse)
        opened.append(f"sparse={written}")
    if chosen.store is not None:
        kind = f"Qdrant{'MultiVector' if chosen.late else ''}Collection"
        imports.append(f"from octavo.integrations.qdrant import {kind}")
        create = f"{kind}.create({', '.join([f'path={_QDRANT_PATH!r}', *opened])})"
    else:
        imports.append("import octavo")
        create = f"octavo.{'open_multi_vector' if chosen.late else 'open'}({', '.join([repr('kb'), *opened])})"
    ready = chosen.mode not in WITHOUT_VECTORS and encoder is None
    context = ", embed_texts=texts_with_titles, embed_words=True" if chosen.context == "title" else ""
    add = f"# kb.add(texts, ids=ids{context}{', vectors=vectors' if ready else ''})"
    lines = [*sorted(imports, reverse=True), "", *prepared, f"kb = {create}", add]
    if chosen.store is not None:
        lines.append("# kb.optimize()  # builds the graph, once the documents are there")
    lines.append(_search(result, ready))
    return Recipe("\n".join(lines), _shell(result))


def _encoder(result: Result) -> tuple[list[str], list[str], str | None]:
    """Return imports, what has to be done first, and what `octavo.open` is given; None where vectors are given instead."""
    model, layers = result.model, result.configuration.layers
    if model is None or result.configuration.mode in WITHOUT_VECTORS:
        return [], [], None
    if model.name == READY:
        return [], [], None
    if model.encoder is None:
        return [], [f"# encoder: what was measured, {model.name!r}"], "encoder"
    imports: list[str] = []
    prepared: list[str] = []
    written = repr(model.encoder)
    if is_attribute(model.encoder):
        module, _, attribute = model.encoder.partition(":")
        plain = "." not in attribute
        imports.append(f"from {module} import {attribute}" if plain else f"import {module}")
        written = attribute if plain else f"{module}.{attribute}"
    if layers is not None and not is_attribute(model.encoder):
        return imports, prepared, repr(layered_name(model.encoder, layers))
    if layers is not None:
        imports.append("from octavo.eval.running.models import cut_model")
        prepared.append(f"model = cut_model({written}, layers={layers})")
        written = "model"
    return imports, prepared, written


def _search(result: Result, ready: bool) -> str:
    chosen = result.configuration
    # A multi-vector collection searches by MaxSim unless asked otherwise.
    asked = [f"mode={chosen.mode!r}"] if chosen.mode not in ("dense", "late") else []
    options: dict[str, Any] = {
        "oversample": chosen.oversample,
        "ef": chosen.ef,
        "exact": chosen.exact,
        "alpha": chosen.alpha,
        "rank": chosen.rank_names,
        "weights": chosen.weight_values,
        "n_candidates": chosen.n_candidates,
        "candidates": chosen.candidates,
    }
    asked += [f"{name}={value!r}" for name, value in options.items() if value is not None]
    if ready:
        text = [f"text={_QUESTION!r}"] if chosen.mode == "hybrid" else []
        return f"# kb.search({', '.join(['vector', 'k=10', *text, *asked])})"
    return f"kb.search({', '.join([repr(_QUESTION), 'k=10', *asked])})"


def _shell(result: Result) -> str | None:
    chosen, model = result.configuration, result.model
    if chosen.late or chosen.connectivity != 16 or model is None or model.encoder is None:
        return None
    if chosen.layers is not None and is_attribute(model.encoder):
        return None
    encoder = model.encoder if chosen.layers is None else layered_name(model.encoder, chosen.layers)
    place = f"qdrant:{_QDRANT_PATH}" if chosen.store is not None else "kb"
    words = ["octavo", "index", "SOURCE", "--path", place, "--model", shlex.quote(encoder)]
    words += ["--codec", shlex.quote(chosen.codec)] if chosen.codec is not None else []
    words += ["--sparse", shlex.quote(chosen.sparse)] if chosen.sparse is not None else []
    words += ["--context", "title"] if chosen.context == "title" else []
    words += ["--metric", chosen.metric] if chosen.metric != "cosine" else []
    return " ".join(words)
