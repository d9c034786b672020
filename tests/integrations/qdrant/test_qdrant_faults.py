"""What processes, file systems and damaged files do to a collection in Qdrant's core: errors of ours, and nothing lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.errors import (
    CollectionClosedError,
    CollectionNotFoundError,
    CorruptCollectionError,
    ForeignCollectionError,
    InputTypeError,
    OctavoError,
    ParameterError,
)

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")

import qdrant_edge

from octavo.integrations.qdrant import (
    QdrantCollection,
    QdrantMultiVectorCollection,
    edge,
    open_collection,
)
from octavo.integrations.qdrant._client import ClientTransport, ServerOptions
from octavo.integrations.qdrant.edge import CONFIG_FILE, SUMS_FILE, EdgeTransport
from octavo.integrations.qdrant.location import open_or_create, parse_location

N, DIM = 300, 8
VECTORS = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
IDS = [str(number) for number in range(N)]


def fill(path: Path | str, **options: Any) -> QdrantCollection:
    made = QdrantCollection.create(path=path, codec="float32", full_scan_threshold=1, indexing_threshold=1, **options)
    made.add([f"text {i}" for i in IDS], ids=IDS, metadata=[{"n": n} for n in range(N)], vectors=VECTORS)
    return made


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection that was closed; tests copy it."""
    path = tmp_path_factory.mktemp("closed") / "kb"
    with fill(path) as made:
        made.optimize()
        made.add(["late"], ids=["late"], metadata=[{"n": -1}], vectors=VECTORS[:1])
    return path


def copy(source: Path, destination: Path) -> Path:
    subprocess.run(["cp", "-r", "--sparse=always", source, destination], check=True)
    return destination


# ---------------------------------------------------------------------- where it is


def test_a_relative_path_stays_where_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub" / "kb").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    kb = QdrantCollection.create(path="kb", codec="float32")
    location = parse_location("qdrant:kb")
    monkeypatch.chdir("sub")
    kb.add(["a"], ids=["a"], vectors=VECTORS[:1])
    kb.close()
    assert list((tmp_path / "sub" / "kb").iterdir()) == []
    assert location is not None
    assert location.path == tmp_path / "kb"
    with QdrantCollection.open(path=tmp_path / "kb") as kb:
        assert kb.ids() == ["a"]
        assert kb.info().place == str(tmp_path / "kb")


@pytest.mark.parametrize(
    ("path", "error"), [("", ParameterError), ("a\0b", ParameterError), ("\udc80", ParameterError), (5, InputTypeError)]
)
def test_a_path_that_is_none(
    path: Any, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (QdrantCollection.create, QdrantCollection.open, QdrantMultiVectorCollection.create):
        with pytest.raises(error, match="expected path as"):
            make(path=path)
    assert list(tmp_path.iterdir()) == []


def _count(kb: QdrantCollection) -> int:
    with kb:
        return kb.count()


def _mean(texts: list[str]) -> Any:
    return np.tile(np.eye(1, DIM), (len(texts), 1))


def test_a_pickle_is_a_reference_to_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kb = fill("kb", encoder=_mean)
    data = pickle.dumps(kb)
    assert len(data) < 1000
    monkeypatch.chdir("/")
    with pytest.raises(OctavoError, match="to be free"):
        pickle.loads(data)
    kb.close()
    with pickle.loads(data) as again:
        assert (type(again), again.count(), again.search("any", 1).ids) == (QdrantCollection, N, kb_first(again))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_length, (str(tmp_path / "kb"),)) == N


def kb_first(kb: QdrantCollection) -> list[str]:
    return kb.search(np.eye(1, DIM)[0], 1).ids


