"""The crash matrix: every call that changes a file, in every operation, fails or is the process's last.

Run it with::

    python benchmarks/reliability/crash_matrix.py --trials 2400 --seed 0 --json crash-matrix.json

It prints a table in Markdown and what went wrong, if anything did; the exit status says the same. It needs Linux and a C
compiler: calls are intercepted by a small library that is loaded before the C library (``fault_shim.c``). For each
operation the calls are counted first; then calls are drawn for every kind of fault, all of them if there is time.

After each trial another process opens the collection. What was acknowledged must be there, what was in flight as a whole
or not at all, `verify` must have nothing to say, and searches must agree with an oracle in numpy; then the collection must
take another write. A process that was not killed must have seen an error of Octavo's own or success, must be right when the
fault is gone, and able to do then what had failed.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from crash_power import Policy
from crash_shim import AFTER, BEFORE, HALF, KILL, ON, ONCE, Fault, build, unavailable

if TYPE_CHECKING:  # they import octavo, which only the process with the shim does
    from crash_operations import Operation
    from crash_trial import Bench

#: Calls by operation, and a record of each trial.
Result: TypeAlias = tuple[dict[str, int], list[dict[str, Any]]]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Parameters
    ----------
    title : str
        The heading of its column.
    when, kind, code
        See `Fault`.
    dies_later : bool
        The process is killed some calls after the failure.
    policy : {"strict", "names", "mixed"}, optional
        The power is cut, too.
    full : bool
        No call is made to fail: the file system itself is full, but for some bytes.
    """

    title: str
    when: int = BEFORE
    kind: int = KILL
    code: int = 0
    dies_later: bool = False
    policy: Policy | None = None
    full: bool = False

    def at(self, call: int, rng: random.Random) -> Fault:
        """Return the fault at one call."""
        if self.full:
            return Fault()
        later = call + rng.randint(1, 25) if self.dies_later else 0
        return Fault(call, self.when, self.kind, self.code, later)


KINDS = {
    "kill-before": Kind("kill before"),
    "kill-half": Kind("kill half-way", HALF),
    "kill-after": Kind("kill after", AFTER),
    "enospc-once": Kind("ENOSPC once", kind=ONCE, code=errno.ENOSPC),
    "enospc": Kind("ENOSPC from then on", kind=ON, code=errno.ENOSPC),
    "eio-once": Kind("EIO once", kind=ONCE, code=errno.EIO),
    "eio-done": Kind("EIO, though done", AFTER, ONCE, errno.EIO),
    "eio": Kind("EIO from then on", kind=ON, code=errno.EIO),
    "erofs": Kind("EROFS from then on", kind=ON, code=errno.EROFS),
    "short": Kind("short write", HALF, ONCE, errno.EIO),
    "eio-kill": Kind("EIO, then kill", AFTER, ONCE, errno.EIO, dies_later=True),
    "power-strict": Kind("power cut: only what was synced", policy="strict"),
    "power-names": Kind("power cut: names, not content", policy="names"),
    "power-mixed": Kind("power cut: some of the rest", policy="mixed"),
    "full-disk": Kind("a full file system", full=True),
}

#: Bytes that a full file system has left, at most; about what the larger operations need.
_MOST_FREE = 1_500_000

#: Words of an `Outcome`, in the order of the tables.
WORDS = ("absent", "whole", "idle", "named", "carried on", "failed")


