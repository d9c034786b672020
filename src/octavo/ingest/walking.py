"""Find the files of a folder that are to be read; whatever is left out is listed with its reason, and nothing hangs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pathspec

from octavo.errors import ParameterError
from octavo.ingest.kinds import LOCK_NAMES, kind_of

#: Bytes of the largest file that is read in a folder.
MAX_SIZE = 100_000_000

HIDDEN = "hidden"
IGNORED = "left out by .gitignore"
EXCLUDED = "left out by --exclude"
NOT_INCLUDED = "not named by --include"
NO_READER = "no reader for files of this kind"
IMAGES = "images (indexed with --late and a model of page images)"

#: Folders of packages, caches and results, which their tools make anew.
_LEFT_OUT = {
    "node_modules": "packages",
    "bower_components": "packages",
    "jspm_packages": "packages",
    "site-packages": "packages",
    "__pycache__": "a cache",
    "__pypackages__": "packages",
    "CVS": "a repository",
}

#: A file in a folder that says what the folder is.
_MARKS = {"pyvenv.cfg": "a virtual environment", "CACHEDIR.TAG": "a cache", "octavo.db": "a collection of Octavo"}


@dataclass
class Skipped:
    """What was not read, and why.

    Parameters
    ----------
    files : dict of str to list of str
        Reason to names; a folder that was not looked into ends with a slash.
    empty : list of str
        Files without text: as if they were not there.
    replaced : list of str
        Read, but with undecodable bytes replaced.
    lines : list of str
        Rows that cannot be read, and why.
    scans : dict of str to list of str
        File to its pages without text that were left out.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    scans: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        """List a file or folder."""
        self.files.setdefault(reason, []).append(name)


#: Size, and in nanoseconds when the content was changed, and anything about the file.
Stamp = tuple[int, int, int]


def stamp_of(about: os.stat_result) -> Stamp:
    """Return what changes with a file."""
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


@dataclass(frozen=True)
class FoundFile:
    """A file that is to be read: its path below the folder, with slashes, and where it is."""

    name: str
    path: Path
    kind: str
    size: int
    stamp: Stamp


