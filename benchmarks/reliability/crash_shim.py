"""Builds the fault shim and drives it; see ``fault_shim.c``."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("fault_shim.c")

BEFORE, AFTER, HALF = range(3)
KILL, ONCE, ON = range(3)


@dataclass(frozen=True)
class Fault:
    """What happens at one call; the fields are those of ``fault_arm``.

    Parameters
    ----------
    at : int
        Number of the call, from 1; 0 counts only.
    when : int
        `BEFORE`, `AFTER` or `HALF` of it.
    kind : int
        `KILL`, or fail `ONCE` or from then `ON`.
    code : int
        ``errno`` of the failure.
    kill_at : int
        The process is killed before this call, whatever happened until then; 0 for never.
    """

    at: int = 0
    when: int = BEFORE
    kind: int = KILL
    code: int = 0
    kill_at: int = 0


def unavailable() -> str | None:
    """Return why the shim cannot be used here, if it cannot."""
    if not sys.platform.startswith("linux"):
        return "LD_PRELOAD with Linux's system calls is needed"
    if shutil.which("cc") is None:
        return "a C compiler (cc) is needed"
    return None


def build(folder: Path) -> Path:
    """Compile the shim into a folder, unless it is there already."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = folder / f"fault-shim-{digest}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            draft = Path(scratch) / library.name
            command = [
                "cc",
                "-O1",
                "-shared",
                "-fPIC",
                "-Wall",
                "-Wno-unused-result",
                "-o",
                str(draft),
                str(SOURCE),
                "-ldl",
            ]
            subprocess.run(command, check=True)
            os.replace(draft, library)
    return library


class Shim:
    """The shim that this process was started with.

    Raises
    ------
    AttributeError
        When the process was not started with ``LD_PRELOAD``.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._arm, self._calls, self._hit = library.fault_arm, library.fault_calls, library.fault_hit
        self._key = library.fault_key
        # at, when, kind, code, kill_at
        numbers = [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        self._arm.argtypes, self._arm.restype = [ctypes.c_char_p, *numbers, ctypes.c_char_p], None
        self._calls.restype, self._hit.restype = ctypes.c_long, ctypes.c_char_p

    def arm(self, root: Path, fault: Fault, shadow: Path | None = None) -> None:
        """Count the calls on files below `root` from now on, and let the fault happen."""
        where = os.fsencode(shadow) if shadow is not None else b""
        self._arm(os.fsencode(root), fault.at, fault.when, fault.kind, fault.code, fault.kill_at, where)

    def disarm(self) -> None:
        """Stop."""
        self._arm(b"", 0, 0, 0, 0, 0, b"")

    @property
    def calls(self) -> int:
        """Calls that were counted since `arm`."""
        return int(self._calls())

    @property
    def hit(self) -> str:
        """The call that the fault has hit, and the file; empty if none."""
        return os.fsdecode(self._hit())

    def key(self, path: Path) -> str:
        """Return a name for a file that no other file ever has, also after it was deleted."""
        buffer = ctypes.create_string_buffer(128)
        if self._key(os.fsencode(path), buffer, len(buffer)):
            raise FileNotFoundError(path)
        return buffer.value.decode()
