"""Hook of the documentation's site: what these pages write for other readers of Markdown is turned into what the site's reads.

Links from a page to what is not a page (sources, README) lead into the repository. A bar in the code of a table is written with
a backslash, as most readers of Markdown want it; the site's shows that backslash, in a codec that somebody copies.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)\s#]+)((?:#[^)\s]*)?\))")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Make links that leave the documentation absolute, and free the bars in tables of their backslashes."""
    markdown = _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), markdown)
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        if files.get_file_from_path(target) is not None:
            return match[0]
        return f"{match[1]}{config.repo_url}/{posixpath.normpath(posixpath.join('docs', target))}{match[3]}"

    return _LINK.sub(replaced, markdown)
