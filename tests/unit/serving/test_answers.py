"""What the page is told, over HTTP as it asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.serving import PageServer
from serving_client import EVIL, TEXTS, Client, half_reencoded, mean_of_words, other_words


def test_about(client: Client) -> None:
    about = client.get("about")
    assert (about["documents"], about["codec"], about["late"]) == (6, "int8", False)
    assert about["modes"] == ["hybrid", "dense", "text"]
    kinds = {field["name"]: field for field in about["fields"]}
    assert kinds["kind"]["values"][0] == ["fruit", 2]
    assert (kinds["year"]["least"], kinds["year"]["greatest"]) == (2020, 2022)
    assert kinds["by.name"]["values"] == [["Ada", 1]]


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_search_is_the_collections_own(client: Client, kb: octavo.Collection, mode: Any) -> None:
    found = client.get("search", q="ripe apple", mode=mode, k=4)
    expected = kb.search("ripe apple", 4, mode=mode)
    assert [hit["id"] for hit in found["hits"]] == expected.ids
    assert np.allclose([hit["score"] for hit in found["hits"]], expected.scores, atol=1e-5)
    for by, ranking in found["rankings"].items():
        full = kb.search("ripe apple", 100, mode=by)
        for hit, score, rank in zip(found["hits"], ranking["scores"], ranking["ranks"], strict=True):
            if hit["id"] in full.ids:
                assert rank == full.ids.index(hit["id"]) + 1
                assert score == pytest.approx(float(full.scores[rank - 1]), abs=1e-5)
            else:
                assert (score, rank) == (None, None)


def test_scores_beyond_the_depth_of_a_ranking() -> None:
    with octavo.open(encoder=lambda texts: [[float(len(text)), 1.0] for text in texts]) as kb:
        kb.add([f"word{n} " + "x" * n for n in range(150)], ids=[str(n) for n in range(150)])
        with PageServer(kb, port=0) as server:
            found = Client(server).get("search", q="word140", mode="text", k=1)
    assert found["rankings"]["dense"]["scores"][0] is not None
    assert found["rankings"]["dense"]["ranks"] == [None]


def test_filters(client: Client) -> None:
    def ids(where: Any) -> set[str]:
        found = client.get("search", q="ripe apple", mode="dense", k=10, filter=json.dumps(where))
        assert found["matching"] == len(found["hits"])
        return {hit["id"] for hit in found["hits"]}

    assert ids({"kind": {"$in": ["fruit"]}}) == {"apple", "pear"}
    assert ids({"$and": [{"year": {"$gte": 2021}}, {"open": {"$in": [False]}}]}) == {"running"}
    assert ids({"day": {"$lte": "2024-05-01"}}) == {"apple"}
    assert ids({"tags": {"$in": ["green"]}}) == {"pear"}
    assert ids({"kind": {"$in": ["nothing"]}}) == set()


def test_words_are_marked_as_the_index_compares_them(client: Client) -> None:
    found = client.get("search", q="running CAFE\u0301", mode="text", k=2)
    marked = {text for hit in found["hits"] for text, marked in hit["snippet"] if marked}
    assert marked == {"run", "café"}
    document = client.get("document", id="pear", q="ripe")
    assert "".join(text for text, _ in document["pieces"]) == TEXTS["pear"]
    assert [text for text, marked in document["pieces"] if marked] == ["ripe"]


def test_neighbours(client: Client, kb: octavo.Collection) -> None:
    found = client.get("neighbours", id="apple")
    assert [hit["id"] for hit in found["hits"]] == [id for id in kb.search(TEXTS["apple"], 6).ids if id != "apple"]


def test_the_map(client: Client, kb: octavo.Collection) -> None:
    assert client.get("search", q="apple", mode="text")["places"] is None  # before there is a map
    found = client.get("map")
    assert {point["id"] for point in found["points"]} == set(TEXTS)
    assert found["fields"] == ["kind", "year", "open"]
    vectors = kb.get_vectors([point["id"] for point in found["points"]])
    centred = vectors - vectors.mean(axis=0)
    places = np.array([point["at"] for point in found["points"]])
    # no two orthogonal directions show more: the squared lengths are those of the two largest singular values
    assert np.allclose((places**2).sum(axis=0), np.linalg.svd(centred, compute_uv=False)[:2] ** 2, rtol=1e-3)
    hits = client.get("search", q="apple", mode="dense", k=2)
    at = {point["id"]: point["at"] for point in found["points"]}
    assert np.allclose(hits["places"], [at[hit["id"]] for hit in hits["hits"]], atol=1e-3)
    kb.add(["one more"], ids=["more"])
    assert len(client.get("map")["points"]) == 7


def test_a_map_of_many_is_a_sample() -> None:
    with octavo.open() as kb:
        kb.add([""] * 3_000, vectors=np.random.default_rng(0).standard_normal((3_000, 4)))
        with PageServer(kb, port=0) as server:
            found = Client(server).get("map")
    assert (len(found["points"]), found["documents"]) == (2_000, 3_000)


def test_late_interaction(late_client: Client) -> None:
    assert late_client.get("about")["late"]
    why = late_client.get("explain", id="apple", q="ripe apple")
    assert np.shape(why["similarities"]) == (2, len(why["document_tokens"]))
    assert np.argmax(why["similarities"], axis=1).tolist() == [4, 2]
    found = late_client.get("search", q="ripe apple", mode="hybrid", k=3)
    assert found["rankings"]["dense"]["scores"][0] == pytest.approx(2, abs=0.05)
    assert late_client.get("neighbours", id="apple")["hits"]
    assert len(late_client.get("map")["points"]) == 6


def test_without_a_model() -> None:
    with octavo.open() as kb:
        kb.add(["red apple", "green pear"], ids=["a", "p"], vectors=[[1, 0], [0, 1]])
        with PageServer(kb, port=0) as server:
            client = Client(server)
            assert client.get("about")["modes"] == ["text"]
            assert [hit["id"] for hit in client.get("search", q="pear", k=5)["hits"]] == ["p"]
            assert client.get("neighbours", id="a")["hits"][0]["id"] == "p"
            assert "mode" in client.ask("search", q="pear", mode="dense")[1]["error"]


def test_words_alone() -> None:
    with octavo.open() as kb:
        kb.add(["red apple", "green pear"], ids=["a", "p"])
        with PageServer(kb, port=0) as server:
            client = Client(server)
            assert client.get("search", q="pear")["hits"][0]["id"] == "p"
            for route in ("map", "neighbours"):
                status, found = client.ask(route, id="a")
                assert (status, "no vectors" in found["error"]) == (400, True)


def test_an_empty_collection() -> None:
    with octavo.open(encoder=lambda texts: [[1.0, 0.0]] * len(texts)) as kb, PageServer(kb, port=0) as server:
        client = Client(server)
        assert client.get("about")["documents"] == 0
        assert client.get("search", q="anything")["hits"] == []
        assert client.ask("map")[0] == 400


def test_qdrant(tmp_path: Any) -> None:
    from octavo.integrations.qdrant import QdrantCollection
    from serving_client import fill, mean_of_words

    kb = QdrantCollection.create(path=tmp_path / "kb", encoder=mean_of_words)
    fill(kb)
    with PageServer(kb, port=0) as server:
        client = Client(server)
        assert client.get("about")["documents"] == 6
        assert client.get("search", q="ripe apple", mode="hybrid", k=2)["hits"][0]["id"] == "apple"
        assert len(client.get("map")["points"]) == 6
        assert client.get("neighbours", id="apple")["hits"]
    kb.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"q": ""}, "a question"),
        ({"q": "x" * 4_001}, "4,001"),
        ({"q": "x", "k": "0"}, "from 1 to 100"),
        ({"q": "x", "k": "101"}, "from 1 to 100"),
        ({"q": "x", "k": "9" * 5_000}, "from 1 to 100"),
        ({"q": "x", "k": "²"}, "from 1 to 100"),
        ({"q": "x", "mode": "magic"}, "mode"),
        ({"q": "x", "filter": "{"}, "JSON object"),
        ({"q": "x", "filter": "[]"}, "JSON object"),
        ({"q": "x", "filter": "[" * 9_000}, "JSON object"),
        ({"q": "x", "filter": '{"a": {"$where": "1"}}'}, "where"),
        ({"q": "x", "filter": json.dumps({"a": "x" * 20_000})}, "at most 10,000"),
    ],
)
def test_what_cannot_be_used(client: Client, given: dict[str, str], message: str) -> None:
    status, found = client.ask("search", **given)
    assert status == 400
    assert message in found["error"]


def test_a_document_that_is_not_there(client: Client) -> None:
    for route in ("document", "neighbours"):
        status, found = client.ask(route, id="../../etc/passwd")
        assert (status, "not" in found["error"] or "expected" in found["error"]) == (404, True)
    assert client.ask("document", id="")[0] == 400
    assert client.ask("explain", id="apple", q="x")[0] == 400  # not for late interaction


def test_texts_of_others_travel_as_json(client: Client) -> None:
    status, headers, content = client.raw("GET", "/api/document?id=evil", client.headers())
    assert (status, headers["content-type"]) == (200, "application/json")
    found = json.loads(content)
    assert "".join(text for text, _ in found["pieces"]) == TEXTS["evil"]
    assert [EVIL, EVIL] in found["metadata"]


def test_a_huge_document_is_cut(client: Client, kb: octavo.Collection) -> None:
    kb.add(["long " * 100_000], ids=["long"])
    found = client.get("document", id="long", q="long")
    assert (found["cut"], found["characters"]) == (True, 500_000)
    assert sum(len(text) for text, _ in found["pieces"]) == 200_000


def test_while_the_model_is_being_changed(tmp_path: Path) -> None:
    half_reencoded(tmp_path / "kb").close()
    with (
        octavo.open(tmp_path / "kb", other_words, previous=mean_of_words) as kb,
        PageServer(kb, port=0) as server,
    ):
        client = Client(server)
        assert "100 of 160 documents (62%)" in client.get("about")["reencoding"]
        for mode in ("dense", "hybrid"):
            found = client.get("search", q="apple w30 w15", mode=mode, k=3)
            assert found["hits"][0]["id"] == "30"
            assert found["answered_by"] == "both models have answered"
        assert client.get("search", q="w30", mode="text", k=3)["answered_by"] is None
        kb_of_new = octavo.open(tmp_path / "kb", other_words)
        kb_of_new.reencode(other_words)
        kb_of_new.close()
        found = client.get("search", q="apple w30 w15", mode="dense", k=3)
        assert (found["hits"][0]["id"], found["answered_by"]) == ("30", None)
    half_reencoded(tmp_path / "alone").close()
    with octavo.open(tmp_path / "alone", other_words) as kb, PageServer(kb, port=0) as server:
        found = Client(server).get("search", q="apple w130 w65", mode="dense", k=3)
        assert "130" in [hit["id"] for hit in found["hits"]]
        assert found["answered_by"].startswith("the new model")
