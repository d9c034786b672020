"""Hook of the documentation's site: what these pages write for other readers of Markdown is turned into what the site's reads.

Links from a page to what is not a page (sources, README) lead into the repository. A bar in the code of a table is written with
a backslash, as most readers of Markdown want it; the site's shows that backslash, in a codec that somebody copies. Notebooks
become pages with what their cells show, and are there to be downloaded, too.
"""

from __future__ import annotations

import json
import posixpath
import re
from html import escape
from pathlib import Path
from typing import Any

_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)\s#]+)((?:#[^)\s]*)?\))")


def on_files(files: Any, *, config: Any) -> Any:
    """Add a page for each notebook."""
    from mkdocs.structure.files import File

    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        content = notebook_page(Path(file.abs_src_path).read_text("utf-8"), posixpath.basename(file.src_uri))
        files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=content))
    return files


def notebook_page(text: str, name: str) -> str:
    """Return a notebook as Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        shell = source.startswith("%%sh\n")
        parts.append(f"```{'sh' if shell else 'python'}\n{source.removeprefix('%%sh' + chr(10))}\n```")
        parts += [_shown(output) for output in cell["outputs"]]
    title, first, *rest = parts[0].partition("\n")[0], parts[0].partition("\n")[2].strip(), *parts[1:]
    return "\n\n".join([title, first, f"[The notebook]({name}){{ download }}", *rest]) + "\n"


def _shown(output: Any) -> str:
    data = output.get("data", {})
    if "text/html" in data:  # one line: an empty one would end the block
        return "".join(data["text/html"]).replace("\n", "&#10;")
    printed = "".join(output.get("text") or data["text/plain"])
    return f"<pre><code>{escape(printed.rstrip()).replace(chr(10), '&#10;')}</code></pre>"


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
