"""What a test run leaves out where an optional package is missing: the examples in modules that cannot be imported."""

import os
from importlib.util import find_spec

_NEEDED = {
    "ray": "src/octavo/integrations/ray/*",
    "qdrant_client": "src/octavo/integrations/qdrant/*",
    "haystack": "src/octavo/integrations/haystack/*",
    "mcp": "src/octavo/integrations/mcp/*",
    "dspy": "src/octavo/integrations/dspy/*",
}

collect_ignore_glob = [pattern for package, pattern in _NEEDED.items() if find_spec(package) is None]

# Haystack tells its makers what is used unless it is told not to, and reads this when it is imported.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
