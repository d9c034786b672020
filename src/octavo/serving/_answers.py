"""What the page asks of a collection, as JSON values. Nothing here writes."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from octavo._printing import to_json
from octavo._validation import check_choice
from octavo.collection import CollectionLike
from octavo.collection.fields import metadata_fields
from octavo.collection.protocol import has_vectors, search_modes
from octavo.errors import DocumentNotFoundError, ParameterError
from octavo.filters import parse_filter
from octavo.retrievers.results import ANSWERED_BY, Hit, SearchResult
from octavo.serving._highlights import MOST_TEXT, Highlighter
from octavo.serving._projection import MOST_POINTS, Projection

MOST_RESULTS = 100
MOST_QUERY = 4_000

_DEPTH = 100  # of each ranking, within which a document has a rank
_NEIGHBOURS = 8
_FIELDS = 40  # of a document's metadata
_VALUE = 400  # characters of one
_LABEL = 90  # characters of a text on the map
_COLOURS = 8  # values of a field that the map can tell apart


class Answers:
    """Answers the page's questions about one collection.

    Parameters
    ----------
    collection : CollectionLike
        Open; its encoder may be missing, then it is searched by words.

    Examples
    --------
    >>> import octavo
    >>> kb = octavo.open()
    >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
    >>> found = Answers(kb).search("green", mode="text", k=1)
    >>> found["hits"][0]["id"], found["hits"][0]["snippet"]
    ('g', [('green', True)])
    >>> kb.close()
    """

    def __init__(self, collection: CollectionLike) -> None:
        self._collection = collection
        self._language = str(collection.info().full_text)
        self._model = threading.Lock()  # models are not made for several threads
        self._mapping = threading.Lock()
        self._map: tuple[int, dict[str, Any], Projection | None] | None = None

    @property
    def modes(self) -> list[str]:
        """What can be searched by."""
        return search_modes(self._collection)

    def about(self) -> dict[str, Any]:
        """Return what the collection is, what it takes and what it can be filtered by."""
        info = self._collection.info().to_dict()
        fields, looked_at = metadata_fields(self._collection)
        return {
            "place": str(info.get("path") or info.get("place") or "in memory"),
            "documents": info["documents"],
            "codec": info["codec"],
            "fitted": info.get("fitted", True),
            "metric": info["metric"],
            "dim": info["dim"],
            "encoder": info["encoder"],
            "reencoding": _change(info["reencoding"]),
            "full_text": info["full_text"],
            "late": self._collection.late is not None,
            "ram": info.get("ram"),
            "disk": info.get("disk"),
            "vector_bytes": info.get("vector_bytes_per_document"),
            "modes": self.modes,
            "fields": [field.to_dict() for field in fields],
            "fields_of": looked_at,
        }

    # ------------------------------------------------------------------ search

    def search(self, query: str, *, mode: str, k: int, filter: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the best documents, each with its score in every ranking.

        Raises
        ------
        ParameterError, InvalidFilterError
            When something cannot be used.
        """
        check_choice(mode, "mode", self.modes)
        where = parse_filter(filter)
        dense = "dense" in self.modes
        changing = self._collection.encodes_itself  # by two models perhaps, each search by those that it needs
        vector = self._vector(query) if dense and not changing else None

        def ranked(by: str, k: int, ids: Sequence[str] | None = None) -> SearchResult:
            asked: dict[str, Any] = {"mode": by, "filter": where, "ids": ids}
            if changing and by != "text":
                with self._model:
                    return self._collection.search(query, k, **asked)
            if by == "dense":
                return self._collection.search(vector, k, **asked)
            if by == "hybrid":
                return self._collection.search(vector, k, text=query, **asked)
            return self._collection.search(query, k, **asked)

        found = ranked(mode, k)
        rankings = {}
        for by in [name for name in self.modes if name != "hybrid"] if len(found) else []:
            full = found if by == mode and k >= _DEPTH else ranked(by, max(_DEPTH, k))
            ranks = {id: rank for rank, id in enumerate(full.ids, start=1)}
            scores = dict(zip(full.ids, full.scores.tolist(), strict=True))
            beyond = [id for id in found.ids if id not in scores]
            if beyond:
                deeper = ranked(by, len(beyond), beyond)
                scores |= dict(zip(deeper.ids, deeper.scores.tolist(), strict=True))
            rankings[by] = {
                "best": _number(full.scores[0]) if len(full) else None,
                "scores": [_number(scores.get(id)) for id in found.ids],
                "ranks": [ranks.get(id) for id in found.ids],
            }
        highlighter = Highlighter(query, self._language)
        return {
            "mode": mode,
            "answered_by": ANSWERED_BY[found.reencoding] if found.reencoding is not None else None,
            "hits": [self._hit(hit, highlighter) for hit in found],
            "rankings": rankings,
            "matching": self._collection.count(where) if where is not None else len(self._collection),
            "places": self._places(found.ids),
        }

    def _vector(self, query: str) -> Any:
        with self._model:
            return self._collection.encode_queries([query])[0]

    def _hit(self, hit: Hit, highlighter: Highlighter) -> dict[str, Any]:
        return {
            "id": hit.id,
            "score": _number(hit.score),
            "snippet": highlighter.snippet(hit.text),
            "metadata": _metadata(hit.metadata),
        }

    # ------------------------------------------------------------------ one document

    def document(self, id: str, query: str) -> dict[str, Any]:
        """Return a document, with the words of a query marked.

        Raises
        ------
        DocumentNotFoundError
            When it is not there.
        """
        found = self._collection.get([id])
        if not found:
            raise DocumentNotFoundError(f"expected the id of a stored document, got {id!r}")
        [document] = found
        return {
            "id": document.id,
            "pieces": Highlighter(query, self._language).pieces(document.text),
            "characters": len(document.text),
            "cut": len(document.text) > MOST_TEXT,
            "metadata": _metadata(document.metadata),
        }

    def neighbours(self, id: str) -> dict[str, Any]:
        """Return the documents whose vectors are nearest to a document's.

        Raises
        ------
        DocumentNotFoundError
            When it is not there.
        ParameterError
            When there are no vectors.
        """
        self._require_vectors()
        late = self._collection.late
        query = late.get_token_vectors([id])[0] if late is not None else self._collection.get_vectors([id])[0]
        if not len(query):
            return {"hits": []}
        found = self._collection.search(query, _NEIGHBOURS + 1)
        plain = Highlighter("", self._language)
        hits = [self._hit(hit, plain) for hit in found if hit.id != id][:_NEIGHBOURS]
        return {"hits": hits}

    def explain(self, id: str, query: str) -> dict[str, Any]:
        """Return how well each stored vector of a document matches each token of a query.

        Raises
        ------
        ParameterError
            When this is no collection for late interaction, or has no encoder.
        DocumentNotFoundError
            When the document is not there.
        """
        late = self._collection.late
        if late is None or "dense" not in self.modes:
            raise ParameterError("only a collection for late interaction that has its encoder explains its matches")
        with self._model:
            why = late.explain(query, id)
        rows, columns = why.similarities.shape
        return {
            "score": _number(why.score),
            "query_tokens": why.query_tokens or [f"token {row + 1}" for row in range(rows)],
            "document_tokens": why.document_tokens or [f"vector {column + 1}" for column in range(columns)],
            "similarities": np.round(why.similarities, 3).tolist(),
        }

    # ------------------------------------------------------------------ the map

    def map(self) -> dict[str, Any]:
        """Return a sample of the documents on a plane, made again when their number has changed.

        Raises
        ------
        ParameterError
            When there are no vectors.
        """
        self._require_vectors()
        with self._mapping:
            count = len(self._collection)
            if self._map is None or self._map[0] != count:
                made, projection = self._make_map()
                self._map = count, made, projection
            return self._map[1]

    def _require_vectors(self) -> None:
        if not has_vectors(self._collection):
            raise ParameterError("the collection holds no vectors; it is searched by words alone")

    def _make_map(self) -> tuple[dict[str, Any], Projection | None]:
        ids = self._collection.ids()
        total = len(ids)
        if total > MOST_POINTS:
            ids = [ids[at] for at in np.linspace(0, total - 1, MOST_POINTS).astype(int)]
        documents = self._collection.get(ids)  # one that was deleted just now is left out
        if len(documents) < 2:
            raise ParameterError(f"a map needs at least two documents, got {len(documents)}")
        vectors = self._collection.get_vectors([document.id for document in documents])
        projection = Projection.of(vectors)
        places = projection.place(vectors)
        fields = [
            field
            for field in metadata_fields(self._collection)[0]
            if "." not in field.name
            and field.complete
            and 1 < len(field.values) <= _COLOURS
            and "list" not in field.kinds
        ][:6]
        points = [
            {
                "id": document.id,
                "at": [round(float(x), 4), round(float(y), 4)],
                "label": " ".join(document.text[: 2 * _LABEL].split())[:_LABEL],
                "values": [_shown(document.metadata.get(field.name), 40) for field in fields],
            }
            for document, (x, y) in zip(documents, places, strict=True)
        ]
        return {
            "points": points,
            "documents": total,
            "explained": list(projection.explained),
            "fields": [field.name for field in fields],
        }, projection

    def _places(self, ids: Sequence[str]) -> list[list[float]] | None:
        """Return where these documents lie on the map, once there is one."""
        made = self._map
        if made is None or made[2] is None or not ids:
            return None
        try:
            vectors = self._collection.get_vectors(ids)
        except DocumentNotFoundError:  # deleted just now
            return None
        return [[round(float(x), 4), round(float(y), 4)] for x, y in made[2].place(vectors)]


def _change(state: Mapping[str, Any] | None) -> str | None:
    """Return what there is to say of a change of the model."""
    if state is None:
        return None
    return f"with {state['encoder']}: {state['documents']:,} of {state['of']:,} documents ({state['share']:.0%})"


def _number(value: Any) -> float | None:
    return round(float(value), 6) if value is not None and math.isfinite(value) else None


def _metadata(metadata: Mapping[str, Any]) -> list[list[str]]:
    return [[str(name)[:_VALUE], _shown(value, _VALUE)] for name, value in list(metadata.items())[:_FIELDS]]


def _shown(value: Any, most: int) -> str:
    if isinstance(value, list | tuple) and all(isinstance(each, str | int | float | date) for each in value):
        text = ", ".join(map(str, value))
    elif isinstance(value, str | date):
        text = str(value)
    else:
        text = "" if value is None else to_json(value)
    return text if len(text) <= most else text[: most - 1] + "…"
