"""Hostile input: whatever comes in, the outcome is an answer or an error of Octavo's own, without much memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavo
from octavo.compression import Codec
from octavo.errors import CodecError, InputTypeError, InvalidFilterError, OctavoError, ParameterError
from octavo.filters import matches, parse_filter
from octavo.store.sqlite import Connection, connect_file, fold_on_close
from strategies import FEW, MANY, json_values

DIM = 8
#: Bytes that opening a small, forged collection may take.
ENOUGH = 50_000_000

JSON = json_values(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), st.text(max_size=5), max_leaves=12
)


# ------------------------------------------------------------------ codec strings and stored codecs

PIECES = ["svd", "pca", "int8", "int4", "int2", "binary", "float8", "float32", "truncate", "rotate", ":", "|", ">", "50%", "64",
          "0", "-1", "1e99", "9" * 30, " ", "nan%", "\x00", "/", "../", "é"]  # fmt: skip


@MANY
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=30))
def test_codec_strings(text: str) -> None:
    try:
        codec = Codec.parse(text)
    except CodecError:
        return
    assert str(Codec.parse(str(codec))) == str(codec)


@pytest.fixture(scope="module")
def stored_codec() -> bytes:
    matrix = np.random.default_rng(0).standard_normal((50, DIM)).astype(np.float32)
    return Codec.parse("svd:50%|float8 > int8").fit(matrix).to_bytes()


def _sealed(head: bytes, body: bytes) -> bytes:
    return head + hashlib.sha256(head + body).digest() + body


def _codec_from(data: bytes) -> None:
    tracemalloc.start()
    try:
        codec = Codec.from_bytes(data)
        codec.tiers[0].encode(np.ones((1, codec.in_dim or DIM), np.float32))
    except OctavoError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < ENOUGH, f"{peak:,} bytes"


@MANY
@given(data=st.data())
def test_damaged_codecs(stored_codec: bytes, data: st.DataObject) -> None:
    changed = bytearray(stored_codec)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(0, len(changed)))])
    for attempt in (bytes(changed), cut):
        if attempt != stored_codec:
            with pytest.raises(CodecError):
                Codec.from_bytes(attempt)


@pytest.mark.parametrize(
    "change",
    [{"shape": [10**12]}, {"shape": [10**6, 10**6]}, {"shape": [0, 10**15]}, {"shape": [2**62, 2**62]}, {"shape": [-1]},
     {"shape": "x"}, {"shape": []}, {"dtype": "O"}, {"dtype": 3}, {"name": "../x"}, {"name": None}],
)  # fmt: skip
@pytest.mark.parametrize("step", [0, 1, 2])
def test_forged_codecs(stored_codec: bytes, change: dict[str, Any], step: int) -> None:
    """The checksum is right: it was forged by somebody who can compute one."""
    length = struct.unpack_from("<8sIIQ", stored_codec)[2]
    header = json.loads(stored_codec[56 : 56 + length])
    arrays = header["steps"][step]["arrays"]
    if not arrays:
        pytest.skip("a step without arrays")
    arrays[0] |= change
    text = json.dumps(header).encode()
    body = text + stored_codec[56 + length :]
    _codec_from(_sealed(struct.pack("<8sIIQ", b"OCTAVOCD", 1, len(text), len(body) - len(text)), body))


@FEW
@given(header=JSON | st.fixed_dictionaries({"steps": JSON, "tiers": JSON}), arrays=st.binary(max_size=64))
def test_invented_codecs(header: Any, arrays: bytes) -> None:
    text = json.dumps(header).encode()
    _codec_from(_sealed(struct.pack("<8sIIQ", b"OCTAVOCD", 1, len(text), len(arrays)), text + arrays))


# ------------------------------------------------------------------ filters and queries

OPERATORS = [
    "$and",
    "$or",
    "$not",
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$in",
    "$nin",
    "$exists",
    "$like",
    "$contains",
    "$",
    "a",
    "n.x",
]
FILTERS = st.recursive(
    JSON,
    lambda inner: (
        st.dictionaries(st.sampled_from(OPERATORS) | st.text(max_size=5), inner, max_size=3)
        | st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def kb() -> Iterator[octavo.Collection]:
    with octavo.open(codec="int8") as kb:
        kb.add(
            ["the quick brown fox", "l'été à Genève", "北京 大学", '100% "quoted" AND (x OR y)', ""],
            ids=list("abcde"),
            metadata=[{"n": 1, "a": "x"}, {"n": 2.5, "a": None}, {"n": {"x": [1, "a"]}}, {"n": True}, {}],
            vectors=np.random.default_rng(0).standard_normal((5, DIM)),
        )
        yield kb


@MANY
@given(FILTERS)
def test_filters(kb: octavo.Collection, where: Any) -> None:
    try:
        found = kb.ids(where)
    except (InvalidFilterError, InputTypeError, ParameterError):
        return
    tree = parse_filter(where)
    expected = [d.id for d in kb.get(kb.ids()) if tree is None or matches(tree, d.metadata)]
    assert found == expected


def test_deep_filters(kb: octavo.Collection) -> None:
    for operator in ("$and", "$or", "$not"):
        where: Any = {"n": 1}
        for _ in range(50_000):
            where = {operator: where if operator == "$not" else [where]}
        with pytest.raises(InvalidFilterError):
            kb.count(where)


INJECTIONS = ["' OR 1=1 --", '"; DROP TABLE documents; --', "text:*", "slot:0", "a AND", "((((", "NOT", "*", "?", "[a TO z]",
              "\\", '"', "a^9999999", "a~2", "\x00", "😀" * 50, "\ud800", "{!x}", "+-+-", "id:a OR text:b",
              "٣٤", "ﬁ"]  # fmt: skip


@MANY
@given(st.text(max_size=60) | st.lists(st.sampled_from(INJECTIONS), max_size=4).map(" ".join))
def test_text_queries(kb: octavo.Collection, query: str) -> None:
    try:
        found = kb.search(query, 10, mode="text").ids
    except ParameterError:  # no valid Unicode
        assert any("\ud800" <= letter <= "\udfff" for letter in query)
        return
    assert set(found) <= set("abcde")
    assert len(kb) == 5


@FEW
@given(identifier=st.text(max_size=20) | st.sampled_from(INJECTIONS), text=st.text(max_size=50), metadata=JSON)
def test_documents(identifier: str, text: str, metadata: Any) -> None:
    with octavo.open() as kb:
        vector = np.ones((1, DIM))
        try:
            kb.add([text], ids=[identifier], metadata=[metadata], vectors=vector)
        except (ParameterError, InputTypeError):
            assert len(kb) == 0
            return
        assert kb.ids() == [identifier]
        (document,) = kb.get([identifier])
        assert document.text == text
        assert document.metadata == (metadata or {})
        assert kb.delete([identifier]) == 1


def test_large_and_deep_documents() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = {"a": deep}
    with octavo.open() as kb:
        with pytest.raises(ParameterError, match="nested"):
            kb.add(["x"], metadata=[deep], vectors=np.ones((1, DIM)))
        assert len(kb) == 0
        large = "ä" * 5_000_000  # 10 MB
        kb.add(["x"], ids=[large], metadata=[{large: large}], vectors=np.ones((1, DIM)))
        assert kb.search(np.ones(DIM), 1).ids == [large]
        assert kb.count({large: large}) == 1
        assert kb.delete([large]) == 1
        for bad in ("\ud800", "a\udfff"):
            with pytest.raises(ParameterError, match="surrogate"):
                kb.add(["x"], ids=[bad], vectors=np.ones((1, DIM)))
            with pytest.raises(ParameterError, match="surrogate"):
                kb.add([bad], vectors=np.ones((1, DIM)))
        kb.add(["nul \x00 byte"], ids=["\x00"], vectors=np.ones((1, DIM)))
        assert kb.get(["\x00"])[0].text == "nul \x00 byte"


# ------------------------------------------------------------------ forged collections


@pytest.fixture(scope="module", params=["dense", "late"])
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "kb"
    matrix = np.random.default_rng(0).standard_normal((60, DIM)).astype(np.float32)
    texts = [f"text {i}" for i in range(60)]
    if request.param == "late":
        with octavo.open_multi_vector(path, fit_after=20) as kb:
            kb.add(texts, token_vectors=[row[None] for row in matrix])
    else:
        with octavo.open(path, codec="int8", fit_after=20) as kb:
            kb.add(texts, vectors=matrix)
    with octavo.open(path) as kb:
        kb.search("text", mode="text")
        kb.flush()
    return path


def _open_forged(path: Path) -> None:
    """Open and use a forged collection: only Octavo's own errors, and little memory."""
    tracemalloc.start()
    try:
        with octavo.open(path, lock_timeout=1) as kb:
            query = np.ones((1, DIM)) if isinstance(kb, octavo.MultiVectorCollection) else np.ones(DIM)
            kb.search(query, 3)
            kb.search("text", 3, mode="text")
            kb.verify()
    except OctavoError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < ENOUGH, f"{peak:,} bytes"


