"""A write is refused before anything is stored, or it succeeds: nothing that comes after the commit fails it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import CodecError, InvalidVectorsError

CODECS = ["truncate:256|int8", "svd:500", "pca:65", "int8 > truncate:100|float16", "svd:50%|truncate:33|int8"]


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_that_cannot_fit_is_refused_at_opening(tmp_path: Path, codec: str) -> None:
    with pytest.raises(CodecError, match="64 dimensions"):
        octavo.open(tmp_path / "kb", codec=codec, dim=64)
    assert not (tmp_path / "kb").exists()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fit_after", [1, 5, 1000])
def test_or_at_the_first_add(tmp_path: Path, codec: str, fit_after: int) -> None:
    with octavo.open(tmp_path / "kb", codec=codec, fit_after=fit_after) as kb:
        for number in range(8):
            with pytest.raises(CodecError, match="64 dimensions"):
                kb.add([str(number)], ids=[str(number)], vectors=np.ones((1, 64)))
        assert len(kb) == 0
        assert kb.dim is None
        kb.add(["x"], ids=["x"], vectors=np.ones((1, 512)))
        assert kb.ids() == ["x"]
        assert kb.verify().ok


def test_or_when_the_dimension_is_given_later(tmp_path: Path) -> None:
    octavo.open(tmp_path / "kb", codec="truncate:256").close()
    with pytest.raises(CodecError, match="64 dimensions"):
        octavo.open(tmp_path / "kb", dim=64)


@pytest.mark.parametrize("codec", ["truncate:256|int8", "svd:65|float16"])
def test_late_as_well(codec: str) -> None:
    with pytest.raises(CodecError, match="64 dimensions"):
        octavo.open_multi_vector(codec=codec, dim=64)
    with octavo.open_multi_vector(codec=codec, pool_factor=1, fit_after=2) as kb:
        with pytest.raises(CodecError, match="64 dimensions"):
            kb.add(["a"], token_vectors=[np.ones((3, 64))])
        assert len(kb) == 0


def test_a_codec_that_just_fits() -> None:
    matrix = np.random.default_rng(0).standard_normal((30, 64))
    for codec in ("truncate:64|int8", "svd:64", "svd:50%|truncate:32|int8"):
        with octavo.open(codec=codec, dim=64, fit_after=10) as kb:
            kb.add(vectors=matrix)
            assert kb.info().fitted


class BrokenError(Exception):
    pass


def _breaks(*arguments: Any, **options: Any) -> Any:
    raise BrokenError("something that nobody thought of")


def _fit(kb: octavo.Collection) -> tuple[object, str]:
    return kb._writer, "fit"


def _keep_up(kb: octavo.Collection) -> tuple[object, str]:
    return kb._index, "keep_up"


def _catch_up(kb: octavo.Collection) -> tuple[object, str]:
    return kb._index, "behind"


@pytest.mark.parametrize("place", [_fit, _keep_up, _catch_up])
def test_what_follows_a_commit_is_logged_and_not_raised(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: Callable[[octavo.Collection], tuple[object, str]],
) -> None:
    matrix = np.random.default_rng(0).standard_normal((50, 8))
    with octavo.open(tmp_path / "kb", fit_after=10) as kb:
        with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, logger="octavo"):
            patched.setattr(*place(kb), _breaks)
            assert len(kb.add(ids=[str(number) for number in range(50)], vectors=matrix)) == 50
            assert "documents were added, but" in caplog.text
            assert "something that nobody thought of" in caplog.text
        assert kb.search(matrix[7], 1).ids == ["7"]
        kb.add(ids=["more"], vectors=matrix[:1])  # does what was left undone
        assert kb.info().fitted
        assert kb.verify().ok


def test_neither_from_a_deletion(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with octavo.open() as kb:
        kb.add(ids=["a", "b"], vectors=np.eye(2))
        monkeypatch.setattr("octavo.collection.collection._COMPACT_DEAD", 0)
        monkeypatch.setattr(kb._writer, "compact", _breaks)
        assert kb.delete(["a"]) == 1
        kb.add(ids=["b"], vectors=np.eye(2)[:1])
        assert kb.clear() == 1
        assert "documents were deleted, but" in caplog.text
        assert len(kb) == 0


def test_an_interrupt_is_no_failure_to_be_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with octavo.open() as kb:
        monkeypatch.setattr(kb._index, "keep_up", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kb.add(ids=["a"], vectors=np.eye(2)[:1])
        assert kb.ids() == ["a"]


def test_bad_input_is_still_raised() -> None:
    with octavo.open(fit_after=1) as kb:
        kb.add(ids=["a"], vectors=np.eye(2)[:1])
        with pytest.raises(InvalidVectorsError):
            kb.add(ids=["b"], vectors=np.eye(3)[:1])
