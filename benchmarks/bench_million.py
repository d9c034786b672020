"""A million documents beside rivals: latency at equal recall, memory, build, disk, on one core and on two.

    python benchmarks/corpora.py --data ../shared/data --out embeddings/
    python benchmarks/bench_million.py --embeddings embeddings/ --work million/ --report docs/benchmarks.md

Each system builds and searches in processes of its own, on the same vectors (see ``million_data.py``), with the settings that
stand in ``rivals/``. A search step follows a curve over the system's search parameter; the tables compare at the cheapest
setting that reaches a recall@10 against exact float32 search, on questions that are not documents, one query at a time, warm.

What has been measured is kept in ``--work`` and not measured again (``--again`` does), so that a run can be interrupted, or
split: ``--steps build`` first, ``--steps search,extras`` when the machine is idle. Builds use ``--build-cores``, searches are
measured with each of ``--cores``; one core is one by CPU affinity. A build that takes longer than ``--build-limit`` is
killed and reported so. ``--growth 10000,100000,1000000`` does the same with Octavo alone at several sizes and draws a picture;
``--insertion`` measures recall against insertion order.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rivals import SYSTEMS

STEPS = ("build", "search", "extras")
CHILD = Path(__file__).resolve()
TOO_SLOW = "not done within"


def slug(name: str) -> str:
    """Return a file name for a system."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def step(kind: str, name: str, data: Path, home: Path, cores: int, limit: float, arguments: Any) -> dict[str, Any]:
    """Run one step in a process of its own unless its result is there; what went wrong is a result, too."""
    target = home / (f"{kind}.json" if kind != "search" else f"search-{cores}.json")
    if target.is_file() and not arguments.again:
        known: dict[str, Any] = json.loads(target.read_text())
        # A failure may have been mended since, for instance by installing the package; too slow stays too slow.
        if "error" not in known or (known["error"].startswith(TOO_SLOW) and limit <= known["limit"]):
            return known
    folder = home / "artefacts"
    if kind == "build":
        target.unlink(missing_ok=True)  # were this run interrupted, a search would take half a build for the whole
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    draft = target.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    command = [sys.executable, str(CHILD), "--child", kind, "--system", name, "--data", str(data)]
    command += ["--folder", str(folder), "--result", str(draft), "--cores", str(cores)]
    command += ["--search-seconds", str(arguments.search_seconds)]
    # Whatever pool a package brings, it is to have as many threads as there are cores.
    pools = ("OMP", "OPENBLAS", "MKL", "RAYON", "TOKIO_WORKER", "LANCE_CPU", "LANCE_IO")
    names = [
        f"{pool}_THREADS" if pool in ("TOKIO_WORKER", "LANCE_CPU", "LANCE_IO") else f"{pool}_NUM_THREADS"
        for pool in pools
    ]
    start = time.perf_counter()
    with (home / f"{target.stem}.log").open("wb") as log:
        child = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | dict.fromkeys(names, str(cores)),
            preexec_fn=lambda: os.sched_setaffinity(0, set(sorted(allowed())[:cores])),
            start_new_session=True,
        )
        try:
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if code == 0 and draft.is_file():
        result = json.loads(draft.read_text())
    elif code is None:
        result = {"error": f"{TOO_SLOW} {limit:g} s", "limit": limit}
    else:
        lines = (home / f"{target.stem}.log").read_text(errors="replace").strip().splitlines()
        result = {"error": f"exit {code}: {lines[-1][:200] if lines else 'no message'}"}
    result |= {"wall_s": time.perf_counter() - start, "at": time.strftime("%Y-%m-%d %H:%M"), "load": os.getloadavg()[0]}
    draft.write_text(json.dumps(result))
    os.replace(draft, target)
    return result


def allowed() -> set[int]:
    """Return the cores that this process may use."""
    return os.sched_getaffinity(0)


def run(names: list[str], n: int, home: Path, data: Path, arguments: Any) -> None:
    """Do every step of every system; a system that fails or takes too long does not stop the others."""
    for name in names:
        folder = home / slug(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "system.json").write_text(json.dumps({"system": name, "documents": n}))
        built = folder / "build.json"
        if "build" in arguments.steps:
            done = step("build", name, data, folder, arguments.build_cores, arguments.build_limit, arguments)
            _say(name, "build", done)
        if not built.is_file() or "error" in json.loads(built.read_text()):
            continue
        if "search" in arguments.steps:
            for cores in arguments.cores:
                _say(
                    name,
                    f"search, {cores} core(s)",
                    step("search", name, data, folder, cores, arguments.limit, arguments),
                )
        if "extras" in arguments.steps and name.startswith("Octavo"):
            _say(name, "extras", step("extras", name, data, folder, 1, 3 * arguments.limit, arguments))
        if arguments.tidy:
            shutil.rmtree(folder / "artefacts", ignore_errors=True)


