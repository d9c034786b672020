"""What lies in a collection's directory, and how it gets there: links, permissions, odd paths, files that others cut."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo._files import Directory, as_path, fresh_directory, make_directory, storage_errors, write_atomically
from octavo.errors import (
    AccessDeniedError,
    CorruptCollectionError,
    InputTypeError,
    OctavoError,
    ParameterError,
    StorageError,
)

DIM = 8

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")


def vectors(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def contents(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).digest() for file in files}


# ---------------------------------------------------------------------- links in somebody else's collection


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Somebody's own files, which no collection may touch."""
    home = tmp_path / "home"
    (home / "photos" / "2023").mkdir(parents=True)
    (home / "photos" / "00000007").mkdir()
    (home / "photos" / "00000007" / "a.jpg").write_bytes(b"picture")
    (home / ".bashrc").write_bytes(b"alias x=y\n" * 500)
    return home


def collection(path: Path, **options: Any) -> Path:
    with octavo.open(path, fit_after=5, **options) as kb:
        kb.add(list("abcdef"), ids=list("abcdef"), vectors=vectors(6))
        kb.search("a", mode="text")
    return path


def everything(kb: octavo.Collection) -> Iterator[Callable[[], Any]]:
    yield lambda: kb.add(["x"], ids=["x"], vectors=vectors(1, 1))
    yield lambda: kb.search(vectors(1)[0], 2)
    yield lambda: kb.search("x", mode="text")
    yield lambda: kb.delete(["a"])
    yield lambda: kb.flush()
    yield lambda: kb.refit()
    yield lambda: kb.compact(secure=True)
    yield lambda: kb.info()
    yield lambda: kb.verify(repair=True)
    yield lambda: kb.destroy()


def names_of(path: Path) -> dict[str, list[str]]:
    return {str(folder): sorted(files + folders) for folder, folders, files in os.walk(path)}


