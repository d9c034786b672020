"""Ray is optional: nothing but its own sub-package needs it, and that says what to install."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
sys.modules["ray"] = None  # as if it were not installed
import quire, quire.cli, quire.planning, quire._transfer
from quire.errors import MissingExtraError
try:
    import quire.integrations.ray
except MissingExtraError as error:
    print(error)
"""


def test_the_command_that_installs_it_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == "quire.integrations.ray needs ray[data]. Install it: pip install 'quire[ray]'\n"


def test_the_base_package_loads_no_ray() -> None:
    script = "import sys, quire, quire.cli; print([name for name in ('ray', 'pyarrow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
