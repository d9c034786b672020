"""A text that is embedded and another that is returned; updates that encode nothing. Local, in memory, late, and in Qdrant."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import DocumentNotFoundError, InputTypeError, MismatchError, ParameterError
from octavo.store.documents import Document
from octavo.words import Phrase

WORDS = ["apple", "pear", "red", "green", "pie", "fruit", "book", "tree"]


def vector(text: str) -> np.ndarray:
    found = np.array([text.count(word) for word in WORDS], np.float32)
    return found + np.float32(0.01)


class Counted:
    """An encoder that remembers what it was asked for."""

    name = "counted"

    def __init__(self, late: bool) -> None:
        self.late = late
        self.asked: list[str] = []

    def encode_documents(self, texts: Sequence[str]) -> Any:
        self.asked += texts
        return self._made(texts)

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return self._made(texts)

    def _made(self, texts: Sequence[str]) -> Any:
        if self.late:
            return [np.array([vector(word) for word in text.split()] or [vector("")]) for text in texts]
        return np.array([vector(text) for text in texts])

    def taken(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


class Place:
    """One kind of collection, opened again and again at one place."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind, self.path = kind, path
        self.late = "late" in kind
        self.encoder = Counted(self.late)
        self.kb: Any = None

    def open(self, **options: Any) -> Any:
        if self.kind == "memory" and self.kb is not None:
            return self.kb
        if self.kb is not None:
            self.kb.close()
        given = {"encoder": self.encoder} | options
        if "qdrant" in self.kind:
            qdrant = pytest.importorskip("octavo.integrations.qdrant")
            made = qdrant.QdrantMultiVectorCollection if self.late else qdrant.QdrantCollection
            self.kb = made.open(path=self.path, **given) if self.path.exists() else made.create(path=self.path, **given)
        elif self.late:
            self.kb = octavo.open_multi_vector(self.path, **given)
        else:
            self.kb = octavo.open(self.path if self.kind != "memory" else None, **given)
        return self.kb

    @property
    def given(self) -> str:
        return "token_vectors" if self.late else "vectors"

    def vectors(self, ids: list[str]) -> list[Any]:
        found = self.kb.get_token_vectors(ids) if self.late else self.kb.get_vectors(ids)
        return [np.asarray(each) for each in found]


@pytest.fixture(params=["disk", "memory", "late", "qdrant", "qdrant late"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = Place(request.param, tmp_path / "kb")
    yield made
    if made.kb is not None:
        made.kb.close()


TEXTS = ["It is red.", "They are green."]
EMBEDDED = ["apple: It is red.", "pear: They are green."]


def test_what_is_embedded_and_what_is_returned(place):
    kb = place.open()
    kb.add(TEXTS, ids=["a", "p"], embed_texts=EMBEDDED)
    assert place.encoder.taken() == EMBEDDED
    best = kb.search("apple", k=1)
    assert (best.ids, best.documents[0].text) == (["a"], TEXTS[0])
    assert kb.search("apple", mode="text").ids == []  # words are those of the text
    assert kb.search("red", mode="text").ids == ["a"]
    kb = place.open()
    assert kb.get(["a", "p"]) == [
        Document(*row, embed_text=more)
        for row, more in zip([("a", TEXTS[0], {}), ("p", TEXTS[1], {})], EMBEDDED, strict=True)
    ]
    assert [document.to_embed for document in kb.documents()] == EMBEDDED
    assert kb.search("pear", k=1).documents[0].embed_text == EMBEDDED[1]
    if hasattr(kb, "verify"):
        assert kb.verify().ok


def test_words_come_from_it_if_asked(place):
    kb = place.open()
    kb.add(TEXTS, ids=["a", "p"], embed_texts=[EMBEDDED[0], None], embed_words=True)
    assert place.encoder.taken() == [EMBEDDED[0], TEXTS[1]]
    kb = place.open()
    assert kb.search("apple", mode="text").ids == ["a"]
    assert kb.search(Phrase("apple it is"), mode="text").ids == ["a"]
    assert kb.search("green", mode="text").ids == ["p"]
    assert [document.embed_words for document in kb.get(["a", "p"])] == [True, False]


def test_ready_vectors_and_documents_may_bring_it_along(place):
    kb = place.open()
    ready = place.encoder._made(EMBEDDED)
    kb.add(
        [Document("a", TEXTS[0], {"n": 1}, EMBEDDED[0], True), {"id": "p", "text": TEXTS[1]}], **{place.given: ready}
    )
    assert place.encoder.taken() == []
    assert kb.get(["a"]) == [Document("a", TEXTS[0], {"n": 1}, EMBEDDED[0], True)]
    assert kb.search("apple", mode="text").ids == ["a"]
    kb.add(["same"], ids=["s"], embed_texts=["same"], **{place.given: ready[:1]})
    assert kb.get(["s"]) == [Document("s", "same")]  # nothing else than the text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"embed_texts": ["a"]}, ParameterError),
        ({"embed_texts": "ab"}, InputTypeError),
        ({"embed_texts": [1, 2]}, InputTypeError),
        ({"embed_texts": ["\ud800", "b"]}, ParameterError),
        ({"embed_words": True}, ParameterError),
        ({"embed_texts": ["a", "b"], "embed_words": 1}, (ParameterError, InputTypeError)),
    ],
)
def test_what_cannot_be_embedded(place, options, error):
    kb = place.open()
    with pytest.raises(error):
        kb.add(TEXTS, **options)
    assert len(kb) == 0


