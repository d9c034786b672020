"""Write ``docs/licences.md``: the packages that Octavo and its extras bring, and their licences: ``make licences``.

Walks the requirements of the installed distribution (those for this platform) and reads each package's own metadata through
``pip-licenses``; development tools are left out. A package without a stated licence ends it with status 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
NAME = "octavo"


def needed(name: str, extras: set[str], found: set[str]) -> set[str]:
    """Names of everything that a distribution with these extras brings, itself left out."""
    try:
        requirements = distribution(name).requires or []
    except PackageNotFoundError:
        return found
    for text in requirements:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        other = canonicalize_name(requirement.name)
        if other == NAME:
            needed(NAME, requirement.extras, found)
        elif other not in found:
            found.add(other)
            needed(other, requirement.extras, found)
    return found


def table(names: set[str]) -> str:
    """A Markdown table of the names, with licences as the packages state them."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--packages", *sorted(names)]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    unknown = [row["Name"] for row in rows if row["License"] == "UNKNOWN"]
    if unknown:
        raise SystemExit(f"no licence is stated by {unknown}; find out and leave them, or do without them")
    lines = [
        f"| {row['Name']} | {row['License'].splitlines()[0]} |"
        for row in sorted(rows, key=lambda row: row["Name"].lower())
    ]
    return "\n".join(["| package | licence |", "|---|---|", *lines])


def main() -> None:
    core = needed(NAME, set(), set())
    everything = needed(NAME, {"all"}, set())
    text = f"""# Licences of what Octavo brings

Octavo is under Apache 2.0. What its packages state of themselves, in the versions of `constraints.txt` (written by
`make licences`).

## Octavo alone

{table(core)}

## With `octavo[all]`, in addition

{table(everything - core)}
"""
    (ROOT / "docs" / "licences.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
