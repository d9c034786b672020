"""A collection from a blueprint is its equal, and takes documents as they were stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.collection.rebuild import Blueprint, add_stored, blueprint_of, open_from_blueprint, vectors_to_move
from octavo.errors import MismatchError, ParameterError

CODECS = [
    "float32", "float16", "int8", "float8", "binary", "rotate|int4", "truncate:50%|int8", "svd:50%|float8", "pca:50%|int8",
    "svd:50%|float8 > int8", "binary > rotate|int2", "int2",
]  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
def test_decoded_vectors_give_the_same_codes(codec: str, fill: Callable[..., None]) -> None:
    with octavo.open(codec=codec, fit_after=50) as source:
        fill(source, 200)
        with open_from_blueprint(None, blueprint_of(source)) as target:
            add_stored(target, list(source.documents()), vectors=source.get_vectors(source.ids()))
            assert target.info().fitted
            assert target.ids() == source.ids()
            np.testing.assert_allclose(
                target.get_vectors(target.ids()), source.get_vectors(source.ids()), rtol=1e-5, atol=1e-6
            )
            for query in np.random.default_rng(1).standard_normal((20, 24)):
                one, other = source.search(query, 10, exact=True), target.search(query, 10, exact=True)
                np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-5)
                if codec != "float32":  # where rounding leaves no last bit to differ in
                    assert one.ids == other.ids


@pytest.mark.parametrize("codec", ["binary > int8", "binary > float16", "binary > rotate|int8"])
@pytest.mark.parametrize("through", [np.float32, np.float16])
def test_signs_of_what_was_rounded_across_zero_are_kept(codec: str, through: Any, fill: Callable[..., None]) -> None:
    with octavo.open(codec=codec, fit_after=50) as source:
        fill(source, 400)
        signs = np.unpackbits(source._current().tiers[0].codes, axis=1)
        turned = (source.get_vectors(source.ids()) > 0) != signs
        assert turned.any() == ("int8" in codec)
        moved = vectors_to_move(source, source.ids()).astype(through)
        with open_from_blueprint(None, blueprint_of(source)) as target:
            add_stored(target, list(source.documents()), vectors=moved)
            if codec != "binary > rotate|int8":  # where a value is zero before the rotation, if at all
                for one, other in zip(source._current().tiers, target._current().tiers, strict=True):
                    assert np.array_equal(one.codes, other.codes)
            for query in np.random.default_rng(1).standard_normal((20, 24)):
                assert source.search(query, 5, exact=True).ids == target.search(query, 5, exact=True).ids


def test_given_codes_are_written_as_they_are(source: octavo.Collection) -> None:
    blueprint = blueprint_of(source)
    assert blueprint.codec_state is not None
    documents, vectors = list(source.documents()), source.get_vectors(source.ids())
    codes = np.random.default_rng(0).integers(0, 255, (len(documents), 12), dtype=np.uint8)
    with open_from_blueprint(None, blueprint) as target:
        add_stored(target, documents, vectors=vectors, codes=(blueprint.codec_state, [codes]))
        assert np.array_equal(target._current().tiers[0].codes, codes)
        assert target.verify().ok
    with open_from_blueprint(None, blueprint) as target:  # made by another codec: they mean nothing here
        add_stored(target, documents, vectors=vectors, codes=(blueprint.codec_state + b"x", [codes]))
        assert np.array_equal(target._current().tiers[0].codes, source._current().tiers[0].codes)


def test_reopening(source: octavo.Collection, tmp_path: Path) -> None:
    with open_from_blueprint(tmp_path / "kb", blueprint_of(source)) as target:
        assert (len(target), target.codec, target.dim, target.metric) == (0, "svd:50%|int8", 24, "cosine")
        assert target.search(np.ones(24), 3).ids == []
    with open_from_blueprint(tmp_path / "kb", blueprint_of(source)) as target:
        add_stored(target, list(source.documents()), vectors=source.get_vectors(source.ids()))
    with octavo.open(tmp_path / "kb", must_exist=True) as target:
        assert target.verify().ok
        assert target.search(np.arange(24), 5).ids == source.search(np.arange(24), 5).ids
        target.add(["one more"], ids=["new"], vectors=np.ones((1, 24)))
        assert target.search(np.ones(24), 1).ids == ["new"]


def test_the_encoder_is_remembered(tmp_path: Path) -> None:
    def encode(texts: list[str]) -> Any:
        return [[len(text), 1.0] for text in texts]

    for fit_after in (1, 1000):  # with a codec that has been fitted, and without
        with octavo.open(None, encode, fit_after=fit_after) as source:
            source.add(["a", "bb", "ccc"], ids=["1", "2", "3"])
            path = tmp_path / str(fit_after)
            with open_from_blueprint(path, blueprint_of(source)) as target:
                add_stored(target, list(source.documents()), vectors=source.get_vectors(source.ids()))
                assert target.info().encoder == source.info().encoder
        with (
            octavo.open(path, lambda texts: [[-1.0, 9.0] for _ in texts]) as other,
            pytest.raises(MismatchError, match="built with encoder"),
        ):
            other.search("a")
        with octavo.open(path, encode) as again:
            assert again.search("a", 1).ids == ["1"]


def test_another_collection_at_the_place_is_refused(source: octavo.Collection, tmp_path: Path, fill: Any) -> None:
    with octavo.open(tmp_path / "kb", codec="svd:50%|int8", fit_after=50) as other:
        fill(other, 60, seed=1)
    with pytest.raises(MismatchError, match="fitted with codec"):
        open_from_blueprint(tmp_path / "kb", blueprint_of(source))
    with octavo.open(tmp_path / "kb", must_exist=True) as other:
        assert len(other) == 60


def test_a_creation_that_was_killed_is_taken_up(source: octavo.Collection, tmp_path: Path) -> None:
    # The settings were committed and the codec was not.
    octavo.open(tmp_path / "kb", codec="svd:50%|int8", dim=24, fit_after=100).close()
    with open_from_blueprint(tmp_path / "kb", blueprint_of(source)) as target:
        assert target.info().fitted


def test_bad_input_leaves_the_collection_alone(source: octavo.Collection) -> None:
    documents = list(source.documents())
    with open_from_blueprint(None, blueprint_of(source)) as target:
        with pytest.raises(ParameterError, match="either"):
            add_stored(target, documents)
        with pytest.raises(ParameterError, match="300 documents, got 2"):
            add_stored(target, documents, vectors=np.ones((2, 24)))
        assert len(target) == 0
    with pytest.raises(ParameterError, match="this one holds vectors"):
        blueprint_of(source).start(source._store, source._writer)


def test_blueprint_of_an_empty_collection() -> None:
    with octavo.open(codec="int8", dim=3) as kb:
        assert blueprint_of(kb) == Blueprint(blueprint_of(kb).settings, "int8", 3)
