"""Let the MTEB package measure quality through an Octavo collection.

`OctavoSearch` is what `mteb.evaluate` is given in place of a model; `OctavoIndex` is the index back end inside it. See
``docs/mteb.md``. Importing `OctavoSearch` or `Measured` from here needs mteb; the back end does not.
"""

from typing import TYPE_CHECKING, Any

from octavo.eval.mteb._index import IndexConfiguration, OctavoIndex

if TYPE_CHECKING:
    from octavo.eval.mteb._search import Measured, OctavoSearch

__all__ = ["IndexConfiguration", "Measured", "OctavoIndex", "OctavoSearch"]


def __getattr__(name: str) -> Any:
    if name not in ("Measured", "OctavoSearch"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from octavo.eval.mteb import _search  # imports mteb

    return getattr(_search, name)
