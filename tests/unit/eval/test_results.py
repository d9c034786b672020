"""Result files: schema, round trip, what is read and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import ParameterError
from octavo.eval import Configuration, Result, ResultError, load_results, result_schema
from octavo.eval import results as module
from octavo.eval.configurations import digest

DOCS = Path(__file__).parents[3] / "docs" / "evaluation.md"


@pytest.fixture
def example() -> dict[str, Any]:
    """The example that the documentation shows."""
    match = re.search(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    assert match is not None
    values: dict[str, Any] = json.loads(match[1])
    return values


def violations(value: Any, schema: dict[str, Any], where: str = "result") -> list[str]:
    """Check the part of JSON Schema that ours is written in."""
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    unknown = set(schema) - {
        "$schema", "title", "description", "type", "required", "properties", "additionalProperties", "items", "enum",
        "const", "minimum", "maximum",
    }  # fmt: skip
    assert not unknown, f"this checker does not know {unknown}"

    def is_a(kind: str) -> bool:
        if kind in ("number", "integer"):
            return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
        return isinstance(value, types[kind])

    if not any(map(is_a, wanted)):
        return [f"{where} is {type(value).__name__}, not {wanted}"]
    found = []
    if "const" in schema and value != schema["const"]:
        found.append(f"{where} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where} is not one of {schema['enum']}")
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{where} is out of range")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, inner in value.items():
            part = properties.get(name, schema.get("additionalProperties"))
            found += violations(inner, part, f"{where}.{name}") if part is not None else []
    if isinstance(value, list):
        found += [problem for inner in value for problem in violations(inner, schema["items"], f"{where}[]")]
    return found


def test_the_documented_example_is_a_result(example: dict[str, Any]) -> None:
    assert violations(example, result_schema()) == []
    result = Result.from_dict(example)
    assert result.label == result.configuration.label
    assert json.loads(json.dumps(result.to_dict())) == example


def test_the_schema_has_exactly_the_fields_that_are_written(example: dict[str, Any]) -> None:
    schema = result_schema()
    for cls, part in (
        (Result, schema),
        (Configuration, schema["properties"]["configuration"]),
        *((getattr(module, name), schema["properties"][field]) for name, field in (
            ("DatasetInfo", "dataset"), ("ModelInfo", "model"), ("Agreement", "agreement"), ("Storage", "storage"),
            ("Speed", "speed"), ("Environment", "environment"),
        )),
        (module.Latency, schema["properties"]["speed"]["properties"]["latency_ms"]),
        (module.Check, schema["properties"]["checks"]["items"]),
    ):  # fmt: skip
        names = {field.name for field in dataclasses.fields(cls)}
        assert names == set(part["properties"]) - {"format", "schema_version"}, cls
        later = {  # came within version 1
            Configuration: {"n_candidates", "candidates", "store", "sparse", "rank", "weights", "context"},
            module.DatasetInfo: {"ignore_identical_ids"},
            module.ModelInfo: {"encoder", "query_ms"},
        }
        optional: set[str] = later.get(cls, set())
        assert set(part["required"]) == set(part["properties"]) - optional


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("quality", "nDCG@10"), "good"),
        (("agreement", "float32"), 1.5),
        (("configuration", "mode"), "psychic"),
        (("schema_version",), 2),
        (("speed",), None),
    ],
)
def test_the_schema_refuses(example: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    inner = example
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert violations(example, result_schema())


def test_written_and_read_back(example: dict[str, Any], tmp_path: Path) -> None:
    result = Result.from_dict(example)
    result.write(tmp_path / "deep" / "one.json")
    assert Result.read(tmp_path / "deep" / "one.json") == result
    (tmp_path / "other.json").write_text('{"format": "something else"}')
    (tmp_path / ".cache").mkdir()
    result.write(tmp_path / ".cache" / "hidden.json")
    assert load_results(tmp_path) == [result]
    assert load_results([tmp_path / "deep" / "one.json"]) == [result]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_newer_writer_may_add_fields(example: dict[str, Any]) -> None:
    expected = Result.from_dict(example)
    example["weather"] = "fine"
    example["speed"]["joules"] = 3.0
    assert Result.from_dict(example) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "else"}, "expected format"),
        ({"schema_version": 99}, "schema version 1, got 99"),
        ({"storage": {}}, "incomplete"),
        ({"configuration": {"codec": "int9"}}, "incomplete or malformed"),
        ({"checks": 3}, "incomplete or malformed"),
    ],
)
def test_what_cannot_be_read_says_why(
    example: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (tmp_path / "bad.json").write_text(json.dumps(example | change))
    with pytest.raises(ResultError, match=message) as caught:
        Result.read(tmp_path / "bad.json")
    assert "bad.json" in str(caught.value)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"format": "octavo-eval-result", "sch')
    with pytest.raises(ResultError, match=r"cut\.json"):
        load_results(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ResultError, match="expected a JSON object, got list"):
        Result.read(tmp_path / "list.json")
    with pytest.raises(ResultError, match="nothing at"):
        load_results(tmp_path / "nowhere")


def test_values_by_name(example: dict[str, Any]) -> None:
    result = Result.from_dict(example)
    assert result.value("nDCG@10") == example["quality"]["nDCG@10"]
    assert result.value("agreement") == result.value("agreement.float32") == 0.97
    assert result.value("agreement.codes_float32") == 0.99
    for name in ("P@5", "agreement.depth", "agreement.per_query"):
        with pytest.raises(ParameterError, match="expected a measure out of"):
            result.value(name)
    example["agreement"]["float32"] = None
    with pytest.raises(ParameterError, match="expected a measure"):
        Result.from_dict(example).value("agreement")


def test_configuration_keys_ignore_the_data(example: dict[str, Any]) -> None:
    first = Result.from_dict(example)
    example["dataset"]["name"] = "another"
    assert Result.from_dict(example).configuration_key == first.configuration_key
    example["configuration"]["oversample"] = 6.0
    assert Result.from_dict(example).configuration_key != first.configuration_key


def test_a_store_is_told_apart_and_a_local_one_is_left_out(example: dict[str, Any]) -> None:
    plain = Result.from_dict(example)
    assert plain.configuration.store is None
    assert "store" not in plain.to_dict()["configuration"]
    example["configuration"]["store"] = "qdrant"
    assert violations(example, result_schema()) == []
    stored = Result.from_dict(example)
    assert stored.configuration.label == f"{plain.label}, store qdrant"
    assert stored.configuration_key != plain.configuration_key
    assert json.loads(json.dumps(stored.to_dict())) == example
    example["configuration"]["store"] = "elsewhere"
    assert violations(example, result_schema())


def test_digests_are_those_of_versions_without_stores() -> None:
    """They name the files of earlier runs, which are not to be measured again."""
    for options, expected in (
        ({"codec": "int8"}, "e043e19547df83cd"),
        ({"codec": "int8", "store": "local"}, "e043e19547df83cd"),
        ({"codec": "int8", "mode": "late", "pool_factor": 2, "n_candidates": 9}, "ef25fa49fbd15318"),
    ):
        assert digest(Configuration.from_dict(options).to_dict()) == expected
