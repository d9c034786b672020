"""Named collections in one directory: any name becomes a directory name that every file system can hold."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from octavo._files import write_atomically
from octavo.errors import InputTypeError, ParameterError
from octavo.store.database import DATABASE_NAME

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")

#: File names may have 255 bytes on the usual file systems.
_LONGEST = 200

_SUFFIX = ".name"


def directory_name(name: str) -> str:
    """Return the directory name that stands for a collection name.

    Lower-case letters, digits, ``_`` and ``-`` stay, every other byte becomes ``%xx`` in lower case. So no name can
    leave the directory, and two names never meet on a file system that ignores case. Names that come out too long are
    cut and told apart by their SHA-256; the whole name is then kept in a file beside the directory.

    Raises
    ------
    InputTypeError
        When the name is not a string.
    ParameterError
        When it is empty or not valid Unicode.

    Examples
    --------
    >>> directory_name("acme")
    'c-acme'
    >>> directory_name("../Acme")
    'c-%2e%2e%2f%41cme'
    """
    if not isinstance(name, str):
        raise InputTypeError(f"expected collection_name to be a str, got {type(name).__name__}")
    if not name:
        raise ParameterError("expected a collection_name of at least one character, got an empty string")
    try:
        raw = name.encode()
    except UnicodeEncodeError as err:
        raise ParameterError(f"expected collection_name to be valid Unicode, but {err}") from err
    # The prefix keeps names such as "con" or "nul", which Windows reserves, out of harm's way.
    escaped = "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02x}" for byte in raw)
    if len(escaped) <= _LONGEST:
        return f"c-{escaped}"
    return f"h-{escaped[:100]}-{hashlib.sha256(raw).hexdigest()}"


def collection_path(root: str | os.PathLike[str], name: str) -> Path:
    """Return the directory of the collection `name` under `root`."""
    return Path(root) / directory_name(name)


def remember_name(root: str | os.PathLike[str], name: str) -> None:
    """Write down a name that its directory name does not hold in full; does nothing for the others."""
    path = collection_path(root, name)
    note = path.with_name(path.name + _SUFFIX)
    if not path.name.startswith("h-") or note.exists():
        return
    write_atomically(note, name, private=True)


def forget_name(root: str | os.PathLike[str], name: str) -> None:
    """Remove what `remember_name` wrote."""
    path = collection_path(root, name)
    path.with_name(path.name + _SUFFIX).unlink(missing_ok=True)


def list_names(root: str | os.PathLike[str]) -> list[str]:
    """Return the names of the collections under `root`, sorted."""
    base = Path(root)
    if not base.is_dir():
        return []
    names = []
    for entry in base.iterdir():
        if not (entry / DATABASE_NAME).is_file():
            continue
        if entry.name.startswith("c-"):
            name = _unescape(entry.name[2:])
        elif entry.name.startswith("h-"):
            name = _noted(entry.with_name(entry.name + _SUFFIX))
        else:
            continue
        # A directory that only looks like one of ours does not lead back to itself.
        if name and directory_name(name) == entry.name:
            names.append(name)
    return sorted(names)


def _noted(note: Path) -> str:
    try:
        return note.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return ""


def _unescape(escaped: str) -> str:
    head, *parts = escaped.split("%")
    try:
        raw = head.encode("ascii") + b"".join(bytes.fromhex(part[:2]) + part[2:].encode("ascii") for part in parts)
        return raw.decode()
    except ValueError:  # also UnicodeError
        return ""