def main() -> None:
    """Parse the command line, start again with the shim loaded, and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2_400, help="about how many, over all operations (default: 2400)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of calls (default: 0)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only this operation or kind of fault"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every trial to a file")
    parser.add_argument("--folder", type=Path, help="where to work (default: memory, if there is a file system in it)")
    arguments = parser.parse_args()
    reason = unavailable()
    if reason is not None:
        sys.exit(f"cannot run here: {reason}")
    if "fault-shim" not in os.environ.get("LD_PRELOAD", ""):
        with tempfile.TemporaryDirectory(prefix="octavo-crash-", dir=arguments.folder or _memory()) as folder:
            variables = {"LD_PRELOAD": str(build(Path(folder))), "OMP_NUM_THREADS": "1", "OCTAVO_CRASH_FOLDER": folder}
            command = [sys.executable, __file__, *sys.argv[1:]]
            sys.exit(os.spawnvpe(os.P_WAIT, sys.executable, command, os.environ | variables))
    sys.exit(run(Path(os.environ["OCTAVO_CRASH_FOLDER"]), arguments))


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run(folder: Path, arguments: argparse.Namespace) -> int:
    """Run all trials and print the tables; returns the exit status."""
    from crash_operations import OPERATIONS  # after the shim is known to be there: octavo is imported once, here
    from crash_trial import Bench

    unknown = set(arguments.only) - set(OPERATIONS) - set(KINDS)
    if unknown:
        sys.exit(f"expected names among {', '.join([*OPERATIONS, *KINDS])}; got {', '.join(sorted(unknown))}")
    operations = {name: op for name, op in OPERATIONS.items() if name in arguments.only} or OPERATIONS
    kinds = {name: kind for name, kind in KINDS.items() if name in arguments.only} or dict(KINDS)
    each = max(1, -(-arguments.trials // (len(operations) * len(kinds))))
    began = time.monotonic()

    reason = _cannot_mount(folder)
    if reason is not None:
        print(f"left out, because no file system can be mounted here: {KINDS['full-disk'].title} ({reason})")
        kinds.pop("full-disk", None)

    def work(job: int) -> Result:
        bench = Bench(folder / f"job-{job}")
        mine = list(operations.items())[job :: arguments.jobs]
        try:
            return _trials(bench, dict(mine), kinds, each, arguments.seed)
        finally:
            bench.close()

    results = _in_processes(work, folder, arguments.jobs)
    seconds = time.monotonic() - began
    calls = {name: count for counted, _ in results for name, count in counted.items()}
    records = [record for _, part in results for record in part]
    print(f"\n{len(records):,} trials, seed {arguments.seed}, {seconds:.0f} s\n")
    print(_table(records, "operation", {name: f"{name} ({calls[name]} calls)" for name in operations}))
    print(_table(records, "fault", {name: kind.title for name, kind in kinds.items()}))
    errors = Counter(error for record in records for error in record["errors"])
    print("Errors that were raised: " + ", ".join(f"{name} {count}" for name, count in errors.most_common()) + ".")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"calls": calls, "seconds": seconds, "trials": records}, indent=1))
    return int(any(record["word"] == "failed" for record in records))


def _cannot_mount(folder: Path) -> str | None:
    """Return why no small file system can be mounted, if it cannot."""
    from crash_trial import mount_small_disk

    disk = folder / "try"
    try:
        mount_small_disk(disk)
    except OSError as err:
        return str(err)
    subprocess.run(["umount", str(disk)], check=True)
    disk.rmdir()
    return None


def _in_processes(work: Callable[[int], Result], folder: Path, jobs: int) -> list[Result]:
    """Run `work(0)` ... `work(jobs - 1)` side by side, each in a forked process; returns what they return."""
    children = []
    for job in range(jobs):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                (folder / f"job-{job}").mkdir()
                (folder / f"job-{job}.json").write_text(json.dumps(work(job)))
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]  # of all of them, before anything is said
    if any(statuses):
        sys.exit("a process that runs trials has failed; see above")
    return [json.loads((folder / f"job-{job}.json").read_text()) for job in range(jobs)]


def _trials(
    bench: Bench, operations: dict[str, Operation], kinds: dict[str, Kind], each: int, seed_of_all: int
) -> Result:
    """Run the trials of some operations; returns the number of calls of each, and a record of each trial."""
    records: list[dict[str, Any]] = []
    calls = {}
    for name, operation in operations.items():
        began = time.monotonic()
        counted = bench.trial(name, operation, Fault())
        if counted.word != "carried on":
            raise RuntimeError(f"{name} fails without any fault: {counted.detail}")
        calls[name] = counted.calls
        for kind_name, kind in kinds.items():
            rng = random.Random(f"{seed_of_all}/{name}/{kind_name}")
            for call in sorted(rng.sample(range(1, counted.calls + 1), min(each, counted.calls))):
                fault, seed = kind.at(call, rng), rng.randrange(1 << 30)
                free = rng.choice((0, rng.randrange(100_000), rng.randrange(_MOST_FREE))) if kind.full else None
                outcome = bench.trial(name, operation, fault, kind.policy, seed, free)
                where = {"operation": name, "fault": kind_name, "seed": seed, "free": free}
                record = {**where, **asdict(fault), **asdict(outcome)}
                records.append(record)
                if outcome.word == "failed":
                    print(
                        f"FAILED {name}, {kind_name}, {fault}, {seed=}, {free=}: {outcome.hit}\n{outcome.detail}\n",
                        flush=True,
                    )
        print(f"{name}: {counted.calls} calls, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return calls, records


def _table(records: list[dict[str, Any]], key: str, titles: dict[str, str]) -> str:
    lines = [f"| {key} | trials | " + " | ".join(WORDS) + " |", "|---" * (len(WORDS) + 2) + "|"]
    for name, title in [*titles.items(), (None, "**all**")]:
        words = Counter(record["word"] for record in records if name is None or record[key] == name)
        lines.append(f"| {title} | {words.total()} | " + " | ".join(str(words[word]) for word in WORDS) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
