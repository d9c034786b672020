"""``octavo eval run``: measure configurations, write the results down, recommend one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from octavo._files import write_atomically
from octavo._printing import echo, print_json
from octavo.encoders.models import is_attribute, load_attribute
from octavo.errors import MissingExtraError, OctavoError, ParameterError
from octavo.eval.analysis.grid import grids
from octavo.eval.analysis.pareto import pareto
from octavo.eval.analysis.select import common_measures, group, with_all, with_earlier
from octavo.eval.analysis.tables import average, markdown
from octavo.eval.baselines import DEFAULT_BASELINES
from octavo.eval.cli._options import IgnoreIdenticalIds, Vectors
from octavo.eval.configurations import WITHOUT_VECTORS, Configuration
from octavo.eval.datasets import Dataset, load_dataset
from octavo.eval.gates import Gate
from octavo.eval.results import Result, load_results
from octavo.eval.running.measures import DEFAULT_MEASURES
from octavo.eval.running.runner import run
from octavo.eval.running.sweeps import Shape, expand_all, expand_sweep, read_plan
from octavo.eval.running.timing import Timing
from octavo.eval.vectors import ReadyVectors

#: What is measured when nobody says what: the reference, the default, and two that take far less memory.
DEFAULT_CODECS = ("float32", "int8", "rabitq:1 > int8", "rabitq:4")

FAILURE = 1

_SWEEP, _HOW, _OUTPUT = "What to measure", "How", "Output"


def run_command(
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            "-d",
            metavar="SOURCE",
            show_default=False,
            help="A BEIR or TREC folder, a CSV of questions, mteb:TASK or hf:OWNER/NAME. Repeat for several.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Judgements to use.", show_default="test, or the only ones")] = None,
    corpus: Annotated[
        str | None, typer.Option(metavar="PATH", help="Documents, if not beside the questions.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="A sentence-transformers model, its folder, or module:attribute for a callable of your own.",
        ),
    ] = None,
    vectors: Vectors = None,
    ignore_identical_ids: IgnoreIdenticalIds = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(
            "--codec", "-c", help="Repeat for several.", rich_help_panel=_SWEEP, show_default=", ".join(DEFAULT_CODECS)
        ),
    ] = None,
    dims: Annotated[
        list[str] | None,
        typer.Option(
            help="Dimensions to keep, 64 or 50%, with --quantizer.", rich_help_panel=_SWEEP, show_default=False
        ),
    ] = None,
    quantizer: Annotated[
        list[str] | None,
        typer.Option(help="Goes with every --dims.", rich_help_panel=_SWEEP, show_default="float32"),
    ] = None,
    reducer: Annotated[
        list[str] | None,
        typer.Option(help="truncate, svd or pca; goes with --dims.", rich_help_panel=_SWEEP, show_default="truncate"),
    ] = None,
    layers: Annotated[
        list[int] | None,
        typer.Option(help="Transformer layers to keep (2D-Matryoshka).", rich_help_panel=_SWEEP, show_default="all"),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="Layers and dimensions as in 2DMSE or Starbucks.", rich_help_panel=_SWEEP, show_default=False
        ),
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(help="dense, text, sparse, hybrid or late.", rich_help_panel=_SWEEP, show_default="dense"),
    ] = None,
    sparse: Annotated[
        list[str] | None,
        typer.Option(
            help="What makes learned sparse vectors: a model of sentence_transformers.SparseEncoder, its folder, or "
            "module:attribute.",
            rich_help_panel=_SWEEP,
            show_default=False,
        ),
    ] = None,
    rank: Annotated[
        list[str] | None,
        typer.Option(
            help="Hybrid: what is fused, e.g. dense,text,sparse.", rich_help_panel=_SWEEP, show_default="dense,text"
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Hybrid: what each weighs, e.g. 0.5,0.2,0.3.", rich_help_panel=_SWEEP, show_default="reciprocal ranks"
        ),
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            help="title: embedded and found by words, but not returned; no-title: titles left out.",
            rich_help_panel=_SWEEP,
            show_default="part of the texts",
        ),
    ] = None,
    oversample: Annotated[
        list[float] | None,
        typer.Option(help="Candidates rescored per result.", rich_help_panel=_SWEEP, show_default="the codec's own"),
    ] = None,
    ef: Annotated[
        list[int] | None,
        typer.Option(help="Nodes a graph search keeps in view.", rich_help_panel=_SWEEP, show_default="the planner's"),
    ] = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(help="Hybrid: weight of the vectors.", rich_help_panel=_SWEEP, show_default="reciprocal ranks"),
    ] = None,
    pool_factor: Annotated[
        list[int] | None,
        typer.Option(
            help="Late interaction: tokens per vector; with hybrid, too.", rich_help_panel=_SWEEP, show_default="2"
        ),
    ] = None,
    n_candidates: Annotated[
        list[int] | None,
        typer.Option(help="Late interaction: documents scored.", rich_help_panel=_SWEEP, show_default="400 or more"),
    ] = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            help="Late interaction: found by vectors, text, both or sparse.",
            rich_help_panel=_SWEEP,
            show_default="vectors",
        ),
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--graph", help="Force the exact scan or the graph.", rich_help_panel=_SWEEP, show_default="planner"
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="cosine or dot.", rich_help_panel=_SWEEP, show_default="cosine")
    ] = None,
    store: Annotated[
        list[str] | None,
        typer.Option(
            help="What keeps the documents: local or qdrant (its core in this process). Repeat for both.",
            rich_help_panel=_SWEEP,
            show_default="local",
        ),
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file of configurations; flags add to it.",
            rich_help_panel=_SWEEP,
            show_default=False,
        ),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help=f"Also measure {', '.join(DEFAULT_BASELINES)}.", rich_help_panel=_SWEEP)
    ] = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="One such reference scheme; repeat for several.", rich_help_panel=_SWEEP, show_default=False),
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measures",
            "-m",
            help="As ir-measures names them.",
            rich_help_panel=_HOW,
            show_default=" ".join(DEFAULT_MEASURES),
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything random.", rich_help_panel=_HOW, show_default="0")
    ] = None,
    timed_queries: Annotated[
        int, typer.Option(help="Queries timed one by one.", rich_help_panel=_HOW)
    ] = Timing.queries,
    repeats: Annotated[int, typer.Option(help="How often each is timed.", rich_help_panel=_HOW)] = Timing.repeats,
    force: Annotated[bool, typer.Option("--force", help="Run again what has been run.", rich_help_panel=_HOW)] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            envvar="OCTAVO_CACHE",
            metavar="DIR",
            help="Embeddings kept between runs.",
            rich_help_panel=_HOW,
            show_default=".cache in --out",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Results and run files.", rich_help_panel=_OUTPUT, show_default="runs"
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html and recommend one.", rich_help_panel=_OUTPUT)
    ] = True,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            rich_help_panel=_OUTPUT,
            show_default=False,
            help="Exit with 1 unless 'nDCG@10=0.99x' (of float32) or 'agreement=0.95' holds everywhere.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of text.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Build collections with every configuration, search them, and write down quality, bytes and time.

    Options that take several values multiply. What was measured before, with the same data, model and configuration, is
    not measured again; what else --out holds of the same data and model counts for the recommendation and for conditions
    relative to float32. summary.md and report.html are over everything that --out holds.
    """
    gates = [Gate.parse(text) for text in fail_under or ()]
    plan = read_plan(sweep) if sweep is not None else {}
    model = model if model is not None else plan.get("model")
    entry = {
        "codec": codec, "dims": [_size(size) for size in dims or ()], "quantizers": quantizer, "reducer": reducer,
        "layers": layers, "grid": grid, "mode": mode, "oversample": oversample, "ef": ef, "alpha": alpha,
        "pool_factor": pool_factor, "n_candidates": n_candidates, "candidates": candidates, "exact": exact, "metric": metric,
        "store": store, "sparse": sparse, "rank": rank, "weights": weights, "context": context,
    }  # fmt: skip
    wanted = list(baseline or ())
    asked = plan.get("baselines", False)
    wanted += [*asked] if isinstance(asked, list) else []
    wanted += DEFAULT_BASELINES if baselines or asked is True else ()
    configurations = _configurations(
        {key: value for key, value in entry.items() if value not in (None, [])}, plan, wanted, model
    )
    place = out if out is not None else Path(plan.get("out", "runs"))
    datasets = _datasets(data, plan, split, corpus, ignore_identical_ids)
    results = run(
        datasets,
        model,
        configurations,
        vectors=_vectors(vectors, plan),
        measures=measures or _several(plan.get("measures")) or DEFAULT_MEASURES,
        out=place,
        cache=cache,
        seed=seed if seed is not None else int(plan.get("seed", 0)),
        timing=Timing(queries=timed_queries, repeats=repeats),
        force=force,
        progress=not as_json,
        command=shlex.join(["octavo", *sys.argv[1:]]),
        note=lambda message: echo(message, err=True),
    )
    earlier = load_results(place)
    known = with_earlier(results, earlier)
    everything = with_all(results, earlier)
    text = markdown(known)
    write_atomically(place / "summary.md", markdown(everything))
    failures = _failures(results, gates, known)
    advice = _advice(known, everything, datasets, place) if report else {}
    if as_json:
        print_json(_as_json(results, known[len(results) :], failures, advice))
    else:
        echo(text)
        for line in advice.values():
            echo(line)
    for failure in failures:
        echo(f"failed: {failure}", err=True)
    if failures:
        raise typer.Exit(FAILURE)


