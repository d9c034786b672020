"""What the contract of a collection promises, checked on one that a factory makes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from importlib.util import find_spec
from typing import Any

import numpy as np

from octavo._arrays import Floats
from octavo._validation import check_integer, check_number
from octavo.collection import CollectionLike, MultiVectorLike
from octavo.encoders.page_images import PageImage
from octavo.errors import (
    CollectionClosedError,
    DocumentNotFoundError,
    InputTypeError,
    InvalidFilterError,
    InvalidImageError,
    InvalidVectorsError,
    OctavoError,
    ParameterError,
    StaleVectorsError,
)
from octavo.filters import matches, parse_filter
from octavo.retrievers.results import SearchResult
from octavo.store.documents import Document

#: Documents of a filled collection.
_DOCUMENTS = 40

#: Beyond everything that is there, and what a program passes that wants all of it.
_EVERYTHING = 2**31 - 1

#: A constant of reciprocal rank fusion, as `octavo.reciprocal_rank_fusion` has it.
_RANK_CONSTANT = 60

Make = Callable[[], CollectionLike]


def check_collection(make: Make, /, *, dim: int = 32, tolerance: float = 0.02) -> None:
    """Check that a collection keeps the contract of `octavo.Collection`, or of `octavo.MultiVectorCollection`.

    Checked are: what goes in comes out, odd ids and metadata included; upserts, deletions and their order; filters in each
    form against their definition, `octavo.filters.matches`; dense, text, sparse and hybrid search, MMR and their ends; updates,
    and what is embedded beside what is returned; that
    a batch of queries answers as each of them alone; that input which cannot be used is refused by Octavo's own errors before
    anything is written; threads; and closing.

    Parameters
    ----------
    make : callable
        Called without arguments, returns a new and empty collection each time; it is closed here. The checks bring vectors of
        their own. A codec that learns has to be content with 40 documents (``fit_after=40``).
    dim : int, default=32
        Dimension of the vectors to check with, at least 8.
    tolerance : float, default=0.02
        How far a score may be from that of the vectors that the collection gives back (for late interaction: a token of the
        query).

    Raises
    ------
    AssertionError
        If a check fails; the message begins with the name of the check and says which promise was not kept.

    See Also
    --------
    collection_checks : The checks one by one, for a test framework.

    Examples
    --------
    >>> import octavo
    >>> check_collection(lambda: octavo.open(codec="int8", fit_after=20))
    """
    for check in collection_checks(dim=dim, tolerance=tolerance):
        check(make)


def collection_checks(*, dim: int = 32, tolerance: float = 0.02) -> list[CollectionCheck]:
    """Return what `check_collection` runs as single checks, to be parametrised over.

    Parameters
    ----------
    dim, tolerance
        See `check_collection`.

    Returns
    -------
    list of CollectionCheck
        Each is called with a factory, as `check_collection` is, and has a `name`.

    Examples
    --------
    With pytest::

        @pytest.mark.parametrize("check", collection_checks(), ids=str)
        def test_contract(check):
            check(make_my_collection)

    >>> [str(check) for check in collection_checks()][:2]
    ['an_empty_collection', 'what_goes_in_comes_out']
    """
    dim = check_integer(dim, "dim", least=8)
    tolerance = check_number(tolerance, "tolerance", least=0)
    return [
        CollectionCheck(function.__name__.removeprefix("_check_"), function, dim, tolerance) for function in _CHECKS
    ]


@dataclass(frozen=True)
class CollectionCheck:
    """One promise of the contract; call it with a factory of empty collections.

    Parameters
    ----------
    name : str
        What is checked.
    function : callable
        What checks it.
    dim, tolerance
        See `check_collection`.
    """

    name: str
    function: Callable[[_Subject], None]
    dim: int
    tolerance: float

    def __str__(self) -> str:
        return self.name

    def __call__(self, make: Make) -> None:
        """Run the check.

        Raises
        ------
        AssertionError
            If the promise is not kept.
        """
        subject = _Subject(make, self.dim, self.tolerance)
        try:
            self.function(subject)
        except Exception as err:
            said = str(err) if isinstance(err, AssertionError) else f"{type(err).__name__} was raised: {err}"
            raise AssertionError(f"{self.name}: {said}") from err
        finally:
            subject.close()


# ---------------------------------------------------------------------- what is checked, and with what


class _Subject:
    """Makes collections of one kind, and vectors that they take."""

    def __init__(self, make: Make, dim: int, tolerance: float) -> None:
        self._make = make
        self._made: list[CollectionLike] = []
        self.dim, self.tolerance = dim, tolerance
        draw = np.random.default_rng(7).normal(size=(3 * (_DOCUMENTS + 20), dim))
        self._rows = np.asarray(draw / np.linalg.norm(draw, axis=1, keepdims=True), np.float32)

    def empty(self) -> Any:
        """Return a new collection; not as `CollectionLike`, because it is given wrong arguments, too."""
        collection = self._make()
        self._made.append(collection)
        assert len(collection) == 0, f"expected make() to return an empty collection, got {len(collection)} documents"
        return collection

    def filled(self) -> Any:
        """Return a new collection with 40 documents."""
        collection = self.empty()
        self.add(
            collection,
            _TEXTS,
            ids=[f"d{i}" for i in range(_DOCUMENTS)],
            metadata=_METADATA,
            rows=range(_DOCUMENTS),
            payloads=[f"p{i}" if i % 2 else None for i in range(_DOCUMENTS)],
        )
        return collection

    def close(self) -> None:
        for collection in self._made:
            collection.close()

    def vectors(self, collection: CollectionLike, rows: Sequence[int]) -> Any:
        """Return the vectors of some documents: a matrix, or matrices of one to three tokens."""
        if collection.late is None:
            return self._rows[[3 * row for row in rows]]
        return [self._rows[3 * row : 3 * row + 1 + row % 3] for row in rows]

    def query(self, collection: CollectionLike, row: int) -> Any:
        """Return a query that is best answered by one document."""
        return self.vectors(collection, [row])[0]

    def given(self, collection: CollectionLike, vectors: Any) -> dict[str, Any]:
        """Return vectors as the argument of `add` that takes them."""
        return {"vectors" if collection.late is None else "token_vectors": vectors}

    def add(self, collection: CollectionLike, documents: Any, *, rows: Sequence[int], **options: Any) -> list[str]:
        """Add documents with the vectors of these rows."""
        return collection.add(documents, **self.given(collection, self.vectors(collection, rows)), **options)

    def scores(self, collection: CollectionLike, row: int, ids: Sequence[str]) -> Floats:
        """Return what documents score for the query of a row by the vectors that the collection gives back."""
        query = self.query(collection, row)
        if collection.late is None:
            return np.asarray(collection.get_vectors(ids) @ query, np.float32)
        stored = collection.late.get_token_vectors(ids)
        return np.array([(query @ matrix.T).max(axis=1).sum() for matrix in stored], np.float32)

    def close_to(self, collection: CollectionLike, row: int) -> float:
        """Return how far a score for the query of a row may be off."""
        return self.tolerance * (1 if collection.late is None else 1 + row % 3)


#: Of different lengths, so that no two documents with the same words score alike.
_TEXTS = [f"text number{i} colour{i % 4}" + " more" * i for i in range(_DOCUMENTS)]

_METADATA: list[dict[str, Any]] = [
    {
        "n": i,
        "half": i / 2,
        "even": i % 2 == 0,
        "kind": ["red", "green", "blue"][i % 3],
        "tags": [f"t{i % 5}", "all"],
        "deep": {"x": {"y": i % 7}, "a.b": i},
        "day": date(2024, 1, 1 + i % 28),
        "at": datetime(2024, 5, 1, i % 24, 30),
        **({"sparse": None if i % 4 else 1} if i % 2 else {}),
    }
    for i in range(_DOCUMENTS)
]

_FILTERS: list[Any] = [
    {"n": 7},
    {"n": 7.0},
    {"n": True},  # not 1
    {"n": {"$in": [1, 3, 99]}},
    {"n": {"$nin": [1, 3, 99]}},
    {"n": [4, 5]},
    {"n": {"$gte": 10, "$lt": 20}},
    {"n": {"$between": [10, 20]}},
    {"half": {"$gt": 3.5}},
    {"half": 3.5},
    {"even": True},
    {"even": 1},  # not true
    {"even": {"$ne": True}},
    {"kind": "red"},
    {"kind": {"$ne": "red"}},
    {"kind": {"$like": "%e%"}},
    {"kind": {"$ilike": "RE%"}},
    {"kind": {"$gt": "c"}},
    {"tags": "t1"},
    {"tags": ["t1", "t2"]},
    {"tags": {"$contains": "all"}},
    {"tags": {"$eq": ["t1", "all"]}},
    {"deep.x.y": 3},
    {"deep.a.b": 3},  # the nested path of three keys is not there
    {"sparse": None},
    {"sparse": {"$exists": True}},
    {"sparse": {"$exists": False}},
    {"day": date(2024, 1, 5)},
    {"day": {"$gte": date(2024, 1, 20)}},
    {"day": "2024-01-05"},
    {"at": {"$lt": datetime(2024, 5, 1, 12)}},
    {"$or": [{"n": 1}, {"kind": "blue", "even": True}]},
    {"$and": [{"n": {"$gt": 5}}, {"$or": [{"n": {"$lt": 8}}, {"n": 20}]}]},
    {"$not": {"kind": "red"}},
    {"n": {"$not": {"$lt": 30}}},
    {"nothing": "here"},
    {"nothing": {"$ne": "here"}},
    {},
    None,
]

_BAD_FILTERS: list[Any] = [
    {"n": {"$nonsense": 1}},
    {"$nonsense": []},
    {"n": {}},
    {"n": float("nan")},
    {"$and": []},
    "n",
    5,
]


def _same(one: Any, other: Any, promise: str) -> None:
    assert one == other, f"{promise}: expected {_short(other)}, got {_short(one)}"


def _near(one: Any, other: Any, tolerance: float, promise: str) -> None:
    assert np.allclose(one, other, atol=tolerance), (
        f"{promise}: expected {_short(other)} (to {tolerance:g}), got {_short(one)}"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:297]}..."


@contextmanager
def _raises(error: type[Exception] | tuple[type[Exception], ...], what: str, *, naming: str = "") -> Iterator[None]:
    """Expect one of Octavo's errors, whose message names something."""
    expected = error if isinstance(error, tuple) else (error,)
    names = " or ".join(each.__name__ for each in expected)
    try:
        yield
    except Exception as err:
        if not isinstance(err, expected) or not isinstance(err, OctavoError):
            raise AssertionError(f"expected {names} for {what}, got {type(err).__name__}: {err}") from err
        if naming not in str(err):
            raise AssertionError(f"expected the message for {what} to name {naming!r}, got {str(err)!r}") from err
        return
    raise AssertionError(f"expected {names} for {what}, but nothing was raised")


