"""Damage every file of prepared collections in every way, and see what comes of it.

Each case runs in a forked child of its own: copy a collection, damage one file, open it, ask everything, ``verify()``,
``verify(repair=True)``, ask everything again, open it once more and ask again. The only outcomes that pass:

- the right answers;
- an error of Octavo's own, beside right answers to whatever does not need the damaged part;
- a collection that ``verify(repair=True)`` calls repaired, and that gives the right answers from then on;
- the answers of an earlier commit, all of them from the same one, where a whole `octavo.db` or its log was replaced, cut or
  lost: nothing in the files tells that there were later commits.

With ``--opened``, the file is damaged under a collection that is open and has answered some questions: overwritten in place, or
replaced by another file of its name. SQLite's shared memory is left out then: it is the memory of those who have it open.

What fails: a signal, any other exception (warnings count), a hang, more than twice the memory of the undamaged collection,
and a wrong answer. Run it at low priority, on a file system in memory::

    TMPDIR=/dev/shm nice -n 10 python benchmarks/reliability/corruption_matrix.py --cases 2500 --json outcome.json

One kind of wrong answer is counted and is no failure: that of a database whose own pages are damaged, which only
``verify()`` can know (`docs/reliability.md`, "What is not covered"). The exit status is 1 if there is a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import tantivy  # noqa: F401 - imported before forking, so that its memory is not the children's
import usearch.index  # noqa: F401
from corruption_collections import RECIPES, STATES, answers, plain, prepare, small_indexes
from corruption_damage import Case, cases, damage
from corruption_judge import FAILURES, LIMIT, judge

import octavo

#: Seconds a case may take on a loaded machine; a search takes milliseconds.
TIMEOUT = 180

#: A case may take this multiple of the memory of the undamaged collection.
MEMORY = 2.0

#: Address space that a child may take beyond what it starts with: a forged size shows as a MemoryError.
_SPACE = 2 << 30


@dataclass(frozen=True)
class Result:
    """What came of a case."""

    case: Case
    outcome: str
    detail: str
    peak_kb: int
    seconds: float


def examine(collection: Path, harm: Callable[[], bool] | None = None) -> dict[str, Any] | None:
    """Do to a collection what the module's docstring says; returns everything that came of it.

    Parameters
    ----------
    harm : callable, optional
        Damages it once it is open and has been asked some questions; None comes back where there was nothing to damage.
    """
    warnings.simplefilter("error")
    small_indexes()
    stray: list[str] = []
    threading.excepthook = lambda failed: stray.append(repr(failed.exc_value))
    report: dict[str, Any] = {"stray": stray}
    try:
        with octavo.open(collection, lock_timeout=5, must_exist=True) as kb:
            if harm is not None:
                for _ in islice(answers(kb), 4):
                    pass
                if not harm():
                    return None
            report["first"] = dict(answers(kb))
            for name in ("verify", "repair"):
                try:
                    found = kb.verify(repair=name == "repair")
                    report[name] = {"problems": found.problems, "repaired": found.repaired}
                except octavo.OctavoError as err:
                    report[name] = {"error": type(err).__name__, "message": str(err)}
            report["second"] = dict(answers(kb))
        if report["repair"].get("repaired"):
            with octavo.open(collection, lock_timeout=5, must_exist=True) as kb:
                report["third"] = dict(answers(kb))
    except octavo.OctavoError as err:
        report["stopped"] = {"error": type(err).__name__, "message": str(err)}
    return plain(report)


def in_child(job: Any, result: Path) -> int:
    """Fork; the child writes what `job` returns to `result`. Returns the child's process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(TIMEOUT)  # ends the process even where no Python code runs
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + _SPACE, size + _SPACE))
        result.write_text(json.dumps(job()))
        status = 0
    except BaseException:
        with contextlib.suppress(BaseException):
            result.write_text(json.dumps({"internal": traceback.format_exc()}))
    finally:
        os._exit(status)


def wait(pid: int, result: Path) -> tuple[dict[str, Any], int]:
    """Wait for a child; returns what it wrote (or how it ended) and its peak memory in KB."""
    _, status, usage = os.wait4(pid, 0)
    return outcome_of(status, result), usage.ru_maxrss


def outcome_of(status: int, result: Path) -> dict[str, Any]:
    """Return what a child wrote before it ended, or how it ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return {"hang": TIMEOUT} if number == signal.SIGALRM else {"signal": signal.Signals(number).name}
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def run_case(case: Case, folders: dict[str, Path], seed: int, scratch: Path) -> dict[str, Any] | None:
    """Damage a copy of the case's collection and examine it; None where there was nothing to damage."""
    folder = folders[case.recipe]
    collection = Path(shutil.copytree(folder / "now", scratch / "kb"))
    harm = partial(damage, collection, folder, folder.with_name(f"{folder.name}-twin"), case, seed)
    if case.opened:
        return examine(collection, harm)
    return examine(collection) if harm() else None


def prepared(root: Path, names: Iterable[str] = RECIPES) -> dict[str, Path]:
    """Build the collections of these names, each with a twin from another seed; returns their folders by name."""
    folders = {}
    for name in names:
        for number, suffix in enumerate(("", "-twin")):
            folder = root / (name + suffix)
            folder.mkdir()
            _build(folder, RECIPES[name], number)
        folders[name] = root / name
    return folders


