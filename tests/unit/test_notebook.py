"""What an interpreter and a notebook show of our objects: short, and with every text of other people escaped."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavo
from octavo._printing import short
from octavo.eval import Dataset, ReadyVectors, run
from octavo.integrations.qdrant import QdrantCollection

EVIL = "<script>alert('x')</script>\x1b[31m \u202e &amp;"


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[Any] = []
        self.data = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.data += data


def only_a_table(html: str) -> _Tags:
    html.encode()  # a notebook's file is UTF-8
    seen = _Tags(html)
    assert seen.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert seen.attributes == []
    return seen


@pytest.fixture
def kb() -> Any:
    with octavo.open() as kb:
        kb.add(
            [f"{EVIL} {'many words ' * 300}"] * 40,
            ids=[f"{n}-<b>-{'long' * 40}" for n in range(40)],
            metadata=[{"<i>": EVIL, "pages": list(range(500))}] * 40,
            vectors=np.eye(40),
        )
        yield kb


def test_a_result_is_short(kb: Any) -> None:
    result = kb.search(np.ones(40), k=5)
    shown = repr(result)
    assert len(shown) < 600
    assert all(f"{hit.score:.4f}" in shown for hit in result)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert len(repr(kb.search(np.ones(40), k=40))) < 1_200
    assert "30 more" in repr(kb.search(np.ones(40), k=40))
    assert len(repr(result[0])) < 300
    assert len(repr(result[0].document)) < 450


def test_a_result_as_a_table(kb: Any) -> None:
    result = kb.search(np.ones(40), k=3)
    seen = only_a_table(result._repr_html_())
    assert "3 documents" in seen.data
    assert "alert('x')" in seen.data  # shown, not obeyed
    assert result.ids[0][:100] in seen.data
    only_a_table(result[0].document._repr_html_())


def test_nothing_found() -> None:
    with octavo.open() as kb:
        found = kb.search("anything", mode="text")
        assert repr(found) == "<octavo.SearchResult: no documents>"
        only_a_table(found._repr_html_())


def test_a_collection(kb: Any) -> None:
    seen = only_a_table(kb._repr_html_())
    assert "int8" in seen.data
    kb.close()
    assert "closed" in only_a_table(kb._repr_html_()).data


def test_late_interaction() -> None:
    with octavo.open_multi_vector(pool_factor=1) as kb:
        kb.add([EVIL], ids=["<b>"], token_vectors=[[[1.0, 0.0], [0.0, 1.0]]])
        only_a_table(kb._repr_html_())
        why = kb.explain([[0.0, 1.0]], "<b>")
        assert len(repr(why)) < 200
        assert "vector 1" in only_a_table(why._repr_html_()).data


def test_qdrant(tmp_path: Any) -> None:
    kb = QdrantCollection.create(path=tmp_path / "<b>")
    kb.add([EVIL], vectors=[[1.0, 0.0]])
    assert "<b>" in only_a_table(kb._repr_html_()).data
    kb.close()
    only_a_table(kb._repr_html_())


def test_evaluation() -> None:
    n = 200
    data = Dataset(
        name="<b>",
        document_ids=[str(i) for i in range(n)],
        texts=[EVIL] * n,
        query_ids=[f"q{i}" for i in range(n)],
        queries=[EVIL] * n,
        qrels={f"q{i}": {str(i): 1} for i in range(n)},
    )
    vectors = ReadyVectors(np.eye(n), np.eye(n))
    [result] = run(data, None, "int8", vectors=vectors, measures=["RR@10"])
    for each in (data, vectors, result):
        assert len(repr(each)) < 300
    assert "RR@10 1.0000" in repr(result)
    assert "RR@10" in only_a_table(result._repr_html_()).data


@given(st.recursive(st.text() | st.integers() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_short_is_short(value: Any) -> None:
    for most in (10, 60):
        assert len(short(value, most)) <= most
    if len(repr(value)) <= 60 and not isinstance(value, list):
        assert short(value) == repr(value) or "..." in short(value)  # deeper than six levels
