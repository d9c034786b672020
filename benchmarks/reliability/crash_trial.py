"""One trial: a process that is hit by a fault, and another that looks at what it left."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from crash_operations import (
    COPIED,
    Model,
    Operation,
    Step,
    add,
    image_of,
    is_page,
    metadata_of,
    text_of,
    tokens_of,
    word_of,
)
from crash_power import AfterPowerCut, Policy, remember_all
from crash_shim import ON, Fault, Shim

import octavo
from octavo.errors import OctavoError

#: Seconds after which a process is taken to hang.
_PATIENCE = 120

#: Scores may differ from those of the exact vectors by what the codec loses.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Parameters
    ----------
    word : str
        ``absent`` or ``whole`` (the call in flight when the process was killed), ``idle`` (nothing that changes documents
        was in flight), ``named`` (the call raised an `OctavoError`), ``carried on`` (it succeeded in spite of the fault) or
        ``failed``.
    detail : str
        What is wrong, if it failed.
    calls : int
        Calls counted, of a process that was not killed.
    hit : str
        The call that the fault hit, and the file.
    errors : tuple of str
        Names of the errors that were raised.
    """

    word: str
    detail: str = ""
    calls: int = 0
    hit: str = ""
    errors: tuple[str, ...] = ()


def in_child(work: Callable[[Callable[..., None]], None]) -> tuple[list[list[Any]], int]:
    """Run `work(say)` in a forked process; returns what it said, a JSON list a line, and its wait status."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        signal.alarm(_PATIENCE)
        status = 1

        def say(*words: Any) -> None:
            os.write(write_end, (json.dumps(words) + "\n").encode())

        try:
            work(say)
            status = 0
        except BaseException:
            say("trouble", traceback.format_exc())
        finally:
            os._exit(status)  # neither handlers nor buffers of the parent are this process's business
    os.close(write_end)
    with os.fdopen(read_end) as file:
        lines = file.read().splitlines(keepends=True)
    _, status = os.waitpid(child, 0)
    return [json.loads(line) for line in lines if line.endswith("\n")], status


class Bench:
    """Runs trials in a directory of its own.

    Parameters
    ----------
    folder : Path
        Empty; everything is written there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._shim = folder, Shim()
        self._disk: Path | None = None

    def close(self) -> None:
        """Take the small file system away, if there is one."""
        if self._disk is not None:
            subprocess.run(["umount", str(self._disk)], check=True)
            self._disk = None

    def _small_disk(self) -> Path:
        """Mount a small file system, once, and return its directory, emptied."""
        if self._disk is None:
            disk = self._folder / "disk"
            mount_small_disk(disk)
            self._disk = disk
        for entry in self._disk.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        return self._disk

    def template(self, name: str, operation: Operation) -> Path:
        """Make the collection that an operation starts from, once."""
        path = self._folder / "templates" / name.replace(" ", "-")
        if not path.exists():
            (path / "root").mkdir(parents=True)

            def work(say: Callable[..., None]) -> None:
                if operation.before:
                    with operation.open(path / "root" / "kb") as kb:
                        for step in operation.before:
                            step.run(kb, path / "root")
                if operation.damage is not None:
                    operation.damage(path / "root" / "kb")

            said, status = in_child(work)
            if status or said:
                raise RuntimeError(f"the template of {name!r} could not be made: {status} {said}")
        return path / "root"

    def trial(
        self,
        name: str,
        operation: Operation,
        fault: Fault,
        policy: Policy | None = None,
        seed: int = 0,
        free: int | None = None,
    ) -> Outcome:
        """Let a process be hit by a fault, and look at what it left.

        Parameters
        ----------
        policy : {"strict", "names", "mixed"}, optional
            Look at what a power cut may have left instead of what the process left.
        free : int, optional
            Bytes that are left on the file system, which is a small one then.
        """
        template = self.template(name, operation)
        room = self._folder / "trial" if free is None else self._small_disk()
        if free is None:
            shutil.rmtree(room, ignore_errors=True)
        root, shadow = room / "root", room / "shadow"
        shutil.copytree(template, root)
        if policy is not None:
            shadow.mkdir()
            remember_all(self._shim, root, shadow)
        filler = room / "filler"
        if free is not None:
            _fill(filler, free)

        def relieve() -> None:
            self._shim.disarm()
            filler.unlink(missing_ok=True)

        said, status = in_child(
            lambda say: self._work(operation, root, fault, shadow if policy is not None else None, say, relieve)
        )
        filler.unlink(missing_ok=True)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        story = _Story(operation, said)
        base = Outcome("", calls=story.calls, hit=story.hit, errors=tuple(story.errors))
        if story.trouble or (not killed and status):
            return replace(base, word="failed", detail=story.trouble or f"ended with wait status {status}")
        looked_at = root
        if policy is not None:
            looked_at = room / "after"
            AfterPowerCut(self._shim, root, shadow, policy, seed).write(looked_at)
        found, status = in_child(lambda say: look(operation, looked_at, story, random.Random(seed), say))
        if status or not found or found[-1][0] != "as":
            return replace(
                base, word="failed", detail=str(found[-1][1]) if found else f"the reader ended with {status}"
            )
        if story.errors:
            return replace(base, word="named")
        if killed:
            return replace(base, word=found[-1][1])
        return replace(base, word="carried on")

    def _work(
        self,
        operation: Operation,
        root: Path,
        fault: Fault,
        shadow: Path | None,
        say: Callable[..., None],
        relieve: Callable[[], None],
    ) -> None:
        """Open, carry out the steps, close; with the fault gone, do again what failed."""
        operation.patch()
        shim = self._shim
        failed: list[int] = []
        shim.arm(root, fault, shadow)
        say("begin", "open")
        try:
            kb = operation.open(root / "kb")
        except OctavoError as err:
            say("error", "open", type(err).__name__)
            relieve()
            kb = operation.open(root / "kb")
        say("end", "open")
        for number, step in enumerate(operation.steps):
            say("begin", number)
            try:
                step.run(kb, root)
            except OctavoError as err:
                say("error", number, type(err).__name__)
                failed.append(number)
            else:
                say("end", number)
        if not failed:
            say("begin", "close")
            kb.close()
            say("end", "close")
        say("calls", shim.calls, shim.hit)
        if fault.kill_at or shadow is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        relieve()
        if not failed:
            return
        # The faulted object itself must be right, and work again.
        done = [step for number, step in enumerate(operation.steps) if number not in failed]
        model = operation.model(done)
        if sorted(kb.ids()) != sorted(model):
            raise AssertionError(
                f"after the error {len(kb)} documents, expected {len(model)}: {_difference(kb.ids(), model)}"
            )
        for number in failed:
            say("begin", number)
            step = operation.steps[number]
            if step.makes is not None and fault.kind == ON and (root / step.makes).exists():
                # Nothing could be taken back while every call failed: then it has to be whole, though its name may get lost.
                before = operation.model([step for step in operation.steps[:number] if step in done])
                _require_whole(root / step.makes, root / "again", list(before))
                shutil.rmtree(root / step.makes)
            step.run(kb, root)
            say("end", number)
        if failed[0] % 2:  # half of these processes close the collection, the others just end
            kb.close()


