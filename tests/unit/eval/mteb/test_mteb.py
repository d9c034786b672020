"""mteb measures through a collection: same numbers as ours, own place in its cache, broken indexes caught."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():  # what its dependencies say while they are imported is not ours to mend
    warnings.simplefilter("ignore")
    mteb = pytest.importorskip("mteb", reason="needs mteb")
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.cache import ResultCache
    from mteb.models import IndexEncoderSearchProtocol, SearchEncoderWrapper, SearchProtocol
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    from octavo.eval.mteb import IndexConfiguration, OctavoIndex, OctavoSearch

import ir_measures
from ir_measures import RR, R, nDCG

import octavo
from octavo.errors import InputTypeError, ParameterError
from octavo.eval.mteb import _index as _mteb_index
from octavo.eval.mteb import _tokens as _mteb_tokens

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

DOCUMENTS, QUERIES, DIM = 240, 24, 32
_METADATA: dict[str, Any] = {
    "description": "Documents made up.",
    "dataset": {"path": "NA", "revision": "NA"},
    "type": "Retrieval",
    "category": "t2t",
    "eval_splits": ["test"],
    "eval_langs": ["eng-Latn"],
    "main_score": "ndcg_at_10",
    "modalities": ["text"],
}


def _word_vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(400, DIM)).astype(np.float32)


def _texts(n: int, length: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"word{w}" for w in rng.integers(0, 400, length)) for _ in range(n)]


def _corpus() -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    documents = {f"d{i:03d}": text for i, text in enumerate(_texts(DOCUMENTS, 14, 1))}
    rng = np.random.default_rng(2)
    queries, judgements = {}, {}
    for number in range(QUERIES):
        wanted = rng.choice(DOCUMENTS, 3, replace=False)
        words = [word for i in wanted[:2] for word in rng.choice(documents[f"d{i:03d}"].split(), 6)]
        queries[f"q{number:02d}"] = " ".join(words)
        judgements[f"q{number:02d}"] = {f"d{i:03d}": int(grade) for i, grade in zip(wanted, (2, 1, 1), strict=True)}
    return documents, queries, judgements


class Task(AbsTaskRetrieval):  # type: ignore[misc]
    """A retrieval task that is made up on the spot."""

    metadata = TaskMetadata(name="OctavoLocalTask", **_METADATA)
    ranked: dict[str, list[str]] | None = None

    def load_data(self, *args: object, **options: object) -> None:
        documents, queries, judgements = _corpus()
        split = {
            "corpus": Dataset.from_list([{"id": k, "title": "", "text": v} for k, v in documents.items()]),
            "queries": Dataset.from_list([{"id": k, "text": v} for k, v in queries.items()]),
            "relevant_docs": judgements,
            "top_ranked": self.ranked,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


class Reranking(Task):
    """The same with candidates for each query."""

    metadata = TaskMetadata(name="OctavoLocalReranking", **_METADATA | {"type": "Reranking"})

    def load_data(self, *args: object, **options: object) -> None:
        rng = np.random.default_rng(5)
        self.ranked = {
            query: [f"d{i:03d}" for i in rng.choice(DOCUMENTS, 30, replace=False)] + [next(iter(judged))]
            for query, judged in _corpus()[2].items()
        }
        self.ranked = {query: list(dict.fromkeys(names)) for query, names in self.ranked.items()}
        super().load_data()


class Encoder:
    """Mean of word vectors, as an mteb encoder."""

    def __init__(self, similarity: Any = ScoringFunction.COSINE) -> None:
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={"name": "test/words", "revision": "1", "similarity_fn_name": similarity}
        )
        self.calls = 0

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        words = _word_vectors()
        return np.array([words[[int(word[4:]) for word in text.split()]].mean(0) for text in texts], np.float32)

    def encode(self, inputs: Any, **options: Any) -> np.ndarray:
        self.calls += 1
        return np.concatenate([self.encode_texts(batch["text"]) for batch in inputs])

    def similarity(self, first: Any, second: Any) -> Any:
        import torch

        a, b = torch.as_tensor(first), torch.as_tensor(second)
        return torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(b, dim=-1).T

    def similarity_pairwise(self, first: Any, second: Any) -> Any:
        raise AssertionError("not used in retrieval")


Evaluate = Callable[..., dict[str, float]]


@pytest.fixture
def evaluate(tmp_path: Path) -> Evaluate:
    cache = ResultCache(cache_path=tmp_path / "cache")

    def run(model: Any, task: type[Task] = Task, **options: Any) -> dict[str, float]:
        settings = {"cache": cache, "co2_tracker": False, "show_progress_bar": False} | options
        found = mteb.evaluate(model, task(), **settings)
        scores: dict[str, float] = found.task_results[0].scores["test"][0]
        return scores

    return run


def ours(codec: str, **options: Any) -> dict[str, float]:
    """Measure the same by `octavo` and `ir_measures` alone."""
    documents, queries, judgements = _corpus()
    encoder = Encoder()
    with octavo.open(codec=codec, fit_after=1) as kb:
        kb.add(list(documents.values()), ids=list(documents), vectors=encoder.encode_texts(list(documents.values())))
        found = kb.search_batch(encoder.encode_texts(list(queries.values())), k=DOCUMENTS, **options)
    run = {
        query: {name: float(score) for name, score in zip(one.ids, one.scores, strict=True)}
        for query, one in zip(queries, found, strict=True)
    }
    values = ir_measures.calc_aggregate([nDCG @ 10, R @ 100, RR @ 10], judgements, run)
    return {str(name): value for name, value in values.items()}


@pytest.mark.parametrize("codec", ["float32", "int8", "svd:50%|int8"])
def test_mteb_and_we_measure_the_same_to_four_digits(evaluate: Evaluate, codec: str) -> None:
    scores = evaluate(OctavoSearch(Encoder(), codec=codec))
    own = ours(codec)
    assert 0.2 < own["nDCG@10"] < 0.98
    for theirs, name in (("ndcg_at_10", "nDCG@10"), ("recall_at_100", "R@100"), ("mrr_at_10", "RR@10")):
        assert scores[theirs] == pytest.approx(own[name], abs=5e-5)  # mteb rounds to five digits


def test_float32_equals_mteb_without_us(evaluate: Evaluate) -> None:
    plain, through = evaluate(Encoder()), evaluate(OctavoSearch(Encoder(), codec="float32"))
    for name in ("ndcg_at_10", "recall_at_100", "mrr_at_10", "map_at_10"):
        assert through[name] == pytest.approx(plain[name], abs=2e-5)


def test_result_files_are_mtebs_own_one_for_each_configuration(evaluate: Evaluate, tmp_path: Path) -> None:
    first, second = OctavoSearch(Encoder(), codec="int8"), OctavoSearch(Encoder(), codec="int4")
    evaluate(first)
    evaluate(second)
    evaluate(Encoder())
    files = sorted((tmp_path / "cache" / "results").rglob("OctavoLocalTask.json"))
    assert len(files) == 3
    metas = [json.loads(file.with_name("model_meta.json").read_text()) for file in files]
    assert {meta["name"] for meta in metas} == {"test/words"}
    kwargs = [(meta["experiment_kwargs"] or {}).get("octavo", "") for meta in metas]
    assert sorted(text.split(",")[0] for text in kwargs) == ["", "int4", "int8"]
    assert json.loads(files[0].read_text())["task_name"] == "OctavoLocalTask"


def test_the_same_configuration_is_served_from_the_cache(evaluate: Evaluate) -> None:
    encoder = Encoder()
    first = evaluate(OctavoSearch(encoder, codec="int8"))
    calls = encoder.calls
    again = evaluate(OctavoSearch(encoder, codec="int8"))
    assert again["ndcg_at_10"] == pytest.approx(first["ndcg_at_10"], abs=1e-5)  # files hold fewer digits
    assert encoder.calls == calls


def test_a_broken_index_never_gets_the_score_of_a_working_one(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = evaluate(OctavoSearch(Encoder(), codec="int8"))
    real = OctavoIndex.search

    def broken(self: OctavoIndex, *args: Any, **options: Any) -> tuple[list[list[float]], list[list[int]]]:
        scores, positions = real(self, *args, **options)
        return scores, [[(at + 7) % DOCUMENTS for at in one] for one in positions]

    monkeypatch.setattr(OctavoIndex, "search", broken)
    # Another configuration: measured, not served from the cache, and seen to be broken.
    assert evaluate(OctavoSearch(Encoder(), codec="float32"))["ndcg_at_10"] < 0.5 * good["ndcg_at_10"]
    # Another version of Octavo, with the same configuration: measured again.
    monkeypatch.setattr(octavo, "__version__", "999.0")
    assert evaluate(OctavoSearch(Encoder(), codec="int8"))["ndcg_at_10"] < 0.5 * good["ndcg_at_10"]


def test_codecs_whose_names_look_alike_to_a_file_system_stay_apart() -> None:
    # mteb turns | > and : into _ when it makes a directory name of a configuration.
    names = {
        OctavoSearch(Encoder(), codec=codec, **options).mteb_model_meta.experiment_name
        for codec, options in [
            ("svd:50%|int8", {}),
            ("svd:50% > int8", {}),
            ("int8", {}),
            ("int8", {"ef": 50}),
            ("int8", {"seed": 1}),
            ("int8", {"mode": "hybrid"}),
            ("int8", {"mode": "hybrid", "alpha": 0.5}),
        ]
    }
    assert len(names) == 7
    assert OctavoSearch(Encoder(), codec=" svd:50% | int8").configuration == IndexConfiguration(codec="svd:50%|int8")


def test_the_bare_wrapper_would_collide_and_is_refused(evaluate: Evaluate) -> None:
    with pytest.raises(ParameterError, match="OctavoSearch"):
        evaluate(SearchEncoderWrapper(Encoder(), index_backend=OctavoIndex(IndexConfiguration())))


def test_the_model_given_is_left_as_it_was() -> None:
    encoder = Encoder()
    search = OctavoSearch(encoder, codec="int8")
    assert encoder.mteb_model_meta.experiment_kwargs is None
    assert "octavo" in search.mteb_model_meta.experiment_kwargs


def test_protocols() -> None:
    assert isinstance(OctavoSearch(Encoder()), SearchProtocol)
    wanted = {name for name in vars(IndexEncoderSearchProtocol) if not name.startswith("_")}
    assert wanted == {"add_documents", "search", "clear"}
    assert all(callable(getattr(OctavoIndex, name)) for name in wanted)


def test_reranking_tasks_stay_within_their_candidates(evaluate: Evaluate) -> None:
    plain, through = evaluate(Encoder(), Reranking), evaluate(OctavoSearch(Encoder(), codec="float32"), Reranking)
    for name in ("ndcg_at_10", "recall_at_100", "mrr_at_10"):
        assert through[name] == pytest.approx(plain[name], abs=2e-5)


@pytest.mark.parametrize(("mode", "alpha"), [("text", None), ("hybrid", None), ("hybrid", 0.5)])
def test_words_are_searched_too(evaluate: Evaluate, mode: str, alpha: float | None) -> None:
    model = None if mode == "text" else Encoder()
    scores = evaluate(OctavoSearch(model, mode=mode, alpha=alpha))
    documents, queries, judgements = _corpus()
    encoder = Encoder()
    with octavo.open(codec="int8", fit_after=1) as kb:
        kb.add(list(documents.values()), ids=list(documents), vectors=encoder.encode_texts(list(documents.values())))
        vectors: Any = encoder.encode_texts(list(queries.values())) if mode == "hybrid" else list(queries.values())
        words = {"texts": list(queries.values()), "alpha": alpha} if mode == "hybrid" else {}
        found = kb.search_batch(vectors, k=DOCUMENTS, mode=mode, **words)
    run = {q: dict(zip(r.ids, map(float, r.scores), strict=True)) for q, r in zip(queries, found, strict=True)}
    own = ir_measures.calc_aggregate([nDCG @ 10], judgements, run)[nDCG @ 10]
    assert scores["ndcg_at_10"] == pytest.approx(own, abs=2e-4)
    assert evaluate(OctavoSearch(model, mode=mode, alpha=alpha), Reranking)["ndcg_at_10"] > 0.2


def test_bytes_are_kept_beside_the_scores(evaluate: Evaluate) -> None:
    search = OctavoSearch(Encoder(), codec="binary > int8")
    evaluate(search)
    (found,) = search.measured
    assert found.task == "OctavoLocalTask"
    assert found.documents == DOCUMENTS
    # a bit a value, a flag, and a share of what the codec has learned
    assert DIM / 8 + 1 <= found.ram_bytes_per_document < DIM / 8 + 3
    assert found.to_dict()["disk_bytes_per_document"] > found.ram_bytes_per_document


def test_collections_are_deleted_afterwards(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_mteb_index.tempfile, "tempdir", str(tmp_path))
    with OctavoSearch(Encoder()) as search:
        evaluate(search)
    assert not list(tmp_path.glob("octavo-mteb-*"))


def test_the_metric_is_the_models_own() -> None:
    assert OctavoSearch(Encoder()).configuration.metric == "cosine"
    assert OctavoSearch(Encoder(ScoringFunction.DOT_PRODUCT)).configuration.metric == "dot"
    assert OctavoSearch(Encoder(ScoringFunction.EUCLIDEAN), metric="dot").configuration.metric == "dot"
    with pytest.raises(ParameterError, match="euclidean"):
        OctavoSearch(Encoder(ScoringFunction.EUCLIDEAN))


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ParameterError, match="expected a model"):
        OctavoSearch()
    with pytest.raises(InputTypeError, match="mteb encoder"):
        OctavoSearch(lambda texts: texts)
    with pytest.raises(ParameterError, match="alpha"):
        OctavoSearch(Encoder(), alpha=0.5)
    with pytest.raises(ParameterError, match="mode"):
        OctavoSearch(Encoder(), mode="sparse")  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="mode='late'"):
        OctavoIndex(IndexConfiguration()).add_documents(np.ones((2, 3, 4)), ["a", "b"])
    with pytest.raises(ParameterError, match="add_documents"):
        OctavoIndex(IndexConfiguration()).search(np.ones((1, 3)), 5)


# ---------------------------------------------------------------------- late interaction


class TokenEncoderOfWords:
    """A vector a word, as mteb's own late-interaction models give them: a list of tensors, and no public `encode`."""

    def __init__(self) -> None:
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={"name": "test/words", "revision": "1", "similarity_fn_name": ScoringFunction.MAX_SIM}
        )
        self.asked: list[str] = []

    def matrices(self, texts: list[str]) -> list[np.ndarray]:
        words = _word_vectors()
        return [words[[int(word[4:]) for word in text.split()]] for text in texts]

    def _encode(self, inputs: Any, *, prompt_type: Any, **options: Any) -> list[Any]:
        import torch

        self.asked.append(prompt_type.value)
        return [torch.as_tensor(one) for batch in inputs for one in self.matrices(batch["text"])]