def _late(collection: CollectionLike) -> MultiVectorLike:
    assert collection.late is not None  # asked only of such
    return collection.late


# ---------------------------------------------------------------------- documents


def _check_an_empty_collection(subject: _Subject) -> None:
    kb = subject.empty()
    query = subject.query(kb, 0)
    _same((len(kb), kb.count(), kb.ids(), list(kb.documents())), (0, 0, [], []), "an empty collection holds nothing")
    _same((kb.get(["a"]), kb.get([]), kb.get_payloads(["a"])), ([], [], [None]), "unknown ids are left out")
    _same((kb.contains(["a"]), "a" in kb, 5 in kb), ([False], False, False), "an empty collection contains nothing")
    _same((kb.delete(["a"]), kb.delete([]), kb.delete(filter={"n": 1}), kb.clear()), (0, 0, 0, 0), "nothing is deleted")
    _same(subject.add(kb, [], rows=[]), [], "adding nothing adds nothing")
    for mode in ("dense", "text", "hybrid"):
        text = "words" if mode != "dense" else None
        result = kb.search(query, 3, mode=mode, text=text)
        _same((result.ids, len(result.scores), result.documents), ([], 0, []), f"mode {mode!r} finds nothing")
    _same(kb.search(query, 3, lambda_mult=0.5).ids, [], "MMR finds nothing")
    _same([result.ids for result in kb.search_batch([query, query], 3)], [[], []], "a batch finds nothing twice")
    _same(kb.search_batch([], 3), [], "no queries have no results")


def _check_what_goes_in_comes_out(subject: _Subject) -> None:
    kb = subject.filled()
    _same(len(kb), _DOCUMENTS, "len() counts")
    _same(kb.ids(), [f"d{i}" for i in range(_DOCUMENTS)], "ids come in the order of writing")
    found = kb.get(["d7", "nobody", "d3"])
    expected = [Document(f"d{i}", _TEXTS[i], _METADATA[i]) for i in (7, 3)]
    _same(found, expected, "get() returns documents in the order asked, without unknown ids")
    _same(repr(found[0].metadata), repr(_METADATA[7]), "metadata keeps its types")
    _same([document.id for document in kb.documents()], kb.ids(), "documents() yields all of them in order")
    _same(kb.get_payloads(["d1", "d2", "nobody"]), ["p1", None, None], "payloads come back")
    _same(kb.contains(["d0", "nobody"]), [True, False], "contains() tells")
    assert "d0" in kb, "'in' finds an id"
    assert "nobody" not in kb, "'in' does not find an unknown id"
    _same(kb.dim, subject.dim, "dim is that of the vectors")
    found[0].metadata["deep"]["x"]["y"] = "changed"
    _same(kb.get(["d7"])[0].metadata["deep"]["x"]["y"], 0, "a returned document shares nothing with the collection")
    with _raises(DocumentNotFoundError, "get_vectors() of an unknown id", naming="nobody"):
        kb.get_vectors(["d1", "nobody"])
    if kb.late is not None:
        with _raises(DocumentNotFoundError, "get_token_vectors() of an unknown id", naming="nobody"):
            kb.late.get_token_vectors(["nobody"])


