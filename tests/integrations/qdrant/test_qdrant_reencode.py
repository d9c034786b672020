"""Changing the model of a collection in Qdrant that is in use: in its core, and by its client's emulation of a server."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.encoders.dense import as_encoder
from octavo.errors import CollectionLockedError, CorruptCollectionError, MismatchError, ParameterError

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
pytest.importorskip("qdrant_client", reason="needs qdrant-client")

from octavo.compression import Codec
from octavo.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection, open_collection
from octavo.integrations.qdrant import _collection as collection_module
from octavo.integrations.qdrant import _reencoding as reencoding_module
from octavo.integrations.qdrant._client import ClientTransport, ServerOptions
from octavo.integrations.qdrant._filters import DOCUMENTS, MANIFEST, all_of
from octavo.integrations.qdrant._two_spaces import in_space
from octavo.integrations.qdrant.edge import EdgeTransport
from octavo.integrations.qdrant.location import open_or_create
from octavo.integrations.qdrant.transfer import blueprint_of
from octavo.integrations.qdrant.transport import Point

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")

WORDS = [f"w{number}" for number in range(60)]


class Model:
    """Sums of vectors of words; notes what it is asked for, and can fail after some documents."""

    def __init__(self, name: str, dim: int) -> None:
        self.name, self.dim = name, dim
        self.documents: list[str] = []
        self.fails_after: int | None = None
        self.between: Callable[[], object] | None = None
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
        if self.between is not None and len(texts) > 1:
            self.between()
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return np.array([self._vector(text) for text in texts])


class Tokens(Model):
    """One vector a word."""

    def encode_documents(self, texts: Sequence[str]) -> Any:  # type: ignore[override]
        self.documents += texts
        if self.between is not None and len(texts) > 8:
            self.between()
        return self._tokens(texts)

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return self._tokens(texts)

    def _tokens(self, texts: Sequence[str]) -> Any:
        return [np.array([self._vector(word) for word in text.split()]).reshape(-1, self.dim) for text in texts]


def texts_of(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 6)) + f" n{number}" for number in range(n)]


Place = tuple[Callable[..., QdrantCollection], Callable[..., QdrantCollection]]


@pytest.fixture(params=["core", "client"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Create a collection, and open it again: in the core that one is closed, of a server there are two objects then."""
    made: list[QdrantCollection] = []
    if request.param == "core":

        def reopen(encoder: Any = None, **options: Any) -> QdrantCollection:
            made[-1].close()
            made.append(QdrantCollection.open(path=tmp_path / "q", encoder=encoder, **options))
            return made[-1]

        def create(encoder: Any, **options: Any) -> QdrantCollection:
            made.append(QdrantCollection.create(path=tmp_path / "q", encoder=encoder, **options))
            return made[-1]
    else:
        first = ClientTransport(":memory:", "kb", ServerOptions())
        client = first._connected
        monkeypatch.setattr(ClientTransport, "_connect", lambda self: client)
        monkeypatch.setattr(client, "close", lambda: None)

        def reopen(encoder: Any = None, **options: Any) -> QdrantCollection:
            made.append(QdrantCollection.open(url=":memory:", name="kb", encoder=encoder, **options))
            return made[-1]

        def create(encoder: Any, **options: Any) -> QdrantCollection:
            made.append(QdrantCollection.create(url=":memory:", name="kb", encoder=encoder, **options))
            return made[-1]

    yield create, reopen
    for collection in made:
        collection.close()


def filled(create: Callable[..., QdrantCollection], model: Any, n: int = 160, **options: Any) -> QdrantCollection:
    kb = create(model, **options)
    kb.add(texts_of(n), ids=[str(i) for i in range(n)], metadata=[{"part": i % 4} for i in range(n)])
    return kb


