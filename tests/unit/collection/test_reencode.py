"""Changing the model of a collection that is in use."""

from __future__ import annotations

import multiprocessing
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.collection import reencoding as reencoding_module
from octavo.errors import (
    CollectionLockedError,
    InvalidVectorsError,
    MismatchError,
    OctavoError,
    ParameterError,
    StorageError,
)
from octavo.store import reencoding as store_reencoding
from octavo.store import store as store_module

WORDS = [f"w{number}" for number in range(200)]


class Model:
    """Sums of vectors of words; notes what it is asked for, and can fail after some documents."""

    def __init__(self, name: str, dim: int, *, fails_after: int | None = None) -> None:
        self.name, self.dim = name, dim
        self.documents: list[str] = []
        self.queries: list[str] = []
        self.fails_after = fails_after
        self.between: Callable[[], None] | None = None
        self._words: dict[str, Any] = {}

    def _vector(self, text: str) -> Any:
        total = np.full(self.dim, 1e-3)
        for word in text.split():
            if word not in self._words:
                seed = zlib.crc32(f"{self.name} {word}".encode())
                self._words[word] = np.random.default_rng(seed).standard_normal(self.dim)
            total = total + self._words[word]
        return total

    def encode_documents(self, texts: Sequence[str]) -> Any:
        if self.fails_after is not None and len(self.documents) + len(texts) > self.fails_after:
            raise ConnectionError("429 too many requests")
        self.documents += texts
        vectors = np.array([self._vector(text) for text in texts])
        if self.between is not None and len(texts) > 8:
            self.between()
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> Any:
        self.queries += texts
        return np.array([self._vector(text) for text in texts])


def texts_of(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 8)) + f" n{number}" for number in range(n)]


def filled(path: Path | None, model: Model, n: int = 400, **options: Any) -> octavo.Collection:
    kb = octavo.open(path, model, fit_after=200, **options)
    kb.add(texts_of(n), ids=[str(i) for i in range(n)], metadata=[{"part": i % 4} for i in range(n)])
    return kb


def started(kb: octavo.Collection, model: Model, done: int, **options: Any) -> None:
    """Re-encode so many documents, then fail."""
    model.fails_after = len(model.documents) + done
    with pytest.raises(ConnectionError):
        kb.reencode(model, batch_size=50, **options)
    model.fails_after = None


def same_as_direct(kb: octavo.Collection, model: Model, codec: str = "int8") -> None:
    """Compare with a collection that was built with the new model from the start."""
    ids = kb.ids()
    direct = octavo.open(None, Model(model.name, model.dim), codec=codec, metric=kb.metric, fit_after=200)
    direct.add(kb.get(ids))
    assert direct.ids() == ids
    mine, others = kb.get_vectors(ids), direct.get_vectors(ids)
    assert np.abs(mine - others).max() <= 0.02 * np.abs(others).max()
    for query in (kb.get(ids[:1])[0].text, "w3 w50"):
        assert kb.search(query, k=5).ids == direct.search(query, k=5).ids
    direct.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "kb"


