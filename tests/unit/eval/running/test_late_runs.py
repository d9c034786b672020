"""Late interaction in `octavo.eval`: token vectors cached, measured through a real collection, explained."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from octavo.errors import ParameterError
from octavo.eval import Configuration, Dataset, Timing, expand_sweep, load_results, run
from octavo.eval.analysis.pareto import pareto
from octavo.eval.analysis.recipe import recipe
from octavo.eval.cli import app
from octavo.eval.report import find_explanation, report
from octavo.eval.running._maxsim import rank_by_maxsim
from octavo.eval.running.encodings import TokenCache
from octavo.eval.running.models import load_model

DIM = 16


class WordTokens:
    """A vector for each word, turned a little by the word before; counts what it is asked for and names its tokens."""

    name = "words"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.texts += texts
        return [self._matrix(text.lower().split()[:60]) for text in texts]

    def _matrix(self, words: list[str]) -> np.ndarray:
        rows = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM) for word in words]
        turned = [row + 0.2 * rows[number - 1] for number, row in enumerate(rows)]
        return np.array(turned, np.float32).reshape(-1, DIM)

    encode_documents = _encode
    encode_queries = _encode

    def document_tokens(self, text: str) -> list[str]:
        return text.lower().split()[:60]

    query_tokens = document_tokens


@pytest.fixture
def words() -> WordTokens:
    return WordTokens()


def cache_of(root: Path | None, model: WordTokens) -> TokenCache:
    return TokenCache(root, load_model(model, tokens=True))


# ---------------------------------------------------------------------- the reference


def test_maxsim_equals_two_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.eval.running._maxsim._BLOCK_VALUES", 60)  # several blocks, some of one document
    rng = np.random.default_rng(3)
    documents = [rng.normal(size=(n, 5)).astype(np.float32) for n in (3, 0, 9, 1, 4, 0, 7)]
    queries = [rng.normal(size=(n, 5)).astype(np.float32) for n in (2, 6, 1)]

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    rows, scores = rank_by_maxsim(documents, queries, 4)
    for query, found, values in zip(queries, rows, scores, strict=True):
        slow = {n: sum(max(cosine(q, d) for d in m) for q in query) for n, m in enumerate(documents) if len(m)}
        best = sorted(slow, key=lambda n: -slow[n])[:4]
        assert found.tolist() == best
        assert np.allclose(values, [slow[n] for n in best], atol=1e-5)
    with pytest.raises(ParameterError, match="query 1"):
        rank_by_maxsim(documents, [queries[0], documents[1]], 2)


# ---------------------------------------------------------------------- the cache


def test_tokens_are_encoded_once(tmp_path: Path, words: WordTokens) -> None:
    texts = ["red green blue", "", "red", "red green blue"]
    first = cache_of(tmp_path, words)
    seen = len(words.texts)
    found = first.embed_tokens(texts, "documents")
    assert [len(one) for one in found] == [3, 0, 1, 3]
    assert len(words.texts) == seen + 3  # equal texts once
    again = cache_of(tmp_path, words)
    seen = len(words.texts)
    cached = again.embed_tokens(texts, "documents")
    assert len(words.texts) == seen
    assert again.encoded == 0
    for one, other, text in zip(found, cached, texts, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one, words._matrix(text.split()))
    assert again.embed_tokens(["red"], "queries")[0].shape == (1, DIM)
    assert len(words.texts) == seen + 1  # queries may be encoded in another way


@pytest.mark.parametrize("suffix", [".npy", ".lengths.npy", ".keys.npy", ".json"])
def test_damaged_tokens_are_encoded_again(tmp_path: Path, words: WordTokens, suffix: str) -> None:
    cache_of(tmp_path, words).embed_tokens(["red green", "blue"], "documents")
    [manifest] = (tmp_path / "tokens").glob("*/documents/*.json")
    victim = Path(f"{manifest.with_suffix('')}{suffix}")
    data = bytearray(victim.read_bytes())
    data[-2] ^= 1
    victim.write_bytes(data)
    again = cache_of(tmp_path, words)
    found = again.embed_tokens(["red green", "blue"], "documents")
    assert again.encoded == 2
    assert np.array_equal(found[0], words._matrix(["red", "green"]))


def test_lengths_that_do_not_fit_are_refused(tmp_path: Path, words: WordTokens) -> None:
    """Checksums that match are not enough: the lengths have to cut the matrix."""
    cache = cache_of(tmp_path, words)
    encoded = words._encode(["red green", "blue"])
    arrays = cache._arrays(encoded) | {".lengths.npy": np.array([2, 2], np.int64)}
    cache._store("documents", [b"a" * 16, b"b" * 16], arrays)
    assert cache._shards("documents") == []
    assert not list((tmp_path / "tokens").glob("*/documents/*"))


def test_an_encoder_that_changes_its_mind_is_not_cached(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cache = TokenCache(
        tmp_path, load_model(lambda texts: [rng.normal(size=(3, 4)).astype(np.float32) for _ in texts], tokens=True)
    )
    cache.embed_tokens(["red"], "documents")
    assert not list(tmp_path.rglob("*.npy"))


# ---------------------------------------------------------------------- runs


def test_a_run_measures_codec_pooling_and_candidates_apart(
    tiny: Dataset, words: WordTokens, quick: Timing, tmp_path: Path
) -> None:
    wanted = expand_sweep({"codec": ["float32", "int8"], "mode": "late", "pool_factor": [1, 3]})
    wanted += expand_sweep({"codec": "int8", "mode": "late", "n_candidates": 10, "exact": False, "pool_factor": 1})
    results = run(tiny, words, wanted, measures=["nDCG@10"], timing=quick, out=tmp_path)
    exact, pooled, small, small_pooled, few = results
    assert all(check.ok for result in results for check in result.checks)
    assert exact.agreement.float32 == 1.0
    assert small.agreement.codes_float32 is not None
    assert small.agreement.codes_float32 > 0.9
    assert pooled.agreement.codes_float32 < 1
    assert few.agreement.same_codes is not None
    assert few.agreement.same_codes < 1  # ten candidates are not the ten best
    # Bytes are measured: four texts' words of five, 16 values each, and less when pooled or of a byte.
    assert exact.storage.disk["tokens"] > 3 * small.storage.disk["tokens"]
    assert exact.storage.vector_bytes_per_document > 1.5 * pooled.storage.vector_bytes_per_document
    assert small.storage.index_bytes_per_document * 40 >= small.storage.disk["tokens"]
    assert small_pooled.label == "int8, late, pool_factor 3"
    assert len(load_results(tmp_path)) == len(results)


def test_exact_scores_are_those_of_the_reference(
    tiny: Dataset, words: WordTokens, quick: Timing, tmp_path: Path
) -> None:
    configuration = Configuration(codec="float32", mode="late", pool_factor=1)
    [result] = run(tiny, words, configuration, measures=["nDCG@10"], timing=quick, out=tmp_path)
    rows, scores = rank_by_maxsim(words._encode(tiny.texts), words._encode(tiny.queries), 10)
    lines = [line.split() for line in (tmp_path / "memory" / result.runs["10"]).read_text().splitlines()]
    for number, name in enumerate(tiny.query_ids):
        found = [(line[2], float(line[4])) for line in lines if line[0] == name]
        assert {one for one, _ in found} == {tiny.document_ids[row] for row in rows[number]}
        assert np.allclose([score for _, score in found], scores[number], atol=1e-3)


def test_hybrid_fuses_words_with_maxsim(tiny: Dataset, words: WordTokens, quick: Timing) -> None:
    late, text = run(
        tiny,
        words,
        [Configuration(codec="int8", mode="hybrid", pool_factor=2), Configuration(mode="text")],
        measures=["R@10"],
        timing=quick,
    )
    assert "tokens" in late.storage.disk
    assert "full text" in late.storage.disk
    assert late.agreement.codes_float32 is not None
    assert late.agreement.codes_float32 > 0.5
    assert text.agreement.float32 is None


def test_candidates_from_text(tiny: Dataset, words: WordTokens, quick: Timing) -> None:
    configuration = Configuration(codec="int8", mode="late", pool_factor=1, candidates="text", exact=False)
    [result] = run(tiny, words, configuration, measures=["R@10"], timing=quick)
    assert result.quality["R@10"] > 0
    assert "full text" in result.storage.disk


def test_runs_resume_and_share_their_tokens(tiny: Dataset, words: WordTokens, quick: Timing, tmp_path: Path) -> None:
    first = Configuration(codec="int8", mode="late", pool_factor=2)
    notes: list[str] = []
    options = {"measures": ["nDCG@10"], "timing": quick, "out": tmp_path, "note": notes.append}
    [before] = run(tiny, words, first, **options)  # type: ignore[arg-type]
    seen = set(words.texts)
    words.texts.clear()
    [after, other] = run(tiny, words, [first, Configuration(codec="int8", mode="late")], **options)  # type: ignore[arg-type]
    assert after == before
    assert "measured before" in notes[-2]
    assert other.id != before.id
    asked = set(words.texts) - {text for text in seen if text.startswith(("Octavo", "Which", "Sentence"))}
    assert len(asked) <= 2  # the pair that is explained


def test_a_broken_index_is_caught(
    tiny: Dataset, words: WordTokens, quick: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores turned around: the worst documents come first."""
    from octavo.index import maxsim

    real = maxsim.maxsim_search

    def wrong(layout, codes, offsets, queries, k, **options):  # type: ignore[no-untyped-def]
        found, scores = real(layout, codes, offsets, queries, len(offsets) - 1, **options)
        return found[:, ::-1][:, :k].copy(), -scores[:, ::-1][:, :k].copy()

    monkeypatch.setattr("octavo.retrievers.late_interaction.maxsim.maxsim_search", wrong)
    [result] = run(
        tiny, words, Configuration(codec="int8", mode="late", pool_factor=1), measures=["nDCG@10"], timing=quick
    )
    assert [check.name for check in result.checks if not check.ok] == [
        "exact search over the codes finds what float32 finds"
    ]


