"""``octavo plan``: what a collection will take, before it is built."""

from __future__ import annotations

import re
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table

from octavo._printing import console, human_bytes, print_json
from octavo.cli._app import app
from octavo.cli._options import Json
from octavo.errors import ParameterError
from octavo.eval.analysis.pareto import parse_bytes
from octavo.planning import FanOut, Hardware, Plan, ShardLatency, Workload, plan, simulate_fan_out


class PageModel(StrEnum):
    """Models of page images."""

    colpali = "colpali"
    colqwen2 = "colqwen2"


class _Page(NamedTuple):
    """What a model gives for a page: vectors, those that are no patches among them, and their dimension."""

    vectors: float
    others: float
    dim: int


#: ColPali always has 32 x 32 patches; ColQwen2 as many as the page is large, 768 at most as it was trained.
_PAGES = {PageModel.colpali: _Page(1030, 6, 128), PageModel.colqwen2: _Page(779, 11, 128)}

#: Numbers of shards that a simulation looks at.
SHARDS = (1, 2, 4, 8, 16, 32, 64, 128)
_HEDGED_AT = 95.0


@app.command("plan")
def plan_command(
    documents: Annotated[
        str, typer.Option("--documents", "-n", metavar="N", help="Documents, e.g. 50M or 1e9.", show_default=False)
    ],
    dim: Annotated[
        int | None,
        typer.Option(
            help="Dimension of the vectors (of the token vectors).", show_default="that of --pages, else asked for"
        ),
    ] = None,
    pages: Annotated[
        PageModel | None,
        typer.Option(
            help="Documents are page images: sets --dim, --tokens and what pooling leaves alone to what such a model gives for "
            "a page. Set --pool-factor to 3 or 9, and --text-bytes to what recognised text there is.",
            show_default="texts",
        ),
    ] = None,
    image_bytes: Annotated[
        float,
        typer.Option(help="Bytes of an image file that is stored with a document; 0: images stay where they lie."),
    ] = 0.0,
    codec: Annotated[str, typer.Option(help="Compression, as in octavo index.")] = "int8",
    text_bytes: Annotated[float, typer.Option(help="UTF-8 bytes of a document's text, on average.")] = 1000.0,
    metadata_bytes: Annotated[float, typer.Option(help="Bytes of its metadata as JSON, on average.")] = 100.0,
    metadata_fields: Annotated[float, typer.Option(help="Values in its metadata, on average.")] = 4.0,
    id_bytes: Annotated[float, typer.Option(help="Bytes of its id, on average.")] = 16.0,
    tokens: Annotated[
        float | None,
        typer.Option(
            help="Late interaction: token vectors of a document, on average.", show_default="one vector a document"
        ),
    ] = None,
    sparse_terms: Annotated[
        float, typer.Option(help="Terms of a document's learned sparse vector, on average; SPLADE gives about 180.")
    ] = 0.0,
    pool_factor: Annotated[int, typer.Option(help="With --tokens: tokens pooled into one.")] = 2,
    index: Annotated[str, typer.Option(help="What finds candidates on one machine: cells or graph.")] = "cells",
    connectivity: Annotated[int, typer.Option(help="Links of a graph.")] = 16,
    ram_per_node: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory of a machine, e.g. 64GB or 64GiB.")
    ] = "64GB",
    disk_per_node: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Disk of a machine.", show_default="as much as it takes")
    ] = None,
    cores: Annotated[int, typer.Option(help="Cores of a machine.")] = 8,
    replicas: Annotated[int, typer.Option(help="Copies of each document on the cluster, the first included.")] = 2,
    encode_rate: Annotated[
        float | None,
        typer.Option(
            help="Documents a second that all your encoders together manage; measure it, models differ a thousandfold.",
            show_default="no hours for encoding",
        ),
    ] = None,
    simulate: Annotated[
        Path | None,
        typer.Option(
            "--simulate",
            metavar="FILE",
            help="Also simulate what waiting for many shards costs, and draw it (.svg or .png; needs octavo\\[eval]).",
            show_default=False,
        ),
    ] = None,
    shard_p50: Annotated[
        float, typer.Option(help="With --simulate: milliseconds of one shard's answer, median.")
    ] = 5.0,
    stall_share: Annotated[float, typer.Option(help="With --simulate: share of answers that are stalled.")] = 0.01,
    stall_ms: Annotated[
        float, typer.Option(help="With --simulate: milliseconds that a stall adds, on average.")
    ] = 50.0,
    as_json: Json = False,
) -> None:
    """Estimate bytes, machines and hours for a collection, on one machine and on a Qdrant cluster.

    Arithmetic over bytes and rates that were measured; docs/scale.md has the formulae and where each number comes from.
    """
    page = _PAGES[pages] if pages is not None else None
    if dim is None:
        if page is None:
            raise ParameterError("expected --dim, the dimension of the vectors, or --pages")
        dim = page.dim
    found = plan(
        Workload(
            documents=_count(documents),
            dim=dim,
            codec=codec,
            text_bytes=text_bytes,
            id_bytes=id_bytes,
            metadata_bytes=metadata_bytes,
            metadata_fields=metadata_fields,
            tokens=tokens if tokens is not None or page is None else page.vectors,
            protected=page.others if page is not None else 1,
            image_bytes=image_bytes,
            pool_factor=pool_factor,
            connectivity=connectivity,
            index=index,
            sparse_terms=sparse_terms,
        ),
        Hardware(
            ram_bytes=parse_bytes(ram_per_node),
            disk_bytes=parse_bytes(disk_per_node) if disk_per_node is not None else None,
            cores=cores,
            replicas=replicas,
            encode_rate=encode_rate,
        ),
    )
    curves = _simulated(ShardLatency(shard_p50, stall_share=stall_share, stall_ms=stall_ms)) if simulate else None
    if simulate is not None and curves is not None:
        from octavo.planning.picture import draw_fan_out  # needs matplotlib

        draw_fan_out(curves, simulate)
    if as_json:
        print_json(_to_dict(found, curves))
        return
    _print(found)
    if page is not None:
        _print_page(found.workload)
    if curves is not None:
        _print_curves(curves, simulate)