def started(kb: QdrantCollection, model: Model, done: int, **options: Any) -> None:
    """Re-encode so many documents, then fail."""
    model.fails_after = len(model.documents) + done
    with pytest.raises(ConnectionError):
        kb.reencode(model, batch_size=40, **options)
    model.fails_after = None


def agrees_with_direct(kb: QdrantCollection, model: Model, tmp_path: Path) -> None:
    """Compare documents, vectors and answers with those of a local collection that was built by the new model."""
    documents = {document.id: document for document in kb.documents()}
    with octavo.open(None, Model(model.name, model.dim), codec="float32") as direct:
        direct.add(list(documents.values()))
        ids = sorted(documents)
        assert np.allclose(kb.get_vectors(ids), direct.get_vectors(ids), atol=2e-3)
        for query in texts_of(5, seed=9):
            found = kb.search(query, k=10, exact=True)
            expected = direct.search(query, k=10, exact=True)
            assert np.allclose(found.scores, expected.scores, atol=5e-3)
            assert found.reencoding is None


@pytest.mark.parametrize("codec", ["float16", "int8", "binary > float32", "svd:8|int8"])
def test_all_documents_are_encoded_once_and_as_if_from_the_start(place: Place, tmp_path: Path, codec: str) -> None:
    create, reopen = place
    kb = filled(create, Model("old", 16))
    new = Model("new", 24)
    kb.reencode(new, codec, batch_size=48)
    assert sorted(text for text in new.documents) == sorted(texts_of(160))
    assert (kb.dim, kb.codec, kb.info().encoder, kb.info().reencoding) == (24, str(Codec.parse(codec)), "new", None)
    kb = reopen(Model("new", 24))
    assert kb.dim == 24
    if "svd" not in codec:
        agrees_with_direct(kb, new, tmp_path)
    assert kb.search(texts_of(160)[7], k=1).ids == ["7"]
    kb.add(["w1 w2 w3"], ids=["more"])
    assert kb.search("w1 w2 w3", k=1).ids == ["more"]
    with pytest.raises(MismatchError, match="built with encoder 'new'"):
        reopen(Model("old", 16)).search("w1 w2")


def test_the_core_searches_the_new_vectors_by_the_codec(tmp_path: Path) -> None:
    with QdrantCollection.create(path=tmp_path / "q", encoder=Model("old", 16), codec="float32") as kb:
        kb.add(texts_of(30))
        kb.reencode(Model("new", 24), "binary")
        config = (tmp_path / "q" / "edge_config.json").read_text()
        assert '"dense-1"' in config
        assert '"binary"' in config
        assert '"dense"' not in config
    with QdrantCollection.open(path=tmp_path / "q", encoder=Model("new", 24)) as kb:
        assert (kb.info().quantization, len(kb)) == ("binary", 30)


def test_it_goes_on_where_it_was(place: Place, tmp_path: Path) -> None:
    create, reopen = place
    kb = filled(create, Model("old", 16))
    new = Model("new", 24)
    started(kb, new, 80)
    state = kb.info().reencoding
    assert state is not None
    assert (state["encoder"], state["documents"], state["of"], state["serve"]) == ("new", 80, 160, "both")
    assert 0 < state["bytes"] < state["bytes_in_all"]
    kb = reopen(Model("old", 16))
    again = Model("new", 24)
    kb.reencode(again, batch_size=40)
    encoded = [text for text in again.documents if text not in new.documents]
    assert len(encoded) == 80
    assert len(again.documents) <= 80 + 8  # and a few by which the model is told
    agrees_with_direct(kb, again, tmp_path)
    kb.reencode(Model("new", 24))  # it was done before
    assert kb.info().reencoding is None


