"""Several processes work on the same collections for many minutes, and each compares all that it sees with a model of its own.

    python benchmarks/soak_processes.py --minutes 30

Each worker has documents of its own (their ids begin with its name) in a collection with one vector a document and in one with
many, adds, replaces and deletes them by id and by filter, and searches them by vector, by words, by both, and late, always
filtered to its own, so that it knows the right answer whatever the others do. Beside that it compacts, refits, verifies,
takes snapshots, restores, exports and imports, opens the collections anew, forks a child that writes, reads the files of the
open collection as plain files, and changes its working directory. One of the processes is killed every few seconds, another is
started in its place with what had been acknowledged: that must be there, and what was in flight as a whole or not at all.

Prints what was done, and every difference; the exit status is 1 if there was one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo.errors import CollectionLockedError

DIM = 32
BATCH = 12

#: Documents that a worker keeps, about.
KEPT = 150

Model = dict[str, int]  # id to version


def tokens_of(identifier: str, version: int) -> np.ndarray:
    """Token vectors of shape (2, DIM), of unit length; the first is the vector of a plain collection."""
    rng = np.random.default_rng(zlib.crc32(f"{identifier}/{version}".encode()))
    tokens = rng.standard_normal((2, DIM)).astype(np.float32)
    return tokens / np.linalg.norm(tokens, axis=1, keepdims=True)


def word_of(identifier: str, version: int) -> str:
    """The word that only this version of the document has."""
    return f"w{zlib.crc32(f'{identifier}/{version}'.encode()):08x}"


class Worker:
    """One process: its documents, and what it does with them.

    Parameters
    ----------
    root : Path
        Holds the collections, ``dense`` and ``late``.
    name : str
        The beginning of its ids.
    seed : int
        Of its choices.
    """

    def __init__(self, root: Path, name: str, seed: int) -> None:
        self.root, self.name, self.rng = root, name, random.Random(seed)
        self.done: Counter[str] = Counter()
        self.diary = root / f"{name}.json"  # what was acknowledged, and what may have been on the way
        self.models: dict[str, Model] = {"dense": {}, "late": {}}
        self.kbs: dict[str, Any] = {}

    # ------------------------------------------------------------------ what is known

    def open(self) -> None:
        """Open the collections, and find out what became of the write during which another process was killed."""
        for kind in self.models:
            self.kbs[kind] = self._open(kind, self.root / kind)
        if self.diary.exists():
            known = json.loads(self.diary.read_text())
            self.models = known["acknowledged"]
            if known["flying"] is not None:
                kind, model = known["flying"]
                found = self._versions(self.kbs[kind])
                assert found in (self.models[kind], model), f"{self.name}: neither whole nor absent in {kind}"
                self.models[kind] = found
        self._note(None)

    def _open(self, kind: str, path: Path) -> Any:
        if kind == "late":
            return octavo.open_multi_vector(path, codec="float16", fit_after=100, pool_factor=1, lock_timeout=120)
        return octavo.open(path, codec="int8 > float16", fit_after=100, lock_timeout=120)

    def _versions(self, kb: Any) -> Model:
        mine = kb.ids({"worker": self.name})
        found = {document.id: document.metadata["version"] for document in kb.get(mine)}
        assert sorted(found) == sorted(mine)
        return found

    def _note(self, flying: tuple[str, Model] | None) -> None:
        draft = self.diary.with_suffix(".tmp")
        draft.write_text(json.dumps({"acknowledged": self.models, "flying": flying}))
        draft.replace(self.diary)

    def _write(self, kind: str, model: Model, call: Callable[[], object]) -> None:
        self._note((kind, model))
        call()
        self.models[kind] = model
        self._note(None)

    # ------------------------------------------------------------------ what it does

    def step(self) -> None:
        """Do one thing, drawn by weight."""
        kind = self.rng.choice(("dense", "late"))
        names, weights = zip(*STEPS.items(), strict=True)
        name = self.rng.choices(names, weights)[0]
        try:
            getattr(self, f"_{name}")(kind, self.kbs[kind])
            self.done[name] += 1
        except CollectionLockedError:  # honest, where eight processes repair and compact what they share
            self.done[f"{name}: locked"] += 1
            self.kbs[kind].close()
            self.kbs[kind] = self._open(kind, self.root / kind)
            found = self._versions(self.kbs[kind])
            flying = json.loads(self.diary.read_text())["flying"]
            assert found in [self.models[kind], *([flying[1]] if flying is not None and flying[0] == kind else [])]
            self.models[kind] = found
            self._note(None)

    def _documents(self, kind: str) -> Model:
        model = self.models[kind]
        ids = [f"{self.name} {self.rng.randrange(2 * KEPT)}" for _ in range(BATCH)]
        return {identifier: model.get(identifier, 0) + 1 + self.rng.randrange(3) for identifier in ids}

    def _give(self, kb: Any, documents: Model) -> None:
        tokens = [tokens_of(*item) for item in documents.items()]
        late = isinstance(kb, octavo.MultiVectorCollection)
        kb.add(
            [f"common {word_of(*item)}" for item in documents.items()],
            ids=list(documents),
            metadata=[
                {"worker": self.name, "version": version, "even": version % 2 == 0} for version in documents.values()
            ],
            **({"token_vectors": tokens} if late else {"vectors": np.stack([rows[0] for rows in tokens])}),
        )

    def _add(self, kind: str, kb: Any) -> None:
        documents = self._documents(kind)
        self._write(kind, self.models[kind] | documents, lambda: self._give(kb, documents))

    def _delete(self, kind: str, kb: Any) -> None:
        model = self.models[kind]
        if len(model) < KEPT // 3:
            return
        gone = self.rng.sample(sorted(model), len(model) // 4)
        left = {key: version for key, version in model.items() if key not in gone}
        self._write(kind, left, lambda: kb.delete(gone))

    def _delete_by_filter(self, kind: str, kb: Any) -> None:
        model = self.models[kind]
        if len(model) < KEPT // 2:
            return
        left = {key: version for key, version in model.items() if version % 2}
        self._write(kind, left, lambda: kb.delete(filter={"worker": self.name, "even": True}))

    def _search(self, kind: str, kb: Any) -> None:
        model = self.models[kind]
        if not model:
            return
        names = sorted(model)
        chosen = self.rng.choice(names)
        tokens = tokens_of(chosen, model[chosen])
        query = tokens if kind == "late" else tokens[0]
        mine = {"worker": self.name}
        truth = np.stack([tokens_of(name, model[name]) for name in names])
        scores = (tokens @ truth.transpose(0, 2, 1)).max(2).sum(1) if kind == "late" else truth[:, 0] @ tokens[0]
        k = min(5, len(names))
        best = np.sort(scores)[::-1][:k]
        found = kb.search(query, k, filter=mine, exact=True)
        assert found.ids[0] == chosen, f"{found.ids[0]} instead of {chosen}"
        assert np.allclose(found.scores, best, atol=0.05), (found.scores, best)
        assert kb.search(query, 1, filter=mine).ids == [chosen]
        word = word_of(chosen, model[chosen])
        assert kb.search(word, 3, mode="text").ids == [chosen]
        assert set(kb.search("common", 10, mode="text", filter=mine).ids) <= set(names)
        assert kb.search(query, 3, mode="hybrid", text=word, filter=mine).ids[0] == chosen

    def _read(self, kind: str, kb: Any) -> None:
        model = self.models[kind]
        assert self._versions(kb) == model
        assert kb.count({"worker": self.name, "even": True}) == sum(version % 2 == 0 for version in model.values())
        names = sorted(model)
        if names and kind == "dense":
            stored = kb.get_vectors(names)
            assert np.allclose(stored, np.stack([tokens_of(name, model[name])[0] for name in names]), atol=0.05)

    def _compact(self, kind: str, kb: Any) -> None:
        kb.compact()

    def _refit(self, kind: str, kb: Any) -> None:
        if self.models[kind]:
            kb.refit()

    def _verify(self, kind: str, kb: Any) -> None:
        report = kb.verify()
        assert report.ok, report.problems

    def _same(self, kind: str, path: Path) -> None:
        kb = self._open(kind, path)
        with kb:
            assert self._versions(kb) == self.models[kind]
            assert kb.verify().ok

    def _snapshot(self, kind: str, kb: Any) -> None:
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            kb.snapshot(Path(folder) / "snapshot")
            self._same(kind, Path(folder) / "snapshot")
            octavo.restore(Path(folder) / "snapshot", Path(folder) / "restored")
            octavo.restore(Path(folder) / "snapshot", Path(folder) / "restored", overwrite=True)
            self._same(kind, Path(folder) / "restored")

    def _export(self, kind: str, kb: Any) -> None:
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            kb.export(Path(folder) / "out")
            with octavo.import_from(Path(folder) / "out") as other:
                assert self._versions(other) == self.models[kind]

    def _reopen(self, kind: str, kb: Any) -> None:
        kb.close()
        self.kbs[kind] = self._open(kind, self.root / kind)

    def _fork(self, kind: str, kb: Any) -> None:
        documents = self._documents(kind)

        def in_a_child() -> None:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    self._give(kb, documents)
                    status = 0
                except CollectionLockedError:
                    status = 2
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code == 2:
                raise CollectionLockedError("the child's turn did not come")
            assert code == 0, f"the child ended with {code}"

        self._write(kind, self.models[kind] | documents, in_a_child)

    def _read_as_files(self, kind: str, kb: Any) -> None:
        for name in os.listdir(self.root / kind):
            try:
                (self.root / kind / name).read_bytes()
            except OSError:  # a folder, or replaced meanwhile
                continue

    def _chdir(self, kind: str, kb: Any) -> None:
        os.chdir(self.rng.choice(("/", str(self.root), tempfile.gettempdir())))


#: How often each is done, in comparison.
STEPS = {
    "add": 30,
    "delete": 8,
    "delete_by_filter": 3,
    "search": 30,
    "read": 12,
    "compact": 1,
    "refit": 1,
    "verify": 2,
    "snapshot": 1,
    "export": 1,
    "reopen": 3,
    "fork": 3,
    "read_as_files": 3,
    "chdir": 2,
}


def work(root: Path, name: str, seed: int, end: float) -> None:
    """Be a worker until the time is up; writes down what was done, and what was wrong."""
    worker = Worker(root, name, seed)
    try:
        worker.open()
        while time.time() < end:
            worker.step()
            (root / f"{name}.{os.getpid()}.done").write_text(json.dumps(worker.done))
        for kb in worker.kbs.values():
            kb.close()
    except BaseException:
        (root / f"{name}.failed").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def main() -> int:
    """Start the workers, kill some, and look at what is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill-every", type=float, default=5, help="seconds")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="octavo-soak-"))
    rng = random.Random(arguments.seed)
    end = time.time() + 60 * arguments.minutes
    running: dict[int, str] = {}
    started = killed = 0

    def start(name: str) -> None:
        nonlocal started
        started += 1
        child = os.fork()
        if child == 0:
            work(root, name, rng.randrange(1 << 30) + started, end)
        running[child] = name

    for number in range(arguments.workers):
        start(f"worker{number}")
    next_kill = time.time() + arguments.kill_every
    failed = False
    while running and not failed:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            name = running.pop(child)
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and time.time() < end:
                start(name)
            elif status and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                print(f"{name} ended with wait status {status}")
                failed = True
        elif time.time() > next_kill and time.time() < end - 1:
            os.kill(rng.choice(sorted(running)), signal.SIGKILL)
            killed += 1
            next_kill = time.time() + arguments.kill_every * rng.uniform(0.5, 1.5)
        else:
            time.sleep(0.05)
    for child in running:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for path in sorted(root.glob("*.failed")):
        print(f"{path.stem}:\n{path.read_text()}")
        failed = True
    done: Counter[str] = Counter()
    for path in root.glob("*.done"):
        try:
            done.update(json.loads(path.read_text()))
        except ValueError:  # killed while it wrote this
            continue
    if not failed:
        for number in range(arguments.workers):
            worker = Worker(root, f"worker{number}", 0)
            worker.open()
            for kind, kb in worker.kbs.items():
                worker._read(kind, kb)
                assert kb.verify().ok
                kb.close()
    print(f"{arguments.minutes:g} minutes, {arguments.workers} workers, {killed} killed, {sum(done.values()):,} steps:")
    print(", ".join(f"{name} {count:,}" for name, count in done.most_common()))
    print("failed" if failed else "all as it should be")
    if not failed:
        shutil.rmtree(root)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
