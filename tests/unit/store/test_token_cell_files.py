"""The token cells of a collection: trained, extended, merged, saved, mapped, damaged and made again, copied, erased."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import CorruptCollectionError
from octavo.store.snapshot import CellView

DIM, TOKENS = 16, 6
ENDINGS = (".centroids", ".postings", ".tmp")


@pytest.fixture(autouse=True)
def small_cells(lowered_limits: Callable[..., AbstractContextManager[None]]) -> Iterator[None]:
    """Token cells from 300 documents on, with at most 60 beside them, and nothing scored exactly because it is little."""
    with lowered_limits(
        token_cells_min=300, token_tail_max=60, few=1, late_candidates=120, late_candidates_by_tokens=120
    ):
        yield


def matrices(n: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    topics = np.random.default_rng(99).standard_normal((40, DIM))
    return [
        (topics[rng.integers(0, 40, TOKENS)] + 0.35 * rng.standard_normal((TOKENS, DIM))).astype(np.float32)
        for _ in range(n)
    ]


def added(kb: octavo.MultiVectorCollection, n: int, first: int = 0) -> None:
    kb.add(
        [f"text {first + i}" for i in range(n)],
        ids=[str(first + i) for i in range(n)],
        metadata=[{"m": (first + i) % 10} for i in range(n)],
        token_vectors=matrices(n, seed=first),
    )


def filled(path: Path | None, n: int = 700, **options: Any) -> octavo.MultiVectorCollection:
    kb = octavo.open_multi_vector(path, **({"fit_after": 100, "pool_factor": 1, "codec": "int8"} | options))
    added(kb, n)
    kb.flush()
    return kb


def view_of(kb: octavo.MultiVectorCollection) -> CellView:
    view = kb._store.snapshot.token_cells
    assert view is not None
    return view


def names(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.endswith(ENDINGS))


def recorded(kb: octavo.MultiVectorCollection) -> dict[str, Any]:
    with kb._store.read() as (connection, _):
        entry = kb._store.artifact(connection, "token_cells")
    assert entry is not None
    return entry


def queries() -> list[np.ndarray]:
    return matrices(12, seed=4_242)


def agreement(kb: octavo.MultiVectorCollection, **options: Any) -> float:
    found = [kb.search(query, 10, **options).ids for query in queries()]
    best = [
        kb.search(query, 10, exact=True, **{k: v for k, v in options.items() if k == "filter"}).ids
        for query in queries()
    ]
    return float(np.mean([len(set(a) & set(b)) / max(1, len(b)) for a, b in zip(found, best, strict=True)]))


@pytest.mark.parametrize("on_disk", [False, True])
def test_they_find_what_means_miss(tmp_path: Path, on_disk: bool) -> None:
    with filled(tmp_path / "kb" if on_disk else None) as kb:
        assert view_of(kb).covered == 700
        assert agreement(kb) >= 0.9
        assert agreement(kb, candidates="tokens") >= 0.9 > agreement(kb, candidates="mean")
        assert kb.info().ram["token cells"] == view_of(kb).nbytes
        if on_disk:
            files = sum((tmp_path / "kb" / name).stat().st_size for name in names(tmp_path / "kb"))
            assert kb.info().disk["token cells"] == files


def test_filters_are_inside(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        for passing in ({"m": 3}, {"m": {"$lt": 5}}):
            assert agreement(kb, filter=passing, candidates="tokens") >= 0.9
            found = kb.search(queries()[0], 10, filter=passing, candidates="tokens")
            assert all(hit.metadata["m"] == 3 or passing != {"m": 3} for hit in found)
        kb.delete([str(i) for i in range(0, 700, 2)])
        assert all(int(i) % 2 for query in queries() for i in kb.search(query, 10, candidates="tokens").ids)
        assert agreement(kb, candidates="tokens") >= 0.9


def test_the_same_when_it_is_opened_again(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        expected = [kb.search(query, 10, candidates="tokens").ids for query in queries()]
    with octavo.open_multi_vector(tmp_path / "kb", read_only=True) as kb:
        assert [kb.search(query, 10, candidates="tokens").ids for query in queries()] == expected
        assert view_of(kb).trained.file is not None
        assert kb.verify().ok


def test_documents_beside_the_cells_are_found(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        added(kb, 40, first=700)
        assert view_of(kb).covered == 700
        for candidates in ("vectors", "tokens"):
            for number, query in list(enumerate(matrices(40, seed=700)))[::7]:
                assert kb.search(query, 1, candidates=candidates).ids == [str(700 + number)]
        kb.flush()
        assert view_of(kb).covered == 740
        assert len(view_of(kb).parts) == 2
        added(kb, 290, first=740)
        kb.flush()
        assert view_of(kb).covered == 1_030
        assert sum(len(part.segment) for part in view_of(kb).parts) > 1_030
        assert agreement(kb) >= 0.9


def test_they_are_learned_anew_when_the_collection_grows(tmp_path: Path) -> None:
    with filled(tmp_path / "kb", 400) as kb:
        before = len(view_of(kb).trained.model)
        added(kb, 500, first=400)
        kb.flush()
        assert view_of(kb).trained.rows == 900
        assert len(view_of(kb).trained.model) > before
        assert set(names(tmp_path / "kb")) == {
            recorded(kb)["model"]["file"],
            *(part["file"] for part in recorded(kb)["segments"]),
        }  # what is no longer named is gone


def test_compaction_takes_them_over(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        centroids = np.array(view_of(kb).trained.model.centroids)
        kb.delete([str(i) for i in range(0, 700, 3)])
        kb.compact()
        kb.flush()
        assert np.array_equal(view_of(kb).trained.model.centroids, centroids)
        assert view_of(kb).covered == len(kb)
        assert agreement(kb, candidates="tokens") >= 0.9
        assert kb.verify().ok


def test_a_secure_compaction_forgets_them(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        before = names(tmp_path / "kb")
        kb.delete([str(i) for i in range(0, 700, 3)])
        kb.compact(secure=True)
        assert not set(before) & set(names(tmp_path / "kb"))
        kb.flush()
        assert agreement(kb, candidates="tokens") >= 0.9


@pytest.mark.parametrize("ending", [".centroids", ".postings"])
@pytest.mark.parametrize("damage", ["flip first", "flip last", "cut", "remove", "link"])
def test_damage_is_named_and_costs_no_answer(tmp_path: Path, ending: str, damage: str) -> None:
    with filled(tmp_path / "kb") as kb:
        expected = [kb.search(query, 10, exact=True).ids for query in queries()]
    [name] = [name for name in names(tmp_path / "kb") if name.endswith(ending)]
    file = tmp_path / "kb" / name
    data = bytearray(file.read_bytes())
    file.chmod(0o600)
    if damage.startswith("flip"):
        data[40 if damage == "flip first" else -1] ^= 0xFF
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:-1])
    else:
        file.unlink()
        if damage == "link":
            (tmp_path / "elsewhere").write_bytes(data)
            file.symlink_to(tmp_path / "elsewhere")
    with octavo.open_multi_vector(tmp_path / "kb", read_only=True) as kb:
        report = kb.verify()
        assert not report.ok
        assert any(name in problem for problem in report.problems)
        for query, ids in zip(queries(), expected, strict=True):
            assert len(set(kb.search(query, 10, n_candidates=600).ids) & set(ids)) >= 8
    with octavo.open_multi_vector(tmp_path / "kb") as kb:
        assert kb.verify(repair=True).ok
        kb.flush()
        assert view_of(kb).covered == 700
        assert agreement(kb, candidates="tokens") >= 0.9
    with octavo.open_multi_vector(tmp_path / "kb", read_only=True) as kb:
        assert kb.verify().ok


def test_damage_while_it_is_open(tmp_path: Path) -> None:
    with filled(tmp_path / "kb"):
        pass
    with octavo.open_multi_vector(tmp_path / "kb") as kb:
        file = next(part.file for part in view_of(kb).parts)
        assert file is not None
        [name] = [name for name in names(tmp_path / "kb") if name.endswith(".postings")]
        length = (tmp_path / "kb" / name).stat().st_size
        with (tmp_path / "kb" / name).open("r+b") as raw:
            raw.seek(length - 2_000)
            raw.write(b"\xff" * 2_000)
        assert len(kb.search(queries()[0], 10, n_candidates=600).ids) == 10
        kb.flush()
        assert not view_of(kb).damaged
        assert agreement(kb, candidates="tokens") >= 0.9
        assert kb.verify().ok


@pytest.mark.parametrize("change", ["other index", "beyond", "no number", "another file"])
def test_an_entry_that_was_not_written_here_is_not_read(tmp_path: Path, change: str) -> None:
    with filled(tmp_path / "kb") as kb:
        entry = recorded(kb)
        if change == "other index":
            entry["model"]["file"] = entry["model"]["file"].replace(".centroids", ".cells")
        elif change == "beyond":
            entry["segments"][0]["last"] = 10**9
        elif change == "no number":
            entry["covered"] = "all"
        else:
            entry["segments"][0]["file"] = "../../elsewhere"
        with kb._store.write() as connection:
            connection.execute("UPDATE artifacts SET value = ? WHERE name = 'token_cells'", (json.dumps(entry),))
    with octavo.open_multi_vector(tmp_path / "kb") as kb:
        kb.flush()
        assert agreement(kb, candidates="tokens") >= 0.9
        assert kb.verify().ok


def test_copies_and_snapshots_have_them(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        kb.copy(tmp_path / "copy").close()
        kb.snapshot(tmp_path / "snapshot")
        expected = names(tmp_path / "kb")
    for where in ("copy", "snapshot"):
        assert names(tmp_path / where) == expected
        with octavo.open_multi_vector(tmp_path / where, read_only=True) as kb:
            assert view_of(kb).covered == 700
            assert kb.verify().ok


def test_another_codec_is_followed(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        kb.refit()
        kb.flush()
        assert view_of(kb).covered == 700
        assert agreement(kb, candidates="tokens") >= 0.9


def test_documents_without_tokens_are_in_no_cell(tmp_path: Path) -> None:
    with filled(tmp_path / "kb", 500) as kb:
        kb.add(["nothing"] * 80, ids=[f"e{i}" for i in range(80)], token_vectors=[np.zeros((0, DIM))] * 80)
        kb.flush()
        assert view_of(kb).covered == 580
        assert not any(i.startswith("e") for query in queries() for i in kb.search(query, 50).ids)
        added(kb, 80, first=500)
        kb.flush()
        assert agreement(kb) >= 0.9


def test_nothing_to_do_for_one_vector_a_document(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", fit_after=100) as kb:
        kb.add(vectors=np.random.default_rng(0).standard_normal((500, DIM)))
        kb.flush()
        assert kb._store.snapshot.token_cells is None
        assert "token cells" not in kb.info().ram
        assert names(tmp_path / "kb") == []


def test_what_is_pointed_at_beyond_is_damage(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        entry = recorded(kb)
        folder = kb._store.folder
        assert folder is not None
        part = entry["segments"][0] | {"first": 65_536, "last": 65_600}
        from octavo.store._cell_format import read_postings

        with pytest.raises(CorruptCollectionError, match="damaged"):
            read_postings(folder, part, view_of(kb).trained.model)
