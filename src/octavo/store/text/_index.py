"""The full-text index: BM25 over ``(slot, text)`` with tantivy.

On disk every commit has a directory of its own, ``<folder>/<number>``. A commit starts as hard links to the files of the
one before, tantivy then adds and removes files there, and once `TextIndex.commit` returns nobody writes to that
directory again. So the manifest that the caller stores names a directory that cannot change under it: if the process
dies before the manifest is stored, the older manifest still opens the older directory, and a process that reads the
older state is not disturbed. Numbers are the time and chance, so any number of processes may write beside each other, each
to directories of its own. A `TextIndex` removes its earlier ones when the next write begins, unless it gave them away (`give`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import tantivy

from octavo._files import ADVICE, Directory, HeldFile, make_directory
from octavo._text_analysis import TextAnalysis, check_full_text, text_analysis
from octavo.errors import (
    CorruptCollectionError,
    InputTypeError,
    MismatchError,
    OctavoError,
    ParameterError,
    StorageError,
)
from octavo.store.text._search import TextSnapshot, build_schema
from octavo.words import WordQuery

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

    def __init__(
        self,
        place: Path | Directory | None,
        analysis: TextAnalysis,
        manifest: Manifest | None,
        *,
        positions: bool = False,
    ) -> None:
        self._folder = place if isinstance(place, Directory) else None
        self._path = place.path if isinstance(place, Directory) else place
        self._analysis = analysis
        self._positions = positions
        self._schema = build_schema(positions=positions)
        self._manifest = manifest
        self._memory: tantivy.Index | None = None
        self._writer: tantivy.IndexWriter | None = None
        self._pending: Directory | None = None  # directory that the open writer writes to
        self._own: set[str] = set()  # directories that this object has committed and that nobody else knows of
        self._snapshot = TextSnapshot(None, self._schema, self._analysis, self._label, positions=positions)
        if self._path is None:
            self._memory = self._create(None)
        elif manifest is not None:
            self._snapshot = self._load(verify_files(self._folder or Directory(self._path), manifest))

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | Directory | None,
        analysis: str | TextAnalysis = "english",
        *,
        manifest: Manifest | None = None,
        positions: bool = False,
    ) -> TextIndex:
        """Open the index that a manifest describes, or an empty one.

        Writes nothing. Every file is compared with the manifest before tantivy reads it.

        Parameters
        ----------
        path : path-like, Directory or None
            Directory of the index; None keeps it in memory.
        analysis : str or TextAnalysis, default="english"
            What makes terms of texts, or what `octavo._text_analysis.check_full_text` accepts.
        manifest : dict or None, default=None
            What `commit` returned for the state to open. None begins an empty index beside whatever `path` holds.
        positions : bool, default=False
            Keep the words, unstemmed and in order, beside the terms: for phrases, prefixes and misspelt words. An index that
            is there says itself whether it does.

        Raises
        ------
        ParameterError
            The analysis is unknown, or a manifest was given for an index in memory.
        MismatchError
            The index was built by another analysis.
        CorruptCollectionError
            A file is missing or differs from the manifest, or the index was written in a form that this version does
            not read. Rebuild the index from the documents. A process that only reads should read the manifest again
            first: the writer may have removed this state between the two steps.
        """
        if isinstance(analysis, str):
            analysis = text_analysis(check_full_text(analysis))
        if manifest is not None:
            if path is None:
                raise ParameterError("an index in memory has no files that a manifest could describe; pass a path")
            if manifest.get("analysis") != analysis.record:
                raise MismatchError(
                    f"the full-text index was built with {manifest.get('analysis')!r}, got {analysis.record!r}; rebuild it "
                    "from the documents"
                )
            positions = manifest.get("positions") is True
        place = path if path is None or isinstance(path, Directory) else Path(path)
        return cls(place, analysis, manifest, positions=positions)

    @property
    def analysis(self) -> TextAnalysis:
        """What makes terms of texts."""
        return self._analysis

    @property
    def positions(self) -> bool:
        """Whether words are there beside terms, for phrases, prefixes and misspelt words."""
        return self._positions

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
        self, query: str | WordQuery, k: int, *, alive: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Find the `k` best texts in the last commit; see `TextSnapshot.search`."""
        return self._snapshot.search(query, k, alive=alive)

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
                self._add_text(document, text)
                writer.add_document(document)
            if next(rest, _END) is not _END:
                raise ParameterError("expected as many texts as slots, got more texts")

    def _add_text(self, document: tantivy.Document, text: str) -> None:
        short, words = self._analysis.prepare(text)
        if words is None:
            document.add_text("text", short)
            if self._positions:
                document.add_text("words", short)
            return
        document.add_pre_tokenized_text("text", _tokens(self._analysis.stem(words)))
        if self._positions:
            document.add_pre_tokenized_text("words", _tokens(words))

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
                "analysis": self._analysis.record,
                "positions": self._positions,
                "texts": len(snapshot),
                "directory": None,
                "files": {},
            }
            if self._folder is not None and self._pending is not None:
                for name in self._pending.names() if hasattr(os, "fchmod") else ():
                    file = self._pending.hold(name)
                    os.fchmod(file.fd, 0o600)  # tantivy makes them readable for all
                name = self._pending.path.name
                manifest["directory"] = name
                manifest["files"] = _sums(self._folder, self._pending, self._manifest)
                self._pending.sync()  # tantivy does so before it renames its last file, not after
                self._folder.sync()
                self._own.add(name)
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
            if self._folder is not None and self._pending is not None:
                self._folder.remove_tree(self._pending.path.name)
                self._pending = None

    def give(self) -> None:
        """Leave the directory of the last commit to the caller, who has stored its manifest; this object will not remove it."""
        if self._manifest is not None:
            self._own.discard(self._manifest["directory"])

    def remove(self, name: str) -> None:
        """Delete the directory of another state."""
        if self._folder is not None and name.isdecimal():
            self._folder.remove_tree(name)

    def prune(self, *, keep: Iterable[str | None] = (), age: float = 0.0) -> None:
        """Delete the directories of all states but the current one.

        A process that has just read an older manifest then finds its files gone and must read it again.

        Parameters
        ----------
        keep : iterable of str or None
            Other directories to keep.
        age : float, default=0.0
            Delete only what nobody has written to for so many seconds.
        """
        if self._folder is None or self._manifest is None:
            return
        kept = {self._manifest["directory"], self._pending.path.name if self._pending else None, *keep}
        for name in self._folder.names():
            found = self._folder.stat(name) if name.isdecimal() and name not in kept else None
            if found is not None and time.time() - found.st_mtime >= age:
                self._folder.remove_tree(name)

    def close(self) -> None:
        """Give up what is not committed, and remove what was not handed over. Snapshots that were handed out go on working."""
        with contextlib.suppress(OctavoError, OSError):  # its directory may be gone
            self.rollback()
        for name in self._own:
            if self._folder is not None:
                self._folder.remove_tree(name)
        self._own.clear()

    @property
    def _label(self) -> str:
        return "in memory" if self._path is None else str(self._path)

    def _create(self, directory: Directory | None) -> tantivy.Index:
        """Create an empty index.

        Segments sorted by slot make tantivy prefer the smaller slot among equal scores of a segment.
        """
        options = {} if directory is None else {"path": directory.native_path()}
        index = tantivy.Index(self._schema, sort_by_field="slot", **options)
        self._register(index)
        return index

    def _register(self, index: tantivy.Index) -> None:
        index.register_tokenizer("octavo", self._analysis.analyzer)
        index.register_tokenizer("octavo-words", self._analysis.word_analyzer)

    def _load(self, directory: Directory | None) -> TextSnapshot:
        """Open a committed directory (None: the index in memory) for searching."""
        with _translated(self._label, "read", damaged=True):
            if directory is None:
                assert self._memory is not None  # set in the constructor when there is no path
                index = self._memory
                index.reload()
            else:
                index = tantivy.Index.open(directory.native_path())
            lengths = {} if directory is None else dict(_lengths(directory))
            return TextSnapshot(
                index.searcher(),
                self._schema,
                self._analysis,
                self._label,
                directory,
                lengths,
                positions=self._positions,
            )

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
        if self._folder is None:
            make_directory(path)
            self._folder = Directory(path)
        current = self._manifest["directory"] if self._manifest is not None else None
        for name in self._own - {current}:
            self._folder.remove_tree(name)
            self._own.discard(name)
        self._pending = self._folder.sub(f"{time.time_ns():020d}{secrets.randbelow(10**6):06d}", create=True)
        if self._manifest is None:
            return self._create(self._pending)
        base = self._folder.sub(self._manifest["directory"])
        for name in self._manifest["files"]:
            # tantivy never changes a file in place: segments are written once, meta.json is replaced by renaming
            source = base.hold(name)  # no link
            try:
                self._pending.link_from(base, name)
            except OSError:  # a file system without hard links
                _copy(source, self._pending, name)
        index = tantivy.Index.open(self._pending.native_path())
        self._register(index)
        return index


