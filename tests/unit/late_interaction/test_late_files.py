"""Damaged token files: found, named, repaired from the texts or from the tokens, or reported by document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import CorruptCollectionError
from octavo.store.sqlite import connect_file
from octavo.store.tokens import mean_vectors, touched_rows
from octavo.store.vectors import BLOCK_ROWS

TEXTS = [f"alpha{i} beta{i % 7} gamma delta{i % 3}" for i in range(300)]
IDS = [str(i) for i in range(300)]


@pytest.fixture
def path(tmp_path: Path, words: Callable[[list[str]], list[Any]]) -> Path:
    where = tmp_path / "kb"
    with octavo.open_multi_vector(where, octavo.TokenEncoder(words, name="words"), pool_factor=1, fit_after=100) as kb:
        kb.add(TEXTS, ids=IDS)
        kb.delete(["5"])
    return where


@pytest.fixture
def encoder(words: Callable[[list[str]], list[Any]]) -> octavo.TokenEncoder:
    return octavo.TokenEncoder(words, name="words")


def damage(path: Path, kind: str, position: int = 200) -> Path:
    (file,) = path.glob(f"g*-{kind}.vec")
    content = bytearray(file.read_bytes())
    content[position] ^= 0xFF
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("kind", ["tokens", "offsets", "0"])
@pytest.mark.parametrize("position", [0, 1500, -1])
def test_damage_is_named_and_repaired(path: Path, encoder: octavo.TokenEncoder, kind: str, position: int) -> None:
    with octavo.open(path, encoder) as kb:
        expected = [kb.search(text, 5, exact=True).scores for text in TEXTS[::40]]
    file = damage(path, kind, position)
    with octavo.open(path, encoder) as kb:
        report = kb.verify()
        assert not report.ok
        assert any(file.name in problem for problem in report.problems)
        if kind != "0":  # the exhaustive search does not read the candidate vectors
            with pytest.raises(CorruptCollectionError, match=file.name):
                kb.search(TEXTS[0], 5, exact=True)
        assert kb.search("alpha17", 1, mode="text").ids == ["17"]  # what does not need the file goes on
        report = kb.verify(repair=True)
        assert report.ok, report.problems
        assert report.repaired
        # Texts with the same tokens tie, and what was encoded again may differ from the others in the last digit.
        for text, scores in zip(TEXTS[::40], expected, strict=True):
            found = kb.search(text, 5, exact=True)
            np.testing.assert_allclose(found.scores, scores, rtol=0.005)
            assert found.ids[0] == str(TEXTS.index(text))
    with octavo.open(path, encoder) as kb:
        assert kb.verify().ok
        assert kb.search(TEXTS[200], 1).ids == ["200"]
        assert len(kb) == 299


def test_candidate_vectors_come_back_without_an_encoder(path: Path) -> None:
    damage(path, "0")
    with octavo.open(path) as kb:
        report = kb.verify(repair=True)
        assert report.ok
        assert "made again from their tokens" in report.repaired[0]


def test_lost_tokens_without_an_encoder_are_reported_by_document(path: Path) -> None:
    damage(path, "tokens", 0)
    with octavo.open(path) as kb:
        with pytest.raises(
            CorruptCollectionError, match=r"documents have lost their token vectors, among them '0', '1'"
        ):
            kb.verify(repair=True)
        with pytest.raises(CorruptCollectionError, match="tokens"):
            kb.get_token_vectors(["0"])
        assert kb.get_token_vectors(["299"])[0].shape[0] == 4  # its block is whole


@pytest.mark.parametrize("kind", ["tokens", "offsets"])
@pytest.mark.parametrize("left", [0, 100])
def test_short_and_missing_files(path: Path, encoder: octavo.TokenEncoder, kind: str, left: int) -> None:
    (file,) = path.glob(f"g*-{kind}.vec")
    if left:
        with file.open("r+b") as opened:
            opened.truncate(left)
    else:
        file.unlink()
    with octavo.open(path, encoder) as kb:
        with pytest.raises(CorruptCollectionError, match=file.name):
            kb.search(TEXTS[0], 5)
        report = kb.verify(repair=True)
        assert report.ok, report.problems
        assert kb.search(TEXTS[250], 1).ids == ["250"]


def test_damaged_learned_state_is_named(path: Path) -> None:
    for key in ("token_codec", "candidate_state"):
        connection = connect_file(path / "octavo.db", patience=5)
        whole = connection.execute("SELECT value FROM manifest WHERE key = ?", (key,)).fetchone()[0]
        broken = bytearray(whole)
        broken[len(broken) // 2] ^= 0xFF
        connection.execute("UPDATE manifest SET value = ? WHERE key = ?", (bytes(broken), key))
        with pytest.raises(CorruptCollectionError, match="token codec"):
            octavo.open(path)
        connection.execute("UPDATE manifest SET value = ? WHERE key = ?", (whole, key))
        connection.close()


def test_destroy_takes_the_token_files(path: Path) -> None:
    (path / "mine.txt").write_text("keep")
    with octavo.open(path) as kb:
        kb.destroy()
    assert [entry.name for entry in path.iterdir()] == ["mine.txt"]


def test_leftovers_of_a_dead_writer_are_deleted(path: Path) -> None:
    for kind in ("tokens", "offsets", "0"):
        (path / f"g000099-{kind}.vec").write_bytes(b"half written")
    with octavo.open(path) as kb:
        assert kb.verify().ok
    assert not list(path.glob("g000099*"))


def test_touched_rows_name_every_block_once() -> None:
    starts, ends = np.array([0, 100, 128, 300, 300]), np.array([0, 300, 129, 301, 300])
    found = (touched_rows(starts, ends) // BLOCK_ROWS).tolist()
    assert found == [0, 1, 2, 1, 2]


def test_mean_vectors() -> None:
    from octavo.compression.token_matrices import TokenMatrices

    tokens = TokenMatrices.of([np.ones((0, 2)), np.array([[1.0, 0], [0, 1]]), np.ones((0, 2)), np.array([[3.0, 4]])])
    np.testing.assert_allclose(mean_vectors(tokens), [[0, 0], [0.5, 0.5], [0, 0], [3, 4]])