@dataclass(frozen=True)
class Rules:
    """Which files of a folder are read.

    Parameters
    ----------
    include, exclude : sequence of str
        Patterns as in a ``.gitignore``. With `include`, only files that it names are read, those without a known ending as
        text.
    ignore : bool
        Leave out what ``.gitignore`` names, and folders of packages, caches and the like.
    max_size : int
        Bytes of the largest file.
    images : bool
        Whether images are read.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    ignore: bool = True
    max_size: int = MAX_SIZE
    images: bool = False


def patterns_of(lines: Sequence[str], option: str) -> pathspec.GitIgnoreSpec:
    """Return patterns ready to be compared.

    Raises
    ------
    ParameterError
        When one cannot be read.
    """
    try:
        return pathspec.GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise ParameterError(
            f"expected patterns as in a .gitignore for {option}, got {list(lines)!r}: {error}"
        ) from error


class Walk:
    """The files of a folder, in a fixed order.

    Parameters
    ----------
    root : Path
        The folder.
    rules : Rules
        Which of its files are read.
    scope : str
        Only this file or folder below it, with slashes; empty: everything.

    Attributes
    ----------
    skipped : Skipped
        What was left out.
    kept : list of str
        Files and folders that are there and could not be looked at: nobody knows whether their documents still hold. A folder
        ends with a slash.
    """

    def __init__(self, root: Path, rules: Rules, scope: str = "") -> None:
        self._root = root
        self._rules = rules
        self._scope = scope
        self._include = patterns_of(rules.include, "--include")
        self._exclude = patterns_of(rules.exclude, "--exclude")
        self.skipped = Skipped()
        self.kept: list[str] = []

    def files(self) -> Iterator[FoundFile]:
        """Yield what is to be read."""
        above = _ignores_above(self._root) if self._rules.ignore else []
        if _is_ignored("", above):  # and yet it was asked for
            above = []
        yield from self._folder(self._root, "", above)

    def _leave_out(self, name: str, reason: str, *, kept: bool = False) -> None:
        if self._in_scope(name):
            self.skipped.add(_shown(name), reason)
            if kept:
                self.kept.append(name)

    def _in_scope(self, name: str) -> bool:
        """Tell whether a file, or a folder whose name ends with a slash, is part of the scope."""
        scope = self._scope
        return not scope or name.rstrip("/") == scope or name.startswith(scope + "/")

    def _leads_to_scope(self, name: str) -> bool:
        return f"{self._scope}/".startswith(name)

    def _folder(self, folder: Path, prefix: str, above: list[_Ignore]) -> Iterator[FoundFile]:
        # a list of what is still to come, not recursion: folders may lie deeper than Python's stack
        waiting: list[tuple[Path, str, list[_Ignore]]] = [(folder, prefix, above)]
        while waiting:
            folder, prefix, above = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                if not prefix:
                    raise
                self._leave_out(prefix, f"could not be opened ({error.strerror})", kept=True)
                continue
            names = {entry.name for entry in listed}
            mark = next((reason for name, reason in _MARKS.items() if name in names), None)
            if mark is not None and prefix and self._rules.ignore:
                self._leave_out(prefix, mark)
                continue
            ignores = above
            if self._rules.ignore and ".gitignore" in names:
                ignores = [*above, *_read_ignore(folder / ".gitignore", prefix)]
            folders = []
            for entry in listed:
                name = prefix + entry.name
                if self._is_folder(entry):
                    if self._enters(name + "/", entry, ignores):
                        folders.append((Path(entry.path), name + "/", ignores))
                elif self._in_scope(name):
                    found = self._file(name, entry, ignores)
                    if found is not None:
                        yield found
            waiting += reversed(folders)

    @staticmethod
    def _is_folder(entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir()  # links are followed: they are listed as what they lead to
        except OSError:
            return False

    def _enters(self, name: str, entry: os.DirEntry[str], ignores: list[_Ignore]) -> bool:
        if not (self._in_scope(name) or self._leads_to_scope(name)):
            return False
        reason = None
        if entry.is_symlink():
            reason = "a link to a folder"
        elif entry.name.startswith("."):
            reason = HIDDEN
        elif self._exclude.match_file(name):
            reason = EXCLUDED
        elif self._rules.ignore:
            reason = _LEFT_OUT.get(entry.name) or ("packages" if entry.name.endswith(".egg-info") else None)
            if reason is None and _is_ignored(name, ignores):
                reason = IGNORED
        if reason is not None:
            in_the_way = self._leads_to_scope(name) and not self._in_scope(name)
            self.skipped.add(_shown(name), reason) if in_the_way else self._leave_out(name, reason)
        return reason is None

    def _file(self, name: str, entry: os.DirEntry[str], ignores: list[_Ignore]) -> FoundFile | None:
        wanted = bool(self._rules.include) and self._include.match_file(name)
        reason = None
        if entry.name.startswith("."):
            reason = HIDDEN
        elif self._rules.include and not wanted:
            reason = NOT_INCLUDED
        elif self._exclude.match_file(name):
            reason = EXCLUDED
        elif self._rules.ignore and _is_ignored(name, ignores):
            reason = IGNORED
        elif self._rules.ignore and entry.name.lower() in LOCK_NAMES and not wanted:
            reason = "a list of versions"
        kind = kind_of(entry.name)
        image = kind == "image" and not self._rules.images
        if kind is None or image:
            kind = "text" if wanted else None
        if reason is None and kind is None:
            reason = IMAGES if image else NO_READER
        if reason is not None or kind is None:
            self._leave_out(name, reason or NO_READER)
            return None
        return look_at(name, Path(entry.path), kind, self._rules.max_size, self)

    def unreadable(self, name: str, reason: str) -> None:
        """List a file that is there and cannot be read now."""
        self._leave_out(name, reason, kept=True)


def look_at(name: str, path: Path, kind: str, max_size: int, walk: Walk) -> FoundFile | None:
    """Return a file if it is an ordinary one that can be read; the walk lists it otherwise."""
    try:
        name.encode()
    except UnicodeEncodeError:
        walk.unreadable(name, "its name is not UTF-8")
        return None
    try:
        found = path.stat()
    except OSError as error:
        dangling = path.is_symlink()
        walk.unreadable(name, "a link that leads nowhere" if dangling else f"could not be opened ({error.strerror})")
        return None
    if not stat.S_ISREG(found.st_mode):
        walk.unreadable(name, _special(found.st_mode))
        return None
    if found.st_size > max_size:
        walk.unreadable(name, f"larger than {max_size / 1e6:,.0f} MB (--max-size)")
        return None
    return FoundFile(name, path, kind, found.st_size, stamp_of(found))


def _special(mode: int) -> str:
    for test, what in ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")):
        if test(mode):
            return f"{what}, not a file"
    return "a device, not a file"


def _shown(name: str) -> str:
    """Return a name that can be printed and put into JSON, whatever bytes it is made of."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# ---------------------------------------------------------------------- .gitignore

#: The folder that a file of patterns is about, relative to the root of the walk (``../`` above it), and the patterns.
_Ignore = tuple[str, pathspec.GitIgnoreSpec]


def _read_ignore(path: Path, prefix: str) -> list[_Ignore]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [(prefix, pathspec.GitIgnoreSpec.from_lines(lines))]
    except (OSError, ValueError):
        return []  # git would go on as well


def _ignores_above(root: Path) -> list[_Ignore]:
    """Return the patterns of the repository that the root lies in, from its top down to the root's parent."""
    found: list[_Ignore] = []
    inside = ""
    folder = root
    while not (folder / ".git").exists():
        if folder.parent == folder:
            return []  # no repository
        inside = f"{folder.name}/{inside}"
        folder = folder.parent
        found = _read_ignore(folder / ".gitignore", f"\0{inside}") + found
    return found


def _is_ignored(name: str, ignores: list[_Ignore]) -> bool:
    """Tell what the patterns nearest to a file say; a folder's name ends with a slash."""
    for prefix, spec in reversed(ignores):
        # what lies above the root has the way down to the root in front of the name
        relative = prefix[1:] + name if prefix.startswith("\0") else name[len(prefix) :]
        said = spec.check_file(relative).include
        if said is not None:
            return bool(said)
    return False