def _tokens(terms: Sequence[str]) -> tantivy.PreTokenizedString:
    return tantivy.PreTokenizedString("", [tantivy.Token(term, place, 0, 0) for place, term in enumerate(terms)])


def _lengths(directory: Directory) -> Iterator[tuple[str, int]]:
    for name in directory.names():
        found = directory.stat(name)
        if found is not None:
            yield name, found.st_size


def _copy(source: HeldFile, folder: Directory, name: str) -> None:
    folder.remove(name)  # a link that was made, whatever it said
    with os.fdopen(folder.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "wb") as target:
        target.writelines(source.read_blocks())


def _checksum(file: HeldFile) -> tuple[int, int]:
    """Return length and CRC-32 of a file."""
    length = crc = 0
    for block in file.read_blocks():
        length += len(block)
        crc = zlib.crc32(block, crc)
    return length, crc


def _sums(folder: Directory, directory: Directory, previous: Manifest | None) -> dict[str, list[int]]:
    """Return length and checksum by name; files that are links to summed ones are not read again."""
    known: dict[str, list[int]] = previous["files"] if previous else {}
    base = None
    if previous is not None:
        with contextlib.suppress(FileNotFoundError):  # another process has removed it meanwhile
            base = folder.sub(previous["directory"])
    files = {}
    for name in sorted(directory.names()):
        if name in _LOCK_FILES:
            continue
        earlier = base.stat(name) if base is not None and name in known else None
        now = directory.stat(name)
        if earlier is not None and now is not None and os.path.samestat(earlier, now):
            files[name] = known[name]
        else:
            files[name] = list(_checksum(directory.hold(name)))
    return files


