"""``octavo plan`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from octavo.cli import app
from octavo.planning import Hardware, Workload, plan


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


def test_json_is_the_plan() -> None:
    result = json.loads(
        run("-n", "1e9", "--dim", "1024", "--codec", "binary > int8", "--text-bytes", "500", "--ram-per-node", "32GiB",
            "--disk-per-node", "4TB", "--replicas", "3", "--encode-rate", "5000", "--json").stdout
    )  # fmt: skip
    expected = plan(
        Workload(10**9, 1024, "binary > int8", text_bytes=500), Hardware(32 * 2**30, 4e12, replicas=3, encode_rate=5000)
    )
    assert result["cluster"]["nodes"] == expected.cluster.nodes
    assert result["cluster"]["ram"] == expected.cluster.ram
    assert result["one_machine"]["disk"] == expected.local.disk
    assert result["fits_one_machine"] is False
    assert result["cluster"]["encode_hours"] == pytest.approx(1e9 / 5000 / 3600)


@pytest.mark.parametrize(
    ("text", "documents"), [("50M", 50_000_000), ("1_000", 1000), ("2.5k", 2500), ("10,000", 10_000)]
)
def test_numbers_of_documents(text: str, documents: int) -> None:
    assert json.loads(run("-n", text, "--dim", "8", "--json").stdout)["workload"]["documents"] == documents


def test_text_for_people() -> None:
    shown = run("-n", "50M", "--dim", "384", "--tokens", "64", "--encode-rate", "100", "--ram-per-node", "8GB").stdout
    assert "is not enough for 50,000,000 documents" in shown
    assert "Qdrant cluster" in shown
    assert "tokens" in shown
    assert "138.9 hours at 100 documents a second" in shown
    assert "is enough" in run("-n", "1000", "--dim", "8").stdout


def test_simulation(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "fan-out.svg"
    arguments = ["-n", "1000", "--dim", "8", "--simulate", str(picture), "--stall-share", "0.02"]
    curves = json.loads(run(*arguments, "--json").stdout)["fan_out"]
    assert picture.read_text().startswith("<?xml")
    plain, hedged = curves["one replica asked"], curves["two replicas, hedged"]
    assert [point["shards"] for point in plain] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert plain[-1]["p99_ms"] > 5 * hedged[-1]["p99_ms"]
    assert "sends 5.0% of the requests a second time" in run(*arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "many", "--dim", "8"], "--documents"),
        (["-n", "1e3", "--dim", "8", "--ram-per-node", "big"], "64MB"),
        (["-n", "1e3", "--dim", "8", "--codec", "int9"], "int9"),
        (["-n", "0", "--dim", "8"], "documents"),
        (["-n", "1e3", "--dim", "8", "--simulate", "picture.txt"], ".svg or .png"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    assert message in run(*arguments, code=2).stderr


def test_pages() -> None:
    arguments = [
        "-n",
        "1000",
        "--pages",
        "colpali",
        "--pool-factor",
        "9",
        "--codec",
        "rotate|int2",
        "--text-bytes",
        "0",
    ]
    shown = run(*arguments).stdout
    assert "A page: 1,030 vectors of 128 (263.7 kB in float16); pooled by 9 119, 3.8 kB in rotate|int2" in shown
    plain, stored = (json.loads(run(*arguments, *more, "--json").stdout) for more in ([], ["--image-bytes", "300000"]))
    assert plain["workload"]["tokens"] == 1030
    assert plain["one_machine"]["disk"]["tokens"] == 1000 * (119 * 32 + 8)
    grown = stored["one_machine"]["disk"]["documents"] - plain["one_machine"]["disk"]["documents"]
    assert grown == pytest.approx(1000 * 400_000, rel=0.05)
    payload = stored["cluster"]["disk"]["payload"] - plain["cluster"]["disk"]["payload"]
    assert payload > 0
    assert json.loads(run(*arguments, "--dim", "64", "--tokens", "500", "--json").stdout)["workload"]["tokens"] == 500
    assert "--pages" in run("-n", "1000", code=2).output
