"""``octavo info``: what a collection holds and what it takes."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from rich.table import Table
from rich.text import Text

from octavo._printing import console, human_bytes, human_duration, print_json, printable
from octavo.cli._app import app
from octavo.cli._locations import open_place
from octavo.cli._options import Json, PlaceArgument
from octavo.ingest.registry import read_sources
from octavo.store.info import CollectionInfo


@app.command("info")
def info_command(path: PlaceArgument, as_json: Json = False) -> None:
    """Print what a collection holds and what it takes, in RAM and on disk."""
    with closing(open_place(path, read_only=True)) as collection:
        info = collection.info()
        sources = read_sources(collection)
    if as_json:
        print_json(info.to_dict() | {"sources": {name: record.path for name, record in sources.items()}})
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = _local(info) if isinstance(info, CollectionInfo) else _in_qdrant(info)
    if sources:
        rows["sources"] = ", ".join(f"{name} ({record.path})" for name, record in sources.items())
    for name, value in rows.items():
        table.add_row(name, Text(printable(value)))
    console().print(table)


def _local(info: CollectionInfo) -> dict[str, str]:
    waiting = "" if info.fitted else f" (fitted from {info.fit_after:,} documents on; float32 until then)"
    return {
        "path": str(info.path),
        "documents": f"{info.documents:,}",
        "codec": f"{info.codec}{waiting}",
        "metric": info.metric,
        "dimension": str(info.dim) if info.dim else "not known yet",
        "encoder": info.encoder or "none (vectors were given)",
        **_reencoding(info),
        "full text": info.full_text,
        "tiers": "; ".join(f"{tier['values']} x {tier['type']}, {tier['row_bytes']} bytes" for tier in info.tiers),
        "dead rows": f"{info.dead_slots:,}",
        "in RAM": _parts(info.ram_bytes, info.ram, info.ram_bytes_per_document),
        "on disk": _parts(info.disk_bytes, info.disk, info.disk_bytes_per_document),
        "format": f"version {info.format_version}, generation {info.generation}, {info.commits:,} commits",
        "versions": ", ".join(f"{name} {version}" for name, version in info.versions.items()),
    }


def _reencoding(info: Any) -> dict[str, str]:
    """Return what there is to say of a change of the model."""
    state = info.reencoding
    if state is None:
        return {}
    left = f", about {human_duration(state['seconds_left'])} left" if state["seconds_left"] is not None else ""
    return {
        "re-encoding": f"with {state['encoder']} ({state['codec']}): {state['documents']:,} of {state['of']:,} documents "
        f"({state['share']:.0%}){left}; {human_bytes(state['bytes'])} so far, at most {human_bytes(state['bytes_in_all'])} "
        f"beside the old vectors; searches are answered by {'both models' if state['serve'] == 'both' else 'the old one'}"
    }


def _in_qdrant(info: Any) -> dict[str, str]:
    searched = f", searched as {info.quantization} codes" if info.quantization else ""
    return {
        "place": info.place,
        "documents": f"{info.documents:,}",
        "codec": info.codec,
        "metric": info.metric,
        "dimension": str(info.dim) if info.dim == info.stored_dim else f"{info.dim}, stored as {info.stored_dim}",
        "encoder": info.encoder or "none (vectors were given)",
        **_reencoding(info),
        "full text": info.full_text,
        "in Qdrant": f"{info.datatype}{searched}; {info.segments} segments, {info.indexed:,} vectors in graphs",
        "server": ", ".join(f"{name} {value}" for name, value in info.details.items()) or "none, in this process",
    }


def _parts(total: int, parts: dict[str, int], each: float) -> str:
    listed = ", ".join(f"{name} {human_bytes(size)}" for name, size in parts.items())
    return f"{human_bytes(total)} ({listed}); {each:,.0f} bytes a document"
