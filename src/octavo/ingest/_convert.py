"""The second process that reads PDF, DOCX and HTML: what crashes or hangs a parser costs one file.

Run as a script by `octavo.ingest.converter`, so it imports nothing of Octavo. It reads one JSON object a line,
``{"kind", "path"}``, and answers with one: ``{"parts": [[page, text], ...], "about": {...}}`` or ``{"error": "..."}``. To
``{"kind": "draw", "path", "page"}`` the answer is ``{"drawn": "drawn"}``, ``{"drawn": "blank"}`` or an error.
"""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections.abc import Callable
from typing import Any

#: Bytes of memory that this process may take, where the system can say so.
_MEMORY = 2 * 1024**3

#: Seconds of computing that one file may take here; who asks waits less long, and ends this process if he lives.
_SECONDS = 120

#: Bytes that a DOCX may have unpacked.
_UNPACKED = 512 * 1024**2

#: Pixels that a page is drawn with here, and shades of gray by which a blank one may differ from itself.
_DRAWN, _BLANK = 1_000_000, 8

_NEVER_TEXT = ("script", "style", "template", "noscript", "svg", "iframe", "object", "head", "nav", "button")

_Found = tuple[list[tuple[int | None, str]], dict[str, Any]]


class _RefusedError(Exception):
    """Why a file is left out."""


def _pdf(path: str) -> _Found:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise _RefusedError("encrypted with a password" if locked else f"not a readable PDF ({error})") from error
    parts: list[tuple[int | None, str]] = []
    for number in range(len(document)):
        page = document[number]
        text_page = page.get_textpage()
        # a page says where lines end in its own way; U+FFFE is a hyphen at the end of a line
        text = text_page.get_text_bounded().replace("\r\n", "\n").replace("\r", "\n")
        text = text.replace("\ufffe\n", "").replace("\ufffe", "")
        parts.append((number + 1, text))
        text_page.close()
        page.close()
    title = document.get_metadata_dict().get("Title", "").strip()
    return parts, {"title": title} if title else {}


def _html(path: str) -> _Found:
    with open(path, "rb") as file:
        return _from_html(file.read())


def _from_html(data: bytes | str) -> _Found:
    from bs4 import BeautifulSoup, Comment
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(data, "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title is not None else ""
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    for tag in soup.find_all(_NEVER_TEXT):
        tag.decompose()
    mains = soup.find_all("main")
    # what a page itself calls its main part, if that is most of it
    part = mains[0] if len(mains) == 1 and 3 * len(mains[0].get_text()) > len(soup.get_text()) else soup
    text = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        strip=["a", "img"],
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
    ).convert_soup(part)
    lines = [line.rstrip() for line in text.splitlines()]
    return [(None, "\n".join(lines))], {"title": title} if title else {}


def _docx(path: str) -> _Found:
    import mammoth

    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise _RefusedError("not a DOCX file, or encrypted with a password") from error
    if unpacked > _UNPACKED:
        raise _RefusedError(f"{unpacked / 1e6:,.0f} MB when unpacked")
    with open(path, "rb") as file:
        # pictures are left out: as a data URI one would be as long as a book
        found = mammoth.convert_to_html(file, convert_image=lambda image: [])
    return _from_html(f"<body>{found.value}</body>")


def draw(path: str, number: int) -> dict[str, Any]:
    """Return what came of drawing a page as coarsely as shows whether it is blank, and whether it can be drawn at all."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
        page = document[number - 1]
        width, height = page.get_size()
        scale = min(1.0, (_DRAWN / max(width * height, 1.0)) ** 0.5)
        picture = page.render(scale=scale, grayscale=True)
        shades = bytes(picture.buffer)
        rows = [shades[start : start + picture.width] for start in range(0, len(shades), picture.stride)]
        blank = max(map(max, rows)) - min(map(min, rows)) < _BLANK
        document.close()
    except pypdfium2.PdfiumError as error:
        return {"error": f"could not be drawn ({error})"}
    except MemoryError:
        return {"error": f"takes more than {_MEMORY / 1024**3:.0f} GB of memory to draw"}
    except Exception as error:  # whatever a parser makes of a broken page
        return {"error": f"could not be drawn ({type(error).__name__})"}
    return {"drawn": "blank" if blank else "drawn"}


_KINDS: dict[str, Callable[[str], _Found]] = {"pdf": _pdf, "html": _html, "docx": _docx}


def convert(kind: str, path: str) -> dict[str, Any]:
    """Return the answer for one file."""
    try:
        parts, about = _KINDS[kind](path)
    except _RefusedError as error:
        return {"error": str(error)}
    except ModuleNotFoundError as error:
        return {"missing": error.name}
    except RecursionError:
        return {"error": "nested too deeply"}
    except MemoryError:
        return {"error": f"takes more than {_MEMORY / 1024**3:.0f} GB of memory to read"}
    except Exception as error:  # whatever a parser makes of a broken file
        said = " ".join(str(error).split())[:200]
        return {"error": f"could not be read ({type(error).__name__}{': ' if said else ''}{said})"}
    return {"parts": parts, "about": about}


def _limit(name: str, value: int) -> None:
    """Set a limit of this process where the system knows such limits."""
    try:
        import resource

        kind = getattr(resource, name)
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    except (ImportError, AttributeError, ValueError, OSError):
        pass


def main() -> None:
    """Answer until the other side closes the pipe."""
    _limit("RLIMIT_AS", _MEMORY)
    answers = sys.stdout.buffer
    sys.stdout = io.TextIOWrapper(io.BytesIO())  # whatever a parser prints is no answer
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        _limit("RLIMIT_CPU", int(time.process_time()) + _SECONDS)
        # as ASCII: a text may hold halves of pairs, which no encoding has
        if asked["kind"] == "draw":
            answer = draw(asked["path"], asked["page"])
        else:
            answer = convert(asked["kind"], asked["path"])
        answers.write(json.dumps(answer).encode("ascii") + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