@pytest.fixture(params=["disk", "memory"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "kb" if request.param == "disk" else None


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a sample from 100 documents on, of 60."""
    monkeypatch.setattr(reencoding_module, "WAITING", 100)
    monkeypatch.setattr(store_reencoding._originals, "CAPACITY", 60)


# ---------------------------------------------------------------------- from one end to the other


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("codec", [None, "float32", "binary > int8", "svd:50%|int8"])
def test_all_documents_are_encoded_once_and_as_if_from_the_start(
    anywhere: Path | None, codec: str | None, metric: Any
) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(anywhere, old, metric=metric) as kb:
        kb.reencode(new, codec, batch_size=64)
        assert sorted(new.documents) == sorted(texts_of(400))
        info = kb.info()
        assert (info.dim, info.encoder, info.codec, info.reencoding) == (40, "new", codec or "int8", None)
        assert kb.search("w1 w2", k=3).reencoding is None
        assert kb.verify().ok
        same_as_direct(kb, new, codec or "int8")
        kb.add(["w1 w2 w3 w4 w5 w6 w7 w8"], ids=["later"])  # with the new model from now on
        assert kb.search("w1 w2 w3 w4 w5 w6 w7 w8", k=1).ids == ["later"]
    if anywhere is not None:
        with octavo.open(anywhere, new) as again:
            assert again.search("w1 w2 w3 w4 w5 w6 w7 w8", k=1).ids == ["later"]
            again.delete(["later"])
            same_as_direct(again, new, codec or "int8")
        assert sorted({name.split("-")[0] for name in os.listdir(anywhere) if name.endswith(".vec")}).__len__() == 1


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("codec", ["int8", "svd:50%|int4"])
def test_of_many_documents_a_sample_is_encoded_first_and_none_twice(anywhere: Path | None, codec: str) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(anywhere, old) as kb:
        started(kb, new, 50)
        state = kb.info().reencoding
        assert state is not None
        assert (state["documents"], state["codec"]) == (50, "int8")
        kb.cancel_reencode()
        new = Model("new", 40)
        started(kb, new, 50, codec=codec)
        deleted = new.documents[0]
        kb.delete(filter=lambda document: document.text == deleted)
        kb.add(["w1 w9 new"], ids=["added"])
        started(kb, new, 100) if codec == "int8" else kb.reencode(new, codec, batch_size=50)
        kb.reencode(new, codec, batch_size=50) if codec == "int8" else None
        assert sorted(new.documents) == sorted([*texts_of(400), "w1 w9 new"])
        assert len(kb) == 400
        assert kb.verify().ok
        assert kb.search("w1 w9 new", k=1).ids == ["added"]
        assert np.abs(np.linalg.norm(kb.get_vectors(kb.ids()), axis=1) - 1).max() < 0.6


def test_it_goes_on_where_it_was(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        started(kb, new, 150)
    with octavo.open(place, new, previous=old) as kb:
        state = kb.info().reencoding
        assert state is not None
        assert (state["documents"], state["of"], state["encoder"], state["serve"]) == (150, 400, "new", "both")
        assert 0 < state["bytes"] < state["bytes_in_all"]
        kb.reencode(new)
        assert kb.info().reencoding is None
        same_as_direct(kb, new)
    assert sorted(set(new.documents)) == sorted(texts_of(400))
    assert len(new.documents) <= 400 + 2 * 8  # and those by which the models were told apart


def test_what_is_added_replaced_and_deleted_meanwhile_is_followed(anywhere: Path | None) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(anywhere, old) as kb:
        writes = iter(
            [
                lambda: kb.add(["w1 w2 replaced"], ids=["5"]),  # done already
                lambda: kb.delete(["6", "399", "120"]),  # done, not yet, and in this very batch
                lambda: kb.add(["w3 added"], ids=["new"]),
                lambda: kb.add(["w4 replaced"], ids=["390"]),
            ]
        )
        new.between = lambda: next(writes, lambda: None)()
        kb.reencode(new, batch_size=60)
        new.between = None
        assert len(kb) == 398
        assert not any(kb.contains(["6", "399", "120"]))
        assert kb.search("w1 w2 replaced", k=1).ids == ["5"]
        assert kb.search("w3 added", k=1).ids == ["new"]
        assert kb.verify().ok
        same_as_direct(kb, new)


def test_cancelling_brings_back_the_old_state(anywhere: Path | None) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(anywhere, old) as kb:
        before = kb.search("w1 w2 w3", k=5)
        started(kb, new, 200)
        assert kb.search("w1 w2 w3", k=5).reencoding == "both"
        assert kb.cancel_reencode()
        assert not kb.cancel_reencode()
        after = kb.search("w1 w2 w3", k=5)
        assert (after.ids, after.scores.tolist(), after.reencoding) == (before.ids, before.scores.tolist(), None)
        assert kb.info().reencoding is None
        assert kb.verify().ok
        assert kb.info().dim == 24


def test_the_same_model_gives_a_finer_codec(place: Path) -> None:
    model = Model("old", 24)
    with filled(place, model, codec="binary") as kb:
        kb.reencode(model, "float32")
        same_as_direct(kb, model, "float32")


def test_an_empty_collection_takes_the_new_model_at_once(anywhere: Path | None) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with octavo.open(anywhere, old) as kb:
        kb.reencode(new, "float16")
        kb.add(["w1 w2"])
        assert (kb.dim, kb.codec) == (40, "float16")
        kb.clear()
        kb.reencode(old)
        kb.add(["w1 w2", "w3"], ids=["a", "b"])
        assert (kb.dim, kb.search("w3", k=1).ids) == (24, ["b"])
        assert kb.verify().ok


def test_texts_that_were_stored_without_a_model_get_one(anywhere: Path | None) -> None:
    with octavo.open(anywhere) as kb:
        kb.add(texts_of(80), ids=[str(i) for i in range(80)])
        new = Model("new", 16)
        started(kb, new, 50)
        found = kb.search(texts_of(80)[70], k=3)
        assert "70" in found.ids
        assert found.reencoding == "new"
        assert kb.search(texts_of(80)[7], k=1).ids == ["7"]
        kb.reencode(new)
        assert kb.search(texts_of(80)[70], k=1).ids == ["70"]


# ---------------------------------------------------------------------- searching meanwhile


def test_both_models_answer(anywhere: Path | None) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(anywhere, old) as kb:
        started(kb, new, 200)
        for number in (3, 150, 210, 399):
            found = kb.search(texts_of(400)[number], k=5)
            assert (found.ids[0], found.reencoding) == (str(number), "both")
            assert (np.diff(found.scores) <= 0).all()
            assert found.scores.max() <= 1 + 1e-6
        batch = kb.search_batch(texts_of(400)[:20], k=5)
        assert [result.ids for result in batch] == [kb.search(text, k=5).ids for text in texts_of(400)[:20]]
        within = kb.search(texts_of(400)[3], k=400, filter={"part": 1})
        assert sorted(within.ids, key=int) == [str(i) for i in range(400) if i % 4 == 1]
        assert kb.search(texts_of(400)[3], k=10, ids=["7", "300"]).ids in (["7", "300"], ["300", "7"])
        assert kb.search("n210", mode="text", k=1).ids == ["210"]
        assert kb.search(texts_of(400)[210], mode="hybrid", k=1).ids == ["210"]
        assert kb.search(texts_of(400)[210], mode="hybrid", alpha=0.5, k=1).ids == ["210"]
        assert kb.search(texts_of(400)[210], k=3, lambda_mult=0.5).ids[0] == "210"
        assert kb.search(old.encode_queries(["w1 w2"])[0], k=2).reencoding == "old"


def test_scores_of_both_agree_with_the_obvious_computation(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old, codec="float32") as kb:
        started(kb, new, 100)
        texts, query = texts_of(400), "w5 w77 w120 w121"

        def cosines(model: Model) -> Any:
            matrix, vector = model.encode_queries(texts), model.encode_queries([query])[0]
            return matrix @ vector / np.linalg.norm(matrix, axis=1) / np.linalg.norm(vector)

        first, second = cosines(old), cosines(new)
        standard = [(scores - scores[:100].mean()) / scores[:100].std() for scores in (first, second)]
        mixed = (standard[0] + standard[1]) / 2
        expected = np.where(
            np.arange(400) < 100, first[:100].mean() + first[:100].std() * mixed / mixed[:100].std(), first
        )
        found = kb.search(query, k=400)
        assert found.ids == [str(i) for i in np.argsort(-expected, kind="stable")]
        np.testing.assert_allclose(found.scores, np.sort(expected)[::-1], atol=1e-4)


def test_the_old_model_alone_if_asked(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        before = kb.search("w1 w2 w3", k=5)
        started(kb, new, 200, serve="old")
        after = kb.search("w1 w2 w3", k=5)
        assert (after.ids, after.scores.tolist(), after.reencoding) == (before.ids, before.scores.tolist(), "old")
        assert not new.queries


def test_few_documents_with_both_say_nothing_yet(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        before = kb.search("w1 w2 w3", k=5)
        started(kb, new, 50)
        after = kb.search("w1 w2 w3", k=5)
        assert (after.ids, after.reencoding) == (before.ids, "old")


def test_without_the_old_model_the_new_one_and_words_answer(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        started(kb, new, 200)
    with octavo.open(place, new) as kb:
        for number in (3, 390):
            found = kb.search(texts_of(400)[number], k=4)
            assert number == int(found.ids[0]) or str(number) in found.ids[:2]
            assert found.reencoding == "new"
        assert kb.search(texts_of(400)[3], k=4, lambda_mult=0.5).ids[0] == "3"
        assert kb.search(texts_of(400)[3], k=4, mode="hybrid").ids[0] == "3"
        assert len(kb.search(texts_of(400)[3], k=3, filter={"part": 1}).ids) == 3
        kb.add(["w1 quite new"], ids=["added"])  # has no vector of either model yet
        assert "added" in kb.search("quite new", k=3).ids
        with pytest.raises(ParameterError, match="previous="):
            kb.encode_queries(["w1"])
        kb.reencode(new)
        assert kb.search("w1 quite new", k=1).ids == ["added"]
        same_as_direct(kb, new)


def test_a_model_that_fails_leaves_the_answer_to_the_other(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Down(Model):
        def encode_queries(self, texts: Sequence[str]) -> Any:
            raise ConnectionError("down")

    old, new = Model("old", 24), Down("new", 40)
    with filled(place, old) as kb:
        started(kb, new, 200)
        assert kb.search("w1 w2", k=3).reencoding == "old"
        assert "the other one answers alone" in caplog.text
        kb.cancel_reencode()
        with pytest.raises(MismatchError, match="new"):
            octavo.open(place, Model("new", 40)).search("w1")


# ---------------------------------------------------------------------- other objects and processes


def test_others_that_hold_both_models_never_notice(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb, octavo.open(place, Model("new", 40), previous=Model("old", 24)) as other:
        served = []

        def look() -> None:
            found = other.search(texts_of(400)[7], k=1)
            served.append((found.ids, found.reencoding))

        look()
        new.between = look
        kb.reencode(new, batch_size=100)
        look()
        assert [ids for ids, _ in served] == [["7"]] * len(served)
        assert served[0][1] is None
        assert "both" in [by for _, by in served]
        assert served[-1][1] is None
        other.add(["w1 by another"], ids=["x"])
        assert kb.search("w1 by another", k=1).ids == ["x"]


def test_others_with_the_old_model_alone_go_on_until_the_end(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 24)  # of the same dimension
    with filled(place, old) as kb, octavo.open(place, Model("old", 24)) as other:
        before = other.search("w1 w2", k=3).ids
        started(kb, new, 200)
        assert other.search("w1 w2", k=3).ids == before
        other.add(["w1 w2 w3 by another"], ids=["x"])
        kb.reencode(new)
        with pytest.raises(MismatchError, match="new"):
            other.search("w1 w2", k=3)
        with pytest.raises(MismatchError, match="new"):
            other.add(["w1"])
        assert kb.search("w1 w2 w3 by another", k=1).ids == ["x"]
        same_as_direct(kb, new)


@pytest.mark.parametrize("dim", [24, 40])
def test_a_query_or_document_that_is_being_encoded_when_the_models_change(place: Path, dim: int) -> None:
    old, new = Model("old", 24), Model("new", dim)
    with filled(place, old) as kb:
        mine = Model("old", 24)
        with octavo.open(place, Model("new", dim), previous=mine) as other:
            assert other.search(texts_of(400)[7], k=1).ids == ["7"]
            turns = iter([True])
            before = other._models.previous
            encode = before._queries

            def meanwhile(texts: list[str]) -> Any:
                found = encode(texts)
                if next(turns, False):
                    kb.reencode(new)
                    other.count()  # this process has seen it
                return found

            before._queries = meanwhile
            assert other.search(texts_of(400)[7], k=1).ids == ["7"]
            assert other.dim == dim
            assert next(turns, None) is None
        with octavo.open(place, Model("third", 30), previous=Model("new", dim)) as other, octavo.open(place) as changer:
            third, encoder = Model("third", 30), other._models.previous
            turns = iter([True])
            documents = encoder._documents

            def again(texts: list[str]) -> Any:
                found = documents(texts)
                if texts == ["w1 added across"] and next(turns, False):
                    changer.reencode(third)
                    other.count()
                return found

            encoder._documents = again
            other.add(["w1 added across"], ids=["across"])
            assert other.search("w1 added across", k=1).ids == ["across"]
            assert other.dim == 30
            assert next(turns, None) is None


def test_two_at_once_are_noticed(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb, octavo.open(place) as other:
        another = Model("new", 40)
        started(kb, new, 50)
        turns = iter([True])

        def meanwhile() -> None:
            if next(turns, False):
                started(other, another, 100)

        new.between = meanwhile
        with pytest.raises(CollectionLockedError, match="another process is re-encoding"):
            kb.reencode(new, batch_size=50)
        new.between = None
        kb.reencode(new, batch_size=50)
        same_as_direct(kb, new)


def test_cancelled_by_somebody_else(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb, octavo.open(place) as other:
        started(kb, new, 100)
        new.between = lambda: other.cancel_reencode() and None
        with pytest.raises(ParameterError, match="cancelled"):
            kb.reencode(new, batch_size=50)
        assert kb.search("w1 w2", k=1).reencoding is None


def test_closing_in_the_middle(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    kb = filled(place, old)
    new.between = kb.close
    with pytest.raises(OctavoError):
        kb.reencode(new, batch_size=50)
    new.between = None
    with octavo.open(place, old) as kb:
        kb.reencode(new)
        same_as_direct(kb, new)


def _search_in_child(kb: octavo.Collection, send: Any) -> None:
    found = kb.search(texts_of(400)[7], k=1)
    send.send((found.ids, found.reencoding))
    os._exit(0)


def test_a_forked_child_searches_both(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        started(kb, new, 200)
        receive, send = multiprocessing.Pipe(duplex=False)
        pid = os.fork()
        if pid == 0:
            _search_in_child(kb, send)
        os.waitpid(pid, 0)
        assert receive.recv() == (["7"], "both")
        kb.reencode(new)
        same_as_direct(kb, new)


# ---------------------------------------------------------------------- upkeep meanwhile


def test_compact_keeps_what_is_done(anywhere: Path | None) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(anywhere, old) as kb:
        started(kb, new, 200)
        kb.delete([str(i) for i in range(0, 400, 3)])
        before = kb.search("w1 w2", k=5)
        assert kb.compact() == 134
        after = kb.search("w1 w2", k=5)
        assert (after.ids, after.reencoding) == (before.ids, "both")
        state = kb.info().reencoding
        assert state is not None
        assert state["documents"] == 200 - 67
        assert kb.compact(secure=True) == 0
        assert kb.verify().ok
        kb.reencode(new)
        assert len(new.documents) == len(set(new.documents))
        same_as_direct(kb, new)


def test_compacting_in_the_middle_of_a_batch_costs_no_second_encoding(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        kb.delete(["1", "200"])
        turns = iter([False, True])
        new.between = lambda: kb.compact() and None if next(turns, False) else None
        kb.reencode(new, batch_size=100)
        assert len(new.documents) == len(set(new.documents)) == 398
        same_as_direct(kb, new)


def test_refitting_the_old_space_meanwhile(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        started(kb, new, 200)
        kb.refit("float16")
        assert kb.search(texts_of(400)[7], k=1).ids == ["7"]
        state = kb.info().reencoding
        assert state is not None
        assert state["documents"] == 200
        kb.reencode(new)
        same_as_direct(kb, new)


def test_copies_and_snapshots_can_go_on(place: Path, tmp_path: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        started(kb, new, 200)
        kb.snapshot(tmp_path / "snapshot")
        with kb.copy() as copy:
            copy.reencode(Model("new", 40))
            same_as_direct(copy, new)
        with octavo.open(tmp_path / "snapshot", new, previous=old) as again:
            assert again.verify().ok
            assert again.search(texts_of(400)[7], k=1).reencoding == "both"
            again.reencode(new)
            same_as_direct(again, new)
        octavo.restore(tmp_path / "snapshot", tmp_path / "restored")
        assert kb.info().reencoding is not None


def test_damage_of_new_vectors_is_found_and_made_good(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        started(kb, new, 350)
        (name,) = {name for name in os.listdir(place) if name.endswith("-0.vec")} - {kb._store.snapshot.files[0].name}
    with (place / name).open("r+b") as file:
        file.seek(150 * 40 * 4)
        file.write(b"\xff\xff\xff\x7e")
    with octavo.open(place, new, previous=old) as kb:
        assert kb.search(texts_of(400)[7], k=1).ids == ["7"]  # by the old vectors where the new ones are damaged
        report = kb.verify()
        assert name in report.problems[0]
        report = kb.verify(repair=True)
        assert report.ok
        assert "goes on from row 128" in report.repaired[0]
        kb.reencode(new)
        same_as_direct(kb, new)


def test_leftovers_of_other_generations_go_and_those_of_the_second_space_stay(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old) as kb:
        started(kb, new, 100)
    (place / store_module.vector_name(99, 0)).write_bytes(b"of a writer that died")
    with octavo.open(place, old) as kb:
        assert not (place / store_module.vector_name(99, 0)).exists()
        assert kb.verify().ok
        kb.reencode(new)


# ---------------------------------------------------------------------- with an index


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    from octavo.index import planner

    monkeypatch.setattr(planner, "cells_min", lambda layout: 100)
    monkeypatch.setattr(planner, "graph_min", lambda layout: 100)
    monkeypatch.setattr(planner, "tail_max", lambda layout: 50)


@pytest.mark.usefixtures("indexed", "small_sample")
@pytest.mark.parametrize("index", ["cells", "graph"])
def test_what_finds_candidates_is_there_when_the_new_space_takes_over(place: Path, index: Any) -> None:
    old, new = Model("old", 24), Model("new", 40)
    with filled(place, old, index=index) as kb:
        started(kb, new, 350)
        assert kb.search(texts_of(400)[7], k=1, exact=False).ids == ["7"]
        beside = kb._beside(kb._store.snapshot)[1]
        beside.complete()
        beside.checkpoint()
        with kb.connection() as connection:
            entry = kb._store.artifact(connection, f"next_{index}")
        assert entry is not None
        name = entry["file"] if index == "graph" else entry["segments"][0]["file"]
        (place / name).write_bytes(b"damaged")
        assert name in kb.verify().problems[0]
        assert kb.verify(repair=True).ok
        kb.reencode(new, batch_size=50)
        snapshot = kb._store.snapshot
        view = snapshot.cells if index == "cells" else snapshot.graph
        assert view is not None
        assert view.covered == snapshot.n_slots
        assert kb.search(texts_of(400)[7], k=1, exact=False).ids == ["7"]
        kb.flush()
        assert kb.verify().ok
    with octavo.open(place, new) as kb:
        assert kb.search(texts_of(400)[7], k=1, exact=False).ids == ["7"]


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"serve": "new"}, "serve"),
        ({"rate": "fast"}, "rate"),
        ({"rate": 500}, "rate"),
        ({"rate": "0/min"}, "rate"),
        ({"codec": "nonsense"}, "nonsense"),
        ({"codec": "truncate:99|int8"}, "keep 99"),
    ],
)
def test_wrong_options(place: Path, options: dict[str, Any], message: str) -> None:
    with filled(place, Model("old", 24), n=20) as kb:
        with pytest.raises(ParameterError, match=message):
            kb.reencode(Model("new", 40), **options)
        assert kb.info().reencoding is None


def test_a_batch_is_no_larger_than_the_rate_allows(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(reencoding_module.time, "sleep", waited.append)
    with filled(place, Model("old", 24), n=60) as kb:
        kb.reencode(Model("new", 40), rate="20/s")
    assert len([seconds for seconds in waited if seconds > 0.5]) == 2  # between three batches


def test_another_model_or_codec_in_the_middle(place: Path) -> None:
    with filled(place, Model("old", 24)) as kb:
        new = Model("new", 40)
        started(kb, new, 100)
        with pytest.raises(MismatchError, match="cancel_reencode"):
            kb.reencode(Model("third", 40))
        with pytest.raises(MismatchError, match="cancel_reencode"):
            kb.reencode(new, "float16")
        with pytest.raises(ParameterError, match="None"):
            kb.reencode(None)


def test_vectors_without_texts_cannot_be_encoded(place: Path) -> None:
    with octavo.open(place) as kb:
        kb.add(vectors=np.eye(4), ids=list("abcd"))
        with pytest.raises(ParameterError, match="'a' has none"):
            kb.reencode(Model("new", 8))
        assert kb.info().reencoding is None


def test_an_encoder_that_gives_nonsense_changes_nothing(place: Path) -> None:
    with filled(place, Model("old", 24), n=50) as kb:
        with pytest.raises(InvalidVectorsError):
            kb.reencode(lambda texts: np.full((len(texts), 8), np.nan))
        assert kb.info().reencoding is None


def test_a_full_disk_is_told_before(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(place, Model("old", 24), n=50) as kb:
        usage = type("Usage", (), {"free": 1_000})()
        monkeypatch.setattr(reencoding_module.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(StorageError, match="free"):
            kb.reencode(Model("new", 40))
        assert kb.info().reencoding is None


def test_previous_needs_an_encoder() -> None:
    with pytest.raises(ParameterError, match="previous="):
        octavo.open(previous=Model("old", 24))


def test_opened_with_the_new_model_before_it_begins(place: Path) -> None:
    old, new = Model("old", 24), Model("new", 40)
    filled(place, old).close()
    with octavo.open(place, new, previous=old) as kb:
        assert kb.search(texts_of(400)[7], k=1).ids == ["7"]
        kb.add(["w1 x"], ids=["x"])
        kb.reencode(new)
        assert kb.search("w1 x", k=1).ids == ["x"]
    with octavo.open(place, new) as kb:
        before = len(new.documents)
        kb.reencode(new)  # it is what it is
        assert len(new.documents) == before + 1
        with pytest.raises(MismatchError, match="reencode"):
            octavo.open(place, Model("third", 40)).search("w1")
