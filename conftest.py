"""What a test run leaves out where an optional package is missing: the examples in modules that cannot be imported."""

import os
from importlib.util import find_spec

_NEEDED = {
    "mteb": "src/octavo/eval/mteb/*",
    "ray": "src/octavo/integrations/ray/*",
    "qdrant_client": "src/octavo/integrations/qdrant/*",
    "haystack": "src/octavo/integrations/haystack/*",
    "mcp": "src/octavo/integrations/mcp/*",
    "dspy": "src/octavo/integrations/dspy/*",
    "langchain_core": "src/octavo/integrations/langchain/*",
    "llama_index": "src/octavo/integrations/llama_index/*",
    "torch": "src/octavo/training/[hl]*.py",  # held_out, losses
    "transformers": "src/octavo/training/progress.py",
}

collect_ignore_glob = [pattern for package, pattern in _NEEDED.items() if find_spec(package) is None]

# Haystack tells its makers what is used unless it is told not to, and reads this when it is imported.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
