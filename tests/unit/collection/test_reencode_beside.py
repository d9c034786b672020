"""What is done beside a change of the model: sparse vectors, texts that are embedded, copies of every kind."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import MismatchError

WORDS = [f"w{number}" for number in range(50)]


class Model:
    """Sums of vectors of words; notes what it is asked for, and can fail after some documents."""

    def __init__(self, name: str, dim: int) -> None:
        self.name, self.dim = name, dim
        self.documents: list[str] = []
        self.left: int | None = None

    def encode_documents(self, texts: Sequence[str]) -> Any:
        if self.left is not None and len(texts) > 1:
            self.left -= len(texts)
            if self.left < 0:
                raise ConnectionError("429 too many requests")
        self.documents += texts
        return self.encode_queries(texts)

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return np.array([sum((self._word(word) for word in text.split()), np.full(self.dim, 1e-3)) for text in texts])

    def _word(self, word: str) -> Any:
        return np.random.default_rng(zlib.crc32(f"{self.name} {word}".encode())).standard_normal(self.dim)


def sparse_of(texts: Sequence[str]) -> list[dict[int, float]]:
    return [{zlib.crc32(word.encode()): 1.0 for word in text.split()} for text in texts]


def texts_of(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 6)) + f" n{number}" for number in range(n)]


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def interrupted(kb: Any, model: Model, done: int) -> None:
    model.left = done
    with pytest.raises(ConnectionError):
        kb.reencode(model, batch_size=40)
    model.left = None
    assert kb.info().reencoding["documents"] == done


def test_sparse_vectors_stay_and_are_searched_together_with_both(tmp_path: Path) -> None:
    texts = texts_of(200)
    with octavo.open(tmp_path / "kb", Model("old", 16), sparse=sparse_of, fit_after=50) as kb:
        kb.add(texts, ids=[str(i) for i in range(200)])
        before = kb.search("n7 w1", 5, mode="sparse")
        interrupted(kb, Model("new", 24), 120)
    new = Model("new", 24)
    with octavo.open(tmp_path / "kb", new, sparse=sparse_of, previous=Model("old", 16)) as kb:
        found = kb.search("n7 w1", 5, mode="sparse")
        assert (found.ids, found.scores.tolist()) == (before.ids, before.scores.tolist())
        fused = kb.search(texts[7], 5, mode="hybrid", rank=["dense", "sparse", "text"])
        assert (fused.ids[0], fused.reencoding) == ("7", "both")
        kb.add(["w3 n500 added"], ids=["500"])
        kb.update(["3"], texts=["w9 changed"])
        kb.delete(["4"])
        assert kb.search("n500", 1, mode="sparse").ids == ["500"]
        kb.reencode(new)
        assert kb.verify().ok
        assert kb.search("n500", 1, mode="sparse").ids == ["500"]
        assert kb.search("w3 n500 added", 1).ids == ["500"]
        vectors = kb.get_sparse_vectors(["7"])
        assert len(vectors[0][0]) == len(set(texts[7].split()))
        assert kb.search(texts[7], 5, mode="hybrid", rank=["dense", "sparse"]).ids[0] == "7"


def test_what_is_embedded_is_the_text_for_that_and_its_newest_state(tmp_path: Path) -> None:
    texts = texts_of(160)
    with octavo.open(tmp_path / "kb", Model("old", 16), codec="float32", fit_after=50) as kb:
        kb.add(
            texts, ids=[str(i) for i in range(160)], embed_texts=[f"title{i} {text}" for i, text in enumerate(texts)]
        )
        new = Model("new", 24)
        interrupted(kb, new, 80)
        encoded = list(new.documents)
        kb.add([texts[3]], ids=["3"], embed_texts=["title3 w1"])  # is embedded anew
        kb.add([texts[5]], ids=["5"], embed_texts=[None])
        kb.update(["100"], texts=["w7 corrected"])  # its vector stays: another text is embedded
        kb.add(["w8 w8"], ids=["150"], metadata=[{"n": 1}])
        kb.reencode(new)
        assert sorted(new.documents[: len(encoded)]) == sorted(f"title{i} {text}" for i, text in enumerate(texts[:80]))
        documents = {document.id: document for document in kb.documents()}
        assert documents["100"].text == "w7 corrected"
        ids = list(documents)
        expected = unit(new.encode_queries([documents[identifier].to_embed for identifier in ids]))
        assert np.allclose(kb.get_vectors(ids), expected, atol=1e-5)
        for name, text in {"3": "title3 w1", "5": texts[5], "150": "w8 w8"}.items():
            assert text in new.documents
            assert kb.search(text, 1).ids == [name]


def test_the_words_of_embedded_texts_are_found_meanwhile(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", Model("old", 16)) as kb:
        ids = [str(i) for i in range(100)]
        kb.add(texts_of(100), ids=ids, embed_texts=[f"heading{i}" for i in range(100)], embed_words=True)
        interrupted(kb, Model("new", 24), 80)
        assert kb.search("heading7", 1, mode="text").ids == ["7"]
    with octavo.open(tmp_path / "kb", Model("new", 24)) as kb:  # without the old model, words answer for the rest
        assert "93" in kb.search("heading93", 10).ids


def test_an_export_has_the_old_vectors_and_names_their_model(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", Model("old", 16), codec="float32") as kb:
        kb.add(texts_of(100), ids=[str(i) for i in range(100)])
        interrupted(kb, Model("new", 24), 80)
        vectors = kb.get_vectors(kb.ids())
        kb.export(tmp_path / "out")
        assert kb.info().reencoding is not None
    with octavo.import_from(tmp_path / "out", encoder=Model("old", 16)) as again:
        assert again.info().reencoding is None
        assert np.allclose(again.get_vectors(again.ids()), vectors, atol=1e-5)
        assert again.search(texts_of(100)[7], 1).ids == ["7"]
        again.reencode(Model("new", 24))
        assert again.dim == 24


@pytest.mark.parametrize("kind", ["snapshot", "copy", "restored"])
def test_copies_hold_what_is_done_and_can_be_cancelled_or_gone_on_with(tmp_path: Path, kind: str) -> None:
    with octavo.open(tmp_path / "kb", Model("old", 16)) as kb:
        kb.add(texts_of(100), ids=[str(i) for i in range(100)])
        interrupted(kb, Model("new", 24), 80)
        if kind == "copy":
            kb.copy(tmp_path / "other").close()
        else:
            kb.snapshot(tmp_path / "other")
    if kind == "restored":
        octavo.restore(tmp_path / "other", tmp_path / "back")
    place = tmp_path / ("back" if kind == "restored" else "other")
    new = Model("new", 24)
    with octavo.open(place, Model("old", 16)) as kb:
        assert kb.info().reencoding["documents"] == 80  # type: ignore[index]
        kb.reencode(new, batch_size=40)
        assert len([text for text in new.documents if text in texts_of(100)[80:]]) == 20
        assert kb.search(texts_of(100)[90], 1).ids == ["90"]
        assert kb.verify().ok
    with octavo.open(tmp_path / "kb", Model("old", 16)) as kb:
        assert kb.cancel_reencode()
        assert kb.search(texts_of(100)[90], 1).ids == ["90"]


def test_push_and_pull_move_the_vectors_that_all_documents_have(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
    from typer.testing import CliRunner

    from octavo.cli import app
    from octavo.integrations.qdrant import open_collection

    def run(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result

    there, ids = f"qdrant:{tmp_path / 'q'}", [str(i) for i in range(100)]
    with octavo.open(tmp_path / "kb", Model("old", 16), codec="float16") as kb:
        kb.add(texts_of(100), ids=ids)
        interrupted(kb, Model("new", 24), 80)
        old = kb.get_vectors(ids)
    run("push", str(tmp_path / "kb"), "--to", there)
    with open_collection(there, Model("old", 16)) as moved:
        assert (moved.info().encoder, moved.info().reencoding) == ("old", None)
        assert np.allclose(moved.get_vectors(ids), old, atol=2e-3)
        interrupted(moved, Model("new", 24), 80)
    run("pull", there, str(tmp_path / "back"))
    with octavo.open(tmp_path / "back", Model("old", 16)) as back:
        assert (back.info().encoder, back.info().reencoding) == ("old", None)
        assert np.allclose(back.get_vectors(ids), old, atol=2e-3)
    run("push", str(tmp_path / "kb"), "--to", there)  # again, into a collection that is being changed: nothing is new
    with open_collection(there, Model("old", 16)) as moved:
        assert moved.info().reencoding["documents"] == 80
        moved.reencode(Model("new", 24))
        new = moved.get_vectors(ids)
    failed = run("push", str(tmp_path / "kb"), "--to", there, code=1)
    assert "was not pushed from this one" in failed.stderr
    failed = run("pull", there, str(tmp_path / "back"), code=1)
    assert "got 24" in failed.stderr
    run("pull", there, str(tmp_path / "anew"))
    with open_collection(
        there, Model("new", 24)
    ) as moved:  # to one of the same dimension, which nothing else would tell
        moved.reencode(Model("third", 24))
        moved.add(["w1 added"], ids=["added"])
    failed = run("pull", there, str(tmp_path / "anew"), code=1)
    assert "made with encoder 'third'" in failed.stderr
    with octavo.open(tmp_path / "anew", Model("new", 24)) as anew:
        assert anew.info().encoder == "new"
        assert np.allclose(anew.get_vectors(ids), new, atol=2e-3)
    with octavo.open(tmp_path / "back", Model("new", 24)) as back, pytest.raises(MismatchError, match="reencode"):
        back.search("w1")
