"""Each recipe, run for a few steps on a model of a few thousand weights."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.encoders.layers import RECORD_NAME, training_record
from octavo.errors import CollectionLockedError, InputTypeError, ParameterError
from octavo.training import Late, Matryoshka, Matryoshka2d, Pairs, Starbucks, train
from octavo.training.recipes import Recipe
from tiny_model import spelled_pairs

torch = pytest.importorskip("torch")

QUICK = {"steps": 4, "batch_size": 8, "eval_every": 2, "held_out": 6, "learning_rate": 1e-3, "max_length": 32}


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return Pairs(*spelled_pairs())


def trained(recipe: Recipe | str, tiny: str, pairs: Pairs, out: Path, **options: Any) -> Any:
    return train(recipe, tiny, pairs, out, **{**QUICK, **options})


@pytest.mark.parametrize(
    ("recipe", "sizes"),
    [
        (Matryoshka(dims=[16, 8]), {"32", "16", "8"}),
        (Matryoshka(dims=[8], codec="int8"), {"32", "8"}),
        (Matryoshka2d(dims=[16, 8], codec="rabitq:2"), {"3x32", "2x16", "1x8"}),
        (Starbucks(points=[(1, 8), (2, 16)], codec="int2", align_queries=True), {"3x32", "2x16", "1x8"}),
    ],
    ids=["matryoshka", "matryoshka-int8", "2d-rabitq", "starbucks-int2"],
)
def test_a_dense_recipe(recipe: Recipe, sizes: set[str], tiny: str, pairs: Pairs, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    result = trained(recipe, tiny, pairs, tmp_path / "out", teacher=tiny)
    assert set(result.before) == set(result.after) == sizes
    assert result.steps == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]  # nothing of the training stays
    model = SentenceTransformer(result.folder, device="cpu")
    assert model.max_seq_length == SentenceTransformer(tiny, device="cpu").max_seq_length
    changed = model.encode(["abc"]) - SentenceTransformer(tiny, device="cpu").encode(["abc"])
    assert np.abs(changed).max() > 1e-4
    record = training_record(result.folder)
    assert record is not None
    assert record["settings"]["codec"] == recipe.codec
    assert record["settings"]["seed"] == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert recipe.name in card
    assert "octavo.open" in card


def test_what_is_saved_is_what_was_measured(tiny: str, pairs: Pairs, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from octavo.training.data import hold_out
    from octavo.training.held_out import HeldOut

    recipe = Starbucks(points=[(1, 8), (2, 16)])
    result = trained(recipe, tiny, pairs, tmp_path / "out")
    _, data = hold_out(pairs, QUICK["held_out"], 0)  # type: ignore[arg-type]
    measured = HeldOut(data, recipe, 8).measure(SentenceTransformer(result.folder, device="cpu"))
    assert measured == pytest.approx(
        result.after, abs=0.02
    )  # its own max_seq_length reads no less than all of these texts


def test_late_learns_a_head_that_a_collection_uses(tiny: str, pairs: Pairs, tmp_path: Path) -> None:
    result = trained(
        Late(dim=8, pool_factor=2, codec="int8"), tiny, pairs, tmp_path / "out", teacher=tiny, precision="bfloat16"
    )
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert not any("TokenPooling" in module["type"] for module in modules)  # clusters are the collection's
    encoder = octavo.TokenEncoder(result.folder)
    [matrix] = encoder.encode_documents([pairs.documents[0]])
    assert matrix.shape[1] == 8
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-4)
    with octavo.open(encoder=encoder) as kb:
        assert isinstance(kb, octavo.MultiVectorCollection)
    with octavo.open_multi_vector(encoder=result.folder, pool_factor=2) as kb:
        kb.add(list(pairs.documents[:20]), ids=[f"d{at}" for at in range(20)])
        assert kb.search(pairs.documents[3], k=1).ids == ["d3"]


def test_layers_of_a_trained_model_are_used_and_remembered(tiny: str, pairs: Pairs, tmp_path: Path) -> None:
    folder = trained(Starbucks(points=[(1, 8), (2, 16)], align_queries=True), tiny, pairs, tmp_path / "out").folder
    texts, ids = list(pairs.documents[:20]), [f"d{at}" for at in range(20)]
    with octavo.open(tmp_path / "kb", encoder=folder, layers=3, query_layers=1, codec="truncate:8|int8") as kb:
        kb.add(texts, ids=ids)
        assert kb.info().encoder == f"{folder}@layers=3,query_layers=1"
        assert kb.search(texts[5], k=3).ids
    # What is stored is enough to open it again, without a word about layers.
    with octavo.open(tmp_path / "kb", encoder=f"{folder}@layers=3,query_layers=1") as kb:
        assert len(kb.search(texts[5], k=3).ids) == 3
    with (
        octavo.open(tmp_path / "kb", encoder=folder, layers=1) as kb,
        pytest.raises(octavo.OctavoError, match="layers=1"),
    ):
        kb.search(texts[5], k=3)
    with pytest.raises(ParameterError, match="trained for it"):
        octavo.open(encoder=tiny, layers=3, query_layers=1)
    with pytest.raises(ParameterError, match=r"trained with queries of \[1, 2, 3\] layers"):
        octavo.open(encoder=folder, layers=2, query_layers=1)


class KilledError(Exception):
    pass


def test_a_killed_training_goes_on_and_ends_the_same(
    tiny: str, pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer

    recipe = Matryoshka(dims=[8])
    whole = trained(recipe, tiny, pairs, tmp_path / "whole", steps=6)

    def stop(message: str) -> None:
        if message.startswith("step 4"):
            raise KilledError

    with pytest.raises(KilledError):
        trained(recipe, tiny, pairs, tmp_path / "out", steps=6, note=stop)
    work = tmp_path / "out.training"
    assert not (tmp_path / "out").exists()
    with pytest.raises(ParameterError, match="batch_size=8"):
        trained(recipe, tiny, pairs, tmp_path / "out", steps=6, batch_size=4)
    half = work / "checkpoints" / "checkpoint-5"  # what a kill may leave while a checkpoint is written
    half.mkdir()
    (half / "trainer_state.json").write_text("{")
    said: list[str] = []
    resumed = trained(recipe, tiny, pairs, tmp_path / "out", steps=6, note=said.append)
    assert "going on after step 2" in said
    assert resumed.after == pytest.approx(whole.after)
    assert resumed.before == whole.before
    a, b = (SentenceTransformer(one.folder, device="cpu").encode(["abc", "bcd"]) for one in (whole, resumed))
    assert np.allclose(a, b, atol=1e-5)
    assert not work.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a model is copied to each process, which takes seconds")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_that_prepare_batches_change_nothing(
    tiny: str, pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from sentence_transformers import SentenceTransformer

    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    vectors = []
    for workers in (0, 2):
        folder = trained(
            Matryoshka(dims=[8]), tiny, pairs, tmp_path / f"{workers}", workers=workers, device="cpu"
        ).folder
        vectors.append(SentenceTransformer(folder, device="cpu").encode(["abc", "bcd"]))
        record = training_record(folder)
        assert record is not None
        assert record["settings"]["device"] == "cpu"
    assert np.array_equal(*vectors)
    assert "fork" not in capfd.readouterr().err
    assert "TOKENIZERS_PARALLELISM" not in os.environ


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_without_bfloat16_is_told() -> None:
    from octavo.training.train import _check_precision

    _check_precision("bfloat16", "cpu")
    _check_precision("float32", "cuda")
    with pytest.raises(ParameterError, match="no bfloat16"):
        _check_precision("bfloat16", "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    "recipe",
    [
        Matryoshka(dims=[8], codec="int8"),
        Matryoshka2d(dims=[8]),
        Starbucks(points=[(1, 8), (2, 16)], align_queries=True),
        Late(dim=8, pool_factor=2, codec="int8"),
    ],
    ids=["matryoshka", "2d", "starbucks", "late"],
)
def test_a_gpu_trains_what_the_processor_trains(recipe: Recipe, tiny: str, pairs: Pairs, tmp_path: Path) -> None:
    before = trained(recipe, tiny, pairs, tmp_path / "cpu", device="cpu", teacher=tiny, workers=0)
    after = trained(recipe, tiny, pairs, tmp_path / "gpu", teacher=tiny, precision="bfloat16")
    record = training_record(after.folder)
    assert record is not None
    assert record["settings"]["device"] == "cuda"
    assert after.before == pytest.approx(before.before, abs=0.05)
    assert after.after == pytest.approx(before.after, abs=0.25)


def test_two_processes_do_not_train_into_one_folder(tiny: str, pairs: Pairs, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    work = tmp_path / "out.training"
    work.mkdir()
    with (work / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CollectionLockedError, match="another process"):
            trained("matryoshka", tiny, pairs, tmp_path / "out")


def test_it_stops_when_it_gets_no_better(tiny: str, pairs: Pairs, tmp_path: Path) -> None:
    result = trained(
        Matryoshka(dims=[8]), tiny, pairs, tmp_path / "out", steps=40, eval_every=1, patience=1, learning_rate=1e-9
    )
    assert result.stopped_early
    assert result.steps < 40
    assert result.best_step < result.steps


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recipe": "other"}, ParameterError, "recipe"),
        ({"recipe": 3}, InputTypeError, "recipe"),
        ({"recipe": Matryoshka(dims=[33])}, ParameterError, "at most the model's 32"),
        ({"recipe": Starbucks(points=[(4, 8)])}, ParameterError, "3 layers"),
        ({"recipe": "starbucks"}, ParameterError, "at least 6 layers"),
        ({"steps": 0}, ParameterError, "steps"),
        ({"batch_size": 1}, ParameterError, "batch_size"),
        ({"learning_rate": float("nan")}, ParameterError, "learning_rate"),
        ({"epochs": -1}, ParameterError, "epochs"),
        ({"precision": "int8"}, ParameterError, "precision"),
        ({"seed": -1}, ParameterError, "seed"),
        ({"workers": -1}, ParameterError, "workers"),
        ({"device": "gpu"}, ParameterError, "device"),
        pytest.param(
            {"device": "cuda"},
            ParameterError,
            "can use on this machine",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ({"held_out": 1000}, ParameterError, "left to train on"),
        ({"model": 3}, InputTypeError, "model"),
        ({"model": "nowhere/at/all"}, ParameterError, "could not be loaded"),
        ({"data": "nowhere"}, ParameterError, "nothing at"),
        ({"out": "."}, ParameterError, "new|not exist"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    options: dict[str, Any], error: type[Exception], message: str, tiny: str, pairs: Pairs, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("")
    given: dict[str, Any] = {"recipe": Matryoshka(dims=[8]), "model": tiny, "data": pairs, "out": tmp_path / "out"}
    given |= {key: value for key, value in options.items() if key in given}
    rest = {key: value for key, value in options.items() if key not in given}
    with pytest.raises(error, match=message):
        train(given["recipe"], given["model"], given["data"], given["out"], **{**QUICK, **rest})
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Matryoshka(dims=[]),
        lambda: Matryoshka(dims="64"),
        lambda: Matryoshka(dims=[0]),
        lambda: Matryoshka(dims=[True]),
        lambda: Matryoshka(codec="svd:8|int8"),
        lambda: Matryoshka(codec=8),
        lambda: Matryoshka(codec="nonsense"),
        lambda: Starbucks(points=[]),
        lambda: Starbucks(points=[(1, 2, 3)]),
        lambda: Starbucks(points=[("1", 2)]),
        lambda: Starbucks(alignment=-1),
        lambda: Starbucks(align_queries=1),
        lambda: Late(dim=0),
        lambda: Late(pool_factor=2.5),
    ],
)
def test_a_recipe_refuses_what_it_cannot_do(make: Any) -> None:
    with pytest.raises(ValueError):
        make()


def test_few_different_texts_make_small_batches(tiny: str, tmp_path: Path) -> None:
    queries, documents = spelled_pairs(12)
    few = Pairs([f"{query} {at}" for query in queries for at in "abc"], [text for text in documents for _ in "abc"])
    result = trained(
        Matryoshka(dims=[8]), tiny, few, tmp_path / "out", held_out=3, batch_size=32, steps=2, eval_every=1
    )
    assert result.steps == 2
    one = Pairs(["a b", "c d", "e f", "g h"], [documents[0], *[documents[1]] * 3])
    with pytest.raises(ParameterError, match="two different"):
        trained(Matryoshka(dims=[8]), tiny, one, tmp_path / "other", held_out=1)


def test_a_model_that_is_given_stays_as_it_was(tiny: str, pairs: Pairs, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(tiny, device="cpu")
    before, length = model.encode(["abc"]), model.max_seq_length
    result = train(Late(dim=8), model, pairs, tmp_path / "out", **{**QUICK, "steps": 2})
    assert np.array_equal(model.encode(["abc"]), before)
    assert model.max_seq_length == length
    assert octavo.TokenEncoder(result.folder).encode_queries(["abc"])[0].shape[1] == 8


def test_a_late_model_is_no_start(tiny: str, pairs: Pairs, tmp_path: Path) -> None:
    folder = trained(Late(dim=8), tiny, pairs, tmp_path / "out", steps=1).folder
    with pytest.raises(ParameterError, match="many vectors a text"):
        trained("matryoshka", folder, pairs, tmp_path / "again")
    shutil.rmtree(folder)
    assert not (tmp_path / "again.training").exists()
    assert RECORD_NAME.endswith(".json")
