"""The full-text index: BM25 over ``(slot, text)`` with tantivy.

On disk every commit has a directory of its own, ``<path>/<number>``. A commit starts as hard links to the files of the
one before, tantivy then adds and removes files there, and once `TextIndex.commit` returns nobody writes to that
directory again. So the manifest that the caller stores names a directory that cannot change under it: if the process
dies before the manifest is stored, the older manifest still opens the older directory, and a process that reads the
older state is not disturbed. Directories that no manifest names any more are removed when the next write begins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import tantivy

from octavo import _files as _fs
from octavo._text_analysis import ANALYSIS_VERSION, build_analyzer, check_language, normalise
from octavo.errors import (
    CorruptCollectionError,
    InputTypeError,
    MismatchError,
    OctavoError,
    ParameterError,
    StorageError,
)
from octavo.store.text._search import TextSnapshot, build_schema

Manifest: TypeAlias = dict[str, Any]

MANIFEST_FORMAT: Final = 1

#: Bytes of postings that the writer collects before it writes a segment. It has one thread, so this bounds its memory.
WRITER_HEAP: Final = 48_000_000

_END: Final = object()

_LOCK_FILES: Final = frozenset({".tantivy-meta.lock", ".tantivy-writer.lock"})


class TextIndex:
    """Index texts by slot and find the slots whose texts match a query best.

    Use `TextIndex.open`. One thread writes at a time (the collection's write lock sees to it); any number may search
    meanwhile, and see the last commit. Statistics behind the scores may still count deleted texts until tantivy merges
    the segments that hold them; deleted texts themselves are not found after the commit.

    Examples
    --------
    >>> index = TextIndex.open(None, "english")
    >>> index.add([0, 1, 2], ["A flying bird", "Many birds fly south in autumn", "Fish swim"])
    >>> manifest = index.commit()
    >>> slots, scores = index.search("bird?", 10)
    >>> slots.tolist()
    [0, 1]
    """

    def __init__(self, path: Path | None, language: str, manifest: Manifest | None) -> None:
        self._path = path
        self._language = check_language(language)
        self._analyzer = build_analyzer(language)
        self._schema = build_schema()
        self._manifest = manifest
        self._memory: tantivy.Index | None = None
        self._writer: tantivy.IndexWriter | None = None
        self._pending: Path | None = None  # directory that the open writer writes to
        self._snapshot = TextSnapshot(None, self._schema, self._analyzer, self._label)
        if path is None:
            self._memory = self._create(None)
        elif manifest is not None:
            self._snapshot = self._load(verify_files(path, manifest, self._label))

    @classmethod
    def open(
        cls, path: str | os.PathLike[str] | None, language: str = "english", *, manifest: Manifest | None = None
    ) -> TextIndex:
        """Open the index that a manifest describes, or an empty one.

        Writes nothing. Every file is compared with the manifest before tantivy reads it.

        Parameters
        ----------
        path : path-like or None
            Directory of the index; None keeps it in memory.
        language : str, default="english"
            One of `octavo._text_analysis.LANGUAGES`.
        manifest : dict or None, default=None
            What `commit` returned for the state to open. None begins an empty index beside whatever `path` holds.

        Raises
        ------
        ParameterError
            The language is unknown, or a manifest was given for an index in memory.
        MismatchError
            The index was built for another language.
        CorruptCollectionError
            A file is missing or differs from the manifest, or the index was written in a form that this version does
            not read. Rebuild the index from the documents. A process that only reads should read the manifest again
            first: the writer may have removed this state between the two steps.
        """
        if manifest is not None:
            if path is None:
                raise ParameterError("an index in memory has no files that a manifest could describe; pass a path")
            if manifest.get("language") != language:
                raise MismatchError(
                    f"the full-text index was built for {manifest.get('language')!r}, got {language!r}; "
                    "rebuild it or open it with the language that it has"
                )
        return cls(None if path is None else Path(path), language, manifest)

    @property
    def language(self) -> str:
        """Language whose stemmer is applied, or "plain"."""
        return self._language

    @property
    def manifest(self) -> Manifest | None:
        """What `commit` last returned or `open` was given; None before the first commit."""
        return self._manifest

    @property
    def snapshot(self) -> TextSnapshot:
        """The last commit as an immutable view, which goes on answering for that commit after later ones."""
        return self._snapshot

    @property
    def nbytes(self) -> int:
        """Bytes of the files of the last commit (0 in memory)."""
        return sum(length for length, _ in self._manifest["files"].values()) if self._manifest else 0

    def __len__(self) -> int:
        """Number of texts in the last commit."""
        return len(self._snapshot)

    def search(
        self, query_text: str, k: int, *, alive: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Find the `k` best texts in the last commit; see `TextSnapshot.search`."""
        return self._snapshot.search(query_text, k, alive=alive)

    def add(self, slots: Iterable[int], texts: Iterable[str]) -> None:
        """Add texts under slots that are not in the index; they are found after `commit`.

        Raises
        ------
        ParameterError
            `slots` and `texts` are not of one length, or a slot is negative.
        InputTypeError
            A text is not a string.
        StorageError
            The files could not be written.

        Notes
        -----
        After any error nothing remains of what was added and deleted since the last `commit`.
        """
        with self._writing() as writer:
            rest = iter(texts)
            for slot in slots:
                text = next(rest, _END)
                if not isinstance(text, str):
                    if text is not _END:
                        raise InputTypeError(f"expected texts, got {type(text).__name__} for slot {slot}")
                    raise ParameterError("expected as many texts as slots, got fewer texts")
                if slot < 0:
                    raise ParameterError(f"expected slots of 0 and above, got {slot}")
                document = tantivy.Document()
                document.add_unsigned("slot", int(slot))
                document.add_text("text", normalise(text))
                writer.add_document(document)
            if next(rest, _END) is not _END:
                raise ParameterError("expected as many texts as slots, got more texts")

    def delete(self, slots: Iterable[int]) -> None:
        """Take the texts of slots out of the index at the next `commit`; slots that are not there are no error.

        Raises
        ------
        StorageError
            The files could not be written.
        """
        with self._writing() as writer:
            # By query, because delete_documents_by_term (tantivy-py 0.27) matches nothing in an unsigned field.
            known = [int(slot) for slot in slots if slot >= 0]
            if known:
                writer.delete_documents_by_query(tantivy.Query.term_set_query(self._schema, "slot", known))

    def commit(self) -> Manifest:
        """Make what was added and deleted durable and visible to searches.

        Returns
        -------
        dict
            JSON-compatible description of the new state. Store it, with the sequence number that it covers, in the
            transaction that the write belongs to. If that transaction fails, open the index again with the manifest
            that is still stored. Without changes the current manifest comes back.

        Raises
        ------
        StorageError
            The files could not be written. The state before the write is still there, in the files and for searches.
        """
        if self._writer is None and self._manifest is not None:
            return self._manifest
        with self._writing() as writer:
            writer.commit()
            writer.wait_merging_threads()  # consumes the writer, so its lock is free again
            self._writer = None
            snapshot = self._load(self._pending)
            manifest: Manifest = {
                "format": MANIFEST_FORMAT,
                "analysis": ANALYSIS_VERSION,
                "language": self._language,
                "texts": len(snapshot),
                "directory": None,
                "files": {},
            }
            if self._path is not None and self._pending is not None:
                for entry in self._pending.iterdir():  # tantivy makes them readable for all; the directory was not
                    entry.chmod(0o600)
                manifest["directory"] = self._pending.name
                manifest["files"] = _sums(self._pending, self._manifest)
                _fs.sync_directory(self._pending)  # tantivy does so before it renames its last file, not after
                _fs.sync_directory(self._path)
        self._pending = None
        self._manifest = manifest
        self._snapshot = snapshot
        return manifest

    def rollback(self) -> None:
        """Forget what was added and deleted since the last `commit`."""
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                with _translated(self._label, "undone"):
                    writer.rollback()
                    writer.wait_merging_threads()  # ends its threads, or they would write while files are removed
        finally:
            if self._pending is not None:
                shutil.rmtree(self._pending, ignore_errors=True)
                self._pending = None

    def prune(self) -> None:
        """Delete the files of all states but the current one.

        The next write does so by itself. Calling it sooner, once the current manifest is stored, frees disk space, at
        the price that a process which has just read the older manifest finds its files gone and must read it again.
        """
        if self._path is not None and self._manifest is not None:
            keep = {self._manifest["directory"], self._pending.name if self._pending else None}
            for name in _directories(self._path):
                if name not in keep:
                    shutil.rmtree(self._path / name, ignore_errors=True)

    def close(self) -> None:
        """Give up what is not committed. Snapshots that were handed out go on working."""
        self.rollback()

    @property
    def _label(self) -> str:
        return "in memory" if self._path is None else str(self._path)

    def _create(self, directory: Path | None) -> tantivy.Index:
        """Create an empty index.

        Segments sorted by slot make tantivy prefer the smaller slot among equal scores of a segment.
        """
        options = {} if directory is None else {"path": str(directory)}
        index = tantivy.Index(self._schema, sort_by_field="slot", **options)
        index.register_tokenizer("octavo", self._analyzer)
        return index

    def _load(self, directory: Path | None) -> TextSnapshot:
        """Open a committed directory (None: the index in memory) for searching."""
        with _translated(self._label, "read", damaged=True):
            if directory is None:
                assert self._memory is not None  # set in the constructor when there is no path
                index = self._memory
                index.reload()
            else:
                index = tantivy.Index.open(str(directory))
            return TextSnapshot(index.searcher(), self._schema, self._analyzer, self._label)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tantivy.IndexWriter]:
        """Lend the writer, opening it first if need be; whatever goes wrong inside undoes the write as a whole."""
        try:
            with _translated(self._label, "written"):
                if self._writer is None:
                    index = self._memory if self._path is None else self._begin(self._path)
                    assert index is not None  # in memory: set in the constructor
                    self._writer = index.writer(WRITER_HEAP, 1)
                yield self._writer
        except BaseException:
            with contextlib.suppress(OctavoError, OSError):  # the first error is the one to report
                self.rollback()
            raise

    def _begin(self, path: Path) -> tantivy.Index:
        """Start the directory of the next commit as hard links to the files of the current one."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.prune()
        self._pending = path / f"{max(map(int, _directories(path)), default=0) + 1:08d}"
        self._pending.mkdir(mode=0o700)
        if self._manifest is None:
            return self._create(self._pending)
        base = path / self._manifest["directory"]
        for name in self._manifest["files"]:
            # tantivy never changes a file in place: segments are written once, meta.json is replaced by renaming
            try:
                os.link(base / name, self._pending / name)
            except OSError:  # a file system without hard links
                with contextlib.suppress(shutil.SameFileError):  # or a link that was made, whatever it said
                    shutil.copyfile(base / name, self._pending / name)
        index = tantivy.Index.open(str(self._pending))
        index.register_tokenizer("octavo", self._analyzer)
        return index


def _directories(path: Path) -> Sequence[str]:
    """Return the names of the directories of commits, finished or not."""
    try:
        return [entry.name for entry in os.scandir(path) if entry.name.isdecimal() and entry.is_dir()]
    except FileNotFoundError:
        return []


def _checksum(path: Path) -> tuple[int, int]:
    """Return length and CRC-32 of a file."""
    length = crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            length += len(block)
            crc = zlib.crc32(block, crc)
    return length, crc


def _sums(directory: Path, previous: Manifest | None) -> dict[str, list[int]]:
    """Return length and checksum by name; files that are links to summed ones are not read again."""
    known: dict[str, list[int]] = previous["files"] if previous else {}
    base = directory.parent / previous["directory"] if previous else None
    files = {}
    for name in sorted(os.listdir(directory)):
        if name in _LOCK_FILES:
            continue
        path = directory / name
        if base is not None and name in known and (base / name).exists() and path.samefile(base / name):
            files[name] = known[name]
        else:
            files[name] = list(_checksum(path))
    return files


def verify_files(path: Path, manifest: Manifest, label: str) -> Path:
    """Return the directory that a manifest describes once each file is known to be as it was written."""
    if (manifest.get("format"), manifest.get("analysis")) != (MANIFEST_FORMAT, ANALYSIS_VERSION):
        raise CorruptCollectionError(
            f"the full-text index {label} has format {manifest.get('format')}.{manifest.get('analysis')}, expected "
            f"{MANIFEST_FORMAT}.{ANALYSIS_VERSION}; rebuild it from the documents"
        )
    directory: Path = path / manifest["directory"]
    for name, (length, crc) in manifest["files"].items():
        file = directory / name
        try:
            # the length first: it is free, and tells most damage
            found = (file.stat().st_size, crc)
            if found[0] == length:
                found = _checksum(file)
        except OSError as err:
            raise CorruptCollectionError(
                f"the full-text index lacks a readable {file} ({err.strerror}); rebuild it from the documents"
            ) from err
        if found != (length, crc):
            what = "length" if found[0] != length else "checksum"
            raise CorruptCollectionError(
                f"{file} of the full-text index differs in {what} from what was written; rebuild it from the documents"
            )
    return directory


@contextlib.contextmanager
def _translated(label: str, action: str, *, damaged: bool = False) -> Iterator[None]:
    """Turn what tantivy raises (ValueError for I/O errors, Rust panics beside `Exception`) into our errors."""
    try:
        yield
    except OctavoError:
        raise
    except ValueError as err:
        if damaged:
            raise CorruptCollectionError(
                f"the full-text index {label} could not be {action}: {err}; it can be rebuilt"
            ) from err
        # tantivy tells the operating system's number only within its message
        code = re.search(r"\bcode: (\d+)", str(err))
        raise StorageError(
            int(code[1]) if code else errno.EIO,
            f"the full-text index {label} could not be {action}: {err}; {_fs.ADVICE}",
        ) from err
    except OSError as err:
        if type(err) is not OSError:
            raise
        raise StorageError(
            err.errno, f"the full-text index {label} could not be {action}: {err.strerror or err}; {_fs.ADVICE}"
        ) from err
    except BaseException as err:
        if type(err).__name__ != "PanicException":
            raise
        raise CorruptCollectionError(
            f"the full-text index {label} could not be {action}: {err}; rebuild it from the documents"
        ) from None
