"""Hook of the documentation's site: links from a page to what is not a page (sources, README) lead into the repository."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)\s#]+)((?:#[^)\s]*)?\))")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Make links that leave the documentation absolute."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        if files.get_file_from_path(target) is not None:
            return match[0]
        return f"{match[1]}{config.repo_url}/{posixpath.normpath(posixpath.join('docs', target))}{match[3]}"

    return _LINK.sub(replaced, markdown)