@posix
def test_the_text_folder_as_a_link_is_not_followed(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "kb"
    octavo.open(path).close()
    (path / "text").symlink_to(home / "photos")
    before = contents(home), names_of(home)
    kb = octavo.open(path)
    kb.add(["x"], vectors=vectors(1))
    with pytest.raises(CorruptCollectionError, match=r"kb/text is a link; .*remove it"):
        kb.search("x", mode="text")
    with pytest.raises(CorruptCollectionError, match="text is a link"):
        kb.compact(secure=True)
    kb.destroy()
    assert (contents(home), names_of(home)) == before
    assert not path.exists()


@posix
@pytest.mark.parametrize(
    "pattern", ["g*-0.vec", "*.graph", "*.cells", "*.segment", "text", "text/*", "text/*/meta.json"]
)
def test_no_operation_follows_a_link(tmp_path: Path, home: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("graph_min", "cells_min"):
        monkeypatch.setattr(f"octavo.index.planner.{limit}", lambda layout: 2)
    path = collection(tmp_path / "kb", index="graph" if pattern == "*.graph" else "cells")
    (place,) = path.glob(pattern)
    place.rename(tmp_path / "taken")
    place.symlink_to(home / ("photos" if (tmp_path / "taken").is_dir() else ".bashrc"))
    before = contents(home), names_of(home)
    said = []
    for number in range(len(list(everything(None)))):  # type: ignore[arg-type]
        try:
            with octavo.open(path) as kb:
                list(everything(kb))[number]()
        except OctavoError as err:
            said.append(str(err))
        assert (contents(home), names_of(home)) == before
    if pattern in ("g*-0.vec", "text"):  # the others are derived, and made anew
        assert any("is a link" in message for message in said)


@posix
@pytest.mark.parametrize("name", ["octavo.db", "octavo.db-wal", "octavo.db-shm", "octavo.lock"])
def test_a_database_that_is_a_link_is_damage(tmp_path: Path, home: Path, name: str) -> None:
    path = collection(tmp_path / "kb")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(home / ".bashrc")
    before = contents(home)
    for options in ({}, {"read_only": True}):
        with pytest.raises(CorruptCollectionError, match="is a link"):
            octavo.open(path, **options)
    assert contents(home) == before


@posix
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    path = collection(tmp_path / "kb")
    (file,) = path.glob("*.vec")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CorruptCollectionError, match="not a regular file"), octavo.open(path) as kb:
        kb.search(vectors(1)[0], 1)


@posix
def test_links_of_an_export_are_followed_as_documented(tmp_path: Path) -> None:
    with octavo.open(collection(tmp_path / "kb")) as kb:
        kb.export(tmp_path / "out")
    (tmp_path / "out" / "vectors.npy").rename(tmp_path / "vectors.npy")
    (tmp_path / "out" / "vectors.npy").symlink_to(tmp_path / "vectors.npy")
    with octavo.import_from(tmp_path / "out") as kb:
        assert len(kb) == 6


# ---------------------------------------------------------------------- paths


HOW: dict[str, Callable[[octavo.Collection, Path, Any], Any]] = {
    "open": lambda kb, there, path: octavo.open(path),
    "restore": lambda kb, there, path: octavo.restore(there, path),
    "restore from": lambda kb, there, path: octavo.restore(path, there),
    "import": lambda kb, there, path: octavo.import_from(there, path),
    "import from": lambda kb, there, path: octavo.import_from(path),
    "snapshot": lambda kb, there, path: kb.snapshot(path),
    "export": lambda kb, there, path: kb.export(path),
    "copy": lambda kb, there, path: kb.copy(path),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("path", "error", "match"),
    [
        ("", ParameterError, "empty string"),
        ("a\0b", ParameterError, "NUL"),
        ("a\ud800", ParameterError, "surrogate"),
        ("~nobody-of-this-name/x", ParameterError, "nobody-of-this-name"),
        (b"kb", InputTypeError, "bytes"),
        (3, InputTypeError, "int"),
    ],
    ids=["empty", "nul", "surrogate", "user", "bytes", "number"],
)
def test_paths_that_name_nothing(tmp_path: Path, path: Any, error: type[OctavoError], match: str, how: str) -> None:
    with octavo.open() as kb:
        kb.export(tmp_path / "out")
        with pytest.raises(error, match=match):
            HOW[how](kb, tmp_path / "out", path)


@posix
def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for path in (tmp_path / "link", tmp_path / "link" / "below"):
        with pytest.raises(ParameterError, match=r"link is a link to .*nothing, which does not exist"):
            octavo.open(path)
    assert not (tmp_path / "nothing").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "file" / "far" / "below"):
        with pytest.raises(OctavoError, match="file"):
            octavo.open(path)