def maxsim_run() -> dict[str, dict[str, float]]:
    """Score every document by MaxSim over unpooled float64 token vectors, one pair at a time."""
    documents, queries, _ = _corpus()
    encoder = TokenEncoderOfWords()
    unit = {
        name: matrix.astype(np.float64) / np.linalg.norm(matrix, axis=1, keepdims=True)
        for name, matrix in zip(documents, encoder.matrices(list(documents.values())), strict=True)
    }
    run: dict[str, dict[str, float]] = {}
    for query, matrix in zip(queries, encoder.matrices(list(queries.values())), strict=True):
        asked = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        run[query] = {name: float((asked @ tokens.T).max(axis=1).sum()) for name, tokens in unit.items()}
    return run


def test_late_interaction_through_mteb_equals_maxsim_by_hand(evaluate: Evaluate) -> None:
    model = TokenEncoderOfWords()
    search = OctavoSearch(model, codec="float32", mode="late", pool_factor=1, n_candidates=DOCUMENTS)
    scores = evaluate(search)
    own = ir_measures.calc_aggregate([nDCG @ 10, R @ 100, RR @ 10], _corpus()[2], maxsim_run())
    assert 0.2 < own[nDCG @ 10] < 0.999
    for theirs, measure in (("ndcg_at_10", nDCG @ 10), ("recall_at_100", R @ 100), ("mrr_at_10", RR @ 10)):
        assert scores[theirs] == pytest.approx(own[measure], abs=5e-5)
    assert set(model.asked) == {"document", "query"}
    assert search.measured[0].documents == DOCUMENTS
    assert isinstance(search, SearchProtocol)


