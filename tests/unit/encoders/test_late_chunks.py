"""Late chunking against the obvious: read everything, average what stands in a chunk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavo
from octavo.encoders import late_chunks
from octavo.errors import InputTypeError, InvalidVectorsError, ParameterError

TEXT = (
    "Paris is the capital of France. It has 2.1 million inhabitants.\n\nRome is the capital of Italy. It has 2.8 million "
    "inhabitants, and older walls."
)
CHUNKS = ["Paris is the capital of France.", "It has 2.1 million inhabitants.", "Rome is the capital of Italy."]


def words(texts: list[str]) -> list[Any]:
    """A model whose tokens are words that know the words around them: their lengths, and how far they are."""
    answers = []
    for text in texts:
        spans, at = [], 0
        for word in text.split():
            at = text.index(word, at)
            spans.append((at, at + len(word)))
            at += len(word)
        rows = np.array(
            [[len(text[a:b]), sum((b2 - a2) / (1 + abs(a - a2)) for a2, b2 in spans), 1.0] for a, b in spans]
        ).reshape(-1, 3)
        answers.append((rows, spans))
    return answers


def oracle(text: str, spans: list[tuple[int, int]]) -> np.ndarray:
    [(rows, places)] = words([text])
    found = []
    for begin, end in spans:
        inside = [row for row, (a, b) in zip(rows, places, strict=True) if a < end and b > begin]
        found.append(np.mean(inside, axis=0))
    return np.array(found, np.float32)


@given(st.lists(st.sampled_from(["one", "three", "x", "seventeen"]), min_size=1, max_size=12), st.data())
def test_the_average_of_what_stands_in_a_chunk(listed: list[str], data: st.DataObject) -> None:
    text = " ".join(listed)
    begins = sorted(data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=4)))
    spans = [(begin, data.draw(st.integers(begin + 1, len(text)))) for begin in begins]
    spans = [(a, b) for a, b in spans if text[a:b].strip()]
    found = late_chunks(words, text, spans)
    assert found.dtype == np.float32
    if spans:
        np.testing.assert_allclose(found, oracle(text, spans), rtol=1e-5)


def test_chunks_by_their_texts_are_found_in_order() -> None:
    text = "a b a b"
    expected = oracle(text, [(0, 3), (4, 7)])
    np.testing.assert_allclose(late_chunks(words, text, ["a b", "a b"]), expected, rtol=1e-6)
    np.testing.assert_allclose(late_chunks(words, text, ["a b", (4, 7)]), expected, rtol=1e-6)
    np.testing.assert_allclose(  # they may overlap
        late_chunks(words, text, ["a b a", "b a b"]), oracle(text, [(0, 5), (2, 7)]), rtol=1e-6
    )


def test_a_long_document_is_read_in_windows() -> None:
    """Each token comes once, from the window in which it stands further from the edge."""
    seen: list[str] = []

    def positions(texts: list[str]) -> list[Any]:
        seen.extend(texts)
        return [
            (
                [[float(min(at, len(text) - 1 - at)), 1.0] for at in range(len(text))],
                [(at, at + 1) for at in range(len(text))],
            )
            for text in texts
        ]

    text = "".join(chr(97 + number % 26) for number in range(50))
    found = late_chunks(positions, text, [(at, at + 1) for at in range(50)], window=20, overlap=0.5)
    assert [len(part) for part in seen] == [20] * len(seen)
    assert len(seen) == 4
    distances = found[:, 0]
    assert (distances[5:45] >= 4.5).all()  # never at an edge but at those of the document
    assert (found[:, 1] == 1.0).all()


@pytest.fixture(scope="module")
def transformer(minilm: str) -> Any:
    from octavo.encoders.models import load_sentence_transformer

    return load_sentence_transformer(minilm)


def by_hand(model: Any, text: str, spans: list[tuple[int, int]]) -> np.ndarray:
    """What the library gives of the whole text, averaged and scaled in plain numpy."""
    features = model.tokenizer(text, return_offsets_mapping=True)
    tokens = model.encode([text], output_value="token_embeddings", show_progress_bar=False)[0].cpu().numpy()
    rows = []
    for begin, end in spans:
        inside = [
            row
            for row, (a, b) in zip(tokens, features["offset_mapping"], strict=True)
            if b > a and a < end and b > begin
        ]
        mean = np.mean(inside, axis=0)
        rows.append(mean / np.linalg.norm(mean))
    return np.array(rows)


def test_a_real_model(transformer: Any) -> None:
    found = late_chunks(transformer, TEXT, CHUNKS)
    spans = [(TEXT.index(chunk), TEXT.index(chunk) + len(chunk)) for chunk in CHUNKS]
    np.testing.assert_allclose(found, by_hand(transformer, TEXT, spans), atol=1e-5)
    alone = transformer.encode(CHUNKS, show_progress_bar=False)
    query = transformer.encode(["How many people live in Paris?"], show_progress_bar=False)[0]
    assert found[1] @ query > alone[1] @ query + 0.1  # "it" is Paris now


def test_a_real_model_reads_windows(transformer: Any) -> None:
    text = " ".join(f"{TEXT} Part {number}." for number in range(30))
    chunks = [f"Part {number}." for number in range(30)]
    found = late_chunks(transformer, text, chunks)
    assert found.shape == (30, 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    small = late_chunks(transformer, TEXT, CHUNKS, window=24)
    whole = late_chunks(transformer, TEXT, CHUNKS)
    assert ((small * whole).sum(axis=1) > 0.6).all()
    assert not np.allclose(small, whole)
    with pytest.raises(ParameterError, match="at most 254 tokens"):
        late_chunks(transformer, TEXT, CHUNKS, window=255)


def test_prompts_are_read_and_not_averaged(transformer: Any) -> None:
    class Prompted:
        """A model that wants to know what it reads."""

        def __init__(self) -> None:
            self.prompts = {"document": "passage: "}

        def __getattr__(self, name: str) -> Any:
            return getattr(transformer, name)

        def __getitem__(self, number: int) -> Any:
            return transformer[number]

        def __iter__(self) -> Any:
            return iter(transformer)

    found = late_chunks(Prompted(), TEXT, CHUNKS)
    shifted = [(TEXT.index(chunk) + 9, TEXT.index(chunk) + 9 + len(chunk)) for chunk in CHUNKS]
    np.testing.assert_allclose(found, by_hand(transformer, "passage: " + TEXT, shifted), atol=1e-5)


def test_into_a_collection(transformer: Any) -> None:
    with octavo.open(encoder=transformer) as kb:
        kb.add(CHUNKS, vectors=late_chunks(transformer, TEXT, CHUNKS))
        assert kb.search("How many people live in Paris?", 1)[0].text == CHUNKS[1]


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (["Rome is the capital of Italy.", "Paris is"], "expected chunk 1 as a piece of the text, in the order"),
        (["Berlin"], "'Berlin' is not found there"),
        ([""], "expected chunk 0"),
        ([(5, 5)], "within the text"),
        ([(0, 10_000)], "within the text"),
        (["\n\n"], "has no token"),
    ],
)
def test_chunks_that_cannot_be(chunks: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        late_chunks(words, TEXT, chunks)


def test_what_is_refused(transformer: Any) -> None:
    assert late_chunks(words, TEXT, []).shape == (0, 0)
    with pytest.raises(ParameterError, match="no token"):
        late_chunks(words, "  ", [(0, 1)])
    for model in ("all-MiniLM-L6-v2", dict, 5):
        with pytest.raises(InputTypeError, match="expected a"):
            late_chunks(model, TEXT, CHUNKS)
    with pytest.raises(InputTypeError, match="expected chunks as a list"):
        late_chunks(words, TEXT, "Paris")
    with pytest.raises(InputTypeError, match="expected the document as a str"):
        late_chunks(words, [TEXT], CHUNKS)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="overlap"):
        late_chunks(words, TEXT, CHUNKS, overlap=0.9)
    for answer in ([[1.0]], [([[1.0]], [(0, 1), (1, 2)])], []):
        with pytest.raises(InvalidVectorsError, match="expected"):
            late_chunks(lambda texts, answer=answer: answer, "a", ["a"])

    class First:
        """Takes the first token's vector."""

        max_seq_length, tokenizer = 10, transformer.tokenizer

        def encode(self) -> None: ...

        def __iter__(self) -> Any:
            kind = type("Pooling", (), {"pooling_mode": "cls"})
            return iter([object(), kind()])

    with pytest.raises(ParameterError, match="averages its token vectors"):
        late_chunks(First(), TEXT, CHUNKS)
