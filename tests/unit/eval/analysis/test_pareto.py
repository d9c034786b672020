"""The frontier, the choice, the bytes and the lines to paste."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo._layout import CodeLayout
from octavo.errors import ParameterError
from octavo.eval.analysis.pareto import NothingFitsError, pareto, parse_bytes, parse_floor
from octavo.eval.analysis.recipe import recipe
from octavo.eval.analysis.scaling import footprint
from octavo.index.planner import graph_min


@pytest.fixture
def runs(make_result: Any) -> list[Any]:
    return [
        make_result("float32", [0.50, 0.70, 0.90], ram=1536),
        make_result("int8", [0.50, 0.70, 0.89], ram=384),
        make_result("svd:50%|int8", [0.49, 0.69, 0.87], ram=192),
        make_result("float8", [0.40, 0.60, 0.80], ram=384),
        make_result("binary", [0.30, 0.40, 0.50], ram=48),
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MB", 64e6),
        ("64MiB", 64 * 2**20),
        ("1.5GB", 1.5e9),
        (" 2 kib ", 2048),
        ("300", 300),
        ("300B", 300),
        (1e6, 1e6),
    ],
)
def test_sizes(text: str | float, size: float) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "64 parrots", "-3MB", "0", "64Mb/s", "1e3 MB", "nan"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ParameterError, match="64MiB"):
        parse_bytes(text)


def test_floors() -> None:
    assert parse_floor("99.5 %") == (pytest.approx(0.995), True)
    assert parse_floor(0.6) == (0.6, False)
    for text in ("", "%", "-1", "nan", "inf", "0"):
        with pytest.raises(ParameterError, match="99%"):
            parse_floor(text)


def test_the_frontier_is_what_nothing_beats(runs: list[Any]) -> None:
    found = pareto(runs)
    assert [point.label for point in found.points][:2] == ["binary", "svd:50%|int8"]
    assert [point.label for point in found.frontier] == ["binary", "svd:50%|int8", "int8", "float32"]
    for point in found.points:
        beaten = any(
            other.quality >= point.quality
            and other.bytes_per_document <= point.bytes_per_document
            and (other.quality, -other.bytes_per_document) != (point.quality, -point.bytes_per_document)
            for other in found.points
        )
        assert point.on_frontier is not beaten


def test_the_order_of_results_does_not_matter(runs: list[Any]) -> None:
    shuffled = random.Random(1).sample(runs, len(runs))
    assert pareto(shuffled).to_dict() == pareto(runs).to_dict()


def test_without_a_budget_the_smallest_at_99_percent(runs: list[Any]) -> None:
    found = pareto(runs)
    assert found.recommended.label == "int8"
    assert found.reference == "float32"
    assert found.recommended.relative == pytest.approx(2.09 / 2.10)
    assert pareto(runs, min_quality="95%").recommended.label == "svd:50%|int8"
    assert pareto(runs, min_quality=0.35).recommended.label == "binary"


def test_with_a_budget_the_best_that_fits(runs: list[Any]) -> None:
    assert pareto(runs, budget="1GB").recommended.label == "float32"
    assert pareto(runs, budget="400kB").recommended.label == "int8"
    assert pareto(runs, budget=384_000).recommended.label == "int8"  # exactly
    assert pareto(runs, budget=383_999).recommended.label == "svd:50%|int8"
    assert pareto(runs, budget="100kB").recommended.label == "binary"
    assert pareto(runs, budget="400kB", min_quality="95%").recommended.label == "int8"


def test_nothing_fits(runs: list[Any]) -> None:
    with pytest.raises(NothingFitsError, match=r"'binary' with 48,000 bytes for 1,000 documents"):
        pareto(runs, budget="1kB")
    with pytest.raises(NothingFitsError, match=r"of those that reach nDCG@10 0.6930 is 'int8'"):
        pareto(runs, budget="100kB", min_quality="99%")
    with pytest.raises(NothingFitsError, match="the best is 'float32'"):
        pareto(runs, min_quality=0.95)


def test_documents_scale_the_bytes(runs: list[Any]) -> None:
    found = pareto(runs, documents=10_000, budget="2MB")
    assert found.recommended.label == "svd:50%|int8"
    assert found.recommended.total_bytes == pytest.approx(1.92e6)
    assert not found.recommended.footprints[0].measured


def test_baselines_are_shown_and_never_recommended(runs: list[Any], make_result: Any) -> None:
    tempting = make_result(None, [0.9, 0.9, 0.9], ram=10, baseline="int8-minmax")
    found = pareto([*runs, tempting])
    assert found.recommended.label == "int8"
    assert [point.label for point in found.points if point.baseline] == ["int8-minmax"]
    assert "int8-minmax" not in [point.label for point in found.frontier]
    assert not [point for point in pareto([*runs, tempting], where="disk").points if point.baseline]  # it has no texts
    with pytest.raises(NothingFitsError, match="baselines only"):
        pareto([tempting], budget="1GB")


def test_the_mean_over_data_sets_decides(make_result: Any) -> None:
    results = [
        make_result("float32", [0.8], dataset="a", ram=1536),
        make_result("float32", [0.4], dataset="b", ram=1536),
        make_result("int8", [0.7], dataset="a", ram=384),
        make_result("int8", [0.5], dataset="b", ram=384),
        make_result("int4", [0.9], dataset="a", ram=192),
    ]
    found = pareto(results)
    assert found.datasets == ["a", "b"]
    assert found.recommended.label == "int8"
    assert found.recommended.quality == pytest.approx(0.6)
    assert "int4" in found.left_out[0]
    assert pareto(results, dataset="a").recommended.label == "int4"
    with pytest.raises(ParameterError, match="out of a, b"):
        pareto(results, dataset="c")


def test_a_broken_index_is_left_out(runs: list[Any], make_result: Any) -> None:
    found = pareto([*runs, make_result("int4", [0.9, 0.9, 0.9], ram=100, ok=False)])
    assert found.recommended.label == "int8"
    assert "failed" in found.left_out[0]


def test_bad_options_are_named(runs: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="ram, disk, index"):
        pareto(runs, where="tape")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="positive integer"):
        pareto(runs, documents=0)
    with pytest.raises(ParameterError, match="float32"):
        pareto(runs[1:], min_quality="99%")
    with pytest.raises(ParameterError, match="octavo eval run"):
        pareto(tmp_path)
    with pytest.raises(ParameterError, match="MAP"):
        pareto(runs, measure="MAP")


def test_json(runs: list[Any]) -> None:
    plain = json.loads(json.dumps(pareto(runs, documents=5000, where="disk").to_dict()))
    assert plain["recommended"]["footprints"][0]["fixed"] > 0
    assert plain["recipe"]["python"].startswith("kb = octavo.open(")


# ------------------------------------------------------------------ bytes against real collections


def _built(make_result: Any, codec: str, n: int, directory: Path, dim: int = 48) -> Any:
    """Build a collection and write down what it really takes."""
    rng = np.random.default_rng(n)
    words = [f"document {i} " + "lorem ipsum dolor sit amet " * int(rng.integers(5, 20)) for i in range(n)]
    with octavo.open(directory, codec=codec, fit_after=200) as kb:
        kb.add(words, ids=[str(i) for i in range(n)], vectors=rng.normal(size=(n, dim)))
        kb.search("lorem", mode="text")
    with octavo.open(directory, read_only=True) as kb:
        info = kb.info()
    result = make_result(codec, documents=n, dim=dim)
    storage = result.storage
    for name, value in {
        "ram": info.ram,
        "disk": info.disk,
        "ram_bytes_per_document": info.ram_bytes_per_document,
        "disk_bytes_per_document": info.disk_bytes_per_document,
    }.items():
        object.__setattr__(storage, name, value)
    return result


@pytest.mark.parametrize("codec", ["int8", "svd:50%|float8 > int8"])
def test_scaled_bytes_are_those_of_a_larger_collection(make_result: Any, tmp_path: Path, codec: str) -> None:
    small = _built(make_result, codec, 1500, tmp_path / "small")
    large = _built(make_result, codec, 4500, tmp_path / "large")
    for where in ("ram", "disk"):
        predicted, real = footprint(small, where, 4500), footprint(large, where)
        assert real.measured
        assert not predicted.measured
        tolerance = 0.02 if where == "ram" else 0.06  # segments of full text and pages of SQLite come in steps
        assert predicted.total == pytest.approx(real.total, rel=tolerance)


def test_a_graph_is_counted_where_there_will_be_one(make_result: Any) -> None:
    small, least = make_result("int8", ram=384, documents=1000), graph_min(CodeLayout("i8", 384))
    below, above = footprint(small, "ram", least - 1), footprint(small, "ram", least)
    assert below.graph == 0
    assert above.graph / least == pytest.approx(384 + 250, rel=0.25)  # its copy of the codes, links, book-keeping
    assert above.total == above.graph + 384 * least
    assert footprint(make_result("int8", exact=True), "ram", 10**6).graph == 0
    assert footprint(make_result(None, baseline="int8-minmax"), "ram", 10**6).graph == 0


# ------------------------------------------------------------------ lines to paste


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("int8", {}),
        ("binary > int8", {"oversample": 5.0, "ef": 50}),
        ("int8", {"mode": "hybrid", "alpha": 0.5, "metric": "dot", "connectivity": 8}),
        (None, {"mode": "text"}),
    ],
)
def test_recipes_run(
    make_result: Any, codec: str | None, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = recipe(make_result(codec, **options)).python
    seen: dict[str, Any] = {}
    real = octavo.open

    def opened(path: str, encoder: Any = None, **keywords: Any) -> octavo.Collection:
        seen.update(keywords, path=path, encoder=encoder)
        return real(None, lambda texts: np.eye(8)[[len(text) % 8 for text in texts]], **keywords)

    monkeypatch.setattr(octavo, "open", opened)
    with tempfile.TemporaryDirectory():
        scope: dict[str, Any] = {"octavo": octavo, "query": "one"}
        head, _, tail = lines.partition("\n")
        exec(head, scope)  # ours, and what a user would paste
        scope["kb"].add(["one", "three", "seventeen"])
        if tail:
            exec(tail, scope)
        scope["kb"].close()
    assert seen["encoder"] == "all-MiniLM-L6-v2"
    assert seen.get("codec") == codec
    assert ("oversample" in lines) == ("oversample" in options)


def test_the_command_is_given_where_the_command_line_can_do_it(make_result: Any) -> None:
    shell = recipe(make_result("binary > int8")).shell
    assert shell == "octavo index SOURCE --path kb --model all-MiniLM-L6-v2 --codec 'binary > int8'"
    assert "--metric dot" in (recipe(make_result("int8", metric="dot")).shell or "")
    assert recipe(make_result("int8", connectivity=8)).shell is None