def _check_vectors_come_back(subject: _Subject) -> None:
    kb = subject.filled()
    ids = ["d5", "d1", "d30"]
    _same(kb.get_vectors([]).shape[0], 0, "no vectors of no ids")
    _same(len(kb.get_vectors(ids)), 3, "get_vectors() returns one vector each")
    if kb.late is None:
        stored, given = kb.get_vectors(ids), subject.vectors(kb, [5, 1, 30])
        _same(stored.shape, given.shape, "vectors come back in the dimension they came in")
        cosines = (stored * given).sum(axis=1) / np.linalg.norm(stored, axis=1)
        best = [kb.search(vector, 1, exact=True).ids[0] for vector in stored]
        _same(best, ids, "a stored vector finds its document")
        assert (cosines > 0.6).all(), f"stored vectors point where they did, got cosines {cosines}"
    else:
        matrices = kb.late.get_token_vectors(ids)
        _same(kb.late.get_token_vectors([]), [], "no token vectors of no ids")
        for row, matrix in zip((5, 1, 30), matrices, strict=True):
            _same(matrix.shape[1], subject.dim, "token vectors come back in the dimension they came in")
            assert 1 <= len(matrix) <= 1 + row % 3, f"document {row} has at most as many vectors as tokens"


def _check_ids_are_made_where_none_are_given(subject: _Subject) -> None:
    kb = subject.empty()
    made = subject.add(kb, ["a", "b", "c"], rows=[0, 1, 2], ids=None)
    _same((len(set(made)), kb.ids()), (3, made), "new ids are different, and returned in order")
    some = subject.add(kb, ["d", "e"], rows=[3, 4], ids=["mine", None])
    _same((some[0], some[1] in kb, len(kb)), ("mine", True, 5), "None among ids stands for a new one")


def _check_ids_are_any_string(subject: _Subject) -> None:
    kb = subject.empty()
    ids = [
        "",
        "a",
        "a\0",
        "\0",
        " a",
        "a ",
        "A",
        "\u00e4",
        "a\u0308",
        "a/b\\c",
        "\n",
        "\U0001f600",
        "x" * 1000,
        "1",
        "'",
        '"',
    ]
    rows = range(len(ids))
    _same(subject.add(kb, [f"word{i}" for i in rows], ids=ids, rows=rows), ids, "ids are returned as they are")
    _same((len(kb), kb.ids()), (len(ids), ids), "each string is an id of its own")
    _same([document.id for document in kb.get(ids)], ids, "get() finds each of them")
    for mode in ("text", "hybrid"):
        hits = [kb.search(subject.query(kb, i), 1, mode=mode, text=f"word{i}").ids[0] for i in rows]
        _same(hits, ids, f"mode {mode!r} tells them apart")
    _same(
        [kb.search(subject.query(kb, i), 1, ids=[ids[i]]).ids for i in rows],
        [[each] for each in ids],
        "ids= takes them",
    )
    _same(sum(kb.delete([each]) for each in ids), len(ids), "each is deleted alone")


def _check_metadata_keeps_its_values(subject: _Subject) -> None:
    kb = subject.empty()
    metadata: list[Any] = [
        {"a": 2**70, "b": 0.1, "c": [1.0, {"d": None}], "": {"x": -(2**63)}, "t": True, "one": 1},
        {"e.f": "\u00e9\U0001f600", "$g": [], "h": {}, "i": "\0", "j": 1e300, "k": [[1], [True]]},
        {"day": date(2024, 2, 29), "at": datetime(2024, 5, 1, 12, 0, 0, 5), "pair": (1, ("x", None))},
        {},
        None,
    ]
    subject.add(kb, ["\0 \U0001f600", "", "x", "y", "z"], ids=list("abcde"), metadata=metadata, rows=range(5))
    found = [document.metadata for document in kb.get(list("abcde"))]
    _same(list(map(repr, found)), list(map(repr, [*metadata[:-1], {}])), "metadata comes back equal, types included")
    _same([document.text for document in kb.get(["a", "b"])], ["\0 \U0001f600", ""], "texts come back")


def _check_documents_are_given_in_several_forms(subject: _Subject) -> None:
    kb = subject.empty()
    subject.add(kb, [Document("a", "one", {"n": 1}), Document("b", "two")], rows=[0, 1])
    subject.add(kb, [{"text": "three", "id": "c", "metadata": {"n": 3}}, {"text": "four", "id": "d"}], rows=[2, 3])
    subject.add(kb, (text for text in ["five", "six"]), ids=iter(["e", "f"]), rows=[4, 5], batch_size=np.int64(1))
    _same([(d.id, d.text) for d in kb.documents()], list(zip("abcdef", _NUMBERS, strict=True)), "each form is stored")
    _same(kb.count({"n": {"$gte": 1}}), 2, "with its metadata")


_NUMBERS = ["one", "two", "three", "four", "five", "six"]


def _check_an_upsert_replaces(subject: _Subject) -> None:
    kb = subject.filled()
    subject.add(kb, ["quite new"], ids=["d3"], rows=[_DOCUMENTS])
    _same((len(kb), kb.ids()[-1], kb.ids().count("d3")), (_DOCUMENTS, "d3", 1), "it is one document, now the newest")
    _same(kb.get(["d3"]), [Document("d3", "quite new", {})], "text and metadata are replaced")
    _same(kb.get_payloads(["d3"]), [None], "so is the payload")
    _same(kb.count({"n": 3}), 0, "filters see the new metadata")
    _same(kb.search("number3", 5, mode="text").ids, [], "old words are not found")
    _same(kb.search("quite new", 5, mode="text").ids, ["d3"], "new words are")
    _same(kb.search(subject.query(kb, _DOCUMENTS), 1).ids, ["d3"], "its new vector is found")
    _same("d3" in kb.search(subject.query(kb, 3), 1).ids, False, "its old vector is not")


def _check_deletion(subject: _Subject) -> None:
    kb = subject.filled()
    _same(kb.delete(["d0", "nobody", "d0"]), 1, "delete() counts documents that were there")
    _same(kb.delete(filter={"n": {"$lt": 5}}), 4, "delete() by a filter")
    _same(kb.delete(["d5", "d6", "d7"], filter={"n": {"$lte": 6}}), 2, "delete() of those that both name")
    _same(kb.delete(filter=lambda document: document.metadata["n"] == 8), 1, "delete() by a function")
    _same(kb.delete([]), 0, "an empty list deletes nothing")
    left = [f"d{i}" for i in (7, *range(9, _DOCUMENTS))]
    _same((len(kb), kb.ids()), (len(left), left), "the others are left")
    for row, word in ((0, "number0"), (3, "number3"), (8, "number8")):
        for mode in ("dense", "text", "hybrid"):
            text = word if mode != "dense" else None
            found = kb.search(subject.query(kb, row), _DOCUMENTS, mode=mode, text=text).ids
            assert set(found) <= set(left), f"mode {mode!r} finds deleted documents: {sorted(set(found) - set(left))}"
    _same(kb.get(["d0"]), [], "a deleted document is gone")


def _check_a_deletion_needs_a_condition(subject: _Subject) -> None:
    kb = subject.filled()
    filters: list[Any] = [
        {},
        {"$and": [{}]},
        {"$or": [{"n": 1}, {}]},
        {"$not": {}},
        {"$and": [{"n": 1}, {"$not": [{}]}]},
    ]
    calls: list[dict[str, Any]] = [{}, *({"filter": filter} for filter in filters)]
    for arguments in calls:
        with _raises((ParameterError, InvalidFilterError), f"delete({_short(arguments)})"):
            kb.delete(**arguments)
    with _raises(InputTypeError, "delete() of a lone string"):
        kb.delete("d1")
    _same(len(kb), _DOCUMENTS, "nothing was deleted")


