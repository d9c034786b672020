from __future__ import annotations

import builtins
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from octavo.encoders.models import load_sentence_transformer, resolve_model
from octavo.errors import MissingExtraError, ParameterError


def test_packaged_model_is_found_by_both_names(minilm: str) -> None:
    folder = Path(resolve_model(minilm))
    assert (folder / "model.safetensors").is_file()
    assert resolve_model(f"sentence-transformers/{minilm}") == str(folder)


def test_a_folder_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    assert resolve_model("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"


def test_other_names_stay() -> None:
    assert resolve_model("somebody/all-MiniLM-L6-v2") == "somebody/all-MiniLM-L6-v2"


def test_without_the_package_the_name_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert resolve_model("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "sentence_transformers":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *arguments, **keywords)

    monkeypatch.delitem(sys.modules, "sentence_transformers", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'octavo\[models\]'"):
        load_sentence_transformer("all-MiniLM-L6-v2")


@pytest.mark.parametrize("kind", ["SparseEncoder", "MultiVectorEncoder"])
def test_a_version_without_the_class_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", ModuleType("sentence_transformers"))
    with pytest.raises(MissingExtraError, match=r"needs sentence-transformers 9 or later.*sentence-transformers>=9"):
        load_sentence_transformer("some-model", kind, since=9)


def test_a_broken_installation_raises_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise ImportError("libtorch is missing")

    monkeypatch.setitem(sys.modules, "sentence_transformers", Broken("sentence_transformers"))
    for kind in ("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder"):
        with pytest.raises(ImportError, match="libtorch is missing"):
            load_sentence_transformer("some-model", kind)


def test_unknown_model(minilm: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'nobody/no-such-model', which could not be loaded"):
        load_sentence_transformer("nobody/no-such-model")
    with pytest.raises(ParameterError, match="could not be loaded"):
        load_sentence_transformer(str(tmp_path))  # a folder that holds no model


def test_loading_draws_no_bar_and_leaves_the_setting(minilm: str, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    model = load_sentence_transformer(minilm)
    assert model.encode(["text"]).shape == (1, 384)
    assert logging.is_progress_bar_enabled() == before
    assert "Loading" not in capfd.readouterr().err
