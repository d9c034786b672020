"""File-system steps that must survive power loss, and what is raised where the disk does not take them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from quire.errors import StorageError

ADVICE = "the collection is as its last commit left it; free space or mend the disk, then try again"


@contextlib.contextmanager
def storage_errors(path: Path | None, action: str = "written") -> Iterator[None]:
    """Turn what a full or failing disk raises into `StorageError`, which names the file and what to do.

    Errors that Python has a class of its own for (a missing file, a refused permission) are about something else, and
    pass through.
    """
    try:
        yield
    except OSError as err:
        if type(err) is not OSError:
            raise
        name = path if path is not None else "the collection"
        raise StorageError(err.errno, f"{name} could not be {action}: {err.strerror or err}; {ADVICE}") from err


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Create a directory, and those above it that are missing, so that all of their names survive power loss.

    Parameters
    ----------
    path : Path
        Harmless if it is there.
    mode : int
        Of the last level; those above are made as the user's umask says.
    """
    missing = []
    level = path
    while not level.exists():
        missing.append(level)
        level = level.parent
    with storage_errors(path, "created"):
        for level in reversed(missing):
            level.mkdir(mode if level == path else 0o777, exist_ok=True)
            sync_directory(level.parent)


def sync_directory(path: Path) -> None:
    """Make created, renamed and deleted names in a directory survive power loss (not possible on Windows)."""
    if os.name == "nt":
        return
    with storage_errors(path):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sync_file(path: Path) -> None:
    """Make a file's content survive power loss."""
    with storage_errors(path):
        fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def put_in_place(draft: Path, destination: Path) -> None:
    """Give a complete draft its name, in one step that survives power loss; where that fails, nothing has it.

    Parameters
    ----------
    draft, destination : Path
        Directories with the same parent; the latter is absent or empty.
    """
    with storage_errors(destination):
        if destination.exists():
            destination.rmdir()
        os.replace(draft, destination)
        try:
            sync_directory(destination.parent)
        except BaseException:
            try:
                os.replace(destination, draft)
            except OSError:  # a full disk may still let go of it
                shutil.rmtree(destination, ignore_errors=True)
            raise


def remove(path: Path) -> None:
    """Delete a file that is no longer part of the collection; a leftover is removed by the next open."""
    with contextlib.suppress(OSError):
        path.unlink()
