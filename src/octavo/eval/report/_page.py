"""Write one HTML page that needs nothing beside itself. Everything that comes from data is escaped here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from octavo._html import Html, element, html
from octavo.eval.report._plots import Picture

#: Up to this width a page is a telephone's: pictures are drawn anew for it, and rows of tables stand as cards.
NARROW = "44rem"


@dataclass(frozen=True)
class Cell:
    """A table cell that sorts by something else than what it shows.

    Parameters
    ----------
    shown : str
        What it shows.
    sort : float, str or None
        What it sorts by; None for an empty cell.
    style : str
        Class names.
    """

    shown: str
    sort: float | str | None = None
    style: str = ""


def code(text: str) -> Html:
    """Return a block of code."""
    return element("pre", element("code", text))


def table(
    caption: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    sortable: bool = True,
    best: int | None = None,
) -> Html:
    """Return a table. The first column names the row; a column holds text if its first cell is no `Cell` or has that style.

    Parameters
    ----------
    caption : str
        What it shows.
    headings : sequence of str
        Of the columns.
    rows : sequence of sequence of (str, Html or Cell)
        The cells.
    sortable : bool, default=True
        Let headings be pressed.
    best : int, optional
        Row to highlight.
    """
    texts = [bool(rows) and _is_text(rows[0][column]) for column in range(len(headings))]
    head = [element("th", name, scope="col", class_="text" if texts[at] else "") for at, name in enumerate(headings)]
    body = []
    for number, row in enumerate(rows):
        cells = []
        for at, value in enumerate(row):
            if isinstance(value, Cell):
                sort = "" if value.sort is None else value.sort
                name = html(headings[at])
                cells.append(
                    Html(
                        f'<td class="{html(value.style)}" data-name="{name}" data-sort="{html(sort)}">{html(value.shown)}</td>'
                    )
                )
            elif at == 0:
                cells.append(element("th", value, scope="row"))
            else:
                cells.append(element("td", value, class_="text", data_name=headings[at]))
        body.append(element("tr", *cells, class_="best" if number == best else ""))
    inner = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_="sortable" if sortable else "",
    )
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _is_text(value: object) -> bool:
    return not isinstance(value, Cell) or "text" in value.style.split()


def figure(picture: Picture, caption: object) -> Html:
    """Return a picture, held within the page."""
    wide, narrow = (
        f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}" for svg in (picture.svg, picture.narrow)
    )
    image = Html(
        f'<picture><source media="(max-width: {NARROW})" srcset="{narrow}"><img alt="{html(picture.alt)}" src="{wide}">'
        "</picture>"
    )
    return element("figure", image, element("figcaption", caption))


def photograph(url: str, title: str) -> Html:
    """Return a page image with the heat map of a query over it."""
    caption = (
        "Where the page matches the query: the warmer, the more all of its tokens together match what lies there; framed is "
        "what each of them matches best, which is what the score counts. Cosines of patches before pooling and compression."
    )
    picture = Html(f'<img class="photograph" alt="{html(f"Heat map over the page {title}")}" src="{html(url)}">')
    return element("figure", picture, element("figcaption", caption))


def page(title: str, body: object) -> str:
    """Return the whole page."""
    style, script = _asset("page.css"), _asset("page.js")
    # Even if something slipped through the escaping, nothing but this very script could run, and nothing be fetched.
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{hashed}'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=False)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{html(body)}\n</main>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _asset(name: str) -> str:
    return resources.files("octavo.eval.report").joinpath(name).read_text(encoding="utf-8")
