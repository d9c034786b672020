"""The program in the documentation and the examples run, offline and without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

EXAMPLES = sorted(ROOT.glob("examples/llama_index_*.py"))


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/llama-index.md").read_text(), re.M | re.S)


def run(script: str, folder: Path) -> str:
    (folder / "program.py").write_text(script)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_complete_program(tmp_path: Path) -> None:
    lines = run(blocks()[0], tmp_path).splitlines()
    assert lines[0].endswith("diesel: A diesel engine ignites its fuel by compression.")
    assert "violin" in lines[1]
    assert lines[2] == "['Gas turbines spin without pistons.']"
    assert len(lines) == 3


def test_the_fragments(tmp_path: Path) -> None:
    setup = """
from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.llms import MockLLM
import numpy as np
from octavo.integrations.llama_index import OctavoVectorStore
llm, embed_model = MockLLM(), MockEmbedding(embed_dim=4)
index = VectorStoreIndex.from_documents(
    [Document(text="words")],
    storage_context=StorageContext.from_defaults(vector_store=OctavoVectorStore("kb")),
    embed_model=embed_model,
)
tools = ["a hammer", "a saw"]
documents = [Document(id_="s", text="steam", metadata={"year": 1820}), Document(id_="d", text="diesel engine")]

def model(texts):
    return [np.stack([np.random.default_rng(list(word.encode())).random(8) for word in text.split()]) for text in texts]
"""
    checks = """
assert index.as_retriever().retrieve('x')[0].text == 'words'
assert sorted(objects.as_retriever(similarity_top_k=2).retrieve('x')) == tools
assert late.refresh_ref_docs(documents) == [False, False]
assert engine.query("steam").source_nodes[0].text == "steam"
"""
    fragments = blocks()[1:]
    assert len(fragments) == 6
    run(setup + "\n".join(fragments) + checks, tmp_path)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    out = run(path.read_text(), tmp_path)
    expected = {
        "llama_index_quickstart.py": "by words: ['violin']",
        "llama_index_late_interaction.py": "sources: ['diesel']",
        "llama_index_ingestion.py": "found: ['Members may borrow seven books.']",
    }
    assert expected[path.name] in out
