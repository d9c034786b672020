"""`octavo.testing.check_collection` on Octavo's own collections, and on ones that break its promises."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import ParameterError
from octavo.retrievers.results import SearchResult
from octavo.testing import check_collection, collection_checks

KINDS: dict[str, Callable[..., Any]] = {
    "in memory": lambda path: octavo.open(codec="float32"),
    "in memory, int8": lambda path: octavo.open(codec="int8", fit_after=20),
    "in memory, dot": lambda path: octavo.open(codec="float32", metric="dot"),
    "on disk, two tiers": lambda path: octavo.open(path, codec="binary > int8", fit_after=20),
    "on disk, float16": lambda path: octavo.open(path, codec="float16"),
    "late": lambda path: octavo.open_multi_vector(path, codec="int8", fit_after=20),
    "late, in memory, every token": lambda path: octavo.open_multi_vector(codec="float32", pool_factor=1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", collection_checks(), ids=str)
def test_contract(check: Any, kind: str, tmp_path: Path) -> None:
    numbers = itertools.count()
    check(lambda: KINDS[kind](tmp_path / f"c{next(numbers)}"))


class Broken(octavo.Collection):
    """Keeps one promise less."""


def _forgets(self: Any, ids: Any = None, filter: Any = None) -> int:
    return octavo.Collection.delete(self, [], None) if ids is None else octavo.Collection.delete(self, ids, filter)


def _unordered(self: Any, filter: Any = None) -> list[str]:
    return sorted(octavo.Collection.ids(self, filter))


def _noisy(self: Any, *arguments: Any, **options: Any) -> SearchResult:
    found = octavo.Collection.search(self, *arguments, **options)
    return SearchResult(found.ids, found.scores + np.float32(0.1), found.documents, found.payloads)


def _endless(self: Any, ids: Any) -> list[Any]:
    raise RuntimeError("broken")


def _stays_open(self: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("method", "function", "message"),
    [
        ("delete", _forgets, "deletion: "),
        ("ids", _unordered, "what_goes_in_comes_out: ids come in the order of writing"),
        ("search", _noisy, "an_exact_search_scores_what_is_stored: scores are those of what is stored"),
        ("get", _endless, "an_empty_collection: RuntimeError was raised: broken"),
        ("close", _stays_open, "a_closed_collection: "),
    ],
)
def test_a_broken_promise_is_named(
    method: str, function: Callable[..., Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Any:
        collection = octavo.open(codec="float32")
        made.append(collection)
        collection.__class__ = Broken
        return collection

    made: list[Any] = []
    monkeypatch.setattr(Broken, method, function, raising=False)
    with pytest.raises(AssertionError, match="^" + message):
        check_collection(make)
    for collection in made:
        octavo.Collection.close(collection)


def test_a_factory_has_to_make_new_collections() -> None:
    with octavo.open(codec="float32") as kb:
        kb.add(["x"], vectors=np.ones((1, 32)))
        with pytest.raises(AssertionError, match="expected make\\(\\) to return an empty collection, got 1 documents"):
            check_collection(lambda: kb)


def test_options_of_the_checks() -> None:
    assert len({str(check) for check in collection_checks(dim=np.int64(16))}) == len(collection_checks())
    for wrong in ({"dim": 4}, {"tolerance": -1}):
        with pytest.raises(ParameterError):
            collection_checks(**wrong)


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