# ---------------------------------------------------------------------- nothing is embedded twice


def test_equal_texts_are_not_embedded_again(place):
    kb = place.open()
    kb.add(["red apple", "green pear"], ids=["a", "p"], metadata=[{"n": 1}, {"n": 2}])
    place.encoder.taken()
    before = place.vectors(["a", "p"])
    kb.add(["red apple", "green pear", "a book"], ids=["a", "p", "b"], metadata=[{"n": 1}, {"n": 3}, {"n": 4}])
    assert place.encoder.taken() == ["a book"]
    assert [document.metadata for document in kb.get(["a", "p", "b"])] == [{"n": 1}, {"n": 3}, {"n": 4}]
    assert kb.search("pear", filter={"n": 3}).ids == ["p"]
    assert kb.search("pear", filter={"n": 2}).ids == []
    for one, other in zip(before, place.vectors(["a", "p"]), strict=True):
        assert np.array_equal(one, other)
    kb = place.open()
    kb.add(["red apple", "another pear"], ids=["a", "p"])
    asked = place.encoder.taken()  # in an object of its own, one stored text is asked for once more, to know the model
    assert asked.count("another pear") == 1
    assert len(asked) == (1 if place.kind == "memory" else 2)
    assert kb.get(["a"]) == [Document("a", "red apple")]
    assert len(kb) == 3


def test_another_text_to_embed_is_embedded(place):
    kb = place.open()
    kb.add(TEXTS, ids=["a", "p"], embed_texts=EMBEDDED)
    place.encoder.taken()
    kb.add(["other words"], ids=["a"], embed_texts=EMBEDDED[:1])  # the same is embedded, another text is returned
    assert place.encoder.taken() == []
    assert kb.get(["a"]) == [Document("a", "other words", {}, EMBEDDED[0])]
    assert (kb.search("red", mode="text").ids, kb.search("other", mode="text").ids) == ([], ["a"])
    kb.add(EMBEDDED[:1], ids=["a"])  # it becomes the text itself
    assert place.encoder.taken() == []
    assert kb.get(["a"]) == [Document("a", EMBEDDED[0])]
    kb.add(TEXTS[:1], ids=["a"])
    assert place.encoder.taken() == TEXTS[:1]
    kb.add(TEXTS[:1], ids=["a"], embed_texts=["green tree"], embed_words=True)
    assert place.encoder.taken() == ["green tree"]
    assert kb.search("tree", mode="text").ids == ["a"]
    kb.add(TEXTS[:1], ids=["a"], embed_texts=["green tree"])
    assert place.encoder.taken() == []
    assert kb.search("tree", mode="text").ids == []


def test_vectors_that_were_brought_along_are_replaced(place):
    kb = place.open()
    kb.add(["red apple", "pear"], ids=["a", "p"], **{place.given: place.encoder._made(["book", "pear"])})
    kb.add(["red apple"], ids=["a"])
    assert "red apple" in place.encoder.taken()
    assert kb.search("apple", k=1).ids == ["a"]


def test_another_model_is_noticed_although_nothing_would_be_embedded(place):
    if place.kind == "memory":
        pytest.skip("a collection in memory has one encoder")
    place.open().add(["red apple", "green pear"], ids=["a", "p"])

    class Other(Counted):
        def _made(self, texts: Sequence[str]) -> Any:
            made = super()._made(texts)
            return [each[:, ::-1] for each in made] if self.late else made[:, ::-1]

    kb = place.open(encoder=Other(place.late))
    with pytest.raises(MismatchError):
        kb.add(["red apple", "green pear"], ids=["a", "p"], metadata=[{"n": 1}, {}])
    assert kb.get(["a"])[0].metadata == {}


# ---------------------------------------------------------------------- updates


