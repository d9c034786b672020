"""Two runs against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import InputTypeError, ParameterError
from octavo.eval.analysis.compare import compare
from octavo.eval.analysis.select import find_result, group, newest
from octavo.eval.results import ResultError


def test_differences_are_b_minus_a(make_result: Any) -> None:
    a = make_result("float32", [0.2, 0.5, 0.9, 0.4])
    b = make_result("int8", [0.6, 0.5, 0.8, 0.5])
    found = compare(a, b, texts={"q0": "what is a wing?"})
    assert (found.a, found.b, found.dataset) == ("float32", "int8", "toy")
    assert list(found.measures) == ["nDCG@10", "R@100"]
    d = found.measures["nDCG@10"]
    assert d.difference == pytest.approx(0.1)
    assert (d.wins, d.losses, d.ties) == (2, 1, 1)
    assert [query.id for query in found.changed] == ["q0", "q2", "q3"]  # largest first, then by id; ties left out
    assert found.changed[0].text == "what is a wing?"
    assert found.changed[1].text is None
    assert found.changed[1].change == pytest.approx(-0.1)
    assert compare(a, b, changed=1).changed == compare(a, b).changed[:1]


def test_the_order_of_queries_does_not_matter(make_result: Any) -> None:
    a, b = make_result("float32", [0.2, 0.5, 0.9]), make_result("int8", [0.6, 0.5, 0.8])
    shuffled = {name: dict(reversed(values.items())) for name, values in b.per_query.items()}
    object.__setattr__(b, "per_query", shuffled)
    assert compare(a, b).measures["nDCG@10"].difference == pytest.approx(0.3 / 3)


def test_the_test_is_the_one_asked_for(make_result: Any) -> None:
    a, b = make_result("float32", [0.2, 0.5, 0.9, 0.4]), make_result("int8", [0.6, 0.5, 0.8, 0.6])
    p = {test: compare(a, b, test=test).measures["nDCG@10"] for test in ("randomisation", "t")}
    assert p["t"].test == "t"
    assert p["t"].p_value != p["randomisation"].p_value


def test_agreement_can_be_compared(make_result: Any) -> None:
    found = compare(make_result("float32"), make_result("int8"), measures=["agreement"])
    assert found.measures["agreement"].ties == 3
    assert found.changed == []


def test_files_are_read_and_json_comes_out(make_result: Any, tmp_path: Path) -> None:
    make_result("float32").write(tmp_path / "a.json")
    make_result("int8", [0.1, 0.2, 0.3]).write(tmp_path / "b.json")
    found = compare(tmp_path / "a.json", str(tmp_path / "b.json"))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["measures"]["nDCG@10"]["losses"] == 3
    assert plain["changed"][0]["change"] < 0


def test_what_cannot_be_compared_is_refused(make_result: Any, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="same data"):
        compare(make_result(), make_result(dataset="other"))
    with pytest.raises(ParameterError, match="one of them only"):
        compare(make_result(), make_result(values=[0.1, 0.2]))
    with pytest.raises(ParameterError, match="a measure that both"):
        compare(make_result(), make_result(measures=["RR@10"]))
    with pytest.raises(ParameterError, match=r"nDCG@10, R@100, agreement\.float32"):
        compare(make_result(), make_result(), measures=["MAP"])
    with pytest.raises(InputTypeError):
        compare(make_result(), 3)  # type: ignore[arg-type]
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ResultError):
        compare(make_result(), tmp_path / "x.json")


def test_names_within_a_directory(make_result: Any, tmp_path: Path) -> None:
    make_result("float32").write(tmp_path / "a.json")
    make_result("binary > int8").write(tmp_path / "b.json")
    wide = make_result("binary > int8", oversample=5)
    wide.write(tmp_path / "c.json")
    assert find_result("binary > int8", tmp_path).label == "binary > int8"
    assert find_result("binary > int8, oversample 5", tmp_path) == wide
    assert find_result(wide.id, tmp_path) == wide
    assert find_result(str(tmp_path / "c.json"), None) == wide
    with pytest.raises(ParameterError, match="'float32'"):
        find_result("int4", tmp_path)
    with pytest.raises(ParameterError, match="--dir"):
        find_result("float32", None)
    make_result("float32", dataset="other").write(tmp_path / "d.json")
    with pytest.raises(ParameterError, match="several"):
        find_result("float32", tmp_path)
    assert find_result("float32", tmp_path, dataset="other").dataset.name == "other"


def test_the_newest_run_of_a_configuration_counts(make_result: Any) -> None:
    old = make_result("int8", [0.1, 0.1, 0.1])
    new = make_result("int8", [0.9, 0.9, 0.9], started="2026-02-01T00:00:00Z")
    assert newest([new, old]) == newest([old, new]) == [new]


def test_groups_need_every_data_set_and_working_checks(make_result: Any) -> None:
    results = [make_result(codec, dataset=data) for codec in ("float32", "int8") for data in ("a", "b")]
    groups, left_out = group([*results, make_result("int4", dataset="a"), make_result("float8", dataset="a", ok=False)])
    assert [found.label for found in groups] == ["float32", "int8"]
    assert len(left_out) == 2
    assert "int4: measured on a only" in left_out[0]
    assert "a check of the index failed" in left_out[1]
