"""Texts of PDF, DOCX and HTML files, read in a process of their own that can be ended."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

from octavo.errors import MissingExtraError

_log = logging.getLogger(__name__)

#: Seconds that one file may take.
TIME_LIMIT = 60.0

#: File name endings, and what reads them.
KINDS = {".pdf": "pdf", ".html": "html", ".htm": "html", ".xhtml": "html", ".docx": "docx"}

_NEEDED = {
    "pdf": ("pypdfium2",),
    "images": ("PIL",),
    "html": ("bs4", "markdownify"),
    "docx": ("mammoth", "bs4", "markdownify"),
}


class UnreadableFileError(Exception):
    """A file is left out; the message says why."""


def missing_for(kind: str) -> str | None:
    """Return the name of a module that reading this kind needs and that is not installed."""
    return next((name for name in _NEEDED[kind] if importlib.util.find_spec(name) is None), None)


class Converter:
    """Reads PDF, DOCX and HTML in a second process, which starts with the first file and is kept for the next.

    Parameters
    ----------
    time_limit : float
        Seconds that one file may take; then the process is ended, and the next file has a new one.
    """

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        self._time_limit = time_limit
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def convert(self, kind: str, path: Path) -> tuple[list[tuple[int | None, str]], dict[str, Any]]:
        """Return the texts of a file's parts, each with its page if there are pages, and what else the file says of itself.

        Raises
        ------
        UnreadableFileError
            When the file cannot be read, or not within the time and memory that it may take.
        MissingExtraError
            When the library for this kind is not installed.
        """
        answer = self._ask({"kind": kind, "path": os.fspath(path)})
        if "missing" in answer:
            raise MissingExtraError(
                f"reading {kind} files needs {answer['missing']}. Install it: pip install 'octavo[files]'"
            )
        if "error" in answer:
            raise UnreadableFileError(answer["error"])
        return [(page, _whole(text)) for page, text in answer["parts"]], {
            name: _whole(value) for name, value in answer["about"].items()
        }

    def draw(self, path: Path, pages: Sequence[int]) -> dict[int, str]:
        """Draw pages of a PDF, and say of each ``drawn``, ``blank``, or why not: what crashes the drawing costs that page.

        Parameters
        ----------
        path : Path
            The file.
        pages : sequence of int
            Their numbers, from 1.
        """
        found: dict[int, str] = {}
        for page in pages:
            try:
                answer = self._ask({"kind": "draw", "path": os.fspath(path), "page": page})
            except UnreadableFileError as error:
                found[page] = str(error)
                continue
            found[page] = answer["drawn"] if "drawn" in answer else str(answer.get("error", "could not be drawn"))
        return found

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None  # a pipe was asked for
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            line = self._answers.get(timeout=self._time_limit)
        except queue.Empty:
            self.close()
            raise UnreadableFileError(f"reading it took longer than {self._time_limit:.0f} seconds") from None
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.close()  # interrupted: the answer that comes later belongs to nobody
            raise
        if not line:
            self.close()
            raise UnreadableFileError("the parser crashed on it")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # what was left to be written
                    _log.debug("the converter had gone")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            script = Path(__file__).with_name("_convert.py")
            # -P: the folder of the script is no place for imports
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the one who asks, who then ends this one
            )
            self._answers = queue.SimpleQueue()
            assert self._process.stdout is not None  # a pipe was asked for
            threading.Thread(target=_forward, args=(self._process.stdout, self._answers), daemon=True).start()
        return self._process


def _forward(pipe: IO[bytes], answers: queue.SimpleQueue[bytes]) -> None:
    """Hand lines on, and an empty one at the end: reading a pipe has no time limit on every system."""
    try:
        for line in pipe:
            answers.put(line)
    except ValueError:  # closed meanwhile
        return
    answers.put(b"")


def _whole(text: str) -> str:
    """Return a text without halves of pairs, which UTF-8 does not have."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