def _configurations(
    flags: dict[str, Any], plan: dict[str, Any], baselines: Sequence[str], model: Any
) -> list[Configuration]:
    shape = Shape(lambda: _shape(model))
    reference = [Configuration(baseline=name) for name in baselines]
    found = expand_all(plan.get("configurations", ()), shape)
    if found and not flags:
        return [*found, *reference]
    modes = set(flags.get("mode", ["dense"]))
    if not modes <= set(WITHOUT_VECTORS) and not {"codec", "dims", "grid"} & set(flags):
        flags = {**flags, "codec": list(DEFAULT_CODECS) if modes != {"late"} else ["int8"]}
    return [*found, *expand_sweep(flags, shape), *reference]


def _size(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _several(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _datasets(
    flags: list[str] | None, plan: dict[str, Any], split: str | None, corpus: str | None, ignore: bool | None
) -> list[Dataset]:
    sources = flags or _several(plan.get("data"))
    if not sources:
        raise ParameterError("expected at least one data set; give its folder with --data")
    split = split if split is not None else plan.get("split")
    corpus = corpus if corpus is not None else plan.get("corpus")
    ignore = ignore if ignore is not None else plan.get("ignore_identical_ids")
    return [load_dataset(source, split=split, corpus=corpus, ignore_identical_ids=ignore) for source in sources]


def _vectors(flag: tuple[str, str] | None, plan: dict[str, Any]) -> list[ReadyVectors] | None:
    """Return the ready vectors of each data set, from a pair of files or, in a plan, several pairs."""
    given = list(flag) if flag is not None else plan.get("vectors")
    if given is None:
        return None
    pairs = [given] if isinstance(given, list) and all(isinstance(one, str) for one in given) else given
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ParameterError(f"expected vectors as a pair of files, of documents and of queries, got {given!r}")
    return [ReadyVectors.read(documents, queries) for documents, queries in pairs]


def _shape(model: str | None) -> tuple[int, int]:
    """Return layers and dimensions of a model."""
    from octavo.encoders.layers import layer_count
    from octavo.encoders.models import load_sentence_transformer

    if model is None:
        raise ParameterError("a grid needs --model")
    loaded = load_attribute(model) if is_attribute(model) else model
    transformer = load_sentence_transformer(loaded) if isinstance(loaded, str) else loaded
    layers = layer_count(transformer)
    return layers, len(transformer.encode("How long is a vector?", show_progress_bar=False))


def _failures(results: Sequence[Result], gates: Sequence[Gate], known: Sequence[Result]) -> list[str]:
    broken = [
        f"{result.dataset.name}: {result.label}: {check.name}: {check.detail}"
        for result in results
        for check in result.checks
        if not check.ok
    ]
    return [*broken, *(failure for gate in gates for failure in gate.failures(results, known))]


def _advice(
    results: Sequence[Result], everything: Sequence[Result], datasets: Sequence[Dataset], out: Path
) -> dict[str, str]:
    """Return what to use and where the pictures are, as far as they can be had: the measurements stand without them."""
    from octavo.eval.report import find_explanation
    from octavo.eval.report import report as write_report

    found: dict[str, str] = {}
    try:
        choice = pareto(results)
        found["recommendation"] = choice.sentences[0]
        found["recipe"] = choice.recipe.python
        if choice.cheap is not None and choice.cheap_recipe is not None:
            found["cheaper"] = choice.sentences[1]
            found["cheaper_recipe"] = choice.cheap_recipe.python
    except (OctavoError, ValueError) as error:
        found["recommendation"] = f"No recommendation: {error}"
    groups, _ = group(results)
    shared = common_measures([result for one in groups for result in one.results])
    for number, size in enumerate(grids(groups, shared[0]) if shared else []):
        found[f"grid_{number + 1}" if number else "grid"] = size.sentence
    # Ids of several data sets may clash; without texts the page shows ids.
    one = len(datasets) == 1 and len({result.dataset.fingerprint for result in everything}) == 1
    texts = dict(zip(datasets[0].query_ids, datasets[0].queries, strict=True)) if one else {}
    try:
        page = write_report(everything, out=out / "report.html", texts=texts, explain=find_explanation(out, everything))
        found["report"] = f"The picture: {page.html}"
    except MissingExtraError as error:
        found["report"] = f"No picture: {error}"
    except ParameterError as error:
        found["report"] = f"No picture: {error}"
    return found


def _as_json(
    results: Sequence[Result], earlier: Sequence[Result], failures: Sequence[str], advice: dict[str, str]
) -> dict[str, Any]:
    return {
        "results": [_without_queries(result) for result in results],
        "earlier": [_without_queries(result) for result in earlier],
        "averages": [row.to_dict() for row in average([*results, *earlier])],
        "failures": list(failures),
        **advice,
    }


def _without_queries(result: Result) -> dict[str, Any]:
    values = result.to_dict()
    values.pop("per_query")
    values["agreement"].pop("per_query")
    return values