def _check_clear(subject: _Subject) -> None:
    kb = subject.filled()
    _same(kb.clear(), _DOCUMENTS, "clear() counts")
    _same((len(kb), kb.ids(), kb.search(subject.query(kb, 1), 3).ids), (0, [], []), "clear() leaves nothing")
    subject.add(kb, ["again"], ids=["d1"], rows=[1])
    _same(kb.search(subject.query(kb, 1), 3).ids, ["d1"], "a cleared collection takes documents")


# ---------------------------------------------------------------------- filters


def _check_filters_mean_what_they_say(subject: _Subject) -> None:
    kb = subject.filled()
    query = subject.query(kb, 11)
    for filter in _FILTERS:
        tree = parse_filter(filter)
        expected = [f"d{i}" for i, fields in enumerate(_METADATA) if tree is None or matches(tree, fields)]
        _same(kb.ids(filter), expected, f"ids() of {_short(filter)}")
        _same(kb.count(filter), len(expected), f"count() of {_short(filter)}")
        for mode in ("dense", "text"):
            found = kb.search(query, _DOCUMENTS, filter=filter, mode=mode, text="text" if mode == "text" else None).ids
            _same(sorted(found), sorted(expected), f"mode {mode!r} with {_short(filter)}")
    _same([d.id for d in kb.documents({"n": {"$lt": 2}})], ["d0", "d1"], "documents() takes a filter")
    some = kb.search(query, 5, filter=lambda document: document.metadata["n"] > 35)
    assert {hit.metadata["n"] for hit in some} <= set(range(36, _DOCUMENTS)), "a function decides"
    _same(len(some), min(5, _DOCUMENTS - 36), "as many as match come back")


def _check_ids_restrict_a_search(subject: _Subject) -> None:
    kb = subject.filled()
    query = subject.query(kb, 11)
    _same(set(kb.search(query, 9, ids=["d1", "d2", "nobody"]).ids), {"d1", "d2"}, "ids= lets only these through")
    _same(kb.search(query, 9, ids=[]).ids, [], "an empty list lets nothing through")
    _same(kb.search(query, 9, ids=["d1", "d2"], filter={"n": 2}).ids, ["d2"], "ids and filter must both hold")
    _same(kb.search("colour1", 9, ids=["d1", "d2"], mode="text").ids, ["d1"], "a search by words, too")


def _check_filters_that_cannot_be_used(subject: _Subject) -> None:
    kb = subject.filled()

    async def wanted(document: Document) -> bool:
        return True

    error = InvalidFilterError, ParameterError, InputTypeError
    for filter in [*_BAD_FILTERS, wanted]:
        with _raises(error, f"search() with the filter {_short(filter)}"):
            kb.search(subject.query(kb, 0), 3, filter=filter)
        with _raises(error, f"count() with the filter {_short(filter)}"):
            kb.count(filter)
        with _raises(error, f"delete() with the filter {_short(filter)}"):
            kb.delete(filter=filter)
    _same(len(kb), _DOCUMENTS, "nothing was deleted")


# ---------------------------------------------------------------------- search


def _check_vectors_of_zeros(subject: _Subject) -> None:
    kb = subject.filled()
    if kb.late is not None:
        subject.add(kb, ["no tokens"], ids=["empty"], rows=[0])
        kb.add(["no tokens"], ids=["empty"], token_vectors=[np.zeros((0, subject.dim), np.float32)])
        _same(kb.late.get_token_vectors(["empty"])[0].shape, (0, subject.dim), "a document without tokens is kept")
        assert "empty" not in kb.search(subject.query(kb, 3), _EVERYTHING).ids, "its vectors are never found"
        _same(kb.search("tokens", 3, mode="text").ids, ["empty"], "its words are")
        return
    nothing = np.zeros(subject.dim, np.float32)
    kb.add(["nothing"], ids=["zero"], vectors=nothing[None])
    _near(kb.get_vectors(["zero"]), nothing, subject.tolerance, "a vector of zeros comes back")
    for filter, matching in ((None, _DOCUMENTS + 1), ({"n": {"$lt": 7}}, 7)):
        found = kb.search(nothing, _DOCUMENTS + 1, filter=filter)
        _same(len(set(found.ids)), matching, "a query of zeros finds every document that matches")
        _near(found.scores, np.zeros(matching), 0.0, "a query of zeros scores every document 0")
    found = kb.search(subject.query(kb, 3), _EVERYTHING, exact=True)
    _near(dict(zip(found.ids, found.scores, strict=True))["zero"], 0, subject.tolerance, "a vector of zeros scores 0")


def _check_results(subject: _Subject) -> None:
    kb = subject.filled()
    result = kb.search(subject.query(kb, 7), 6)
    assert isinstance(result, SearchResult), f"expected a SearchResult, got {type(result).__name__}"
    _same((len(result), len(set(result.ids)), result.ids[0]), (6, 6, "d7"), "k documents, each once, the best first")
    _same((result.scores.dtype, result.scores.shape), (np.dtype(np.float32), (6,)), "scores are a float32 array")
    assert (np.diff(result.scores) <= 0).all(), f"scores fall, got {result.scores}"
    _same(result.documents, kb.get(result.ids), "documents are those of the ids")
    _same(result.payloads, kb.get_payloads(result.ids), "payloads are those of the ids")
    hits = list(result)
    _same([(hit.id, hit.text) for hit in hits], [(d.id, d.text) for d in result.documents], "iterating gives hits")


def _check_an_exact_search_scores_what_is_stored(subject: _Subject) -> None:
    kb = subject.filled()
    ids = kb.ids()
    for row in (0, 7, 23):
        expected = subject.scores(kb, row, ids)
        result = kb.search(subject.query(kb, row), _DOCUMENTS, exact=True)
        _same(sorted(result.ids), sorted(ids), "an exact search returns every document")
        of = dict(zip(ids, expected, strict=True))
        _near(
            result.scores,
            [of[each] for each in result.ids],
            subject.close_to(kb, row),
            "scores are those of what is stored",
        )
        best = kb.search(subject.query(kb, row), 5).ids
        _same(best[0], f"d{row}", "a document is found by its own vectors")


def _check_k(subject: _Subject) -> None:
    kb = subject.filled()
    query = subject.query(kb, 7)
    for k in (1, np.int64(3), np.uint8(7)):
        _same(len(kb.search(query, k)), int(k), f"k={k!r} documents come back")
    for options in ({}, {"lambda_mult": 0.5}, {"exact": True}, {"filter": {"even": True}}):
        n = _DOCUMENTS // 2 if "filter" in options else _DOCUMENTS
        _same(
            len(kb.search(query, _EVERYTHING, **options)), n, f"k beyond everything returns what is there ({options})"
        )
    for mode, n in (("text", 10), ("hybrid", _DOCUMENTS)):
        found = kb.search(query, _EVERYTHING, mode=mode, text="colour1")
        _same(len(found), n, f"k beyond everything returns what is there (mode {mode!r})")
    _same([len(each) for each in kb.search_batch([query, query], _EVERYTHING)], [_DOCUMENTS] * 2, "in a batch, too")
    for wrong in (0, -1, True, 1.5, "3", None):
        with _raises((ParameterError, InputTypeError), f"k={wrong!r}"):
            kb.search(query, wrong)


