"""Write a measured configuration down as the code and the command that rebuild it."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from typing import Any

from octavo.eval.results import Result

_QDRANT_PATH = "kb.qdrant"


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
    """Return the lines that use a result's configuration."""
    chosen = result.configuration
    made = {"codec": chosen.codec}
    if chosen.metric != "cosine":
        made["metric"] = chosen.metric
    opened = [f"{name}={value!r}" for name, value in made.items() if value is not None]
    if chosen.pool_factor is not None:
        opened.append(f"pool_factor={chosen.pool_factor}")
    if chosen.connectivity != 16:
        opened.append(f"connectivity={chosen.connectivity}")
    # A multi-vector collection searches by MaxSim unless asked otherwise.
    asked = [f"mode={chosen.mode!r}"] if chosen.mode not in ("dense", "late") else []
    options: dict[str, Any] = {
        "oversample": chosen.oversample,
        "ef": chosen.ef,
        "exact": chosen.exact,
        "alpha": chosen.alpha,
    }
    options |= {"n_candidates": chosen.n_candidates, "candidates": chosen.candidates}
    asked += [f"{name}={value!r}" for name, value in options.items() if value is not None]
    opened = [f"encoder={result.model.name!r}", *opened] if result.model is not None else opened
    lines = []
    if chosen.layers is not None:
        lines.append(f"# the model cut to its first {chosen.layers} layers, see docs/evaluation.md")
    if chosen.store is not None:
        kind = f"Qdrant{'MultiVector' if chosen.late else ''}Collection"
        arguments = ", ".join([f'path="{_QDRANT_PATH}"', *opened])
        lines.append(f"from octavo.integrations.qdrant import {kind}\n\nkb = {kind}.create({arguments})")
        lines.append("kb.optimize()  # builds the graph, once the documents are there")
    else:
        arguments = ", ".join(['"kb"', *opened])
        lines.append(f"kb = octavo.{'open_multi_vector' if chosen.late else 'open'}({arguments})")
    if asked:
        lines.append(f"kb.search(query, k=10, {', '.join(asked)})")
    return Recipe("\n".join(lines), _shell(result))


def _shell(result: Result) -> str | None:
    chosen = result.configuration
    if chosen.late or chosen.layers is not None or chosen.connectivity != 16 or result.model is None:
        return None
    place = f"qdrant:{_QDRANT_PATH}" if chosen.store is not None else "kb"
    words = ["octavo", "index", "SOURCE", "--path", place, "--model", shlex.quote(result.model.name)]
    words += ["--codec", shlex.quote(chosen.codec)] if chosen.codec is not None else []
    words += ["--metric", chosen.metric] if chosen.metric != "cosine" else []
    return " ".join(words)