def _require_whole(made: Path, again: Path, ids: list[str]) -> None:
    """Raise AssertionError unless a copy or an export holds these documents."""
    if not (made / "octavo.db").exists():
        octavo.import_from(made, again).close()
        made = again
    with octavo.open(made, must_exist=True, read_only=True) as copy:
        if sorted(copy.ids()) != sorted(ids) or not copy.verify().ok:
            raise AssertionError(
                f"{made.name} is there, but not whole: {_difference(copy.ids(), dict.fromkeys(ids, 0))}"
            )


#: Bytes of the small file system.
_DISK_BYTES = 24 << 20


def mount_small_disk(path: Path) -> None:
    """Mount a small file system in memory.

    Raises
    ------
    OSError
        When that cannot be done here.
    """
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as err:
        path.rmdir()
        raise OSError("there is no command to mount a file system") from err
    if done.returncode:
        path.rmdir()
        raise OSError(done.stderr.strip())


def _fill(filler: Path, free: int) -> None:
    """Leave so many bytes on the file system."""
    with filler.open("wb") as file:
        left = os.statvfs(filler.parent)
        os.posix_fallocate(file.fileno(), 0, max(1, left.f_bavail * left.f_frsize - free))


class _Story:
    """What a process said before it ended, and what may be in the collection therefore."""

    def __init__(self, operation: Operation, said: list[list[Any]]) -> None:
        self.trouble, self.errors, self.hit, self.calls = "", [], "", 0
        self.acknowledged: list[int] = []
        model = operation.model()
        flying: int | str | None = None
        for kind, *words in said:
            if kind == "trouble":
                self.trouble = words[0]
            elif kind == "calls":
                self.calls, self.hit = words
            elif kind == "begin":
                flying = words[0]
            elif kind == "error":
                flying = None
                self.errors.append(words[1])
            elif kind == "end":
                if isinstance(words[0], int):
                    model = operation.steps[words[0]].after(model)
                    self.acknowledged.append(words[0])
                flying = None
        self.flying: Step | None = operation.steps[flying] if isinstance(flying, int) else None
        self.models = [model]
        if self.flying is not None and self.flying.after(model) != model:
            self.models.append(self.flying.after(model))


