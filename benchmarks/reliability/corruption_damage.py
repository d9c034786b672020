"""What can happen to a file: every kind of damage that `corruption_matrix.py` does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Names of the kinds, in the order of the report. Those in `ONCE` leave nothing to chance.
KINDS = (
    "emptied", "halved", "cut by one byte", "cut anywhere",
    "a byte more", "1,000 bytes more", "100,000 bytes more",
    "1 byte flipped", "8 bytes flipped", "64 bytes flipped", "1 bit flipped",
    "64 bytes zeroed", "512 bytes zeroed", "4,096 bytes zeroed", "a third zeroed",
    "512-byte sectors swapped", "4,096-byte sectors swapped",
    "another collection's", "an older version", "deleted", "a directory instead", "a link instead",
)  # fmt: skip
ONCE = {
    "emptied", "halved", "cut by one byte", "another collection's", "an older version", "deleted", "a directory instead",
    "a link instead",
}  # fmt: skip

#: What is another file then.
REPLACED = {"another collection's", "an older version"}

#: SQLite's shared memory, which is mapped by all that have the database open: whoever writes to it writes to their memory.
_MEMORY = "octavo.db-shm"

#: The database is one file of many parts, and gets as many cases as several others; the full-text index is many files of
#: which all are treated alike, and gets as many as a few.
_DATABASE_SHARE = 4
_TEXT_FILES = 3


@dataclass(frozen=True)
class Case:
    """One damaged collection.

    Parameters
    ----------
    number : int
        Of the case; with the seed, it settles what is random.
    recipe : str
        Which collection.
    file : str
        Name of the file in it.
    kind : str
        What happens to it.
    opened : bool
        It happens while the collection is open.
    """

    number: int
    recipe: str
    file: str
    kind: str
    opened: bool = False

    @property
    def part(self) -> str:
        """What kind of file it is."""
        if self.file.startswith("text/"):
            return "text/*"
        return "octavo.db" if self.file == "octavo.db" else re.sub(r"^(g\d+-)[0-9a-f]{32}|^g\d+-", "*", self.file)


def files_of(collection: Path) -> list[str]:
    """Return the names of the files of a collection; that of SQLite's shared memory is left out where there is no log."""
    entries = [entry for entry in collection.rglob("*") if entry.is_file()]
    # Some names are made up anew each time: what they are of comes first, so that a seed means the same cases.
    entries.sort(key=lambda entry: (re.sub("[0-9a-f]{32}", "", str(entry)), entry.stat().st_size, entry.name))
    names = [str(entry.relative_to(collection)) for entry in entries]
    return [name for name in names if name != "octavo.db-shm" or "octavo.db-wal" in names]


def cases(folders: dict[str, Path], seed: int, only: str = "", *, opened: bool = False) -> Iterator[Case]:
    """Yield cases: first each kind for each file once, then those with chance in them again and again, without end.

    Parameters
    ----------
    folders : dict of str to Path
        Prepared collections by name.
    seed : int
        Settles the order, and what is random.
    only : str, default=""
        Only those whose ``recipe/file/kind`` contains this; they end if there is nothing random among them.
    opened : bool, default=False
        The damage happens while the collection is open.
    """
    number = 0
    for round_ in range(1_000_000):
        rng = np.random.default_rng([seed, round_])
        grid = [
            (recipe, file, kind)
            for recipe, folder in folders.items()
            for file in _chosen(files_of(folder / "now"), rng)
            for kind in KINDS
            for _ in range(_DATABASE_SHARE if file == "octavo.db" and kind not in ONCE else 1)
            if not (round_ and kind in ONCE)
        ]
        grid = [
            (recipe, file, kind)
            for recipe, file, kind in grid
            if only in f"{recipe}/{file}/{kind}" and not (opened and file == _MEMORY)
        ]
        if not grid:
            return
        for position in rng.permutation(len(grid)):
            yield Case(number, *grid[position], opened)
            number += 1


def _chosen(files: list[str], rng: np.random.Generator) -> list[str]:
    text = [file for file in files if file.startswith("text/")]
    # earlier directories are there for readers that are still at them
    newest = max((Path(file).parent for file in text), default=None)
    used = [file for file in text if Path(file).parent == newest and not file.endswith(".lock")]
    few = [used[number] for number in rng.permutation(len(used))[:_TEXT_FILES]]
    return [file for file in files if not file.startswith("text/")] + few


def damage(collection: Path, folder: Path, twin: Path, case: Case, seed: int) -> bool:
    """Damage one file of a copy of a collection; False where there is nothing to do it with, or it changes nothing."""
    file = collection / case.file
    before = file.read_bytes()
    rng = np.random.default_rng([seed, case.number])
    if case.kind == "deleted":
        file.unlink()
        return True
    if case.kind == "a directory instead":
        file.unlink()
        file.mkdir()
        return True
    if case.kind == "a link instead":  # to the very same bytes, outside
        file.rename(collection.with_name("elsewhere"))
        file.symlink_to(collection.with_name("elsewhere"))
        return True
    if case.kind in ("another collection's", "an older version"):
        source = _counterpart(folder / "old" if case.kind == "an older version" else twin / "now", case.file)
        if source is None:
            return False
        after = source.read_bytes()
    else:
        after = _changed(before, case.kind, rng)
    if after == before:
        return False
    if (
        case.opened and case.kind in REPLACED
    ):  # as a tool does that copies a backup over it: another file of the same name
        draft = file.with_name("draft of the damage")
        draft.write_bytes(after)
        draft.replace(file)
    else:
        with file.open("r+b") as there:
            there.write(after)
            there.truncate()
    return True


def _counterpart(directory: Path, name: str) -> Path | None:
    """Return the file of the same name, or, where names are made up, of the same kind."""
    if (directory / name).is_file():
        return directory / name
    if name.endswith((".graph", ".cells", ".segment", ".centroids", ".postings")):
        return next(iter(sorted(directory.glob(f"*{Path(name).suffix}"))), None)
    if name.startswith("text/"):
        wanted = Path(name)
        same = [entry for entry in sorted(directory.glob("text/*/*")) if entry.name == wanted.name]
        alike = [
            entry for entry in sorted(directory.glob("text/*/*")) if wanted.suffix and entry.suffix == wanted.suffix
        ]
        return next(iter(same + alike), None)
    return None


def _changed(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    data, size = bytearray(content), len(content)
    amount = int(re.sub(r"\D", "", kind) or 0)
    if kind == "emptied" or not size:
        return b"" if kind != "a byte more" else b"\x01"
    if kind == "halved":
        return content[: size // 2]
    if kind == "cut by one byte":
        return content[:-1]
    if kind == "cut anywhere":
        return content[: int(rng.integers(size))]
    if kind.endswith("more"):
        return content + rng.bytes(amount or 1)
    if kind == "1 bit flipped":
        data[int(rng.integers(size))] ^= 1 << int(rng.integers(8))
    elif kind.endswith("flipped"):
        for position in rng.choice(size, min(amount, size), replace=False):
            data[position] ^= int(rng.integers(1, 256))
    elif kind.endswith("zeroed"):
        length = min(amount or size // 3, size)
        start = int(rng.integers(size - length + 1))
        data[start : start + length] = bytes(length)
    elif kind.endswith("swapped"):
        sectors = size // amount
        if sectors >= 2:
            one, two = (int(number) * amount for number in rng.choice(sectors, 2, replace=False))
            data[one : one + amount], data[two : two + amount] = (
                content[two : two + amount],
                content[one : one + amount],
            )
    return bytes(data)
