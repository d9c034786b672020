"""Kill a process while it writes to a collection, and look at what is left."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import octavo
from octavo._arrays import Floats
from octavo.demo._corpus import Docstring
from octavo.errors import OctavoError

#: Documents in a batch.
BATCH = 25

#: Batches that the writer may acknowledge before it is killed somewhere within the next one.
_KILL_AFTER = 8


@dataclass(frozen=True)
class CrashReport:
    """What a killed writer left.

    Parameters
    ----------
    acknowledged : int
        Documents that `add` had returned for before the kill.
    found : int
        Documents in the collection after it was opened again.
    lost : int
        Acknowledged documents that are missing.
    partial : int
        Documents of a batch of which others are missing.
    problems : list of str
        What `verify` found.
    reopen_s : float
        Time that opening took.
    """

    acknowledged: int
    found: int
    lost: int
    partial: int
    problems: list[str]
    reopen_s: float

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, no batch is there in part, and every file matches its checksum."""
        return not (self.lost or self.partial or self.problems)


def kill_a_writer(
    path: Path, documents: Sequence[Docstring], vectors: Floats, codec: str, *, delay: float = 0.005
) -> CrashReport:
    """Start a process that writes batches to a new collection, kill it within a batch, and open the collection.

    Parameters
    ----------
    path : Path
        Where the collection goes.
    documents : sequence of Docstring
        What is written.
    vectors : ndarray of shape (len(documents), dim)
        Their vectors.
    codec : str
        Codec of the collection.
    delay : float, default=0.005
        Seconds between an acknowledgement and the kill.

    Raises
    ------
    OctavoError
        When the process ends by itself.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "vectors.npy", vectors)
        with (folder / "documents.jsonl").open("w", encoding="utf-8") as lines:
            for document in documents:
                lines.write(json.dumps([document.id, document.text, document.metadata]) + "\n")
        acknowledged = _run_and_kill(path, folder, codec, delay)
    start = time.perf_counter()
    with octavo.open(path, must_exist=True) as collection:
        reopen_s = time.perf_counter() - start
        present = set(collection.ids())
        problems = collection.verify().problems
    written = [document.id for document in documents]
    batches = [written[first : first + BATCH] for first in range(0, len(written), BATCH)]
    return CrashReport(
        acknowledged=acknowledged,
        found=len(present),
        lost=sum(identifier not in present for identifier in written[:acknowledged]),
        partial=sum(
            len(here) for batch in batches if 0 < len(here := [name for name in batch if name in present]) < len(batch)
        ),
        problems=problems,
        reopen_s=reopen_s,
    )


def _run_and_kill(path: Path, folder: Path, codec: str, delay: float) -> int:
    command = [sys.executable, "-m", "octavo.demo._writer", str(path), str(folder), codec, str(BATCH)]
    acknowledged = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # asked for above
        try:
            for line in process.stdout:
                acknowledged = int(line)
                if acknowledged >= _KILL_AFTER * BATCH:
                    time.sleep(delay)
                    break
            else:
                raise OctavoError(f"the writing process ended by itself with exit code {process.wait()}")
        finally:
            process.kill()  # SIGKILL: no clean-up of any kind runs
        for line in process.stdout:  # acknowledgements that it still got out
            if line.endswith("\n"):
                acknowledged = int(line)
    return acknowledged