def test_what_is_added_replaced_updated_and_deleted_meanwhile_is_followed(place: Place, tmp_path: Path) -> None:
    create, _ = place
    kb = filled(create, Model("old", 16))
    new = Model("new", 24)
    turns = 0

    def meanwhile() -> None:
        nonlocal turns
        turns += 1
        if turns > 4:
            return
        kb.add([f"w{turns} w7 added"], ids=[f"added {turns}"])
        kb.add([f"w{turns} w9 replaced"], ids=[str(10 * turns)])
        kb.add([f"w{turns} w8 changed"], ids=[str(159 - turns)], embed_texts=[texts_of(160)[159 - turns]])
        kb.update([str(10 * turns + 1)], metadata=[{"part": 99}])
        kb.delete([str(10 * turns + 2)])

    new.between = meanwhile
    kb.reencode(new, batch_size=32)
    assert len(kb) == 160
    assert sorted(kb.ids({"part": 99})) == ["11", "21", "31", "41"]
    assert not any(kb.contains(["12", "22", "32", "42"]))
    agrees_with_direct(kb, new, tmp_path)


def test_a_document_that_is_replaced_while_it_is_encoded_gets_the_vector_of_its_new_text(place: Place) -> None:
    create, _ = place
    kb = filled(create, Model("old", 16), 12)
    new = Model("new", 24)
    done = False

    def meanwhile() -> None:
        nonlocal done
        if not done:
            done = True
            kb.add(["w50 w51"], ids=["3"])
            kb.delete(["4"])

    new.between = meanwhile
    kb.reencode(new, "float32")
    expected = new.encode_queries(["w50 w51"])[0]
    assert kb.get_vectors(["3"])[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
    assert len(kb) == 11


def test_both_models_answer_and_cancelling_brings_back_the_old_state(place: Place) -> None:
    create, reopen = place
    kb = filled(create, Model("old", 16), codec="float32")
    query, texts = "w1 w2 w3", texts_of(160)
    before = kb.search(query, k=10)
    started(kb, Model("new", 24), 120)
    both = reopen(Model("new", 24), previous=Model("old", 16))
    found = both.search(query, k=10)
    assert (found.reencoding, len(found)) == ("both", 10)
    # the obvious computation
    old, new = Model("old", 16), Model("new", 24)
    vectors = {model: model.encode_documents(texts) for model in (old, new)}
    scores = {}
    for model, matrix in vectors.items():
        asked = model.encode_queries([query])[0]
        scores[model] = matrix @ asked / np.linalg.norm(matrix, axis=1) / np.linalg.norm(asked)
    done = _with_new_vectors(both)
    middle, spread = scores[old][done].mean(), scores[old][done].std()
    z = (
        0.25 * (scores[old] - middle) / spread
        + 0.75 * (scores[new] - scores[new][done].mean()) / scores[new][done].std()
    )
    fused = scores[old].copy()
    fused[done] = middle + spread * (z[done] / z[done].std())
    if fused.max() <= 1:
        best = np.argsort(-fused)[:10]
        assert {int(identifier) for identifier in found.ids} == set(best.tolist())
        assert np.allclose(found.scores, fused[best], atol=2e-3)
    assert both.search(query, k=5, filter={"part": 1}).reencoding == "both"
    assert all(hit.metadata["part"] == 1 for hit in both.search(query, k=5, filter={"part": 1}))
    assert both.search(query, k=5, mode="hybrid").reencoding == "both"
    assert len(both.search(query, k=5, lambda_mult=0.5)) == 5
    assert [len(each) for each in both.search_batch(texts_of(3, seed=2), k=4)] == [4, 4, 4]
    ready = before.documents[0].id
    assert both.search(both.get_vectors([ready])[0], k=1).ids == [ready]  # vectors are compared with the old ones
    assert both.cancel_reencode()
    assert not both.cancel_reencode()
    after = both.search(query, k=10)
    assert (after.ids, after.reencoding) == (before.ids, None)
    assert np.allclose(after.scores, before.scores, atol=1e-6)
    other = Model("other", 12)
    both.reencode(other)
    assert both.dim == 12


def _with_new_vectors(kb: QdrantCollection) -> Any:
    where = all_of(DOCUMENTS, in_space(1))
    return np.array(sorted(int(point.payload["id"]) for point in kb._scroll(where, ["id"])))


def test_serve_old_and_few_documents(place: Place) -> None:
    create, reopen = place
    kb = filled(create, Model("old", 16))
    started(kb, Model("new", 24), 40)
    assert kb.search("w1 w2").reencoding == "old"  # by the object that holds the old model alone
    both = reopen(Model("new", 24), previous=Model("old", 16))
    assert both.search("w1 w2").reencoding == "old"  # 40 documents say nothing yet
    both.cancel_reencode()
    started(both, Model("new", 24), 120, serve="old")
    assert both.search("w1 w2").reencoding == "old"


def test_without_the_old_model_the_new_one_and_words_answer(place: Place) -> None:
    create, reopen = place
    kb = filled(create, Model("old", 16))
    started(kb, Model("new", 24), 80)
    alone = reopen(Model("new", 24))
    done = set(_with_new_vectors(alone).tolist())
    first_done, first_left = min(done), min(set(range(160)) - done)
    texts = texts_of(160)
    for number in (first_done, first_left):
        result = alone.search(texts[number], k=3)
        assert result.reencoding == "new"
        assert str(number) in result.ids
    assert len(alone.search(texts[0], k=3, lambda_mult=0.5)) == 3
    assert len(alone.search(texts[0], k=3, mode="hybrid")) == 3
    alone.add(["w5 w5 unheard"], ids=["later"])
    assert "later" in alone.search("unheard", k=2).ids
    with pytest.raises(ParameterError, match="previous="):
        alone.encode_documents(["w1"])
    alone.reencode(Model("new", 24))
    assert alone.search("w5 w5 unheard", k=1).ids == ["later"]


def test_another_change_cannot_begin_and_options_are_checked(place: Place) -> None:
    create, _ = place
    kb = filled(create, Model("old", 16), 60)
    started(kb, Model("new", 24), 40)
    with pytest.raises(MismatchError, match="cancel_reencode"):
        kb.reencode(Model("third", 8))
    with pytest.raises(MismatchError, match="cancel_reencode"):
        kb.reencode(Model("new", 24), "float32")
    with pytest.raises(ParameterError, match="rate"):
        kb.reencode(Model("new", 24), rate="fast")
    with pytest.raises(ParameterError, match="serve"):
        kb.reencode(Model("new", 24), serve="neither")  # type: ignore[arg-type]


def test_without_documents_the_new_model_is_taken_at_once(place: Place) -> None:
    create, _ = place
    kb = create(Model("old", 16))
    kb.reencode(Model("new", 24), "float32")
    kb.add(["w1 w2"], ids=["a"])
    assert (kb.dim, kb.codec) == (24, "float32")
    kb.clear()
    kb.reencode(Model("third", 8))
    kb.add(["w1 w2"], ids=["b"])
    assert (kb.dim, kb.search("w1", k=1).ids) == (8, ["b"])


def test_documents_without_a_text_are_refused_unless_an_encoder_made_their_vectors(place: Place) -> None:
    create, _ = place
    kb = create(None, dim=4)
    kb.add(["red", ""], ids=["a", "b"], vectors=np.eye(4)[:2])
    with pytest.raises(ParameterError, match="'b' has none"):
        kb.reencode(Model("new", 24))
    kb.delete(["b"])
    kb.reencode(Model("new", 24))
    assert kb.search("red", k=1).ids == ["a"]


def test_a_pushed_collection_is_pulled_as_what_it_is_now(place: Place) -> None:
    create, _ = place
    kb = filled(create, Model("old", 16), 20)
    kb.reencode(Model("new", 24), "float16")
    blueprint = blueprint_of(kb)
    assert (blueprint.dim, blueprint.codec) == (24, "float16")
    assert blueprint.encoder is not None
    assert blueprint.encoder["name"] == "new"


def test_other_processes_of_a_server_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ClientTransport(":memory:", "kb", ServerOptions())._connected
    monkeypatch.setattr(ClientTransport, "_connect", lambda self: client)
    monkeypatch.setattr(client, "close", lambda: None)
    monkeypatch.setattr(collection_module, "_KNOWN_FOR", 0.0)
    options: dict[str, Any] = {"url": ":memory:", "name": "kb"}
    kb = QdrantCollection.create(**options, encoder=Model("old", 16))
    kb.add(texts_of(160), ids=[str(i) for i in range(160)])
    old = QdrantCollection.open(**options, encoder=Model("old", 16))
    both = QdrantCollection.open(**options, encoder=Model("new", 24), previous=Model("old", 16))
    new = Model("new", 24)
    seen: list[tuple[str | None, str | None]] = []

    def meanwhile() -> None:
        seen.append((both.search("w1 w2").reencoding, old.search("w1 w2").reencoding))
        old.add([f"w3 w4 added{len(seen)}"], ids=[f"a{len(seen)}"])

    new.between = meanwhile
    kb.reencode(new, batch_size=40)
    assert seen[0] == (None, None)  # the first batch says how long the vectors are
    assert ("both", None) in seen
    assert both.search("w3 w4 added1", k=1).ids == ["a1"]
    assert both.search("w3 w4 added1", k=1).reencoding is None
    with pytest.raises(MismatchError, match="built with encoder 'new'"):
        old.search("w1 w2")
    with pytest.raises(MismatchError, match="built with encoder 'new'"):
        old.add(["w1 w2"])
    both.add(["w40 w41 w42"], ids=["last"])
    assert kb.search("w40 w41 w42", k=1).ids == ["last"]


def test_two_at_once_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ClientTransport(":memory:", "kb", ServerOptions())._connected
    monkeypatch.setattr(ClientTransport, "_connect", lambda self: client)
    monkeypatch.setattr(client, "close", lambda: None)
    options: dict[str, Any] = {"url": ":memory:", "name": "kb"}
    kb = QdrantCollection.create(**options, encoder=Model("old", 16))
    kb.add(texts_of(160))
    other = QdrantCollection.open(**options, encoder=Model("old", 16))
    new = Model("new", 24)
    started(kb, new, 40)

    def meanwhile() -> None:
        new.between = None
        other.reencode(Model("new", 24), batch_size=40)

    new.between = meanwhile
    with pytest.raises((CollectionLockedError, ParameterError), match=r"another process|somebody else"):
        kb.reencode(new, batch_size=40)
    assert other.info().encoder == "new"


def test_cancelled_by_somebody_else(place: Place) -> None:
    create, _ = place
    kb = filled(create, Model("old", 16), 100)
    new = Model("new", 24)
    started(kb, new, 40)
    new.between = kb.cancel_reencode
    with pytest.raises(ParameterError, match="cancelled"):
        kb.reencode(new, batch_size=40)
    assert kb.info().reencoding is None
    assert kb.search("w1", k=3).reencoding is None


@pytest.mark.parametrize("stop", ["drop", "fill", "room"])
def test_whatever_ends_it_it_can_be_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    with QdrantCollection.create(path=tmp_path / "q", encoder=Model("old", 16)) as kb:
        kb.add(texts_of(60))
        method = {"drop": "drop_space", "fill": "fill", "room": "_reload"}[stop]

        def stopped(*arguments: Any, **options: Any) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(EdgeTransport, method, stopped)
            with pytest.raises(KeyboardInterrupt):
                kb.reencode(Model("new", 24), batch_size=20)
    with open_collection(tmp_path / "q", Model("new", 24), previous=Model("old", 16)) as kb:
        assert len(kb.search("w1 w2", k=5)) == 5
        kb.reencode(Model("new", 24), batch_size=20)
        assert len(kb.search("w1 w2", k=5)) == 5
        config = (tmp_path / "q" / "edge_config.json").read_text()
        assert '"dense"' not in config
        assert '"scalar"' in config


@pytest.mark.parametrize("following", [{"space": "one"}, [], "x", {"space": 1, "dim": -1}])
def test_a_description_that_says_nonsense_of_a_change_is_refused(tmp_path: Path, following: Any) -> None:
    with QdrantCollection.create(path=tmp_path / "q", encoder=Model("old", 16)) as kb:
        kb.add(texts_of(60))
        started(kb, Model("new", 24), 40)
        kb._transport.upsert([with_next(kb, following)])
    with pytest.raises(CorruptCollectionError, match="does not say how far"):
        QdrantCollection.open(path=tmp_path / "q", encoder=Model("old", 16))


def with_next(kb: QdrantCollection, following: Any) -> Any:
    """Return the description with a part replaced, under a checksum that is right."""
    (point,) = kb._transport.retrieve([MANIFEST], True)
    values = json.loads(point.payload["octavo"])
    values["next"] = values["next"] | following if isinstance(following, dict) else following
    text = json.dumps(values, sort_keys=True)
    return Point(MANIFEST, {"octavo": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})


# ---------------------------------------------------------------------- many vectors a document


def late(path: Path, model: Tokens, n: int = 120) -> QdrantMultiVectorCollection:
    kb = QdrantMultiVectorCollection.create(path=path, encoder=model, pool_factor=1)
    kb.add([*texts_of(n), ""], ids=[str(i) for i in range(n + 1)])
    return kb


def test_token_vectors(tmp_path: Path) -> None:
    kb = late(tmp_path / "q", Tokens("old", 16))
    new = Tokens("new", 24)
    seen: list[Any] = []

    def meanwhile() -> None:
        if len(seen) < 4:
            seen.append(kb.search("w1 w2", k=5).reencoding)
            kb.add([f"w3 w4 added{len(seen)}"], ids=[f"a{len(seen)}"])

    new.between = meanwhile
    kb.reencode(octavo.TokenEncoder(new), batch_size=40)
    assert "both" in seen
    assert (kb.dim, len(kb), kb.info().encoder) == (24, 124, "new")
    assert kb.search("w3 w4 added1", k=1).ids == ["a1"]
    kb.close()
    with open_collection(tmp_path / "q", Tokens("new", 24)) as again:
        assert again.late is not None
        texts = texts_of(120)
        assert again.search(texts[7], k=1).ids == ["7"]
        with octavo.open_multi_vector(None, Tokens("new", 24), pool_factor=1, codec="float32") as direct:
            direct.add([*again.documents()])
            one, other = again.search(texts[9], k=5, exact=True), direct.search(texts[9], k=5, exact=True)
            assert np.allclose(one.scores, other.scores, atol=0.05)
        assert [matrix.shape for matrix in again.get_token_vectors(["0", "120"])] == [(7, 24), (0, 24)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kinds", [(Model, Tokens), (Tokens, Model)])
def test_from_one_kind_to_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[Any, Any]) -> None:
    monkeypatch.setattr(reencoding_module, "_CENTRED_ON", 30)
    first, second = kinds
    was_late = first is Tokens
    with open_or_create(f"qdrant:{tmp_path / 'q'}", first("old", 16), late=was_late) as kb:
        kb.add(texts_of(120), ids=[str(i) for i in range(120)])
        new = second("new", 24)
        seen: list[Any] = []
        new.between = lambda: seen.append(kb.search("w1 w2", k=5).reencoding)
        kb.reencode(as_encoder(new) if was_late else octavo.TokenEncoder(new), batch_size=30)
        assert "both" in seen
        assert kb.closed
    with open_collection(tmp_path / "q", second("new", 24)) as again:
        assert (again.late is not None) != was_late
        assert len(again) == 120
        assert again.search(texts_of(120)[5], k=1).ids == ["5"]