def test_late_interaction_in_parts_finds_the_same(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"codec": "float32", "pool_factor": 1, "n_candidates": DOCUMENTS}
    for mode in ("late", "hybrid"):
        whole = evaluate(OctavoSearch(TokenEncoderOfWords(), mode=mode, **options))
        with monkeypatch.context() as patch:
            patch.setattr(_mteb_tokens, "_CHUNK", 100)
            model = TokenEncoderOfWords()
            parts = evaluate(OctavoSearch(model, mode=mode, **options), overwrite_strategy="always")
        assert model.asked.count("document") == 3  # 240 documents, 100 at a time
        assert parts["ndcg_at_10"] == pytest.approx(whole["ndcg_at_10"], abs=2e-5)


def test_late_interaction_reranks_within_its_candidates(evaluate: Evaluate) -> None:
    model = TokenEncoderOfWords()
    scores = evaluate(OctavoSearch(model, codec="float32", mode="late", pool_factor=1), Reranking)
    task = Reranking()
    task.load_data()
    assert task.ranked is not None
    run = {query: {name: found[name] for name in task.ranked[query]} for query, found in maxsim_run().items()}
    own = ir_measures.calc_aggregate([nDCG @ 10], _corpus()[2], run)[nDCG @ 10]
    assert scores["ndcg_at_10"] == pytest.approx(own, abs=5e-5)