def _difference(found: list[str], model: Model) -> str:
    return f"unexpected {sorted(set(found) - set(model))[:5]}, missing {sorted(set(model) - set(found))[:5]}"


def look(operation: Operation, root: Path, story: _Story, rng: random.Random, say: Callable[..., None]) -> None:
    """Open what a trial left and compare everything with the model; says which of the possible states it is."""
    with operation.open(root / "kb") as kb:
        state = _state(kb, story.models)
        model = story.models[state]
        report = kb.verify()
        if not report.ok:
            if operation.damage is None or 0 in story.acknowledged:  # the first step repairs what is damaged
                raise AssertionError(f"verify: {report.problems}")
            report = kb.verify(repair=True)
            assert report.ok, f"verify(repair=True): {report.problems}"
        _documents(kb, model)
        _searches(kb, model, rng)
        more = {"later": 0, **dict(list(model.items())[:3])}
        add(kb, more)  # it must take further writes
        _documents(kb, model | more)
        assert kb.verify().ok, kb.verify().problems
    copied = [operation.model(), operation.model(operation.steps)]  # the latter if it was made when asked a second time
    if operation.replaced is not None:
        copied.append(operation.replaced)
    copy = root / COPIED
    if copy.exists() or operation.replaced is not None:  # a snapshot appears in one step, and is replaced in one
        with operation.open(copy) as kb:
            assert kb.verify().ok, kb.verify().problems
            _documents(kb, copied[_state(kb, copied)])
    if (root / "out").exists():
        with octavo.import_from(root / "out") as kb:
            _documents(kb, copied[_state(kb, copied)])
    say("as", "idle" if len(story.models) == 1 else ("absent", "whole")[state])


def _state(kb: octavo.Collection, models: list[Model]) -> int:
    found = sorted(kb.ids())
    versions = {document.id: document.metadata["version"] for document in kb.get(found)}
    for number, model in enumerate(models):
        if versions == model:
            return number
    raise AssertionError(
        f"{len(found)} documents are none of {[len(m) for m in models]}: {_difference(found, models[0])}"
    )


def _documents(kb: octavo.Collection, model: Model) -> None:
    assert sorted(kb.ids()) == sorted(model), _difference(kb.ids(), model)
    for document in kb.get(list(model)):
        version = model[document.id]
        assert document.text == text_of(document.id, version)
        assert document.metadata == metadata_of(document.id, version)
        if is_page(document.id):  # whole, down to the last byte, or not there at all
            assert document.image is not None, f"{document.id} has lost its image"
            assert document.image.to_bytes() == (image_of(document.id, version), "image/png")
        else:
            assert document.image is None


def _searches(kb: octavo.Collection, model: Model, rng: random.Random) -> None:
    """Compare searches with an oracle: exactly, as the planner likes, filtered, and by words."""
    names = list(model)
    if not names:
        return
    late = isinstance(kb, octavo.MultiVectorCollection)
    tokens = np.stack([tokens_of(*item) for item in model.items()])
    for identifier in rng.sample(names, min(3, len(names))):
        own = tokens_of(identifier, model[identifier])
        query = own if late else own[0]
        truth = (own @ tokens.transpose(0, 2, 1)).max(2).sum(1) if late else tokens[:, 0] @ own[0]
        scores = dict(zip(names, truth.tolist(), strict=True))
        best = np.sort(truth)[::-1][:5]
        for options in ({"exact": True}, {}, {"exact": False}):
            result = kb.search(query, len(best), **options)
            assert result.ids[0] == identifier, f"{result.ids[0]} instead of {identifier} ({options})"
            worst = max(abs(scores[name] - score) for name, score in zip(result.ids, result.scores, strict=True))
            assert worst < _TOLERANCE * (3 if late else 1), f"a score is off by {worst} ({options})"
            if options.get("exact"):
                kept = [scores[name] for name in result.ids]
                assert np.allclose(sorted(kept, reverse=True), best, atol=2 * _TOLERANCE * (3 if late else 1))
        even = [name for name in names if metadata_of(name, model[name])["even"]]
        assert kb.count({"even": True}) == len(even)
        assert set(kb.search(query, 5, filter={"even": True}).ids) <= set(even)
        assert kb.search(word_of(identifier, model[identifier]), 5, mode="text").ids == [identifier]
    assert sorted(kb.search("common", len(names) + 10, mode="text").ids) == sorted(names)
