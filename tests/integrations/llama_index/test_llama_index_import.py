"""Without llama-index-core, and without loading what is not needed."""

from __future__ import annotations

import subprocess
import sys
import textwrap

BLOCK = """
    import sys
    from importlib.abc import MetaPathFinder

    class Block(MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == {blocked!r} or name.startswith({blocked!r} + "."):
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    sys.meta_path.insert(0, Block())
"""


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout


def attempt(blocked: str) -> str:
    script = textwrap.dedent(BLOCK.format(blocked=blocked)) + textwrap.dedent(
        """
        try:
            import octavo.integrations.llama_index
        except ImportError as err:
            print(type(err).__name__, err)
        """
    )
    return run(script)


def test_the_missing_extra_is_named() -> None:
    message = attempt("llama_index")
    assert message.startswith("MissingExtraError octavo.integrations.llama_index needs llama-index-core")
    assert "pip install 'octavo[llama-index]'" in message


def test_a_broken_installation_shows_its_own_error() -> None:
    assert attempt("pydantic").startswith("ModuleNotFoundError No module named 'pydantic")


def test_importing_octavo_does_not_import_the_framework() -> None:
    assert run("import sys, octavo, octavo.integrations; print('llama_index.core' in sys.modules)").strip() == "False"