def test_a_broken_multi_vector_index_never_gets_the_score_of_a_working_one(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = evaluate(OctavoSearch(TokenEncoderOfWords(), codec="int8", mode="late", pool_factor=1))
    real = octavo.MultiVectorCollection.search_batch

    def broken(self: Any, queries: Any, **options: Any) -> Any:
        return real(self, queries[1:] + queries[:1], **options)  # each query gets another one's answer

    monkeypatch.setattr(octavo.MultiVectorCollection, "search_batch", broken)
    bad = evaluate(OctavoSearch(TokenEncoderOfWords(), codec="int8", mode="late", pool_factor=2))
    assert bad["ndcg_at_10"] < 0.5 * good["ndcg_at_10"]
    # The same configuration as before, in another version of Octavo: measured again.
    monkeypatch.setattr(octavo, "__version__", "999.0")
    again = evaluate(OctavoSearch(TokenEncoderOfWords(), codec="int8", mode="late", pool_factor=1))
    assert again["ndcg_at_10"] < 0.5 * good["ndcg_at_10"]


def test_configurations_of_late_interaction_stay_apart_from_each_other_and_from_the_model() -> None:
    model = TokenEncoderOfWords()
    metas = [
        OctavoSearch(model, **options).mteb_model_meta
        for options in (
            {"mode": "late"},
            {"mode": "late", "pool_factor": 1},
            {"mode": "late", "pool_factor": 2},
            {"mode": "late", "pool_factor": 2, "n_candidates": 50},
            {"mode": "hybrid", "pool_factor": 2},
        )
    ]
    names = {meta.experiment_name for meta in (*metas, model.mteb_model_meta)}
    assert len(names) == 6
    assert model.mteb_model_meta.experiment_kwargs is None


def test_models_and_options_of_late_interaction_have_to_fit(evaluate: Evaluate) -> None:
    with pytest.raises(InputTypeError, match="mode='late'"):
        OctavoSearch(TokenEncoderOfWords())  # no encoder of one vector a text
    with pytest.raises(InputTypeError, match="mteb_model_meta"):
        OctavoSearch(lambda texts: texts, mode="late")
    with pytest.raises(ParameterError, match="one tier"):
        OctavoSearch(TokenEncoderOfWords(), mode="late", codec="binary > int8")
    with pytest.raises(ParameterError, match="pool_factor"):
        OctavoSearch(Encoder(), pool_factor=2)
    with pytest.raises(ParameterError, match="n_candidates"):
        OctavoSearch(Encoder(), n_candidates=20)
    with pytest.raises(InputTypeError, match="mode='dense'"):
        evaluate(OctavoSearch(Encoder(), mode="late"))
