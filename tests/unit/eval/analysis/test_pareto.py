"""The frontier, the choice, the bytes and the lines to paste."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo._layout import CodeLayout
from octavo.errors import ParameterError
from octavo.eval.analysis.pareto import NothingFitsError, pareto, parse_bytes, parse_floor
from octavo.eval.analysis.recipe import recipe
from octavo.eval.analysis.scaling import _coarse_layout, footprint
from octavo.index.planner import cells_min, graph_min


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
    assert found.reference == "float32"
    assert (found.recommended.label, found.settled) == ("float32", True)  # three queries show nothing of the others
    assert found.cheap is not None
    assert found.cheap.label == "int8"
    assert found.cheap.relative == pytest.approx(2.09 / 2.10)
    assert (found.cheap.changed, found.cheap.queries) == (1, 3)
    assert found.queries_needed is not None
    assert "not settled by 3 queries: int8" in found.sentences[1]
    assert f"about {found.queries_needed:,} queries" in found.sentences[1]
    for floor, label in (("95%", "svd:50%|int8"), (0.35, "binary")):
        cheap = pareto(runs, min_quality=floor).cheap
        assert cheap is not None
        assert cheap.label == label


def test_enough_queries_settle_it(make_result: Any) -> None:
    """The same means as above: what one sample cannot tell from luck, a larger one can."""
    values = [0.5, 0.7, 0.9] * 1000
    many = [
        make_result("float32", values, ram=1536),
        make_result("int8", [v - 0.003 * (v == 0.9) for v in values], ram=384),
        make_result("binary", [v - 0.3 for v in values], ram=48),
    ]
    found = pareto(many)
    assert (found.recommended.label, found.settled, found.cheap) == ("int8", True, None)
    assert found.recommended.at_least is not None
    assert 0.99 <= found.recommended.at_least < 1
    assert "keeps at least 99." in found.sentences[0]
    assert len(found.sentences) == 1


def test_a_lucky_sample_does_not_decide(make_result: Any) -> None:
    """Forty codecs, each of which loses one query of fifty: in a sample of fifty, the best of them has lost none."""
    rng = np.random.default_rng(0)
    reference = rng.choice([0.3, 0.6, 1.0], 50)
    codecs = [f"svd:{dim}|int8" for dim in range(10, 50)]
    runs = [make_result("float32", reference, ram=1536)]
    runs += [make_result(c, np.where(rng.random(50) < 0.02, 0, reference), ram=10 + n) for n, c in enumerate(codecs)]
    found = pareto(runs)
    assert max(p.relative for p in found.points if p.label != "float32" and p.relative is not None) == 1.0
    assert found.recommended.label == "float32"
    assert found.cheap is not None


def test_without_float32_nothing_is_settled(runs: list[Any]) -> None:
    found = pareto(runs[1:], min_quality=0.6)
    assert (found.recommended.label, found.settled) == ("svd:50%|int8", False)
    assert found.recommended.at_least is None
    assert "do not settle it" in found.sentences[0]


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
    assert found.recommended.label == "float32"
    assert found.cheap is not None
    assert found.cheap.label == "int8"
    assert [point.label for point in found.points if point.baseline] == ["int8-minmax"]
    assert [point.at_least for point in found.points if point.baseline] == [None]
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


def test_totals_of_several_sets_are_not_averaged(make_result: Any) -> None:
    results = [
        make_result(codec, values, dataset=name, documents=documents, ram=ram)
        for codec, ram in (("float32", 1536), ("int8", 384))
        for name, documents, values in (("large", 9000, [0.8, 0.7]), ("small", 1000, [0.4, 0.3]))
    ]
    point = pareto(results).points[0]
    assert [part.total for part in point.footprints] == [384 * 9000, 384 * 1000]
    assert point.total_bytes == 384 * 9000
    with pytest.raises(NothingFitsError, match="9,000 documents"):
        pareto(results, budget=384 * 5000)  # what a mean of the two would have let through
    assert pareto(results, budget=384 * 9000).recommended.label == "int8"


def test_a_broken_index_is_left_out(runs: list[Any], make_result: Any) -> None:
    found = pareto([*runs, make_result("int4", [0.9, 0.9, 0.9], ram=100, ok=False)])
    assert found.cheap is not None
    assert found.cheap.label == "int8"
    assert "failed" in found.left_out[0]


def test_bad_options_are_named(runs: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'ram', 'disk', 'index'"):
        pareto(runs, where="tape")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="at least 1"):
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
    assert "kb = octavo.open(" in plain["recipe"]["python"]
    assert plain["cheap"]["at_least"] < 1


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


def test_what_was_learned_does_not_grow_with_the_documents(make_result: Any) -> None:
    small = make_result("svd:50%|int8", ram=200, documents=1000)
    storage = replace(small.storage, ram={"coarse tier": 192_000, "alive mask": 1000, "codec": 7000})
    small = replace(small, storage=storage)
    exact = replace(small, configuration=replace(small.configuration, exact=True))
    assert footprint(exact, "ram", 1_000_000).total == 193_000_000 + 7000
    assert footprint(exact, "ram").total == 200_000


def test_a_graph_is_counted_where_there_will_be_one(make_result: Any) -> None:
    by_cells = make_result("int8", ram=384, documents=1000)
    assert footprint(by_cells, "ram", cells_min(_coarse_layout("int8", 384)) - 1).graph == 0
    assert footprint(by_cells, "disk", 1_000_000).graph == 64 * 1_000_000
    small = make_result("int8", connectivity=17, ram=384, documents=1000)
    least = graph_min(CodeLayout("i8", 384))
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
@pytest.mark.parametrize("encoder", ["pasted_encoder:encode", "pasted_encoder:Holder.encode"])
def test_recipes_run_as_they_are_pasted(
    make_result: Any,
    codec: str | None,
    options: dict[str, Any],
    encoder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "pasted_encoder.py").write_text(
        "import numpy as np\n"
        "def encode(texts): return np.eye(8)[[len(text) % 8 for text in texts]]\n"
        "class Holder:\n    encode = staticmethod(encode)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = make_result(codec, model=encoder if options.get("mode") != "text" else None, **options)
    scope: dict[str, Any] = {}
    exec(recipe(result).python, scope)  # ours, and what a user would paste
    kb = scope["kb"]
    assert kb.info().codec == (codec or "int8")
    kb.add(["one", "three", "seventeen"], ids=["1", "3", "17"])
    search = recipe(result).python.splitlines()[-1]
    found = eval(search.replace("your question", "three"), scope)
    assert found.ids[0] == "3"
    assert ("oversample" in search) == ("oversample" in options)
    kb.close()


def test_recipes_for_what_has_no_name(make_result: Any) -> None:
    plain = make_result("int8")
    of_vectors = replace(plain, model=replace(plain.model, name="ready vectors", encoder=None))
    lines = recipe(of_vectors)
    assert "kb = octavo.open('kb', codec='int8')" in lines.python
    assert "# kb.add(texts, ids=ids, vectors=vectors)\n# kb.search(vector, k=10)" in lines.python
    assert lines.shell is None
    of_object = recipe(replace(plain, model=replace(plain.model, name="mine", encoder=None))).python
    assert "# encoder: what was measured, 'mine'\nkb = octavo.open('kb', encoder=encoder, codec='int8')" in of_object
    cut = recipe(make_result("int8", layers=4)).python
    assert "kb = octavo.open('kb', encoder='all-MiniLM-L6-v2@layers=4'," in cut


def test_the_command_is_given_where_the_command_line_can_do_it(make_result: Any) -> None:
    shell = recipe(make_result("binary > int8")).shell
    assert shell == "octavo index SOURCE --path kb --model all-MiniLM-L6-v2 --codec 'binary > int8'"
    assert "--metric dot" in (recipe(make_result("int8", metric="dot")).shell or "")
    assert recipe(make_result("int8", connectivity=8)).shell is None


def test_what_is_pasted_is_compressed_at_the_size_that_was_measured(make_result: Any) -> None:
    plain = make_result("svd:50%|int8")
    small = replace(plain, dataset=replace(plain.dataset, documents=498))
    assert "fit_after=498" in recipe(small).python
    large = replace(plain, dataset=replace(plain.dataset, documents=5_000))
    assert "fit_after" not in recipe(large).python


def test_originals_are_kept_of_so_many_documents_only(make_result: Any) -> None:
    plain = make_result("svd:25%|int8")
    each, n = 4 + 2 * plain.model.dim, plain.storage.documents
    disk = {"tier 0": 96 * n, "documents": 1_000 * n, "originals": each * n}
    result = replace(plain, storage=replace(plain.storage, disk=disk))
    some, many, more = (footprint(result, "disk", documents) for documents in (n, 1_000_000, 2_000_000))
    assert some.total == sum(disk.values())
    assert many.fixed == more.fixed
    assert many.fixed < some.fixed + 33_000_000
    assert many.per_document < 1_200