def _print_page(workload: Workload) -> None:
    tokens = workload.tokens or 0.0
    console().print(
        f"[bold]A page[/bold]: {tokens:,.0f} vectors of {workload.dim} ({human_bytes(2 * tokens * workload.dim)} in float16); "
        f"pooled by {workload.pool_factor} {workload.stored_tokens:,.0f}, {human_bytes(workload.token_bytes)} in "
        f"{workload.codec}.",
        highlight=False,
    )


def _count(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:[\d,_]*\d)?(?:\.\d+)?(?:e\d+)?)\s*([kMB]?)", text.strip(), re.IGNORECASE)
    if match is None:
        raise ParameterError(f"expected --documents as a number such as 50000000, 50M or 1e9, got {text!r}")
    factor = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}[match[2].lower()]
    return round(float(match[1].replace(",", "").replace("_", "")) * factor)


def _simulated(latency: ShardLatency) -> dict[str, list[FanOut]]:
    return {
        "one replica asked": simulate_fan_out(SHARDS, latency=latency),
        "two replicas, hedged": simulate_fan_out(SHARDS, 2, latency=latency, hedge_percentile=_HEDGED_AT),
    }


def _to_dict(found: Plan, curves: dict[str, list[FanOut]] | None) -> dict[str, Any]:
    local, cluster = found.local, found.cluster
    result = {
        "workload": asdict(found.workload),
        "hardware": asdict(found.hardware),
        "fits_one_machine": found.fits_one_machine,
        "one_machine": asdict(local) | {"ram_bytes": local.ram_bytes, "disk_bytes": local.disk_bytes},
        "cluster": asdict(cluster) | {"ram_bytes": cluster.ram_bytes, "disk_bytes": cluster.disk_bytes},
    }
    if curves is not None:
        result["fan_out"] = {name: [point.to_dict() for point in points] for name, points in curves.items()}
    return result


def _print(found: Plan) -> None:
    out, local, cluster = console(), found.local, found.cluster
    n = found.workload.documents
    verdict = "enough" if found.fits_one_machine else "not enough"
    out.print(
        f"[bold]One machine[/bold] with {human_bytes(found.hardware.ram_bytes)} of memory is {verdict} for "
        f"{n:,} documents, codec {found.workload.codec}.",
    )
    out.print(_table({"in RAM": (local.ram_bytes, local.ram), "on disk": (local.disk_bytes, local.disk)}, n))
    out.print(f"Adding ready vectors: {_hours(local.add_hours)} on one core.\n")
    reason = {
        "memory": "as their memory demands",
        "disk": "as their disks demand",
        "replicas": "fewer would not survive the loss of one",
    }[cluster.decided_by]
    out.print(
        f"[bold]Qdrant cluster[/bold]: {cluster.nodes} nodes ({reason}), {cluster.shards} shards of at most "
        f"{cluster.documents_per_shard:,} documents, {cluster.replicas} replicas. Of each node:"
    )
    out.print(_table({"in RAM": (cluster.ram_bytes, cluster.ram), "on disk": (cluster.disk_bytes, cluster.disk)}, None))
    out.print(f"Storing and linking: {_hours(cluster.write_hours)} on {found.hardware.cores} cores a node.")
    if cluster.encode_hours is not None:
        out.print(f"Encoding: {_hours(cluster.encode_hours)} at {found.hardware.encode_rate:,.0f} documents a second.")


def _table(rows: dict[str, tuple[float, dict[str, float]]], documents: int | None) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, (total, parts) in rows.items():
        listed = ", ".join(f"{part} {human_bytes(size)}" for part, size in parts.items())
        each = f"; {total / documents:,.0f} bytes a document" if documents else ""
        table.add_row(f"  {name}", f"{human_bytes(total)} ({listed}){each}")
    return table


def _hours(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"


def _print_curves(curves: dict[str, list[FanOut]], picture: Path | None) -> None:
    table = Table(title="Simulated milliseconds of a query that waits for all of its shards")
    table.add_column("shards", justify="right")
    for name in curves:
        for percentile in ("p50", "p95", "p99"):
            table.add_column(f"{name}, {percentile}", justify="right")
    for number, shards in enumerate(SHARDS):
        points = [points[number] for points in curves.values()]
        table.add_row(str(shards), *(f"{v:.1f}" for p in points for v in (p.p50_ms, p.p95_ms, p.p99_ms)))
    out = console()
    out.print(table)
    extra = curves["two replicas, hedged"][-1].extra_requests
    out.print(f"Hedging sends {extra:.1%} of the requests a second time. Drawn in {picture}.", markup=False)
