"""Saving a collection where ``StorageContext.persist`` wants it, and finding it again.

Two things are written: a directory with a copy of the collection, and beside it, under the name that the framework
chose, a small JSON file that says where the copy is. llama-index-core would read that file as its own
`SimpleVectorStore` when somebody forgets ``vector_store=``; what is in it makes that fail with a message that says
what to do.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
import uuid
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from llama_index.core.vector_stores.simple import DEFAULT_VECTOR_STORE, NAMESPACE_SEP
from llama_index.core.vector_stores.types import DEFAULT_PERSIST_FNAME

import octavo.collection
from octavo import Collection
from octavo._files import write_atomically
from octavo.errors import CollectionNotFoundError, CorruptCollectionError, MismatchError, ParameterError

_FORMAT = 1

#: How the file of each store of a storage context ends.
_ENDING = f"{NAMESPACE_SEP}{DEFAULT_PERSIST_FNAME}"

_NAMESPACE_RULE = (
    "expected namespace as the plain name of a store within the directory, got {!r}; it must not be empty, '.' or '..', "
    "nor hold '/', '\\', ':' or control characters. A file in another folder is opened with from_persist_path; a directory "
    "is given without '..' at its end"
)

_CLASS = "octavo.integrations.llama_index.OctavoVectorStore"

#: Names of the copies that this module makes, and therefore may delete.
_COPY = re.compile(r".+-[0-9a-f]{12}\.octavo")


def is_local(fs: fsspec.AbstractFileSystem | None) -> bool:
    """Say whether a file system is this machine's own."""
    return fs is None or isinstance(fs, LocalFileSystem)


def save(collection: Collection, persist_path: str, fs: fsspec.AbstractFileSystem | None) -> None:
    """Write a copy of the collection beside `persist_path` and point to it from there.

    The copy is complete before the pointer is replaced, so a crash leaves the earlier one in place. A collection that
    lies in the directory of `persist_path` already is pointed to, not copied.

    Raises
    ------
    ParameterError
        When the name of a store, which llama-index-core has put into `persist_path`, leads out of the directory.
    """
    _check_target(persist_path)
    if is_local(fs):
        _save_local(collection, Path(_local_path(persist_path, fs)))
    else:
        assert fs is not None
        _save_remote(collection, persist_path, fs)


def find(persist_path: str, fs: fsspec.AbstractFileSystem | None) -> str:
    """Return the path, on the same file system, of the collection that was saved under `persist_path`.

    Raises
    ------
    CollectionNotFoundError
        When there is nothing.
    MismatchError
        When something else wrote it, or a newer version of this module.
    CorruptCollectionError
        When the file cannot be read.
    """
    if is_local(fs):
        persist_path = Path(_local_path(persist_path, fs)).as_posix()
    fs = fs or LocalFileSystem()
    if not fs.exists(persist_path):
        raise CollectionNotFoundError(
            f"there is no vector store at {persist_path}; expected the file that OctavoVectorStore.persist or "
            "StorageContext.persist wrote"
        )
    try:
        content = json.loads(fs.cat_file(persist_path))
    except ValueError as err:
        raise CorruptCollectionError(
            f"{persist_path} is damaged: expected JSON, but {err}; the collection itself lies beside it and opens with "
            "OctavoVectorStore(path=...)"
        ) from err
    pointer = content.get("octavo") if isinstance(content, dict) else None
    if not isinstance(pointer, dict):
        raise MismatchError(
            f"{persist_path} was not written by OctavoVectorStore; load it with the class that wrote it"
        )
    if pointer.get("format") != _FORMAT:
        raise MismatchError(
            f"{persist_path} has format {pointer.get('format')}, this version of Octavo reads {_FORMAT}; upgrade Octavo"
        )
    name = str(pointer.get("collection"))
    found = _join(_parent(persist_path), name)
    if not _stays_inside(name) or (isinstance(fs, LocalFileSystem) and _leads_out(Path(_parent(persist_path)), name)):
        raise CorruptCollectionError(f"{persist_path} is damaged: it points to {name!r}, outside of its directory")
    return found


