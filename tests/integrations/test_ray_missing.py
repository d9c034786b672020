"""Ray is optional: nothing but its own sub-package needs it, and that says what to install."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
sys.modules["ray"] = None  # as if it were not installed
import octavo, octavo.cli, octavo.planning, octavo.ingest.transfer
from octavo.errors import MissingExtraError
try:
    import octavo.integrations.ray
except MissingExtraError as error:
    print(error)
"""


def test_the_command_that_installs_it_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == "octavo.integrations.ray needs ray[data]. Install it: pip install 'octavo[ray]'\n"


def test_the_base_package_loads_no_ray() -> None:
    script = "import sys, octavo, octavo.cli; print([name for name in ('ray', 'pyarrow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