def _length(path: str) -> int:
    with QdrantCollection.open(path=path) as kb:
        return len(kb)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_pickled_says_why(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client", reason="needs qdrant-client")
    with QdrantCollection.create(path=tmp_path / "q") as kb, pytest.raises(InputTypeError, match="without documents"):
        pickle.dumps(kb)
    with QdrantCollection.create(url=":memory:", dim=DIM) as kb, pytest.raises(InputTypeError, match="in memory"):
        pickle.dumps(kb)
    transport = ClientTransport("http://localhost:1", "kb", ServerOptions(api_key="secret", timeout=3))
    assert transport.reference() == {"url": "http://localhost:1", "name": "kb", "timeout": 3, "retries": 4}
    transport.close()


def test_the_directory_is_gone_or_another_one(tmp_path: Path, closed: Path) -> None:
    path = copy(closed, tmp_path / "kb")
    kb = QdrantCollection.open(path=path)
    os.rename(path, tmp_path / "moved")
    with pytest.raises(CollectionNotFoundError, match="deleted, moved or replaced"):
        kb.add(["x"], ids=["x"], vectors=VECTORS[:1])
    copy(closed, path)
    with pytest.raises(CollectionNotFoundError):
        kb.delete(["1"])
    kb.close()
    with QdrantCollection.open(path=path) as new:
        assert new.count() == N + 1


def test_what_another_program_made_is_not_created_over(tmp_path: Path) -> None:
    vectors = {"dense": qdrant_edge.EdgeVectorParams(DIM, qdrant_edge.Distance.Dot)}
    (tmp_path / "theirs").mkdir()
    shard = qdrant_edge.EdgeShard.create(str(tmp_path / "theirs"), qdrant_edge.EdgeConfig(vectors=vectors))
    shard.close()
    for call in (open_collection, open_or_create):
        with pytest.raises(ForeignCollectionError, match="no description"):
            call(tmp_path / "theirs")


# ---------------------------------------------------------------------- processes and threads

_FORK = """
import os, sys, numpy as np
from octavo.errors import CollectionClosedError
from octavo.integrations.qdrant import QdrantCollection
kb = QdrantCollection.create(path=sys.argv[1], codec="float32")
kb.add(["a"], ids=["a"], vectors=np.ones((1, 8)))
kb.search(np.ones(8), 1)
child = os.fork()
if child == 0:
    for call in (lambda: kb.count(), lambda: kb.search(np.ones(8), 1), lambda: kb.add(["b"], vectors=np.ones((1, 8)))):
        try:
            call()
        except CollectionClosedError as err:
            assert "forked" in str(err) and "spawn" in str(err), err
        else:
            sys.exit(2)
    kb.close()
    sys.exit(0)  # runs destructors
assert os.waitpid(child, 0)[1] == 0
kb.add(["c"], ids=["c"], vectors=np.ones((1, 8)))
kb.close()
with QdrantCollection.open(path=sys.argv[1]) as kb:
    print(kb.ids())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FORK, str(tmp_path / "q")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "['a', 'c']\n"), done.stderr


def test_a_client_has_connections_of_its_own_in_a_forked_child(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client", reason="needs qdrant-client")
    transport = ClientTransport("http://localhost:1", "kb", ServerOptions())
    mine = transport._client
    assert transport._client is mine
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    child = transport._client
    assert child is not mine
    assert transport._client is child
    mine.close()
    transport.close()
    with pytest.raises(CollectionClosedError):
        transport.count({})


def _search_on(kb: QdrantCollection, raised: list[BaseException]) -> None:
    try:
        while True:
            assert kb.search(VECTORS[3], 1).ids[0] in ("3", "late")
    except BaseException as err:  # told by the thread that checks
        raised.append(err)


def test_closing_waits_for_those_who_search(closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path / "kb")
    for _ in range(8):
        kb = QdrantCollection.open(path=path)
        raised: list[BaseException] = []

        threads = [threading.Thread(target=_search_on, args=(kb, raised)) for _ in range(4)]
        for thread in threads:
            thread.start()
        kb.close()
        for thread in threads:
            thread.join()
        assert [type(err) for err in raised] == [CollectionClosedError] * 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_closing_releases_everything(closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path / "kb")

    def held() -> tuple[int, int]:
        maps = sum(str(path) in line for line in Path("/proc/self/maps").read_text().splitlines())
        files = 0
        for number in os.listdir("/proc/self/fd"):
            try:
                files += str(path) in os.readlink(f"/proc/self/fd/{number}")
            except OSError:
                continue  # closed meanwhile
        return maps, files

    kb = QdrantCollection.open(path=path)
    kb.search(VECTORS[3], 2)
    assert held() > (0, 0)
    kb.close()
    assert held() == (0, 0)
    with QdrantCollection.open(path=path) as kb:  # while the closed one is still referred to
        assert kb.count() == N + 1


# ---------------------------------------------------------------------- files


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / "mine").mkdir(mode=0o755)
        for path in (tmp_path / "new", tmp_path / "mine"):
            kb = fill(path)

            def modes(path: Path = path) -> set[str]:
                found = [each.lstat().st_mode for each in path.rglob("*")]
                return {("d" if stat.S_ISDIR(mode) else "f") + oct(stat.S_IMODE(mode)) for mode in found}

            assert modes() == {"d0o700", "f0o600"}
            kb.optimize()
            kb.add(["x"], ids=["x"], vectors=VECTORS[:1])
            assert modes() == {"d0o700", "f0o600"}
            kb.close()
            assert modes() == {"d0o700", "f0o600"}
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o755
    finally:
        os.umask(before)


def _first_byte(path: Path) -> int:
    """Return where something is written in a file."""
    with path.open("rb") as file:
        start = os.lseek(file.fileno(), 0, os.SEEK_DATA) if hasattr(os, "SEEK_DATA") and path.stat().st_size else 0
        file.seek(start)
        data = file.read(1 << 20)
    return start + len(data) - len(data.lstrip(b"\0"))


def _flip(path: Path) -> None:
    start = _first_byte(path)
    with path.open("r+b") as file:
        file.seek(start)
        byte = file.read(1)[0]
        file.seek(start)
        file.write(bytes([byte ^ 1]))


def _zero(path: Path) -> None:
    start = _first_byte(path)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(min(64, path.stat().st_size - start)))


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_flip, _zero, _truncate, Path.unlink], ids=lambda function: function.__name__)
def test_a_damaged_file_is_named(
    closed: Path, tmp_path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "_LOADING_SECONDS", 0)  # nobody else is loading it
    path = copy(closed, tmp_path / "kb")
    names = [each.relative_to(path) for each in sorted(path.rglob("*")) if each.is_file() and each.stat().st_blocks]
    assert len(names) > 40
    for name in names:
        if name.name == SUMS_FILE and damage is Path.unlink:
            continue  # as after a process that was killed
        damage(path / name)
        with pytest.raises(CorruptCollectionError, match=str(name).replace(".", "\\.")):
            QdrantCollection.open(path=path)
        (path / name).unlink(missing_ok=True)
        copy(closed / name, path / name)
    (path / "wal" / "more").write_bytes(b"x")
    with pytest.raises(CorruptCollectionError, match="wal/more"):
        QdrantCollection.open(path=path)
    (path / "wal" / "more").unlink()
    (path / "notes.txt").write_text("the user's own")
    with QdrantCollection.open(path=path) as kb:
        assert kb.count() == N + 1
        assert kb.search(VECTORS[7], 1).ids == ["7"]


def test_a_link_among_the_files_is_damage(closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path / "kb")
    (tmp_path / "theirs").mkdir()
    (path / "segments" / "more").symlink_to(tmp_path / "theirs")
    with pytest.raises(CorruptCollectionError, match="more is a link"):
        QdrantCollection.open(path=path)


def _raw(path: Path, *operations: Any) -> None:
    """Change a collection behind our back."""
    shard = qdrant_edge.EdgeShard.load(str(path))
    for operation in operations:
        shard.update(operation)
    shard.flush()
    shard.close()
    (path / SUMS_FILE).unlink(missing_ok=True)


def test_missing_documents_are_noticed(closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path / "kb")
    with QdrantCollection.open(path=path) as kb:
        points = [point.id for point in kb._scroll(kb._where({"n": {"$lt": 107}}), ["id"])]
    _raw(path, qdrant_edge.UpdateOperation.delete_points(points))
    with pytest.raises(CorruptCollectionError, match="expected 301 documents, but Qdrant's core finds 193"):
        QdrantCollection.open(path=path)


def test_a_lost_payload_is_noticed(closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path / "kb")
    with QdrantCollection.open(path=path) as kb:
        (point,) = (point.id for point in kb._scroll(kb._where({"n": 5}), ["id"]))
    _raw(path, qdrant_edge.UpdateOperation.clear_payload([point]))
    with QdrantCollection.open(path=path) as kb:
        assert kb.get(["6"])[0].text == "text 6"
        for call in (kb.ids, lambda: kb.get(["5"]), lambda: kb.search(VECTORS[5], 3), lambda: list(kb.documents())):
            with pytest.raises(CorruptCollectionError, match="lost"):
                call()


@pytest.mark.parametrize("done", ["nothing", "half", "all but the count"])
def test_a_deletion_that_was_killed_is_no_damage(done: str, closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path / "kb")
    kb = QdrantCollection.open(path=path)
    transport = kb._transport
    assert isinstance(transport, EdgeTransport)
    points = [point.id for point in kb._scroll(kb._where({"n": {"$lt": 10}}), ["id"])]
    before = transport._points
    assert before == N + 2  # with the description
    assert len(points) == 11
    some = {"nothing": [], "half": points[:5], "all but the count": points}[done]
    announced = qdrant_edge.UpdateOperation.upsert_points([transport._count_point(before, len(points))])
    kb.close()
    operations = [announced, *([qdrant_edge.UpdateOperation.delete_points(some)] if some else [])]
    _raw(path, *operations)
    with QdrantCollection.open(path=path) as kb:
        left = N + 1 - len(some)
        assert kb.count() == left
        kb.add(["x"], ids=["x"], vectors=VECTORS[:1])
        assert kb.delete(["x", "200"]) == 2
    with QdrantCollection.open(path=path) as kb:
        assert kb.count() == left - 1


def test_a_panic_of_the_core_is_an_error_of_ours(closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):  # as the core's, which no `except Exception` catches
        pass

    class Shard:
        def __init__(self, shard: Any) -> None:
            self._shard = shard

        def query_batch(self, request: Any) -> Any:
            raise PanicException("index out of bounds")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._shard, name)

    kb = QdrantCollection.open(path=copy(closed, tmp_path / "kb"))
    transport = kb._transport
    assert isinstance(transport, EdgeTransport)
    monkeypatch.setattr(transport, "_shard", Shard(transport._shard))
    with pytest.raises(CorruptCollectionError, match="gave up"):
        kb.search(VECTORS[0], 1)
    with pytest.raises(CorruptCollectionError, match="gave up"):
        kb.count()  # whatever the panic has left half done is not asked again
    kb.close()


def test_a_real_panic_on_loading(closed: Path, tmp_path: Path) -> None:
    """Files that only a killed process leaves unchecked: each ends in an answer or in an error of ours."""
    original = copy(closed, tmp_path / "original")
    (original / SUMS_FILE).unlink()
    names = [each.relative_to(original) for each in sorted(original.rglob("*")) if each.is_file()]
    named = 0
    for name in names[::3]:
        if name.name == CONFIG_FILE:
            continue
        path = copy(original, tmp_path / "kb")
        _truncate(path / name)
        try:
            with QdrantCollection.open(path=path) as kb:
                kb.search(VECTORS[7], 1)
                kb.ids()
        except OctavoError:
            named += 1
        shutil.rmtree(path)
    assert named > 3


# ---------------------------------------------------------------------- what is asked


def test_no_more_is_asked_for_than_there_is(closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy(closed, tmp_path / "kb")
    with QdrantCollection.open(path=path) as kb:
        asked: list[int] = []
        search = kb._transport.search

        def record(searches: Any) -> Any:
            asked.extend(each.limit for each in searches)
            return search(searches)

        monkeypatch.setattr(kb._transport, "search", record)
        everything: list[dict[str, Any]] = [
            {"exact": True},
            {"lambda_mult": 0.5},
            {"fetch_k": 2**31 - 1, "lambda_mult": 0.5},
            {"mode": "text", "text": "text"},
            {"mode": "hybrid", "text": "text"},
        ]
        for options in everything:
            assert len(kb.search(VECTORS[0], 2**31 - 1, **options)) == N + (
                1 if "text" not in options.get("mode", "") else 0
            )
        assert kb.search(VECTORS[0], 2**31 - 1, filter={"n": 5}, ef=2**62).ids == ["5"]
        assert max(asked) <= N + 1


class Key(str, Enum):  # noqa: UP042  # of StrEnum str() gives the value, of this one the name
    SOURCE = "source"


def test_metadata_keys_of_an_enumeration_are_found(tmp_path: Path) -> None:
    with QdrantCollection.create(path=tmp_path / "q", codec="float32") as kb:
        kb.add(["x"], ids=["1"], metadata=[{Key.SOURCE: "a", "at": {Key.SOURCE: Key.SOURCE}}], vectors=VECTORS[:1])
        for filter in ({"source": "a"}, {Key.SOURCE: "a"}, {"at.source": "source"}, {"at.source": Key.SOURCE}):
            assert kb.ids(filter) == ["1"], filter
        assert kb.get(["1"])[0].metadata == {"source": "a", "at": {"source": "source"}}


def test_options_are_numbers_of_any_kind(tmp_path: Path) -> None:
    options = {"dim": DIM, "seed": 3, "fit_after": 5, "connectivity": 8, "timeout": 3, "retries": 0}
    with QdrantCollection.create(path=tmp_path / "q", **{key: np.int64(value) for key, value in options.items()}) as kb:
        assert kb.dim == DIM
    wrong: dict[str, Any] = {"dim": 0, "seed": -1, "fit_after": True, "connectivity": 1, "timeout": 0.5, "retries": "4"}
    wrong |= {"metric": "l2", "shard_number": 0, "ranges": "year", "full_scan_threshold": -1, "full_text": "klingon"}
    for name, value in wrong.items():
        with pytest.raises(ParameterError, match=name if name != "full_text" else "language|full_text"):
            QdrantCollection.create(path=tmp_path / "other", **{name: value})
    assert not (tmp_path / "other").exists()


def test_the_description_is_written_beside_what_a_push_keeps(tmp_path: Path) -> None:
    from octavo.collection.rebuild import Blueprint
    from octavo.integrations.qdrant.transfer import blueprint_of, open_from_blueprint

    blueprint = Blueprint({"metric": "cosine", "full_text": "english"}, "float32", DIM)
    with open_from_blueprint(blueprint, path=tmp_path / "q") as kb:
        assert kb._manifest is not None
        kb._manifest.write(kb._transport)
        assert blueprint_of(kb) == blueprint


def test_the_sums_survive_a_copy_that_fills_the_holes(closed: Path, tmp_path: Path) -> None:
    path = tmp_path / "kb"
    subprocess.run(["cp", "-r", "--sparse=never", closed, path], check=True)
    with QdrantCollection.open(path=path) as kb:
        assert kb.count() == N + 1
        assert not (path / SUMS_FILE).exists()  # while it is open, nothing is promised
    sums = json.loads(json.loads((path / SUMS_FILE).read_text())["sums"])
    assert set(sums["files"]) == {
        each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file() and each.name != SUMS_FILE
    }