def test_results_without_the_late_options_are_as_they_were() -> None:
    """Ids are hashes of this: a new option must not make every earlier run one of another configuration."""
    assert set(Configuration(codec="int8").to_dict()) == {
        "codec", "mode", "oversample", "ef", "exact", "alpha", "connectivity", "metric", "layers", "pool_factor", "baseline",
    }  # fmt: skip
    late = Configuration(codec="int8", mode="late", n_candidates=50, candidates="both")
    assert Configuration.from_dict(json.loads(json.dumps(late.to_dict()))) == late


# ---------------------------------------------------------------------- what comes of it


def test_the_match_is_explained_and_drawn(tiny: Dataset, words: WordTokens, quick: Timing, tmp_path: Path) -> None:
    results = run(
        tiny,
        words,
        ["float32", Configuration(codec="int8", mode="late", pool_factor=1)][1:],
        measures=["nDCG@10"],
        timing=quick,
        out=tmp_path,
    )
    path = find_explanation(tmp_path, results)
    assert path is not None
    match = json.loads(path.read_text())
    query = " ".join(match["query_tokens"])
    assert query in tiny.queries
    assert " ".join(match["document_tokens"]) in tiny.texts
    scores = np.array(match["scores"])
    first, second = (words._matrix(match[side]) for side in ("query_tokens", "document_tokens"))
    assert scores.shape == (len(first), len(second))
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (first, second)]
    assert np.allclose(scores, unit[0] @ unit[1].T, atol=0.03)
    pytest.importorskip("matplotlib")
    written = report(tmp_path)
    assert any(name.endswith("late-interaction.png") for name in written.pictures)
    path.unlink()
    assert find_explanation(tmp_path, results) is None