def namespaced(persist_dir: str, namespace: str) -> str:
    """Return the file that ``StorageContext.persist`` gives to the store with this name.

    Raises
    ------
    ParameterError
        When there is no directory, or the name would lead out of it on any system.
    """
    if not persist_dir:
        raise ParameterError("expected persist_dir as a directory, got ''; for the current one give '.'")
    if not isinstance(namespace, str) or not _is_namespace(namespace):
        raise ParameterError(_NAMESPACE_RULE.format(namespace))
    return f"{persist_dir.rstrip('/')}/{namespace}{_ENDING}"


def namespaces(persist_dir: str, fs: fsspec.AbstractFileSystem | None) -> list[str]:
    """Return the names of the stores in a directory that this module saved."""
    found = []
    for path in sorted((fs or LocalFileSystem()).ls(persist_dir, detail=False)):
        namespace = _namespace_of(path.rstrip("/"))
        if namespace is None or not _is_namespace(namespace):
            continue
        try:
            find(path, fs)
        except MismatchError:
            continue  # another class's
        found.append(namespace)
    return found


def download(
    directory: str,
    fs: fsspec.AbstractFileSystem | None,
    destination: Path | None,
    encoder: Any = None,
    sparse: Any = None,
) -> Collection:
    """Return a copy of a saved collection: in `destination`, or in memory.

    Parameters
    ----------
    directory : str
        What `find` returned.
    fs : fsspec.AbstractFileSystem or None
        The file system that it lies on.
    destination : Path or None
        A new or empty directory; None copies into memory.
    encoder, sparse : object, optional
        What the collection is opened with.
    """
    if is_local(fs):
        with octavo.open(_local_path(directory, fs), encoder, sparse=sparse, must_exist=True) as saved:
            return saved.copy(destination)
    assert fs is not None
    with tempfile.TemporaryDirectory(prefix="octavo-") as temporary:
        root = PurePosixPath(fs._strip_protocol(directory))
        for remote in fs.find(directory):
            name = PurePosixPath(fs._strip_protocol(remote)).relative_to(root).as_posix()
            if not _stays_inside(name):
                raise CorruptCollectionError(
                    f"{directory} is damaged: it holds {name!r}, which is no file of a collection"
                )
            local = Path(temporary, name)
            local.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(remote, str(local))
        with octavo.open(temporary, encoder, sparse=sparse, must_exist=True) as saved:
            return saved.copy(destination)


def pack(collection: Collection) -> bytes:
    """Return a whole collection as bytes."""
    with tempfile.TemporaryDirectory(prefix="octavo-") as temporary:
        copy = Path(temporary, "copy")
        collection.copy(copy).close()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for file in _files(copy):
                archive.write(file, file.relative_to(copy).as_posix())
        return buffer.getvalue()


def unpack(data: bytes, encoder: Any = None, sparse: Any = None) -> Collection:
    """Return the collection that `pack` was given, in memory, opened with an encoder."""
    with tempfile.TemporaryDirectory(prefix="octavo-") as temporary:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(temporary)
        with octavo.open(temporary, encoder, sparse=sparse, must_exist=True) as saved:
            return saved.copy()


# ---------------------------------------------------------------------- pointer


def _pointer(persist_path: str, collection: str) -> bytes:
    namespace = _namespace_of(persist_path)
    argument = "" if namespace in (None, DEFAULT_VECTOR_STORE) else f", namespace={namespace!r}"
    hint = (
        f"this folder was saved by {_CLASS}, which has to be named: context = StorageContext.from_defaults("
        f"persist_dir=folder, vector_store=OctavoVectorStore.from_persist_dir(folder{argument})), then index = "
        "load_index_from_storage(context), and for objects ObjectIndex(index, "
        "SimpleObjectNodeMapping.from_persist_dir(folder))"
    )
    content: dict[str, Any] = {
        # Core turns each entry into a float, and Python's error repeats the text that is none.
        "embedding_dict": {"octavo": [hint]},
        # Should a version of core not do so: this is no mapping, and fails as well.
        "text_id_to_ref_doc_id": hint,
        "metadata_dict": {},
        "octavo": {"format": _FORMAT, "class": _CLASS, "collection": collection},
    }
    return json.dumps(content, indent=1).encode()