def _say(name: str, what: str, result: dict[str, Any]) -> None:
    short = result.get("error") or f"{result['wall_s']:.1f} s"
    print(f"{time.strftime('%H:%M:%S')} {name}: {what}: {short}", file=sys.stderr, flush=True)


def numbers(text: str) -> list[int]:
    """Return integers from a list with commas."""
    return [int(part.replace("_", "")) for part in text.split(",")]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--embeddings", type=Path, help="folder with sentences.npy and questions.npy from corpora.py")
    parser.add_argument("--queries", type=int, default=600, help="questions; the first 100 only warm up")
    parser.add_argument("--work", type=Path, default=Path("million"), help="where data, artefacts and results are kept")
    parser.add_argument("--systems", default="", help="parts of names, comma-separated; all by default")
    parser.add_argument("--steps", default=",".join(STEPS), help="which of build, search, extras")
    parser.add_argument("--cores", default="1,2", help="core counts to measure searches with")
    parser.add_argument("--build-cores", type=int, default=min(2, len(allowed())))
    parser.add_argument("--build-limit", type=float, default=900, help="seconds")
    parser.add_argument(
        "--search-seconds", type=float, default=90, help="no new setting of a curve is begun after these"
    )
    parser.add_argument("--limit", type=float, default=400, help="seconds after which a search step is killed")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--tidy", action="store_true", help="delete a system's files once it has been measured")
    parser.add_argument("--report", type=Path, help="Markdown file whose marked sections the tables replace")
    parser.add_argument("--growth", help="sizes: Octavo alone, and a picture")
    parser.add_argument("--picture", type=Path, default=Path("docs/img/growth.svg"))
    parser.add_argument("--insertion", nargs="?", const="random,clustered,lid", help="orders: recall of the graph")
    parser.add_argument("--list", action="store_true", help="show the systems and their expected builds")
    for name in ("--child", "--system"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--data", "--folder", "--result"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.cores = int(arguments.cores) if arguments.child else numbers(arguments.cores)
    arguments.steps = [part.strip() for part in arguments.steps.split(",") if part.strip()]
    if not arguments.child and (unknown := set(arguments.steps) - set(STEPS)):
        parser.error(f"expected steps among {', '.join(STEPS)}, got {', '.join(sorted(unknown))}")
    return arguments


def main() -> None:
    """Run the benchmark, or one step of it."""
    arguments = parse()
    if arguments.child:
        import million_child

        million_child.main(arguments)
        return
    wanted = [part.strip().lower() for part in arguments.systems.split(",") if part.strip()]
    names = [name for name in SYSTEMS if not wanted or any(part in name.lower() for part in wanted)]
    if arguments.list:
        for name in names:
            print(f"{name:32} about {SYSTEMS[name].minutes:g} min for a million on two cores; {SYSTEMS[name].settings}")
        return
    import million_report
    from million_data import prepare

    # Children have sessions of their own; ended this way, `step` still takes its child along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if arguments.insertion:
        import million_order

        data = prepare(arguments.work, arguments.documents, arguments.dim, arguments.embeddings, arguments.queries)
        rows = million_order.measure(data, arguments.insertion.split(","), arguments.build_cores)
        file = arguments.work / f"insertion-{arguments.documents}-{arguments.dim}.json"
        file.write_text(json.dumps(rows))
        million_report.publish(arguments.report, "insertion", million_report.insertion_table(rows, arguments.documents))
        return
    sizes = numbers(arguments.growth) if arguments.growth else [arguments.documents]
    if arguments.growth:
        names = [name for name in names if name.startswith("Octavo")]
    homes = []
    for n in sizes:
        data = prepare(arguments.work, n, arguments.dim, arguments.embeddings, arguments.queries)
        home = arguments.work / f"runs-{data.name.removeprefix('data-')}"
        homes.append(home)
        run(names, n, home, data, arguments)
    if arguments.growth:
        import million_growth

        results = [million_report.load(home) for home in homes]
        (arguments.work / "growth.json").write_text(json.dumps([row for rows in results for row in rows]))
        million_growth.draw(results, arguments.picture)
        million_report.publish(arguments.report, "growth", million_growth.table(results))
        return
    results = million_report.load(homes[0])
    with (homes[0] / "results.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in results)
    marker = f"{arguments.documents}-{arguments.dim}"
    million_report.publish(
        arguments.report, marker, million_report.everything(results, arguments.documents, arguments.dim)
    )


if __name__ == "__main__":
    main()
