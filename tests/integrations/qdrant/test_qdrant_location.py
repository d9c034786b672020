"""One string says where in Qdrant a collection is; none of this needs Qdrant's packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.errors import ParameterError
from octavo.integrations.qdrant.location import Location, open_collection, parse_location


@pytest.mark.parametrize(
    ("place", "name", "expected"),
    [
        ("http://h:6333", None, Location(url="http://h:6333", name="octavo")),
        ("https://h/prefix#kb", None, Location(url="https://h/prefix", name="kb")),
        ("https://h", "kb", Location(url="https://h", name="kb")),
        ("https://h#kb", "kb", Location(url="https://h", name="kb")),
        ("qdrant:a/b", None, Location(path=Path("a/b").absolute())),
        ("kb", None, None),
        ("ftp://h", None, None),
    ],
)
def test_places(place: str, name: str | None, expected: Location | None) -> None:
    assert parse_location(place, name) == expected


@pytest.mark.parametrize(
    ("place", "name", "told"),
    [
        ("http://", None, "expected a URL such as"),
        ("https://user:secret@h#kb", None, "QDRANT_API_KEY"),
        ("https://h#kb", "other", "'other' and 'kb'"),
        ("qdrant:", None, "a directory after"),
    ],
)
def test_what_cannot_be_a_place(place: str, name: str | None, told: str) -> None:
    with pytest.raises(ParameterError, match=told) as caught:
        parse_location(place, name)
    assert "secret" not in str(caught.value)


def test_a_directory_is_known_by_what_lies_in_it(tmp_path: Path) -> None:
    assert parse_location(tmp_path) is None
    (tmp_path / "edge_config.json").write_text("{}")
    assert parse_location(tmp_path) == Location(path=tmp_path)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "k")
    assert Location(url="https://h", name="n").options() == {"url": "https://h", "name": "n", "api_key": "k"}
    assert Location(path=Path("p")).options() == {"path": Path("p")}
    monkeypatch.setenv("QDRANT_API_KEY", "")
    assert Location(url="https://h").options()["api_key"] is None


def test_another_directory_is_no_place_in_qdrant(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="expected a place in Qdrant"):
        open_collection(tmp_path)
