"""``octavo demo``: see it work on this machine, offline."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from octavo._printing import console, human_bytes, note, print_json, printable
from octavo._progress import progress_bar
from octavo.cli._app import FAILURE, app
from octavo.cli._encoders import DEFAULT_MODEL, load_encoder
from octavo.cli._options import Json
from octavo.demo.run import KEPT, DemoOptions, DemoReport, run_demo
from octavo.errors import ParameterError

_SHOWN = 90


@app.command("demo")
def demo_command(
    documents: Annotated[
        int | None,
        typer.Option(
            "--documents",
            "-n",
            help="Documents to index.",
            show_default="4000, fewer where encoding them would take longer than 75 seconds",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="DIR",
            help="Keep the collections in this directory, which must be empty.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    r"""Index the documentation strings of Python's standard library, compressed and uncompressed, and search them.

    Works offline: the corpus comes with Python and the model all-MiniLM-L6-v2 with the extra octavo\[demo]. Shows what
    each codec takes and how far it agrees with float32, asks one question through plain Python, LangChain and
    LlamaIndex, then kills a process while it writes and opens what is left. Exit code 1 if anything was lost.
    """
    start = time.perf_counter()
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise ParameterError(f"expected an empty or new directory to keep the collections in, got {str(keep)!r}")
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="octavo-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        note(f"Loading {DEFAULT_MODEL}")
        encoder = load_encoder(DEFAULT_MODEL)
        with ExitStack() as bars:
            report = run_demo(DemoOptions(folder, documents), encoder, lambda what, steps: _begin(bars, what, steps))
    seconds = time.perf_counter() - start
    if as_json:
        print_json({**report.to_dict(), "seconds": seconds})
    else:
        _print(report, seconds, keep)
    if report.crash is not None and not report.crash.ok:
        raise typer.Exit(FAILURE)


def _begin(bars: ExitStack, what: str, steps: int) -> Callable[[int], object]:
    bars.close()  # the bar of the step before
    note(what)
    return bars.enter_context(progress_bar(what, steps)) if steps else lambda done: None


def _print(report: DemoReport, seconds: float, keep: Path | None) -> None:
    out = console()
    _print_corpus(out, report)
    _print_codecs(out, report)
    _print_answers(out, report)
    _print_crash(out, report)
    out.print()
    if keep is not None:
        example = f'octavo search --path "{keep / KEPT}" "parse a date"'
        out.print(f"The collections are in {keep}; try: {example}", markup=False, soft_wrap=True)
    out.print(f"{seconds:.0f} seconds in all.")


def _print_corpus(out: Console, report: DemoReport) -> None:
    rate = (report.documents + report.queries) / report.encoding_s
    out.print(
        f"\n[bold]1. Corpus.[/bold] {report.documents:,} of the {report.available:,} documentation strings of Python "
        f"{report.python}'s standard library, encoded with {DEFAULT_MODEL} in {report.encoding_s:.0f} s "
        f"({rate:.0f} a second)."
    )
    if report.cut_short:
        out.print("   This machine is slow at encoding, so the demo stopped there; --documents N insists on N.")


def _print_codecs(out: Console, report: DemoReport) -> None:
    baseline = report.codecs[0]
    out.print(
        f"\n[bold]2. The same vectors, stored four ways.[/bold] Bytes a document; top 10 of {report.queries} queries "
        "(docstrings that are not indexed) compared with those of float32; time of one search by vector."
    )
    table = Table()
    table.add_column("codec")
    for name in ("vectors", "in RAM", "on disk", "same top 10", "p50"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.codecs:
        times = baseline.ram_bytes / row.ram_bytes
        table.add_row(
            row.codec,
            f"{row.vector_bytes:,.0f} B",
            f"{row.ram_bytes:,.0f} B" + (f" ({times:.0f}x less)" if row is not baseline else ""),
            human_bytes(row.disk_bytes),
            f"{row.agreement:.1%}",
            f"{row.latency_ms:.2f} ms",
        )
    out.print(table)
    out.print("On disk with texts, metadata and their index. A second tier is read from disk to rescore.", style="dim")


def _print_answers(out: Console, report: DemoReport) -> None:
    out.print(f"\n[bold]3. One question, three interfaces.[/bold] {report.question}")
    for name, answers in report.answers.items():
        out.print(f"   {name}", style="bold")
        for identifier in answers.ids:
            text = printable(report.texts[identifier])
            out.print(f"     {text if len(text) <= _SHOWN else text[:_SHOWN] + ' …'}", markup=False, soft_wrap=True)
        if answers.prompt is not None:
            out.print("     The chain ends in this prompt (no language model is at hand offline):", style="dim")
            for line in answers.prompt.splitlines():
                out.print(f"     | {printable(line)}", markup=False, style="dim", soft_wrap=True)
    for name, command in report.missing.items():
        out.print(f"   {name}: not installed. Install it: {command}", markup=False, soft_wrap=True)


def _print_crash(out: Console, report: DemoReport) -> None:
    crash = report.crash
    assert crash is not None  # the demo's last step
    out.print("\n[bold]4. A writer killed with SIGKILL in the middle of writing.[/bold]")
    more = crash.found - crash.acknowledged
    also = f", {more} of them committed but not yet acknowledged" if more else ""
    out.print(f"   Acknowledged before the kill: {crash.acknowledged:,} documents.")
    out.print(f"   Found after opening it again in {crash.reopen_s * 1000:.0f} ms: {crash.found:,}{also}.")
    verdict = "nothing lost, no half batch, every file matches its checksum" if crash.ok else "DAMAGED"
    out.print(
        f"   Lost: {crash.lost}. In half a batch: {crash.partial}. Verify: {len(crash.problems)} problems. {verdict}."
    )
    for problem in crash.problems:
        out.print(f"   problem: {printable(problem)}", markup=False, soft_wrap=True)