def test_metadata_alone(place):
    kb = place.open()
    kb.add(
        ["red apple", "green pear", "a book"], ids=list("apb"), metadata=[{"n": 1}, {"n": 2}, {"d": date(2024, 5, 1)}]
    )
    place.encoder.taken()
    before, order = place.vectors(list("apb")), kb.ids()
    kb.update(["p", "a"], metadata=[{"n": 5, "pair": (1, 2)}, None], payloads=[None, "kept"])
    assert place.encoder.taken() == []
    for again in (False, True):
        kb = place.open() if again else kb
        assert kb.get(["a", "p", "b"]) == [
            Document("a", "red apple", {"n": 1}),
            Document("p", "green pear", {"n": 5, "pair": (1, 2)}),
            Document("b", "a book", {"d": date(2024, 5, 1)}),
        ]
        assert kb.get_payloads(["a", "p"]) == ["kept", None]
        assert kb.ids(filter={"n": {"$gt": 1}}) == ["p"]
        assert kb.ids(filter={"n": 2}) == []
        assert kb.ids() == order
        assert kb.search("pear", k=1, filter={"n": 5}).ids == ["p"]
        assert kb.search("pear", mode="text").ids == ["p"]
        for one, other in zip(before, place.vectors(list("apb")), strict=True):
            assert np.array_equal(one, other)


def test_texts_alone(place):
    kb = place.open()
    kb.add(["red apple", "green pear"], ids=["a", "p"])
    assert kb.search("apple", mode="text").ids == ["a"]  # the text index is there, and has to follow
    place.encoder.taken()
    kb.update(["a"], texts=["scarlet fruit of the tree"])
    assert place.encoder.taken() == []
    assert kb.get(["a"]) == [Document("a", "scarlet fruit of the tree", {}, "red apple")]
    assert (kb.search("apple", mode="text").ids, kb.search("scarlet", mode="text").ids) == ([], ["a"])
    assert kb.search("apple", k=1).ids == ["a"]  # the vector is what it was
    kb.update(["a"], texts=["another"])
    assert kb.get(["a"])[0].embed_text == "red apple"
    kb.update(["a"], texts=["red apple"])
    assert kb.get(["a"]) == [Document("a", "red apple")]
    assert kb.search("apple", mode="text").ids == ["a"]
    kb.delete(["p"])
    assert kb.search("apple pear", mode="text").ids == ["a"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ids": ["a", "nobody"], "metadata": [{"n": 9}, {}]}, DocumentNotFoundError),
        ({"ids": ["a"]}, ParameterError),
        ({"ids": ["a", "a"], "metadata": [{}, {}]}, ParameterError),
        ({"ids": ["a"], "metadata": [{}, {}]}, ParameterError),
        ({"ids": ["a"], "metadata": {"n": 1}}, InputTypeError),
        ({"ids": ["a"], "metadata": ["x"]}, InputTypeError),
        ({"ids": ["a"], "metadata": [{"n": float("nan")}]}, ParameterError),
        ({"ids": ["a"], "metadata": [{1: 2}]}, InputTypeError),
        ({"ids": ["a"], "texts": "x"}, InputTypeError),
        ({"ids": ["a"], "texts": [1]}, InputTypeError),
        ({"ids": ["a"], "payloads": [b"x"]}, InputTypeError),
        ({"ids": "a", "metadata": [{}]}, InputTypeError),
    ],
)
def test_what_cannot_be_updated(place, arguments, error):
    kb = place.open()
    kb.add(["red apple"], ids=["a"], metadata=[{"n": 1}])
    with pytest.raises(error):
        kb.update(**arguments)
    assert kb.get(["a"]) == [Document("a", "red apple", {"n": 1})]


def test_an_update_of_nothing(place):
    kb = place.open()
    kb.add(["red apple"], ids=["a"])
    kb.update([], metadata=[])
    kb.update(["a"], metadata=[None], texts=[None])
    assert kb.get(["a"]) == [Document("a", "red apple")]


# ---------------------------------------------------------------------- collections of files