def test_the_recipe_opens_such_a_collection(tiny: Dataset, words: WordTokens, quick: Timing) -> None:
    configuration = Configuration(codec="int8", mode="late", pool_factor=4, n_candidates=30)
    [result] = run(tiny, words, configuration, measures=["nDCG@10"], timing=quick)
    found = recipe(result)
    assert found.shell is None
    lines = found.python.replace("'kb'", "None").splitlines()
    opened = "kb = octavo.open_multi_vector(None, encoder=encoder, codec='int8', pool_factor=4"
    assert any(line.startswith(opened) for line in lines)
    names: dict[str, Any] = {"encoder": words}
    exec("\n".join(lines[:-1]), names)  # what a user pastes
    names["kb"].add(tiny.texts, ids=tiny.document_ids)
    assert lines[-1] == "kb.search('your question', k=10, n_candidates=30)"
    exec(lines[-1].replace("your question", tiny.queries[0]), names)
    names["kb"].close()
    assert pareto([result], documents=4000, budget="1GB").recommended.label == result.label


def test_from_the_command_line(beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late_words.py").write_text(
        "import zlib\nimport numpy as np\n"
        "def tokens(texts):\n"
        "    row = lambda word: np.random.default_rng(zlib.crc32(word.encode())).normal(size=8)\n"
        "    return [np.array([row(word) for word in text.split()[:60]], np.float32) for text in texts]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    flags = [
        "run",
        "-d",
        str(beir),
        "--model",
        "late_words:tokens",
        "--mode",
        "late",
        "--no-report",
        "-o",
        str(tmp_path / "out"),
    ]
    flags += [
        "--pool-factor",
        "1",
        "--pool-factor",
        "2",
        "--timed-queries",
        "1",
        "--repeats",
        "1",
        "--json",
        "-m",
        "RR@10",
    ]
    found = CliRunner().invoke(app, flags)
    assert found.exit_code == 0, found.output
    labels = [one["label"] for one in json.loads(found.stdout)["results"]]
    assert labels == ["int8, late, pool_factor 1", "int8, late, pool_factor 2"]