NUMBERS = [-1, 10**12, 2**62, "many", None, b"\xff", 1.5]
VALUES = {
    "format_version": [0, 2, "1", None],
    "settings": ["", "{}", "[]", "null", "[" * 100_000, '{"metric": "cosine"}', b"\xff", None, 3],
    "codec": ["", "../../x", "int7", "svd:99999999|int8", 3, None],
    "codec_state": [b"", b"OCTAVOCD" + b"\xff" * 100, "text", None],
    "token_codec": [b"", b"OCTAVOCD" + b"\xff" * 100, "text", None],
    "candidate_state": [b"PK\x03\x04", b"\x00" * 100, "text"],
    "encoder": ["[]", "{", '{"name": 3}', b"\xff", 3],
    "tuning": ["{}", "[]", "{", 3],
    **dict.fromkeys(("seq", "generation", "slots", "alive", "dim", "tokens", "fitted"), NUMBERS),
}


@contextlib.contextmanager
def edited(path: Path) -> Iterator[Connection]:
    """Change what a closed collection's database says, checksums of its pages included."""
    with contextlib.closing(connect_file(path / "octavo.db", patience=5)) as connection:
        with connection:
            yield connection
        fold_on_close(connection)


@pytest.mark.parametrize("key", sorted(VALUES))
def test_forged_manifests(good: Path, tmp_path: Path, key: str) -> None:
    for number, value in enumerate(VALUES[key]):
        path = Path(shutil.copytree(good, tmp_path / str(number)))
        with edited(path) as connection:
            connection.execute("UPDATE manifest SET value = ? WHERE key = ?", (value, key))
        try:
            _open_forged(path)
        except Exception as err:
            raise AssertionError(f"{key} = {value!r}: {err!r}") from err


