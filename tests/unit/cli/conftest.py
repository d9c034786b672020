"""The command line as a function, with a model of hashed words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from octavo.cli import app

WORDS = '''
import zlib
import numpy as np

calls = []

def encode(texts):
    """Bag of hashed words: equal texts are equal, texts that share words are near."""
    calls.extend(texts)
    vectors = np.zeros((len(texts), 64), np.float32)
    vectors[:, 0] = 0.1  # no text is a zero vector
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, zlib.crc32(word.encode()) % 64] += 1
    return vectors

def encode_otherwise(texts):
    """Another model of the same dimension."""
    return -encode(texts)[:, ::-1]

limit = [10**9]

def encode_wider(texts):
    """A model of another dimension, which may refuse to go on."""
    if limit[0] <= 0:
        raise ConnectionError("429 too many requests")
    limit[0] -= len(texts)
    return np.concatenate([encode(texts), encode(texts)[:, :32]], axis=1)

def encode_tokens(texts):
    """One vector a word."""
    calls.extend(texts)
    return [encode_words(text.lower().split() or ["nothing"]) for text in texts]

def encode_sparse(texts):
    """One term a word."""
    return [{zlib.crc32(word.encode()): 1.0 for word in text.lower().split()} for text in texts]

def encode_words(words):
    return np.stack([np.random.default_rng(zlib.crc32(word.encode())).normal(size=16) for word in words]).astype(np.float32)
'''

MODEL = "words:encode"

Run = Callable[..., Any]


@pytest.fixture
def words(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the module `words` importable, here and in processes, and the temporary folder the current one."""
    modules = tmp_path_factory.mktemp("modules")
    (modules / "words.py").write_text(WORDS)
    monkeypatch.syspath_prepend(modules)
    monkeypatch.delitem(sys.modules, "words", raising=False)
    source = str(Path(__file__).parents[3] / "src")
    monkeypatch.setenv("PYTHONPATH", f"{source}:{modules}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    import words as module  # type: ignore[import-not-found]

    return module


@pytest.fixture
def run(words: Any) -> Run:
    """Run a command; its exit code has to be `code`."""

    def invoke(*arguments: str, code: int = 0, input: str | None = None) -> Any:
        result = CliRunner().invoke(app, list(arguments), input=input)
        assert result.exit_code == code, result.output
        return result

    return invoke