@posix
def test_missing_parents_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        octavo.open(tmp_path / "a" / "b" / "kb").close()
        with octavo.open(tmp_path / "a" / "b" / "kb") as kb:
            kb.snapshot(tmp_path / "c" / "d" / "snap")
            kb.export(tmp_path / "e" / "f" / "out")
    finally:
        os.umask(before)
    for name in ("a", "a/b", "a/b/kb", "c", "c/d", "c/d/snap", "e", "e/f", "e/f/out"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700, name


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up the rights of root, if there are any, for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@posix
@pytest.mark.parametrize("what", ["parent", "folder", "inside"])
def test_no_permission_is_named(tmp_path_factory: pytest.TempPathFactory, what: str) -> None:
    base = tmp_path_factory.mktemp("denied")
    path = collection(base / "closed" / "kb")
    closed = {"parent": base / "closed", "folder": path, "inside": path / "octavo.db"}[what]
    closed.chmod(0)
    try:
        with as_nobody():
            for options in ({}, {"read_only": True}):
                with pytest.raises(OctavoError) as caught:
                    octavo.open(path, **options)
                assert isinstance(caught.value, PermissionError)
    finally:
        closed.chmod(0o700)


def test_errors_of_the_system_are_ours(tmp_path: Path) -> None:
    for number in (errno.EACCES, errno.EPERM):
        with (
            pytest.raises(AccessDeniedError, match=r"could not be read.*who owns it"),
            storage_errors(tmp_path, "read"),
        ):
            raise PermissionError(number, "no")
    for number in (errno.EMFILE, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EROFS):
        with pytest.raises(StorageError) as caught, storage_errors(tmp_path):
            raise OSError(number, "no")
        assert caught.value.errno == number
    with pytest.raises(ParameterError), storage_errors(tmp_path):
        raise ParameterError("as it is")


# ---------------------------------------------------------------------- files that others make shorter

CUT = """
    import os, sys, numpy as np, octavo
    path, what = sys.argv[1], sys.argv[2]
    planner = sys.modules["octavo.index.planner"]
    planner.graph_min = planner.cells_min = lambda layout: 100
    index = "graph" if what == "graph" else "cells"
    matrix = np.random.default_rng(0).standard_normal((6000, 64)).astype(np.float32)
    kind = octavo.open_multi_vector if what.startswith("tokens") else octavo.open
    kb = kind(path, fit_after=10, index=index)
    if what.startswith("tokens"):
        kb.add(["word"] * 3000, ids=[str(i) for i in range(3000)], token_vectors=matrix.reshape(3000, 2, 64))
    else:
        kb.add(["word"] * 6000, ids=[str(i) for i in range(6000)], vectors=matrix)
    kb.flush()
    kb.search("word", mode="text")
    query = matrix[:2] if what.startswith("tokens") else matrix[0]
    assert kb.search(query, 1).ids == ["0"]
    suffix = {"tier": "-0.vec", "tokens": "tokens.vec", "tokens offsets": "offsets.vec", "text": ""}.get(what, f".{what}")
    if suffix:
        (name,) = [name for name in os.listdir(path) if name.endswith(suffix)]
        os.truncate(os.path.join(path, name), 0)
    else:
        for folder, _, files in os.walk(os.path.join(path, "text")):
            for name in files:
                os.truncate(os.path.join(folder, name), 0)
    for mode in ("dense", "text"):
        for _ in range(2):
            try:
                found = kb.search(query, 1, mode=mode, text=None if mode == "dense" else "word").ids
                print(mode, "found", found)
            except octavo.OctavoError as err:
                print(mode, type(err).__name__, err)
    print("got", kb.get(["7"])[0].text)
    try:
        print("vectors", kb.get_token_vectors(["2999"]) if what.startswith("tokens") else kb.get_vectors(["2999"]).shape)
    except octavo.OctavoError as err:
        print("vectors", type(err).__name__)
    print("verify", kb.verify().problems)
    kb.close()
"""


@posix
@pytest.mark.parametrize("what", ["tier", "graph", "cells", "segment", "tokens", "tokens offsets", "text"])
def test_a_mapped_file_that_another_program_cuts_is_no_signal(tmp_path: Path, what: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(CUT), str(tmp_path / "kb"), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    lines = done.stdout.splitlines()
    assert "got word" in lines
    dense = [line for line in lines if line.startswith("dense")]
    if what in ("graph", "cells", "segment", "text"):  # made anew
        assert dense == ["dense found ['0']"] * 2
        assert len([line for line in lines if line.startswith("text found")]) == 2
    else:
        # the second time, a graph may have been loaded, which has codes of its own
        assert "CorruptCollectionError" in dense[0]
        assert ".vec is damaged" in dense[0]
        assert dense[1] in (dense[0], "dense found ['0']")
        assert "vectors CorruptCollectionError" in lines
        assert "text found" in done.stdout
        assert ".vec is damaged" in lines[-1]


FULL = """
    import os, sys, numpy as np, octavo
    path = sys.argv[1]
    with octavo.open(sys.argv[2]) as kb:
        try:
            kb.export(os.path.join(path, "out"))
        except octavo.errors.StorageError as err:
            print(err.errno, os.listdir(path))
"""


@posix
def test_an_export_onto_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """Storing to a map of a sparse file would kill the process."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with octavo.open(tmp_path / "kb", codec="float32") as kb:
            kb.add(vectors=vectors(4_000, dim=128))
        command = [sys.executable, "-c", textwrap.dedent(FULL), str(disk), str(tmp_path / "kb")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, f"{errno.ENOSPC} []\n"), done.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_exported_arrays_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mapped(*_: object, **__: object) -> None:
        raise AssertionError("a map of a file with holes")

    monkeypatch.setattr(np.lib.format, "open_memmap", mapped)
    matrix = vectors(1_100)
    with octavo.open(codec="float32", metric="dot") as kb:
        kb.add(vectors=matrix)
        kb.export(tmp_path / "out")
        kb.export(tmp_path / "half", dtype="float16")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "vectors.npy"), matrix)
    np.testing.assert_array_equal(np.load(tmp_path / "half" / "vectors.npy"), matrix.astype(np.float16))
    with octavo.open_multi_vector(codec="float32", pool_factor=1) as late:
        late.add(["a", "", "c"], token_vectors=[np.eye(3, 4), np.zeros((0, 4)), np.eye(2, 4)])
        late.export(tmp_path / "late")
    assert np.load(tmp_path / "late" / "offsets.npy").tolist() == [0, 3, 3, 5]
    assert np.load(tmp_path / "late" / "tokens.npy").shape == (5, 4)


# ---------------------------------------------------------------------- the helpers


def test_as_path_is_absolute_and_keeps_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert as_path("kb", "path") == tmp_path / "kb"
    assert as_path("~/kb", "path") == Path.home() / "kb"
    assert as_path(Path("."), "path") == tmp_path


@posix
def test_a_directory_that_is_held_open(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    folder = Directory(tmp_path / "one")
    assert folder.is_at_its_path()
    (tmp_path / "one").rename(tmp_path / "two")
    assert not folder.is_at_its_path()
    os.close(folder.open("file", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    assert (tmp_path / "two" / "file").exists()
    assert folder.names() == ["file"]
    inner = folder.sub("inner", create=True)
    assert inner.names() == []
    folder.replace("file", "other")
    assert folder.stat("file") is None
    assert folder.remove("other")
    assert folder.remove("other")
    assert folder.remove_tree("inner")
    assert folder.names() == []
    with pytest.raises(FileNotFoundError):
        folder.hold("other")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    folder.close()
    folder.close()
    del inner
    if before:
        assert len(os.listdir("/proc/self/fd")) == before - 2


@posix
def test_listing_in_many_threads_at_once(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).touch()
    folder = Directory(tmp_path)
    found: set[int] = set()

    def look() -> None:
        for _ in range(50):
            found.add(len(folder.names()))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {300}


@pytest.mark.parametrize("replace", [False, True])
def test_a_fresh_directory_appears_whole_or_not_at_all(tmp_path: Path, replace: bool) -> None:
    target = tmp_path / "new" / "there"
    with fresh_directory(target, "the copy") as draft:
        (draft / "file").write_text("one")
        assert not target.exists()
    with pytest.raises(ZeroDivisionError), fresh_directory(target, "the copy", replace=True) as draft:
        (draft / "file").write_text(str(1 / 0))
    assert (target / "file").read_text() == "one"
    if replace:
        with fresh_directory(target, "the copy", replace=True) as draft:
            (draft / "file").write_text("three")
        assert (target / "file").read_text() == "three"
    else:
        with (
            pytest.raises(ParameterError, match="expected a new or empty directory for the copy"),
            fresh_directory(target, "the copy"),
        ):
            pass
    assert [entry.name for entry in target.parent.iterdir()] == ["there"]


def test_write_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "a" / "file", "ä", private=True)
    assert (tmp_path / "a" / "file").read_bytes() == "ä".encode()
    if os.name != "nt":
        assert stat.S_IMODE((tmp_path / "a" / "file").stat().st_mode) == 0o600

    def fails(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(StorageError, match="file could not be written"):
            write_atomically(tmp_path / "a" / "file", b"other")
    assert (tmp_path / "a" / "file").read_bytes() == "ä".encode()
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["file"]


@posix
def test_make_directory_beside_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.mkdir

    def first(path: Path, *rest: Any, **more: Any) -> None:
        real(path, *rest, **more)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(Path, "mkdir", first)
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