@pytest.mark.parametrize("name", ["../outside", "../../outside", "/etc/passwd", "..", "", "octavo.db", "x\x00y"])
def test_names_of_files_stay_inside(good: Path, tmp_path: Path, name: str) -> None:
    """A forged manifest names a file elsewhere: it is neither believed nor changed."""
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    path = Path(shutil.copytree(good, tmp_path / "kb"))
    with edited(path) as connection:
        (stored,) = connection.execute("SELECT value FROM artifacts WHERE name = 'text'").fetchone()
        entry = json.loads(stored)
        entry["manifest"] |= {"directory": "../../out"}
        connection.execute("UPDATE artifacts SET value = ? WHERE name = 'text'", (json.dumps(entry),))
        graph = {"file": name, "generation": 2, "covered": 60, "bytes": 4, "crc": 0}
        connection.execute("INSERT OR REPLACE INTO artifacts VALUES ('graph', ?)", (json.dumps(graph),))
    _open_forged(path)
    try:
        with octavo.open(path) as kb:
            kb.snapshot(tmp_path / "deeper" / "copy")
            kb.compact(secure=True)
    except OctavoError:
        pass
    assert (tmp_path / "outside").read_text() == "mine"
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    copied = tmp_path / "deeper"
    assert not copied.exists() or [entry.name for entry in copied.iterdir()] == ["copy"]