def _check_text_search(subject: _Subject) -> None:
    kb = subject.filled()
    _same(kb.search("number7", 3, mode="text").ids, ["d7"], "a word finds its document")
    _same(
        sorted(kb.search("colour2", 20, mode="text").ids),
        sorted(f"d{i}" for i in range(2, _DOCUMENTS, 4)),
        "all of them",
    )
    _same(kb.search("number7 colour1", 1, mode="text").ids, ["d7"], "a rare word weighs more")
    _same(kb.search("nothing of this", 3, mode="text").ids, [], "words that are nowhere find nothing")
    _same(kb.search("", 3, mode="text").ids, [], "no words find nothing")
    _same(kb.search('"(*:-', 3, mode="text").ids, [], "a query has no syntax")
    _same(kb.search(subject.query(kb, 3), 3, mode="text", text="number7").ids, ["d7"], "text= stands beside a vector")
    with _raises(ParameterError, "mode='text' without words"):
        kb.search(subject.query(kb, 3), 3, mode="text")
    with _raises(ParameterError, "text= in mode 'dense'"):
        kb.search(subject.query(kb, 3), 3, text="number7")


def _check_hybrid_search(subject: _Subject) -> None:
    kb = subject.filled()
    query = subject.query(kb, 7)
    dense, text = kb.search(query, 100), kb.search("colour1", 100, mode="text")
    fused = kb.search(query, 10, mode="hybrid", text="colour1")
    expected: dict[str, float] = {}
    for ranking in (dense, text):
        for rank, identifier in enumerate(ranking.ids, 1):
            expected[identifier] = expected.get(identifier, 0) + 1 / (_RANK_CONSTANT + rank)
    _near(fused.scores, sorted(expected.values(), reverse=True)[:10], 1e-6, "alpha=None fuses by reciprocal rank")
    _near(fused.scores, [expected[each] for each in fused.ids], 1e-6, "each document has its own sum")
    for alpha, alone in ((1, dense), (0, text)):
        end = kb.search(query, 8, mode="hybrid", text="colour1", alpha=alpha)
        _same(end.ids, alone.ids[:8], f"alpha={alpha} is one ranking alone")
        _near(end.scores, alone.scores[:8], 1e-6, f"alpha={alpha} keeps its scores")
    middle = kb.search(query, 5, mode="hybrid", text="number9", alpha=0.5)
    _same(set(middle.ids[:2]), {"d7", "d9"}, "alpha in between weighs both")
    assert ((middle.scores >= 0) & (middle.scores <= 1)).all(), f"a combination is in [0, 1], got {middle.scores}"
    only = kb.search(query, 5, mode="hybrid", text="number9", filter={"n": {"$lt": 3}})
    _same(sorted(only.ids), ["d0", "d1", "d2"], "a filter holds for both")
    _same(
        kb.search(query, 3, mode="hybrid", text="nowhere").ids, dense.ids[:3], "without hits by words, vectors decide"
    )
    _same(
        len(kb.search(query, 3, mode="hybrid", text="number9", fetch_k=np.int64(5))),
        3,
        "fetch_k is an integer of any kind",
    )
    for wrong in ({"alpha": 1.5}, {"alpha": float("nan")}, {"alpha": True}, {"fetch_k": 0}):
        with _raises(ParameterError, f"a hybrid search with {wrong}"):
            kb.search(query, 3, mode="hybrid", text="number9", **wrong)
    with _raises(ParameterError, "alpha in mode 'dense'"):
        kb.search(query, 3, alpha=0.5)


def _check_sparse_search(subject: _Subject) -> None:
    kb = subject.empty()
    rows = [0, 1, 2, 3]
    ids = ["a", "b", "c", "d"]
    given: list[Any] = [{5: 1.0, 9: 0.5}, ([9, 70_000], [1.0, 0.25]), {5: 0.25}, None]
    if kb.local is None and not kb.has_sparse_vectors:
        with _raises(ParameterError, "sparse vectors in a collection without room for them", naming="sparse"):
            subject.add(kb, ids, rows=rows, ids=ids, sparse_vectors=given)
        return
    subject.add(kb, ids, rows=rows, ids=ids, metadata=[{"n": n} for n in rows], sparse_vectors=given)
    _same(kb.has_sparse_vectors, True, "a collection tells that it has sparse vectors")
    found = kb.search(None, 4, mode="sparse", sparse_vector={5: 1.0, 9: 1.0})
    _same(found.ids, ["a", "b", "c"], "documents that share a term, best first")
    _near(found.scores, [1.5, 1.0, 0.25], 0.01, "the score is the inner product")
    _same(kb.search(None, 4, mode="sparse", sparse_vector={70_000: 2.0}).ids, ["b"], "a term finds its documents")
    _same(kb.search(None, 4, mode="sparse", sparse_vector={6: 1.0}).ids, [], "a term that is nowhere finds nothing")
    _same(kb.search(None, 4, mode="sparse", sparse_vector={}).ids, [], "no terms find nothing")
    only = kb.search(None, 4, mode="sparse", sparse_vector={5: 1.0}, filter={"n": {"$gt": 0}})
    _same(only.ids, ["c"], "a filter holds")
    stored = kb.get_sparse_vectors(["d", "b"])
    _same([terms.tolist() for terms, _ in stored], [[], [9, 70_000]], "sparse vectors come back")
    _near(stored[1][1], [1.0, 0.25], 0.01, "with their weights")
    query = subject.query(kb, 3)
    dense = kb.search(query, 4)
    fused = kb.search(query, 4, mode="hybrid", rank=("dense", "sparse"), sparse_vector={5: 1.0})
    expected = {each: 1 / (_RANK_CONSTANT + rank) for rank, each in enumerate(dense.ids, 1)}
    for rank, each in enumerate(["a", "c"], 1):
        expected[each] += 1 / (_RANK_CONSTANT + rank)
    _near(fused.scores, [expected[each] for each in fused.ids], 1e-6, "rank= fuses by reciprocal rank")
    end = kb.search(query, 4, mode="hybrid", rank=("dense", "sparse"), weights=(0, 1), sparse_vector={5: 1.0})
    _same(end.ids, ["a", "c"], "all weight on one ranking is that ranking alone")
    subject.add(kb, ["a"], rows=[0], ids=["a"], sparse_vectors=[{70_000: 1.0}])
    _same(kb.search(None, 4, mode="sparse", sparse_vector={5: 1.0}).ids, ["c"], "an upsert replaces sparse vectors")
    kb.delete(["c"])
    _same(kb.search(None, 4, mode="sparse", sparse_vector={5: 1.0}).ids, [], "deleted documents are not found")
    before = len(kb)
    wrong: list[tuple[str, _Errors, dict[str, Any]]] = [
        ("a negative weight", InvalidVectorsError, {"sparse_vectors": [{1: -1.0}]}),
        ("a weight of NaN", InvalidVectorsError, {"sparse_vectors": [{1: float("nan")}]}),
        ("a negative term", InvalidVectorsError, {"sparse_vectors": [{-1: 1.0}]}),
        ("too many of them", ParameterError, {"sparse_vectors": [{1: 1.0}, {1: 1.0}]}),
        ("none of them", ParameterError, {}),
    ]
    for what, error, options in wrong:
        with _raises(error, what):
            subject.add(kb, ["e"], rows=[4], ids=["e"], **options)
    _same(len(kb), before, "nothing was written")