def _build(folder: Path, recipe: Any, seed: int) -> None:
    found, _ = wait(in_child(lambda: prepare(folder, recipe, seed), folder / "result"), folder / "result")
    if found is not None:
        raise RuntimeError(f"{folder.name} could not be built: {found}")


class Matrix:
    """Runs cases on prepared collections.

    Parameters
    ----------
    root : Path
        An empty directory.
    seed : int
        Settles everything that is random.
    names : iterable of str, optional
        Of the collections.
    """

    def __init__(self, root: Path, seed: int, names: Iterable[str] = RECIPES) -> None:
        self._root, self._seed = root, seed
        self.folders = prepared(root, names)
        self.states = {
            path.name: json.loads((path / STATES).read_text())
            for folder in self.folders.values()
            for path in (folder, folder.with_name(f"{folder.name}-twin"))
        }
        gc.collect()
        gc.freeze()  # children need not copy pages for the sake of their collector
        self.undamaged_kb = {name: self._undamaged(name) for name in self.folders}

    def _undamaged(self, name: str) -> int:
        scratch = self._root / "undamaged"
        scratch.mkdir()
        copied = shutil.copytree(self.folders[name] / "now", scratch / "kb")
        report, peak = wait(in_child(lambda: examine(copied), scratch / "result"), scratch / "result")
        outcome, detail = judge(Case(-1, name, "", ""), report, self.states)
        if outcome != "right":
            raise RuntimeError(f"{name} is not right before it is damaged: {outcome}, {detail}")
        shutil.rmtree(scratch)
        return peak

    def cases(self, count: int, only: str = "", *, opened: bool = False) -> list[Case]:
        """Return the first so many cases whose ``recipe/file/kind`` contains `only`."""
        return list(islice(cases(self.folders, self._seed, only, opened=opened), count))

    def run_all(self, chosen: Iterable[Case], jobs: int = 1) -> Iterator[Result]:
        """Run cases, several at a time, leaving out those where there was nothing to damage."""
        waiting = iter(chosen)
        running: dict[int, tuple[Case, Path, float]] = {}
        while True:
            for case in islice(waiting, jobs - len(running)):
                scratch = self._root / f"case-{case.number}"
                scratch.mkdir()
                pid = in_child(partial(run_case, case, self.folders, self._seed, scratch), scratch / "result")
                running[pid] = case, scratch, time.monotonic()
            if not running:
                return
            pid, status, usage = os.wait4(-1, 0)
            case, scratch, started = running.pop(pid)
            report = outcome_of(status, scratch / "result")
            shutil.rmtree(scratch)
            if report is not None:
                yield self._result(case, report, usage.ru_maxrss, time.monotonic() - started)

    def _result(self, case: Case, report: dict[str, Any], peak: int, seconds: float) -> Result:
        outcome, detail = judge(case, report, self.states)
        if peak > MEMORY * self.undamaged_kb[case.recipe]:
            outcome, detail = "memory", f"{peak:,} KB; undamaged {self.undamaged_kb[case.recipe]:,} KB"
        return Result(case, outcome, detail, peak, seconds)


def main() -> int:
    """Run the matrix and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2_500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after so long")
    parser.add_argument("--jobs", type=int, default=1, help="children at a time")
    parser.add_argument(
        "--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="collections to build"
    )
    parser.add_argument("--only", default="", help="only cases whose recipe/file/kind contains this")
    parser.add_argument("--opened", action="store_true", help="damage files while the collection is open")
    parser.add_argument("--json", type=Path, help="write each case's outcome to this file")
    arguments = parser.parse_args()
    started = time.monotonic()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as root:
        matrix = Matrix(Path(root), arguments.seed, arguments.recipes)
        chosen = matrix.cases(arguments.cases, arguments.only, opened=arguments.opened)
        in_time = takewhile(lambda _: time.monotonic() - started < arguments.seconds, chosen)
        for result in matrix.run_all(in_time, arguments.jobs):
            results.append(result)
            if result.outcome in (*FAILURES, LIMIT):
                print(f"{result.outcome}: {asdict(result.case)}\n    {result.detail}", flush=True)
            if len(results) % 100 == 0:
                print(f"{len(results)} cases, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        undamaged = matrix.undamaged_kb
    print(table(results))
    worst = max((result.peak_kb / undamaged[result.case.recipe] for result in results), default=0.0)
    print(f"\n{len(results)} cases, {time.monotonic() - started:.0f} s, memory at most {worst:.2f} times the undamaged")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    return int(any(result.outcome in FAILURES for result in results))


def table(results: list[Result]) -> str:
    """Return a Markdown table: parts of a collection by outcomes."""
    counts = Counter((result.case.part, result.outcome) for result in results)
    outcomes = sorted({outcome for _, outcome in counts}, key=lambda name: (name in FAILURES, name))
    lines = [f"| file | cases | {' | '.join(outcomes)} |", "|---|" + "--:|" * (len(outcomes) + 1)]
    for part in sorted({part for part, _ in counts}):
        row = [counts[part, outcome] for outcome in outcomes]
        lines.append(f"| `{part}` | {sum(row)} | {' | '.join(str(count or '') for count in row)} |")
    total = [sum(counts[part, outcome] for part, o in counts if o == outcome) for outcome in outcomes]
    lines.append(f"| all | {len(results)} | {' | '.join(map(str, total))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
