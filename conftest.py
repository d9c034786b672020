"""What a test run leaves out where an optional package is missing: the examples in modules that cannot be imported."""

from importlib.util import find_spec

_NEEDED = {"ray": "src/octavo/integrations/ray/*", "qdrant_client": "src/octavo/integrations/qdrant/*"}

collect_ignore_glob = [pattern for package, pattern in _NEEDED.items() if find_spec(package) is None]