def _check_an_update(subject: _Subject) -> None:
    kb = subject.filled()
    before = kb.get_vectors(["d3", "d4"])
    kb.update(["d3", "d4"], [{"n": 333}, None], [None, "another text"], payloads=[None, "new"])
    found = kb.get(["d3", "d4"])
    _same([document.text for document in found], [_TEXTS[3], "another text"], "a text changes where one is given")
    _same([document.metadata for document in found], [{"n": 333}, _METADATA[4]], "metadata change as a whole, or stay")
    _same(kb.get_payloads(["d3", "d4"]), ["p3", "new"], "payloads change where one is given")
    _same(found[1].to_embed, _TEXTS[4], "the earlier text stays what the vector is made of")
    _near(kb.get_vectors(["d3", "d4"]), before, 1e-6, "vectors stay")
    _same(kb.count({"n": 333}), 1, "filters see the new metadata")
    _same(kb.count({"n": 3}), 0, "filters do not see the old ones")
    _same(kb.search(None, 5, mode="text", text="another").ids, ["d4"], "words find the new text")
    _same(sorted(kb.ids()), sorted(f"d{i}" for i in range(_DOCUMENTS)), "an update adds and removes nothing")
    exact = kb.search(subject.query(kb, 3), 1, filter={"n": 333}, exact=True)
    _same(exact.ids, ["d3"], "an updated document is found by its vector")
    with _raises(DocumentNotFoundError, "an update of an unknown id", naming="nobody"):
        kb.update(["d5", "nobody"], [{"n": 1}, {"n": 2}])
    _same(kb.get(["d5"])[0].metadata, _METADATA[5], "all of them are updated, or none")
    for what, error, arguments in (
        ("fewer metadata than ids", ParameterError, (["d1", "d2"], [{}])),
        ("an id twice", ParameterError, (["d1", "d1"], [{}, {}])),
        ("metadata that are no mapping", InputTypeError, (["d1"], [5])),
        ("a text that is none", InputTypeError, (["d1"], None, [5])),
    ):
        with _raises(error, what):
            kb.update(*arguments)
    _same(kb.get(["d1"])[0].metadata, _METADATA[1], "an update that is refused changes nothing")


def _check_what_is_embedded_is_kept(subject: _Subject) -> None:
    kb = subject.empty()
    ids = ["p", "r", "x"]
    embedded = ["Paris: it has two million", "Rome: it has three million", None]
    texts = ["it has two million", "it has three million", "plain"]
    subject.add(kb, texts, rows=[0, 1, 2], ids=ids, embed_texts=embedded)
    found = kb.get(ids)
    _same([document.text for document in found], texts, "the text that is returned is the text")
    _same([document.embed_text for document in found], embedded, "what is embedded in its place is kept")
    _same([document.to_embed for document in found], [*embedded[:2], "plain"], "to_embed is what is embedded")
    _same(kb.search(None, 3, mode="text", text="rome").ids, [], "words are those of the text")
    subject.add(kb, texts[1:2], rows=[1], ids=["r"], embed_texts=embedded[1:2], embed_words=True)
    _same(kb.search(None, 3, mode="text", text="rome").ids, ["r"], "or, if asked for, of what is embedded")
    _same(kb.get(["r"])[0].text, texts[1], "which is not returned")
    for what, error, given in (
        ("more of them than documents", ParameterError, ["a", "b"]),
        ("one that is no text", InputTypeError, [5]),
    ):
        with _raises(error, what):
            subject.add(kb, ["new"], rows=[3], ids=["new"], embed_texts=given)
    _same(len(kb), 3, "nothing was written")


def _check_what_was_embedded_is_known(subject: _Subject) -> None:
    kb = subject.empty()
    vectors = list(subject.vectors(kb, [0, 1, 2]))
    texts, ids = ["red", "green", "blue"], ["r", "g", "b"]
    _same(kb.embedded(ids, texts), [False] * 3, "nothing is known of documents that are not there")
    if kb.has_sparse_vectors:
        return  # which add_embedded would have to make
    _same(kb.add_embedded(texts, ids, [{}, {}, {}], vectors), ids, "ids are returned in order")
    _same(kb.embedded([*ids, "x", None], [*texts, "x", "red"]), [True] * 3 + [False] * 2, "their texts are known")
    _same(kb.embedded(ids, ["red", "dark green", "blue"]), [True, False, True], "another text is none of them")
    before = kb.get_vectors(["r"])
    kb.add_embedded(["red", "dark green"], ["r", "g"], [{"n": 1}, {"n": 2}], [None, vectors[2]])
    _same([document.metadata for document in kb.get(["r", "g"])], [{"n": 1}, {"n": 2}], "metadata are new")
    _near(kb.get_vectors(["r"]), before, 1e-6, "a document without a new vector keeps its own")
    _same(kb.embedded(["r", "g"], ["red", "dark green"]), [True, True], "both are known")
    with _raises(StaleVectorsError, "a document that was to keep its vector and has none", naming="nobody"):
        kb.add_embedded(["red", "x"], ["r", "nobody"], [{}, {}], [None, None])
    with _raises(StaleVectorsError, "a document that was to keep the vector of another text", naming="b"):
        kb.add_embedded(["dark blue"], ["b"], [{}], [None])
    with _raises(ParameterError, "fewer vectors than documents"):
        kb.add_embedded(["red"], ["r"], [{}], [])
    subject.add(kb, ["blue"], rows=[2], ids=["b"])
    _same(kb.embedded(["b"], ["blue"]), [False], "of vectors that a caller has brought along nothing is known")


def _check_diversity(subject: _Subject) -> None:
    kb = subject.filled()
    subject.add(kb, ["twin of number7"], ids=["twin"], rows=[7])
    query = subject.query(kb, 7)
    plain = kb.search(query, 4)
    _same(set(plain.ids[:2]), {"d7", "twin"}, "twins are the best two")
    one = kb.search(query, 4, lambda_mult=1)
    _same(one.ids, plain.ids, "lambda_mult=1 is relevance alone")
    _near(one.scores, plain.scores, 1e-6, "lambda_mult=1 keeps the scores")
    for weight in (0, 0.3):
        chosen = kb.search(query, 4, lambda_mult=weight, fetch_k=np.int64(20))
        _same(len(set(chosen.ids)), 4, "k different documents are chosen")
        assert len({"d7", "twin"} & set(chosen.ids)) == 1, (
            f"lambda_mult={weight} does not choose both twins, got {chosen.ids}"
        )
        assert set(chosen.ids) <= set(kb.search(query, 20).ids), "they are chosen from the candidates"
    both = kb.search(query, 2, mode="hybrid", text="number9", lambda_mult=0.5)
    _same(len(set(both.ids)), 2, "MMR works on a hybrid search")
    words = kb.search(query, 2, mode="text", text="number9 number7", lambda_mult=0.5)
    assert set(words.ids) <= {"d7", "d9", "twin"}, f"MMR works on a search by words, got {words.ids}"
    for mode in ("dense", "text", "hybrid"):
        text = "number9" if mode != "dense" else None
        nothing = kb.search(query, 3, mode=mode, text=text, lambda_mult=0.5, filter={"n": -1})
        _same(nothing.ids, [], f"without a hit MMR returns nothing (mode {mode!r})")
    for wrong in (-0.1, 1.1, "0.5", True):
        with _raises(ParameterError, f"lambda_mult={wrong!r}"):
            kb.search(query, 3, lambda_mult=wrong)


