"""The programs in the documentation and the examples run, offline and without a warning; so does a missing extra."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EXAMPLES = sorted(ROOT.glob("examples/langchain_*.py"))


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/langchain.md").read_text("utf-8"), re.M | re.S)


def run(script: str, folder: Path) -> str:
    (folder / "program.py").write_text(script, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_complete_program(tmp_path: Path) -> None:
    lines = run(blocks()[0], tmp_path).splitlines()
    assert lines[0] == "['diesel', 'violin']"
    assert lines[1].endswith("gas: Gas turbines spin without pistons.")
    assert lines[2] == "violin"
    assert len(lines) == 3


def test_the_fragments(tmp_path: Path) -> None:
    program, *fragments = blocks()
    assert len(fragments) == 7
    again = """
embedding = WordEmbedding()
store = OctavoVectorStore(embedding, "kb")

def model(texts):
    return [np.stack([embedding.embed_query(word) for word in text.split()]) for text in texts]
"""
    checks = """
assert OctavoVectorStore.list_collections("tenants") == []
assert db.collection_name == "docs"
assert OctavoVectorStore(embedding, "folder").count() == len(documents)
assert [document.id for document in retriever.invoke("steam mills", k=1)] == ["steam"]
"""
    run(program + again + "\n".join(fragments) + checks, tmp_path)


def test_there_are_examples() -> None:
    names = [path.name for path in EXAMPLES]
    assert names == ["langchain_indexing.py", "langchain_late_interaction.py", "langchain_rag.py"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    expected = {
        "langchain_rag.py": "diesel: A diesel engine ignites its fuel by compression.",
        "langchain_late_interaction.py": "reranked: ['diesel']",
        "langchain_indexing.py": "['Prune the apple tree.', 'Sow peas in April.']",
    }
    assert expected[path.name] in run(path.read_text("utf-8"), tmp_path)


def attempt(blocked: str, folder: Path) -> str:
    script = f"""
        import sys
        from importlib.abc import MetaPathFinder

        class Block(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name == {blocked!r} or name.startswith({blocked!r} + "."):
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Block())
        try:
            import octavo.integrations.langchain
        except ImportError as err:
            print(type(err).__name__, err)
        """
    return run(textwrap.dedent(script), folder)


def test_the_missing_extra_is_named(tmp_path: Path) -> None:
    message = attempt("langchain_core", tmp_path)
    assert message.startswith("MissingExtraError octavo.integrations.langchain needs langchain-core")
    assert "pip install 'octavo[langchain]'" in message


@pytest.mark.parametrize("blocked", ["pydantic", "langchain_core.indexing"])
def test_a_broken_installation_shows_its_own_error(tmp_path: Path, blocked: str) -> None:
    message = attempt(blocked, tmp_path)
    assert f"No module named '{blocked}" in message
    assert "MissingExtraError" not in message


def test_importing_octavo_does_not_import_langchain(tmp_path: Path) -> None:
    script = "import sys, octavo, octavo.integrations; print('langchain_core' in sys.modules)"
    assert run(script, tmp_path).strip() == "False"
