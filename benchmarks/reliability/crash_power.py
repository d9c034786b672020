"""What a disk may hold after a power cut: what was synced is there, of anything later some, none or all.

The shim writes down the content of a file, or the names in a directory, each time it is synced. From that, and from what
the killed process left, one of the states is put together that a file system may leave behind.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

from crash_shim import Shim

#: ``strict``: nothing that was not synced. ``names``: directories and lengths as they were, but zeros where content was
#: not synced. ``mixed``: each directory as synced or as it was, each page of 4 KiB likewise.
Policy = Literal["strict", "names", "mixed"]

_PAGE = 4096


def remember_all(shim: Shim, root: Path, shadow: Path) -> None:
    """Take everything below `root` to be on disk."""
    for path in [root, *root.rglob("*")]:
        if path.is_dir():
            lines = [f"{shim.key(entry)} {entry.name}\n" for entry in path.iterdir()]
            (shadow / shim.key(path)).write_text("".join(lines))
        else:
            (shadow / shim.key(path)).write_bytes(path.read_bytes())


class AfterPowerCut:
    """Puts together the state of one directory after a power cut.

    Parameters
    ----------
    shim : Shim
        For the names of files.
    root : Path
        What the killed process left.
    shadow : Path
        What the shim wrote down.
    """

    def __init__(self, shim: Shim, root: Path, shadow: Path, policy: Policy, seed: int) -> None:
        self._shadow, self._policy, self._rng = shadow, policy, random.Random(seed)
        self._root = shim.key(root)
        self._left = {shim.key(path): path for path in [root, *root.rglob("*")]}
        self._names = {
            key: {entry.name: shim.key(entry) for entry in path.iterdir()}
            for key, path in self._left.items()
            if path.is_dir()
        }

    def write(self, destination: Path) -> None:
        """Write it to a new directory."""
        self._directory(self._root, destination)

    def _synced_names(self, key: str) -> dict[str, str] | None:
        path = self._shadow / key
        if not path.exists():
            return None
        pairs = (line.split(" ", 1) for line in path.read_text().splitlines())
        return {name: key for key, name in pairs}

    def _directory(self, key: str, destination: Path) -> None:
        destination.mkdir(mode=0o700)
        synced, now = self._synced_names(key) or {}, self._names.get(key)
        current = self._policy == "names" or (self._policy == "mixed" and self._rng.random() < 0.5)
        for name, child in (now if now is not None and current else synced).items():
            if name.endswith("-shm"):
                continue  # memory that SQLite's processes share; it is made anew after a restart
            if child.endswith("D"):
                self._directory(child, destination / name)
            else:
                (destination / name).write_bytes(self._content(child))

    def _content(self, key: str) -> bytes:
        path = self._shadow / key
        synced = path.read_bytes() if path.exists() else b""
        if self._policy == "strict" or key not in self._left:
            return synced
        now = self._left[key].read_bytes()
        base = synced[: len(now)].ljust(len(now), b"\0")
        if self._policy == "names":
            return base
        pages = range(0, len(now), _PAGE)
        return b"".join((now if self._rng.random() < 0.5 else base)[start : start + _PAGE] for start in pages)
