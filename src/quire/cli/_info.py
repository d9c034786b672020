"""``quire info``: what a collection holds and what it takes."""

from __future__ import annotations

from rich.table import Table

import quire
from quire.cli._app import app
from quire.cli._options import CollectionArgument, Json
from quire.cli._output import console, human_bytes, print_json


@app.command("info")
def info_command(path: CollectionArgument, as_json: Json = False) -> None:
    """Print what a collection holds and what it takes, in RAM and on disk."""
    with quire.open(path, read_only=True, must_exist=True) as collection:
        info = collection.info()
    if as_json:
        print_json(info.to_dict())
        return
    waiting = "" if info.fitted else f" (fitted from {info.fit_after:,} documents on; float32 until then)"
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in {
        "path": str(info.path),
        "documents": f"{info.documents:,}",
        "codec": f"{info.codec}{waiting}",
        "metric": info.metric,
        "dimension": str(info.dim) if info.dim else "not known yet",
        "encoder": info.encoder or "none (vectors were given)",
        "full text": info.full_text,
        "tiers": "; ".join(f"{tier['values']} x {tier['type']}, {tier['row_bytes']} bytes" for tier in info.tiers),
        "dead rows": f"{info.dead_slots:,}",
        "in RAM": _parts(info.ram_bytes, info.ram, info.ram_bytes_per_document),
        "on disk": _parts(info.disk_bytes, info.disk, info.disk_bytes_per_document),
        "format": f"version {info.format_version}, generation {info.generation}, {info.commits:,} commits",
        "versions": ", ".join(f"{name} {version}" for name, version in info.versions.items()),
    }.items():
        table.add_row(name, value)
    console().print(table)


def _parts(total: int, parts: dict[str, int], each: float) -> str:
    listed = ", ".join(f"{name} {human_bytes(size)}" for name, size in parts.items())
    return f"{human_bytes(total)} ({listed}); {each:,.0f} bytes a document"