def verify_files(folder: Directory, manifest: Manifest) -> Directory:
    """Return the directory that a manifest describes once each file is known to be as it was written."""
    if manifest.get("format") != MANIFEST_FORMAT:
        raise CorruptCollectionError(
            f"the full-text index {folder.path} has format {manifest.get('format')}, expected {MANIFEST_FORMAT}; rebuild it "
            "from the documents"
        )
    path = folder.path / manifest["directory"]
    try:
        directory = folder.sub(manifest["directory"])
        for name, (length, crc) in manifest["files"].items():
            path = directory.path / name
            file = directory.hold(name)
            # the length first: it is free, and tells most damage
            found = (file.size(), crc)
            if found[0] == length:
                found = _checksum(file)
            if found != (length, crc):
                what = "length" if found[0] != length else "checksum"
                raise CorruptCollectionError(
                    f"{path} of the full-text index differs in {what} from what was written; rebuild it from the documents"
                )
    except CorruptCollectionError:
        raise
    except OSError as err:
        raise CorruptCollectionError(
            f"the full-text index lacks a readable {path} ({err.strerror}); rebuild it from the documents"
        ) from err
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
        gone = errno.ENOENT if "FileDoesNotExist" in str(err) else errno.EIO
        raise StorageError(
            int(code[1]) if code else gone,
            f"the full-text index {label} could not be {action}: {err}; {ADVICE}",
        ) from err
    except OSError as err:
        if type(err) is not OSError:
            raise
        raise StorageError(
            err.errno, f"the full-text index {label} could not be {action}: {err.strerror or err}; {ADVICE}"
        ) from err
    except BaseException as err:
        if type(err).__name__ != "PanicException":
            raise
        raise CorruptCollectionError(
            f"the full-text index {label} could not be {action}: {err}; rebuild it from the documents"
        ) from None