def _check_a_batch_answers_as_each_alone(subject: _Subject) -> None:
    kb = subject.filled()
    rows = [3, 17, 3, 28]
    queries = [subject.query(kb, row) for row in rows]
    texts = [f"number{row} colour1" for row in rows]
    shapes: list[dict[str, Any]] = [
        {},
        {"exact": True},
        {"filter": {"n": {"$gte": 10}}},
        {"ids": ["d3", "d17", "d4"]},
        {"mode": "text"},
        {"mode": "hybrid"},
        {"mode": "hybrid", "alpha": 0.3},
        {"lambda_mult": 0.5},
        {"mode": "hybrid", "lambda_mult": 0.5},
    ]
    for options in shapes:
        words = "mode" in options
        many = kb.search_batch(queries, 5, texts=texts if words else None, **options)
        for query, text, found in zip(queries, texts, many, strict=True):
            alone = kb.search(query, 5, text=text if words else None, **options)
            _same(found.ids, alone.ids, f"a batch with {options} answers as each query alone")
            _near(found.scores, alone.scores, 1e-5, f"a batch with {options} scores as each query alone")
    with _raises(ParameterError, "another number of texts than queries"):
        kb.search_batch(queries, 5, texts=texts[:-1], mode="hybrid")
    with _raises(InputTypeError, "a lone string as a batch"):
        kb.search_batch("number3", 5)


def _check_queries_that_cannot_be_used(subject: _Subject) -> None:
    kb = subject.filled()
    good = subject.query(kb, 3)
    for what, wrong in _bad_vectors(subject, kb).items():
        with _raises((InvalidVectorsError, InputTypeError), f"a query with {what}"):
            kb.search(wrong[0], 3)
    with _raises(InputTypeError, "queries of both kinds"):
        kb.search_batch([good, "words"], 3)
    if kb.encoder is None:
        with _raises(ParameterError, "words without an encoder", naming="encoder"):
            kb.search("words", 3)
    for wrong in ({"mode": "other"}, {"exact": "yes"}, {"ef": 0}, {"oversample": 0.5}, {"fetch_k": 5}):
        with _raises(ParameterError, f"a search with {wrong}"):
            kb.search(good, 3, **wrong)


def _bad_vectors(subject: _Subject, kb: CollectionLike) -> dict[str, Any]:
    """Return vectors of one document each, that no collection takes, by what is wrong with them."""
    wrong: dict[str, Floats] = {}
    for what, value in (("NaN", np.nan), ("infinity", np.inf)):
        wrong[what] = np.full(subject.dim, 1, np.float32)
        wrong[what][-1] = value
    wrong["another dimension"] = np.ones(subject.dim - 1, np.float32)
    if kb.late is None:
        return {what: vector[None] for what, vector in wrong.items()}
    wrong["length zero"] = np.zeros(subject.dim, np.float32)
    return {what: [vector[None]] for what, vector in wrong.items()}


# ---------------------------------------------------------------------- input that cannot be used


def _check_errors_come_before_anything_is_written(subject: _Subject) -> None:
    for kb in (subject.empty(), subject.filled()):
        before = kb.ids()
        good = subject.vectors(kb, [50, 51])
        for what, wrong in _bad_vectors(subject, kb).items():
            if what == "another dimension" and not before:
                continue  # nothing has told the dimension yet
            both = [*good, *wrong] if kb.late is not None else _stacked(good, wrong)
            with _raises((InvalidVectorsError, InputTypeError), f"vectors with {what}"):
                kb.add(["x", "y", "z"], ids=["x", "y", "z"], batch_size=1, **subject.given(kb, both))
            _same(kb.ids(), before, f"vectors with {what} leave the collection as it was")
        for what, error, arguments in _bad_documents():
            with _raises(error, what, naming="document 1" if "position" in what else ""):
                kb.add(batch_size=1, **{**arguments, **subject.given(kb, good)})
            _same(kb.ids(), before, f"{what} leaves the collection as it was")
        with _raises(ParameterError, "two documents with three vectors"):
            kb.add(["x", "y"], **subject.given(kb, subject.vectors(kb, [50, 51, 52])))
        for size in (0, -1, True, 1.5, "2"):
            with _raises(ParameterError, f"batch_size={size!r}"):
                kb.add(["x", "y"], batch_size=size, **subject.given(kb, good))
        if kb.encoder is None and before:  # without vectors so far, it may be one that is searched by words alone
            with _raises(ParameterError, "documents without vectors or an encoder"):
                kb.add(["x", "y"])
        _same(kb.ids(), before, "the collection is as it was")
        for row in range(0, len(before), 13):
            _same(kb.search(subject.query(kb, row), 1).ids, [f"d{row}"], "it answers as before")


def _stacked(good: Any, wrong: Any) -> Any:
    return np.concatenate([good, wrong]) if wrong.shape[1] == good.shape[1] else [*good.tolist(), *wrong.tolist()]


_Errors = type[Exception] | tuple[type[Exception], ...]


def _bad_documents() -> list[tuple[str, _Errors, dict[str, Any]]]:
    """Return arguments for two documents of which the second cannot be stored, and which error says so."""
    data = (InputTypeError, ParameterError)
    rows: list[tuple[str, _Errors, dict[str, Any]]] = [
        ("an id that is a number (position)", data, {"ids": ["x", 1]}),
        ("an id with a lone surrogate (position)", data, {"ids": ["x", "\ud800"]}),
        ("an id given twice", ParameterError, {"ids": ["x", "x"]}),
        ("a single string as ids", InputTypeError, {"ids": "xy"}),
        ("a text that is no string (position)", data, {"documents": ["x", 5]}),
        ("a text with a lone surrogate (position)", data, {"documents": ["x", "a\udfffb"]}),
        ("a single string as documents", InputTypeError, {"documents": "xy"}),
        ("a mapping without a text (position)", data, {"documents": ["x", {"id": "y"}]}),
        ("metadata that is no mapping (position)", data, {"metadata": [{}, [1]]}),
        ("a metadata key that is no string (position)", data, {"metadata": [{}, {1: 2}]}),
        ("a metadata key with a lone surrogate (position)", data, {"metadata": [{}, {"a": {"\ud800": 1}}]}),
        ("metadata that JSON has not (position)", data, {"metadata": [{}, {"a": {1, 2}}]}),
        ("metadata with NaN (position)", data, {"metadata": [{}, {"a": [float("nan")]}]}),
        ("a payload that is no string (position)", data, {"payloads": [None, 5]}),
        ("a single mapping as metadata", InputTypeError, {"metadata": {"a": 1}}),
    ]
    return [(what, error, {"documents": ["x", "y"], **arguments}) for what, error, arguments in rows]


# ---------------------------------------------------------------------- about it


