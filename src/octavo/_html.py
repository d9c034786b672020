"""Write HTML of which every text is escaped: pages of reports, and what a notebook shows of an object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

#: Letters of a text that a notebook shows in a cell.
_CELL = 300


class Html(str):
    """Text that is HTML already; every other text is escaped."""


def html(value: object) -> str:
    """Return a value as HTML.

    Examples
    --------
    >>> html("<b>"), html(Html("<b>"))
    ('&lt;b&gt;', '<b>')
    """
    return str(value) if isinstance(value, Html) else escape(_encodable(str(value)), quote=True)


def _encodable(text: str) -> str:
    """Return a text that has a form in UTF-8: lone surrogates have none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def element(tag: str, *content: object, **attributes: object) -> Html:
    """Return an element; attribute names lose a trailing underscore, and those that are None or "" are left out."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html(value)}"'
        for name, value in attributes.items()
        if value is not None and value != ""
    )
    return Html(f"<{tag}{written}>{''.join(html(part) for part in content)}</{tag}>")


def join(parts: Iterable[object]) -> Html:
    """Return several pieces as one."""
    return Html("\n".join(html(part) for part in parts))


def notebook_table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table for a notebook, which brings its own style; long texts are cut.

    Parameters
    ----------
    caption : str
        What it shows.
    headings : sequence of str
        Of the columns; none for a table of names and values.
    rows : iterable of sequence
        What `str` makes of the cells is shown.

    Examples
    --------
    >>> notebook_table("Found", ["id"], [["<b>"]])
    '<table><caption>Found</caption><thead><tr><th>id</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = [element("thead", element("tr", *[element("th", name) for name in headings]))] if headings else []
    body = [element("tr", *[element("td", _cut(str(value))) for value in row]) for row in rows]
    return str(element("table", element("caption", caption), *head, element("tbody", *body)))


def _cut(text: str) -> str:
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"