@pytest.fixture(params=[False, True], ids=["dense", "late"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = Place("late" if request.param else "disk", tmp_path / "kb")
    kb = made.open(codec="int8", fit_after=5)
    texts = [f"{WORDS[n % 8]} number {n}" for n in range(20)]
    kb.add(
        texts,
        ids=[str(n) for n in range(20)],
        embed_texts=[f"{WORDS[(n + 1) % 8]} {text}" for n, text in enumerate(texts)],
        embed_words=True,
    )
    made.encoder.taken()
    yield made
    if not made.kb.closed:
        made.kb.close()


def everything(kb: Any) -> list[Any]:
    documents = sorted(kb.documents(), key=lambda document: int(document.id))
    return [(d.id, d.text, d.metadata, d.embed_text, d.embed_words) for d in documents]


@pytest.mark.parametrize("way", ["refit", "compact", "secure", "copy", "snapshot", "export", "memory", "codec"])
def test_it_goes_wherever_its_document_goes(stored, tmp_path, way):
    kb = stored.kb
    kb.delete(["3", "4"])
    kb.update(["5"], texts=["changed"], metadata=[{"x": 1}])
    expected = everything(kb)
    if way in {"refit", "codec"}:
        kb.refit("float16" if way == "codec" else None)
    elif way in {"compact", "secure"}:
        assert kb.compact(secure=way == "secure") == 2
    else:
        if way == "export":
            again = octavo.import_from(kb.export(tmp_path / "out"), tmp_path / "again", stored.encoder)
        elif way == "memory":
            again = kb.copy()
        elif way == "copy":
            again = kb.copy(tmp_path / "again")
        else:
            kb.snapshot(tmp_path / "snapshot")
            octavo.restore(tmp_path / "snapshot", tmp_path / "again")
            again = octavo.open(tmp_path / "again", stored.encoder)
        stored.kb.close()
        stored.kb = kb = again
    assert everything(kb) == expected
    assert kb.verify().ok
    assert kb.search("red", mode="text", k=20).ids
    assert "5" in kb.search("changed", mode="text", k=20).ids or kb.get(["5"])[0].embed_words
    stored.encoder.taken()
    kb.add([Document(*row) for row in expected])
    assert len(stored.encoder.taken()) in (
        {20 - 2, 20 - 1} if way == "export" else {0, 1}
    )  # an export does not say who encoded; one more where it is asked whether it is the same model


def test_push_and_pull_keep_it(stored, tmp_path):
    qdrant = pytest.importorskip("octavo.integrations.qdrant")
    from octavo.collection.rebuild import blueprint_of, most_token_vectors, open_from_blueprint
    from octavo.ingest.transfer import transfer
    from octavo.integrations.qdrant import transfer as moving

    expected = everything(stored.kb)
    there = moving.open_from_blueprint(
        blueprint_of(stored.kb), longest=most_token_vectors(stored.kb), path=tmp_path / "q"
    )
    assert isinstance(there, qdrant.QdrantCollection)
    transfer(stored.kb, there, write=moving.write_stored(there))
    assert everything(there) == expected
    back = open_from_blueprint(tmp_path / "back", moving.blueprint_of(there))
    report = transfer(there, back)
    assert report.copied == 20
    assert everything(back) == expected
    assert transfer(there, back).copied == 0
    there.update(["0"], texts=["new"])
    assert transfer(there, back).copied == 1
    there.close()
    back.close()


def test_repair_encodes_what_was_embedded(stored):
    kb = stored.kb
    path = kb.path
    kb.close()
    for file in path.glob("g*.vec"):
        if "offsets" not in file.name:
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 0xFF
            file.write_bytes(data)
    kb = stored.open()
    report = kb.verify(repair=True)
    assert report.repaired
    asked = stored.encoder.taken()
    assert asked
    assert set(asked) <= {document.to_embed for document in kb.documents()}
    assert kb.verify().ok


def test_damage_to_it_is_noticed(stored):
    kb = stored.kb
    with kb.connection(write=True) as connection:
        connection.execute("UPDATE documents SET embed_text = 'x' WHERE id = '7'")
    report = kb.verify()
    assert not report.ok
    assert any("'7'" in problem for problem in report.problems)


def test_other_processes_see_updates_and_filters_follow(stored):
    with octavo.open(stored.path, stored.encoder) as other:
        assert other.ids(filter={"x": 1}) == []
        assert other.search("changed", mode="text").ids == []
        stored.kb.update(["5"], metadata=[{"x": 1}])
        assert other.ids(filter={"x": 1}) == ["5"]
        stored.kb.add(["changed"], ids=["new"])
        stored.kb.update(["new"], texts=["altered"])
        assert (other.search("changed", mode="text").ids, other.search("altered", mode="text").ids) == ([], ["new"])


def test_updates_by_many_threads_are_all_there(stored):
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for n in range(20):
                stored.kb.update([str(n)], metadata=[{name: n}])
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert stored.kb.verify().ok
    assert all(len(document.metadata) == 1 for document in stored.kb.documents())


def test_who_changes_a_document_meanwhile_is_not_overwritten(stored, monkeypatch):
    kb = stored.kb
    original: Callable[..., Any] = type(kb)._already_encoded
    raced: list[int] = []

    def slow(self: Any, batch: Any) -> Any:
        found = original(self, batch)
        if not raced:
            raced.append(1)
            self.add(["an apple"], ids=["0"])
        return found

    monkeypatch.setattr(type(kb), "_already_encoded", slow)
    document = kb.get(["0"])[0]
    kb.add([document])
    assert kb.get(["0"]) == [document]
    assert document.to_embed in stored.encoder.taken()  # the vector that was there is another text's by now
    assert kb.verify().ok
