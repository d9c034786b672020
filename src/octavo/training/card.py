"""The model card: what a model was trained for, on what, how good it was, and how to open a collection with it."""

from __future__ import annotations

import json
from typing import Any


def model_card(record: dict[str, Any], name: str) -> str:
    """Return the text of a model's ``README.md``.

    Parameters
    ----------
    record : dict
        What lies beside it in ``octavo-training.json``.
    name : str
        What to call the model.
    """
    settings, result = record["settings"], record["result"]
    late = settings["recipe"] == "late"
    head = {
        "library_name": "sentence-transformers",
        "tags": ["sentence-transformers", "octavo", f"octavo-{settings['recipe']}"],
        "pipeline_tag": "feature-extraction" if late else "sentence-similarity",
    }
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    rows = "\n".join(
        f"| {size} | {result['before'][size]:.4f} | {value:.4f} |"
        for size, value in result["after"].items()
        if size in result["before"]
    )
    stopped = ", stopped early" if result["stopped_early"] else ""
    kept = {
        key: value
        for key, value in settings.items()
        if value is not None and key not in ("data", "data_digest", "model")
    }
    seconds, best = f"{result['seconds']:,.0f} seconds", f"what was best after {result['best_step']:,} was kept"
    lines = [
        f"---\n{front}\n---",
        f"# {_line(name)}",
        f"{_line(settings['model'])}, trained by Octavo {record['octavo']} to be compressed: recipe `{settings['recipe']}`.",
        f"- Data: {_line(settings['data'])}; {result['pairs']:,} pairs (sha256 of all: {settings['data_digest']})\n"
        f"- {result['steps']:,} steps{stopped}, {seconds}; {best}\n"
        f"- Settings: `{json.dumps(kept).replace('`', '')}`",
        "## How good it is",
        "nDCG@10 on held-out questions of the same data, found among the held-out documents; sizes are layers x dimensions. "
        "Measure it on your own data before you rely on it: `octavo eval run`.",
        f"| size | before | after |\n|---|---|---|\n{rows}",
        f"## How to use it\n\n```python\n{_usage(settings, record)}\n```",
    ]
    return "\n\n".join(lines) + "\n"


def _usage(settings: dict[str, Any], record: dict[str, Any]) -> str:
    codec = settings["codec"] or "int8"
    if settings["recipe"] == "late":
        finest, factor = codec.split(">")[-1].strip(), settings["pool_factor"]
        options = f'encoder="FOLDER", pool_factor={factor}, codec="{finest}"'
        return f'import octavo\n\nkb = octavo.open_multi_vector("kb", {options})'
    layers, dim = min(record["sizes"], key=lambda size: (size[0] or 0, size[1]))
    stages = " > ".join(f"truncate:{dim}|{stage.strip()}" for stage in codec.split(">"))
    cut = f", layers={layers}" if layers is not None else ""
    return (
        "# the whole model; below, the smallest size that it was trained for\n"
        f'import octavo\n\nkb = octavo.open("kb", encoder="FOLDER", codec="{codec}")\n'
        f'small = octavo.open("small", encoder="FOLDER"{cut}, codec="{stages}")'
    )


def _line(text: str) -> str:
    """Return a text as part of a line: what Markdown or a terminal would obey is taken out."""
    return "".join(character if character.isprintable() and character not in "`<>|*_[]" else " " for character in text)
