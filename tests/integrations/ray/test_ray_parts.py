"""What the integration does on one machine: rows, checkpoints, encoding one by one, writing. No cluster is started."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo.compression import Codec
from octavo.errors import CodecError, InputTypeError, MismatchError, OctavoError, ParameterError

pytest.importorskip("ray.data", reason="needs ray[data]: pip install 'octavo[ray]'")
pa = pytest.importorskip("pyarrow")

from octavo.encoders.dense import as_encoder  # noqa: E402
from octavo.integrations.qdrant import QdrantMultiVectorCollection, open_collection  # noqa: E402
from octavo.integrations.ray._checkpoint import Checkpoint, content_key, encoding_key, table_key  # noqa: E402
from octavo.integrations.ray._rows import (  # noqa: E402
    Columns,
    EncodedRows,
    Row,
    codec_tag,
    join_tiers,
    read_rows,
    split_tiers,
)
from octavo.integrations.ray._targets import Codecs, LocalTarget, OpenedTarget  # noqa: E402
from octavo.integrations.ray._upsert import _name_of, _place  # noqa: E402
from octavo.integrations.ray._workers import EncoderSpec, Pool, encode_each  # noqa: E402
from octavo.integrations.ray._writing import BlockWriter, UpsertReport  # noqa: E402

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((300, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def fitted(text: str = "svd:50%|float8 > int8") -> Codec:
    return Codec.parse(text).fit(VECTORS)


# ---------------------------------------------------------------------- rows


def test_reading_rows() -> None:
    table = pa.table(
        {
            "key": ["a", None, "c", "d"],
            "body": ["x", "y", None, "z"],
            "year": [1, 2, 3, None],
            "more": [{"a": [1.5]}] * 4,
        }
    )
    rows = read_rows(table, Columns("key", "body"))
    assert rows[0] == Row("a", "x", '{"year":1,"more":{"a":[1.5]}}', None)
    assert "expected the id to be a str, got NoneType" in str(rows[1].error)
    assert "expected the text to be a str, got NoneType" in str(rows[2].error)
    assert json.loads(rows[3].metadata) == {"more": {"a": [1.5]}}  # a null is a field that is not there
    assert json.loads(read_rows(table, Columns("key", "body", ("year",)))[0].metadata) == {"year": 1}


def test_ids_may_be_integers_but_not_what_cannot_be_a_json_value() -> None:
    (row,) = read_rows(pa.table({"id": [7], "text": ["t"], "when": [datetime.date(2026, 11, 21)]}), Columns())
    assert row.id == "7"
    assert "convert the value first" in str(row.error)


def test_missing_columns_are_named() -> None:
    with pytest.raises(ParameterError, match=r"'key', 'text'.*got 'id', 'text'"):
        read_rows(pa.table({"id": ["a"], "text": ["b"]}), Columns("key"))


@pytest.mark.parametrize("text", ["int8", "binary > int8", "svd:50%|float8 > int8", "truncate:4|int4 > float16"])
def test_codes_travel_unchanged(text: str) -> None:
    codec = fitted(text)
    tiers = codec.encode(VECTORS)
    assert all(np.array_equal(a, b) for a, b in zip(tiers, split_tiers(join_tiers(tiers), codec), strict=True))
    with pytest.raises(ParameterError, match="bytes a document"):
        split_tiers([b"short"], codec)


def test_tags_tell_codecs_apart() -> None:
    tags = {
        codec_tag(fitted(), "cosine"),
        codec_tag(fitted(), "dot"),
        codec_tag(fitted("int8"), "cosine"),
        codec_tag(Codec.parse("int8").fit(2 * VECTORS), "cosine"),
    }
    assert len(tags) == 4
    assert codec_tag(fitted(), "cosine") in tags


# ---------------------------------------------------------------------- checkpoints


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.text(max_size=3), max_size=4), st.lists(st.none() | st.text(max_size=3), max_size=4))
def test_keys_are_equal_for_equal_content_only(one: list[str | None], other: list[str | None]) -> None:
    texts = [
        [part.encode("utf-8", "replace") if part is not None else None for part in parts] for parts in (one, other)
    ]
    assert (content_key(texts[0]) == content_key(texts[1])) == (texts[0] == texts[1])


def encoded(rows: list[Row], codec: Codec, metric: str = "cosine") -> Any:
    codes = join_tiers(codec.encode(VECTORS[: len(rows)]))
    given = [None if row.error else code for row, code in zip(rows, codes, strict=True)]
    return EncodedRows(codec_tag(codec, metric), rows, list(given)).to_table()


def rows_of(n: int, start: int = 0) -> list[Row]:
    return [Row(f"id{i}", f"text {i}", f'{{"n":{i}}}', None) for i in range(start, start + n)]


def test_encoded_documents_come_back_unless_damaged(tmp_path: Path) -> None:
    checkpoint, table = Checkpoint(tmp_path), encoded(rows_of(20), fitted())
    key = encoding_key("model", "tag", rows_of(20))
    assert checkpoint.load_encoded(key) is None
    checkpoint.save_encoded(key, table)
    assert checkpoint.load_encoded(key).equals(table)
    path = tmp_path / "encoded" / key
    data = bytearray(path.read_bytes())
    for position in (0, 40, len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert checkpoint.load_encoded(key) is None
    path.write_bytes(data[:100])
    assert checkpoint.load_encoded(key) is None
    assert not list(tmp_path.rglob("*.tmp"))


def test_keys_follow_everything_that_matters() -> None:
    rows = rows_of(3)
    keys = {
        encoding_key("model", "tag", rows),
        encoding_key("other", "tag", rows),
        encoding_key("model", "gat", rows),
        encoding_key("model", "tag", rows[::-1]),
        encoding_key("model", "tag", [*rows[:2], rows[2]._replace(text="new")]),
        encoding_key("model", "tag", [*rows[:2], rows[2]._replace(metadata="{}")]),
    }
    assert len(keys) == 6
    one, other = encoded(rows, fitted()), encoded(rows_of(3, 1), fitted())
    assert table_key(one) != table_key(other)


def test_codecs_are_kept(tmp_path: Path) -> None:
    checkpoint, codec = Checkpoint(tmp_path), fitted()
    tag = codec_tag(codec, "cosine")
    assert checkpoint.load_codec(tag) is None
    assert checkpoint.load_fitted("key") is None
    checkpoint.save_codec(tag, codec)
    checkpoint.save_fitted("key", tag)
    found = checkpoint.load_fitted("key")
    assert found is not None
    assert found.to_bytes() == codec.to_bytes()


def test_a_checkpoint_belongs_to_one_encoder(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.check_encoder(as_encoder(lambda texts: [[1.0, len(text)] for text in texts]))
    checkpoint.check_encoder(as_encoder(lambda texts: [[1.0, len(text)] for text in texts]))
    with pytest.raises(MismatchError, match="made with encoder"):
        checkpoint.check_encoder(as_encoder(lambda texts: [[len(text), -1.0] for text in texts]))


# ---------------------------------------------------------------------- encoding


def model(texts: Sequence[str]) -> Any:
    if any("bad" in text for text in texts):
        raise RuntimeError("no")
    return np.array([[np.nan if text == "nan" else 1.0, 0.0 if text == "zero" else len(text)] for text in texts])


def test_single_failures_are_reported() -> None:
    texts = ["a", "bad 1", "bb", "nan", "ccc", "bad 2", "dddd", "e"]
    found = encode_each(as_encoder(model), texts, "cosine")
    assert [isinstance(value, str) for value in found] == [text == "nan" or "bad" in text for text in texts]
    assert found[1] == "RuntimeError: no"
    assert "finite" in str(found[3])
    np.testing.assert_allclose(found[4], np.array([1, 3]) / np.sqrt(10), rtol=1e-6)
    np.testing.assert_allclose(encode_each(as_encoder(model), texts, "dot")[4], [1, 3])
    assert encode_each(as_encoder(model), [], "cosine") == []


def test_a_zero_vector_stays_one() -> None:
    zero = as_encoder(lambda texts: [[0.0, 0.0] if text == "zero" else [1.0, 1.0] for text in texts])
    for metric in ("cosine", "dot"):
        assert encode_each(zero, ["a", "zero"], metric)[1].tolist() == [0, 0]  # type: ignore[union-attr]


def test_a_model_that_can_do_nothing_ends_the_job() -> None:
    with pytest.raises(OctavoError, match="failed for all of 8 documents; the first time: RuntimeError: no"):
        encode_each(as_encoder(model), ["bad"] * 8, "cosine")
    assert len(encode_each(as_encoder(model), ["bad"] * 7, "cosine")) == 7  # so few may all be bad


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"batch_size": 1.5}, {"num_gpus": -1}, {"num_cpus": float("inf")}, {"num_cpus": True}],
)
def test_bad_pools(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        Pool(**options)


class Model:
    def __init__(self, name: str = "m") -> None:
        self.name = name

    def encode_documents(self, texts: Sequence[str]) -> Any:
        return [[1.0, 2.0] for _ in texts]

    encode_queries = encode_documents


def test_encoder_specs() -> None:
    assert EncoderSpec(Model, {"name": "x"}).load().name == "x"
    assert EncoderSpec(Model("y")).load().name == "y"
    with pytest.raises(InputTypeError, match="arguments for a class"):
        EncoderSpec(Model("y"), {"name": "x"})
    with pytest.raises(InputTypeError, match="late interaction"):
        EncoderSpec(octavo.TokenEncoder(lambda texts: [np.ones((2, 3)) for _ in texts]))


# ---------------------------------------------------------------------- writing


def writer(path: Path, codec: Codec | None, checkpoint: Path | None = None, encoder: Any = None) -> BlockWriter:
    kept = Checkpoint(checkpoint) if checkpoint is not None else None
    codecs = Codecs(codec, kept)
    return BlockWriter(LocalTarget(path, encoder, codecs), str(path), codecs, kept, 64)


def test_codes_arrive_bit_for_bit(tmp_path: Path) -> None:
    codec = fitted()
    block = writer(tmp_path / "kb", codec)
    assert block.write(encoded(rows_of(300), codec)) == UpsertReport(documents=300)
    block.close()
    with octavo.open(tmp_path / "kb", must_exist=True) as kb:
        assert kb.verify().ok
        assert kb.ids() == [f"id{i}" for i in range(300)]
        assert kb.get(["id7"])[0].metadata == {"n": 7}
        for tier, codes in zip(kb._current().tiers, codec.encode(VECTORS), strict=True):
            assert np.array_equal(tier.codes, codes)
        assert kb.search(VECTORS[42], 1).ids == ["id42"]


def test_failures_and_duplicates_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = rows_of(6)
    rows[1] = rows[1]._replace(error="broken")
    rows[3] = rows[3]._replace(id="id0", text="the later one")
    block = writer(tmp_path / "kb", fitted())
    report = block.write(encoded(rows, fitted()))
    block.close()
    assert report == UpsertReport(documents=4, duplicates=1, failed=1, failures=[("id1", "broken")])
    with octavo.open(tmp_path / "kb") as kb:
        assert sorted(kb.ids()) == ["id0", "id2", "id4", "id5"]
        assert kb.get(["id0"])[0].text == "the later one"


def test_written_blocks_are_passed_over_while_they_are_there(tmp_path: Path) -> None:
    codec = fitted()
    for expected in (UpsertReport(documents=100), UpsertReport(skipped=100)):
        block = writer(tmp_path / "kb", codec, tmp_path / "job")
        assert block.write(encoded(rows_of(100), codec)) == expected
        block.close()
    with octavo.open(tmp_path / "kb") as kb:
        kb.delete(["id50"])
    block = writer(tmp_path / "kb", codec, tmp_path / "job")
    assert block.write(encoded(rows_of(100), codec)).documents == 100
    assert block.write(encoded(rows_of(99), codec)).documents == 99  # other content
    block.close()
    with octavo.open(tmp_path / "kb") as kb:
        assert len(kb) == 100


def test_the_codec_comes_from_the_checkpoint(tmp_path: Path) -> None:
    codec = fitted()
    Checkpoint(tmp_path / "job").save_codec(codec_tag(codec, "dot"), codec)
    block = writer(tmp_path / "kb", None, tmp_path / "job")
    block.write(encoded(rows_of(5), codec, "dot"))
    block.close()
    with octavo.open(tmp_path / "kb") as kb:
        assert (kb.metric, kb.codec) == ("dot", "svd:50%|float8 > int8")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    codec = fitted()
    table = encoded(rows_of(5), codec)
    with pytest.raises(ParameterError, match="expected codec="):
        writer(tmp_path / "a", None).write(table)
    with pytest.raises(MismatchError, match="another codec"):
        writer(tmp_path / "b", fitted("int8")).write(table)
    with pytest.raises(ParameterError, match="no column 'codes'"):
        writer(tmp_path / "c", codec).write(table.drop_columns(["codes"]))
    assert not any((tmp_path / name).exists() for name in "abc")
    with octavo.open(tmp_path / "d", metric="dot", codec=str(codec)) as kb:
        kb.add(["x"], vectors=VECTORS[:1])
    block = writer(tmp_path / "d", codec)
    with pytest.raises(MismatchError, match="metric"):
        block.write(table)
    block.close()


def test_the_encoder_is_remembered(tmp_path: Path) -> None:
    codec = Codec.parse("int8").fit(np.eye(2))
    table = EncodedRows(codec_tag(codec, "cosine"), rows_of(1), join_tiers(codec.encode(np.ones((1, 2))))).to_table()  # type: ignore[arg-type]
    block = writer(tmp_path / "kb", codec, encoder=Model("remembered"))
    block.write(table)
    block.close()
    with octavo.open(tmp_path / "kb") as kb:
        assert kb.info().encoder == "remembered"


class Target:
    """Any collection that is not a local one: it is given vectors."""

    metric = "cosine"
    has_sparse_vectors = False

    def __init__(self) -> None:
        self.added: list[tuple[Any, Any]] = []
        self.closed = False

    def add(self, documents: Any, *, vectors: Any) -> None:
        self.added.append((documents, vectors))

    def close(self) -> None:
        self.closed = True


def test_other_targets_are_given_decoded_vectors() -> None:
    codec, target = fitted(), Target()
    block = BlockWriter(OpenedTarget(target), "t", Codecs(codec, None), None, 4)
    assert block.write(encoded(rows_of(6), codec)).documents == 6
    block.close()
    assert [len(documents) for documents, _ in target.added] == [4, 2]
    np.testing.assert_allclose(np.concatenate([v for _, v in target.added]), VECTORS[:6], atol=0.01)
    assert target.closed


class Wide(Model):
    def encode_documents(self, texts: Sequence[str]) -> Any:
        return VECTORS[: len(texts)]


def in_qdrant(path: Path, codec: Codec, encoder: Any = None) -> BlockWriter:
    pytest.importorskip("qdrant_edge")
    codecs = Codecs(codec, None)
    name, target = _place(f"qdrant:{path}", encoder, codecs)
    assert name == f"qdrant:{path}"
    return BlockWriter(target, name, codecs, None, 64)


def test_a_place_in_qdrant_gets_the_codec_and_the_vectors(tmp_path: Path) -> None:
    codec = fitted("svd:50%|int8")
    for first in (True, False):  # the second time it is there
        block = in_qdrant(tmp_path / "there", codec, Wide("remembered"))
        assert block.write(encoded(rows_of(300), codec)).documents == 300
        block.close()
        assert first or (tmp_path / "there").is_dir()
    stood_for = codec.tiers[-1].decode(codec.encode(VECTORS[:300])[-1])
    with open_collection(f"qdrant:{tmp_path / 'there'}") as kb:
        assert (kb.codec, kb.metric, kb.count()) == ("svd:50%|int8", "cosine", 300)
        assert kb.get(["id7"])[0].metadata == {"n": 7}
        # Qdrant keeps float16; nothing is scaled to unit length or fitted a second time.
        np.testing.assert_allclose(kb.get_vectors(["id3", "id299"]), stood_for[[3, 299]], atol=1e-3)
        expected = np.argsort(-(stood_for @ VECTORS[42]))[:3]
        assert kb.search(VECTORS[42], 3, exact=True).ids == [f"id{row}" for row in expected]
        assert kb.info().encoder == "remembered"
    with pytest.raises(MismatchError, match="dimension 2"):
        in_qdrant(tmp_path / "new", codec, Model()).write(encoded(rows_of(5), codec))
    assert not (tmp_path / "new").exists()


def test_a_place_in_qdrant_with_another_codec_is_refused(tmp_path: Path) -> None:
    codec = fitted("svd:50%|int8")
    block = in_qdrant(tmp_path / "there", codec)
    block.write(encoded(rows_of(5), codec))
    block.close()
    for other in (fitted("int8"), Codec.parse("svd:50%|int8").fit(VECTORS[:50])):
        block = in_qdrant(tmp_path / "there", other)
        with pytest.raises(MismatchError, match=r"in Qdrant has 'svd:50%\|int8'"):
            block.write(encoded(rows_of(6), other))
        block.close()
    with pytest.raises(CodecError, match="float8"):
        in_qdrant(tmp_path / "new", fitted("float8")).write(encoded(rows_of(5), fitted("float8")))
    with open_collection(f"qdrant:{tmp_path / 'there'}") as kb:
        assert kb.count() == 5


def test_a_collection_in_qdrant_that_a_callable_opened(tmp_path: Path) -> None:
    codec = fitted("svd:50%|int8")
    first = in_qdrant(tmp_path / "there", codec)
    first.write(encoded(rows_of(5), codec))
    first.close()
    codecs = Codecs(codec, None)
    block = BlockWriter(OpenedTarget(open_collection(f"qdrant:{tmp_path / 'there'}")), "t", codecs, None, 4)
    assert block.write(encoded(rows_of(9), codec)).documents == 9
    block.close()
    with open_collection(f"qdrant:{tmp_path / 'there'}") as kb:
        assert sorted(kb.ids()) == [f"id{i}" for i in range(9)]
        before, after = kb.get_vectors(["id0", "id8"])
        assert np.linalg.norm(before) == pytest.approx(
            np.linalg.norm(codec.tiers[-1].decode(codec.encode(VECTORS[:1])[-1])), abs=1e-3
        )
        assert np.linalg.norm(after) == pytest.approx(
            np.linalg.norm(codec.tiers[-1].decode(codec.encode(VECTORS[8:9])[-1])), abs=1e-3
        )


@pytest.mark.parametrize("place", ["local", "qdrant"])
def test_a_collection_for_late_interaction_is_refused(place: str, tmp_path: Path) -> None:
    codec = fitted("int8")
    if place == "local":
        opened = octavo.open_multi_vector(tmp_path / "kb")
    else:
        pytest.importorskip("qdrant_edge")
        opened = QdrantMultiVectorCollection.create(path=tmp_path / "there")
    opened.add(["text"], ids=["a"], token_vectors=[VECTORS[:3]])
    block = BlockWriter(OpenedTarget(opened), "t", Codecs(codec, None), None, 4)
    with pytest.raises(MismatchError, match="one vector a document"):
        block.write(encoded(rows_of(5), codec))
    assert opened.ids() == ["a"]
    block.close()


def test_names_tell_targets_apart() -> None:
    names = {
        _name_of(functools.partial(Target, "a", url="x")),
        _name_of(functools.partial(Target, "b", url="x")),
        _name_of(functools.partial(Target, "a", url="y")),
        _name_of(Target),
    }
    assert len(names) == 4


def test_reports_add_up() -> None:
    total = UpsertReport(1, 2, 3, 4, [("a", "x")] * 600) + UpsertReport(10, 20, 30, 40, [("b", "y")] * 600)
    assert (total.documents, total.skipped, total.duplicates, total.failed) == (11, 22, 33, 44)
    assert len(total.failures) == 1000
    assert total.to_dict()["failed"] == 44