def _earlier_copy(persist_path: str, fs: fsspec.AbstractFileSystem | None) -> str | None:
    """Return the copy that an existing pointer leads to, if this module made it."""
    try:
        found = find(persist_path, fs)
    except (CollectionNotFoundError, CorruptCollectionError, MismatchError):
        return None
    return found if _COPY.fullmatch(found.rpartition("/")[2]) else None


def _copy_name(persist_path: str) -> str:
    stem = persist_path.rpartition("/")[2].removesuffix(".json")
    return f"{stem}-{uuid.uuid4().hex[:12]}.octavo"


def _save_local(collection: Collection, target: Path) -> None:
    folder = target.parent
    folder.mkdir(parents=True, exist_ok=True)
    posix = target.as_posix()
    earlier = _earlier_copy(posix, None)
    own = collection.path.expanduser().resolve() if collection.path is not None else None
    name = own.relative_to(folder.resolve()).as_posix() if own and own.is_relative_to(folder.resolve()) else ""
    if not _stays_inside(name):  # it lies elsewhere, or under a name that another system reads differently
        name = _copy_name(posix)
        collection.copy(folder / name).close()
    write_atomically(target, _pointer(posix, name))
    if earlier is not None and Path(earlier) != folder / name:
        shutil.rmtree(earlier, ignore_errors=True)


def _save_remote(collection: Collection, persist_path: str, fs: fsspec.AbstractFileSystem) -> None:
    earlier = _earlier_copy(persist_path, fs)
    name = _copy_name(persist_path)
    directory = _join(_parent(persist_path), name)
    with tempfile.TemporaryDirectory(prefix="octavo-") as temporary:
        copy = Path(temporary, "copy")
        collection.copy(copy).close()
        for file in _files(copy):
            remote = _join(directory, file.relative_to(copy).as_posix())
            fs.makedirs(_parent(remote), exist_ok=True)
            fs.put_file(str(file), remote)
    fs.pipe_file(persist_path, _pointer(persist_path, name))
    if earlier is not None:
        fs.rm(earlier, recursive=True)


# ---------------------------------------------------------------------- paths


def _namespace_of(path: str) -> str | None:
    """Return the name of a store from the file that ``StorageContext.persist`` gives it; None for any other file."""
    name = path.rpartition("/")[2]
    return name.removesuffix(_ENDING) if name.endswith(_ENDING) else None


def _is_namespace(name: str) -> bool:
    """Say whether a store's name is one name and nothing more, on every system."""
    return name not in ("", ".", "..") and not any(sign in "/\\:" or sign < " " or sign == "\x7f" for sign in name)


def _check_target(persist_path: str) -> None:
    """Refuse files that llama-index-core has made of a directory and a name such as ``../x``, ``C:x`` or nothing."""
    path = str(persist_path).replace("\\", "/")
    namespace = _namespace_of(path)
    if namespace is not None:
        folder = path.rpartition("/")[0]
        parts = [part for part in folder.split("/") if part]
        climbs = parts[-1:] == [".."] and any(
            part != ".." for part in parts
        )  # not at the start: "../folder" is a place
        if climbs or not _is_namespace(namespace):
            raise ParameterError(_NAMESPACE_RULE.format(f"../{namespace}" if climbs else namespace))


def _stays_inside(name: str) -> bool:
    """Say whether a relative path with slashes stays below its directory, on every system."""
    return name == "." or all(_is_namespace(part) for part in name.split("/"))


def _leads_out(folder: Path, name: str) -> bool:
    """Say whether a link below a folder leads out of it."""
    return not (folder / name).resolve().is_relative_to(folder.resolve())


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _local_path(path: str, fs: fsspec.AbstractFileSystem | None) -> str:
    return os.path.expanduser(path if fs is None else str(fs._strip_protocol(path)))


def _parent(path: str) -> str:
    return path.rpartition("/")[0] if "/" in path else "."


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if name != "." else parent