def _check_it_speaks_the_protocol(subject: _Subject) -> None:
    kb = subject.filled()
    assert isinstance(kb, CollectionLike), f"{type(kb).__name__} lacks methods of octavo.collection.CollectionLike"
    if kb.late is not None:
        assert kb.late is kb, "late is the collection itself, or None"
        assert isinstance(kb, MultiVectorLike), f"{type(kb).__name__} lacks methods of MultiVectorLike"
    assert kb.local is None or kb.local is kb, "local is the collection itself, or None"
    assert kb.metric in ("cosine", "dot"), f"metric is 'cosine' or 'dot', got {kb.metric!r}"
    info = json.loads(json.dumps(kb.info().to_dict()))
    _same((info["documents"], info["codec"]), (_DOCUMENTS, kb.codec), "info() describes it in JSON values")
    before = kb.search(subject.query(kb, 7), 3).ids
    kb.flush()
    _same(kb.search(subject.query(kb, 7), 3).ids[0], before[0], "flush() changes no answer")


def _check_an_explanation(subject: _Subject) -> None:
    kb = subject.filled()
    if kb.late is None:
        return  # there is nothing to explain about one vector
    late = _late(kb)
    query = subject.query(kb, 8)
    said = late.explain(query, "d8")
    _same((said.id, said.similarities.shape[0], len(said.best)), ("d8", len(query), len(query)), "a row for each token")
    _near(said.score, said.similarities.max(axis=1).sum(), 1e-5, "the score is the sum of the best matches")
    found = kb.search(query, 1, ids=["d8"], exact=True)
    _near(said.score, found.scores[0], subject.close_to(kb, 8), "the score is that of the search")
    with _raises(DocumentNotFoundError, "an unknown document", naming="nobody"):
        late.explain(query, "nobody")


#: A PNG of one crimson pixel.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGO4I2IDAAL8AS3VzMq8AAAAAElFTkSuQmCC"


def _check_images_are_kept(subject: _Subject) -> None:
    if find_spec("PIL") is None:
        return  # nothing here can read one
    kb = subject.filled()
    pixel = base64.b64decode(_PIXEL)
    subject.add(kb, [PageImage(pixel, "a crimson stamp"), "text"], ids=["image", "text"], rows=[1, 2])
    found, text = kb.get(["image", "text"])
    assert found.image is not None, "a document that is an image says so"
    _same(found.image.to_bytes(), (pixel, "image/png"), "an image comes back as it was given")
    _same((found.text, text.image), ("a crimson stamp", None), "the text beside an image, and no image beside a text")
    _same(kb.search("crimson", 1, mode="text").ids, ["image"], "an image is found by the words beside it")
    with _raises(ParameterError, "a text that would be taken for an image"):
        subject.add(kb, [found.embed_text], ids=["text"], rows=[3])
    with _raises(InvalidImageError, "a damaged image"):
        subject.add(kb, [PageImage(pixel[:40])], ids=["text"], rows=[3])
    _same(kb.get(["text"])[0].text, "text", "what was refused has changed nothing")


def _check_threads_share_it(subject: _Subject) -> None:
    kb = subject.filled()
    failures: list[BaseException] = []
    done = threading.Event()

    def read(row: int) -> None:
        try:
            while not done.is_set():
                for hit in kb.search(subject.query(kb, row), 5, filter={"n": {"$gte": 0}}):
                    assert hit.metadata == _METADATA[int(hit.id[1:])], f"{hit.id} has metadata of another document"
        except BaseException as err:  # whatever it is, it is told by the thread that checks
            failures.append(err)

    readers = [threading.Thread(target=read, args=(row,)) for row in (3, 4)]
    for reader in readers:
        reader.start()
    try:
        for row in range(12):
            subject.add(kb, [f"more {row}"], ids=[f"m{row}"], rows=[_DOCUMENTS + row % 20])
            if row % 3 == 2:
                _same(kb.delete([f"m{row - 1}"]), 1, "a thread deletes what it has written")
    finally:
        done.set()
        for reader in readers:
            reader.join()
    if failures:
        raise failures[0]
    _same(len(kb), _DOCUMENTS + 8, "what one thread wrote is there")


def _check_notes(subject: _Subject) -> None:
    kb = subject.filled()
    assert kb.notes() == {}, f"a new collection has no notes, got {kb.notes()!r}"
    kb.set_note("owner", "Müller \U0001f600\n")
    kb.set_note("b", "2")
    kb.set_note("b", "")
    expected = {"b": "", "owner": "Müller \U0001f600\n"}
    assert kb.notes() == expected, f"notes come back as they were set last, by name; got {kb.notes()!r}"
    kb.set_note("b", None)
    kb.set_note("not there", None)
    assert list(kb.notes()) == ["owner"], f"None removes a note, and only that one; got {kb.notes()!r}"
    assert len(kb) == _DOCUMENTS, "a note is no document"
    with _raises(ParameterError, "a note without a name"):
        kb.set_note("", "text")
    with _raises(InputTypeError, "a note that is no text"):
        kb.set_note("n", 1)
    with _raises(ParameterError, "a note of more than a million characters"):
        kb.set_note("n", "x" * 1_000_001)
    assert list(kb.notes()) == ["owner"], "what is refused changes nothing"


def _check_a_closed_collection(subject: _Subject) -> None:
    kb = subject.filled()
    query, given = subject.query(kb, 0), subject.given(kb, subject.vectors(kb, [0]))
    assert not kb.closed, "a collection is open at first"
    kb.close()
    kb.close()
    assert kb.closed, "closed tells that close() was called"
    assert "closed" in repr(kb), f"repr() says that it is closed, got {kb!r}"
    calls: dict[str, Callable[[], Any]] = {
        "add": lambda: kb.add(["x"], **given),
        "delete": lambda: kb.delete(["d0"]),
        "clear": lambda: kb.clear(),
        "get": lambda: kb.get(["d0"]),
        "get_vectors": lambda: kb.get_vectors(["d0"]),
        "contains": lambda: kb.contains(["d0"]),
        "count": lambda: kb.count(),
        "ids": lambda: kb.ids(),
        "documents": lambda: list(kb.documents()),
        "search": lambda: kb.search(query, 3),
        "search_batch": lambda: kb.search_batch([query], 3),
        "info": lambda: kb.info(),
        "flush": lambda: kb.flush(),
        "notes": lambda: kb.notes(),
        "set_note": lambda: kb.set_note("n", "text"),
    }
    for name, call in calls.items():
        with _raises(CollectionClosedError, f"{name}() of a closed collection"):
            call()


_CHECKS: list[Callable[[_Subject], None]] = [
    _check_an_empty_collection,
    _check_what_goes_in_comes_out,
    _check_vectors_come_back,
    _check_ids_are_made_where_none_are_given,
    _check_ids_are_any_string,
    _check_metadata_keeps_its_values,
    _check_documents_are_given_in_several_forms,
    _check_an_upsert_replaces,
    _check_deletion,
    _check_a_deletion_needs_a_condition,
    _check_clear,
    _check_filters_mean_what_they_say,
    _check_ids_restrict_a_search,
    _check_filters_that_cannot_be_used,
    _check_results,
    _check_an_exact_search_scores_what_is_stored,
    _check_vectors_of_zeros,
    _check_k,
    _check_text_search,
    _check_hybrid_search,
    _check_sparse_search,
    _check_an_update,
    _check_what_is_embedded_is_kept,
    _check_what_was_embedded_is_known,
    _check_diversity,
    _check_a_batch_answers_as_each_alone,
    _check_queries_that_cannot_be_used,
    _check_errors_come_before_anything_is_written,
    _check_it_speaks_the_protocol,
    _check_an_explanation,
    _check_images_are_kept,
    _check_threads_share_it,
    _check_notes,
    _check_a_closed_collection,
]
