"""What a leaf of a filter asks of the inverted index.

A leaf becomes a few *probes*, each a range of the index within one field and kind. A probe is sure, or gives candidates
that have to be verified; together the probes of a leaf reach every document for which it can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from octavo.filters import Between, Compare, Contains, Exists, In, Leaf, Like, PartOf, TextMatch, Value
from octavo.filters.like import literal_prefix
from octavo.filters.times import instant_of
from octavo.store.metadata._values import (
    BOOL,
    ELEMENT,
    LIST,
    LONG,
    NULL,
    NUMBER,
    ODD,
    PREFIX,
    TEXT,
    TIME,
    classify,
    storable,
)


@dataclass(frozen=True, slots=True)
class Probe:
    """One range of the index.

    Parameters
    ----------
    kind : int or None
        Kind of the rows; None for one row a document that has the field.
    where : str, default=""
        SQL condition on the column `value`.
    bound : tuple, default=()
        Values bound in `where`.
    among : tuple of values or None, default=None
        The stored value is one of these.
    test : callable or None, default=None
        The stored text satisfies this predicate.
    below : str or None, default=None
        Look at the nested field of this key instead.
    sure : bool, default=True
        What is found matches; otherwise it has to be verified.
    """

    kind: int | None
    where: str = ""
    bound: tuple[Any, ...] = ()
    among: tuple[Any, ...] | None = None
    test: Callable[[str], bool] | None = None
    below: str | None = None
    sure: bool = True


def probes(leaf: Leaf) -> Iterator[Probe]:
    """Give the probes that together reach all documents for which a leaf holds."""
    if isinstance(leaf, Exists):
        yield Probe(None)
        return
    if isinstance(leaf, Contains):
        yield from _contains(leaf)
        if leaf.at.elements:
            yield Probe(LIST, sure=False)  # what lies within an element has no rows
        return
    yield from _on_value(leaf, 0)
    if leaf.at.elements:
        yield from _on_value(leaf, ELEMENT)


def _on_value(leaf: Leaf, shift: int) -> Iterator[Probe]:
    """Give the probes for the values themselves (shift 0) or for the elements of lists (shift ELEMENT)."""
    if isinstance(leaf, In):
        yield from _equal(tuple(leaf.values), shift, typed=leaf.at.typed)
    elif isinstance(leaf, Compare) and leaf.op == "==":
        yield from _equal((leaf.value,), shift, typed=leaf.at.typed)
    elif isinstance(leaf, Compare):
        yield from _ordered({leaf.op: leaf.value}, shift, typed=leaf.at.typed)
    elif isinstance(leaf, Between):
        yield from _ordered({">=": leaf.low, "<=": leaf.high}, shift, typed=leaf.at.typed)
    else:
        yield from _text(leaf, shift)


def _equal(values: tuple[Value, ...], shift: int, *, typed: bool) -> Iterator[Probe]:
    exact: dict[int, list[Any]] = {}
    lengths: list[int] = []
    odd = False
    for value in values:
        if isinstance(value, tuple):
            lengths.append(len(value))
        else:
            kind, stored = classify(value)
            # An integer beyond 64 bits and a float, which has a row of its own, can be equal.
            odd |= kind == ODD or (isinstance(value, float) and abs(value) >= 2**63)
            exact.setdefault(kind, []).append(stored)
            if isinstance(value, str) and (time := instant_of(value)) is not None:
                exact.setdefault(TIME, []).append(time.microseconds)
            if not typed and kind in (BOOL, NUMBER) and stored in (0, 1):
                exact.setdefault(BOOL + NUMBER - kind, []).append(stored)
    for kind in (NULL, BOOL, NUMBER, TEXT, LONG, TIME):
        if kind in exact:
            yield Probe(kind + shift, among=tuple(dict.fromkeys(exact[kind])), sure=kind != LONG)
    if lengths and shift:
        yield Probe(LIST, sure=False)  # lists within lists have no rows
    elif lengths:
        if 0 in lengths:
            yield Probe(LIST, "value = 0")
        yield Probe(LIST, among=tuple(dict.fromkeys(n for n in lengths if n)), sure=False)
    if odd:
        yield Probe(ODD + shift, sure=False)
        yield Probe(NUMBER + shift, "value > 9.2e18 OR value < -9.2e18", sure=False)


def _ordered(bounds: dict[str, Value], shift: int, *, typed: bool) -> Iterator[Probe]:
    """Give the probes for values on the right side of each bound (all strings, or none of them)."""
    sample = next(iter(bounds.values()))
    if sample is None:
        return
    if isinstance(sample, tuple):
        yield Probe(LIST, sure=False)
        return
    yield from _times(bounds, shift)
    if isinstance(sample, date):
        return
    yield Probe(ODD + shift, sure=False)  # an integer that SQLite cannot hold, or a string that UTF-8 cannot
    kinds = [classify(bound)[0] for bound in bounds.values() if not isinstance(bound, tuple)]
    where = " AND ".join(f"value {op} ?" for op in bounds)
    if isinstance(sample, str):
        if not all(isinstance(bound, str) and storable(bound) for bound in bounds.values()):
            yield Probe(TEXT + shift, sure=False)
            yield Probe(LONG + shift, sure=False)
            return
        yield Probe(TEXT + shift, where, tuple(bounds.values()))
        rough = " AND ".join(f"value {op[0]}= ?" for op in bounds)
        # A row is a prefix and a digest, and no hexadecimal digit comes after "f".
        ends = tuple(f"{bound}"[:PREFIX] + ("" if op[0] == ">" else "g") for op, bound in bounds.items())
        yield Probe(LONG + shift, rough, ends, sure=False)
        return
    booleans = kinds.count(BOOL)
    if typed and 0 < booleans < len(kinds):
        return  # no value is a boolean and a number
    among = [kind for kind in (BOOL, NUMBER) if not typed or (kind == BOOL) == bool(booleans)]
    for kind in among:
        if ODD in kinds:
            yield Probe(kind + shift, sure=False)
        else:
            yield Probe(kind + shift, where, tuple(bounds.values()))


def _times(bounds: dict[str, Value], shift: int) -> Iterator[Probe]:
    """Give the probe for times on the right side of each bound, if all of them name one."""
    times = [time.microseconds for bound in bounds.values() if (time := instant_of(bound)) is not None]
    if len(times) == len(bounds):
        yield Probe(TIME + shift, " AND ".join(f"value {op} ?" for op in bounds), tuple(times))


def _contains(leaf: Contains) -> Iterator[Probe]:
    value = leaf.value
    if isinstance(value, tuple):
        yield Probe(LIST, sure=False)
        return
    yield from _equal((value,), ELEMENT, typed=leaf.at.typed)
    if isinstance(value, str):
        yield from _scan(0, lambda text: value in text)
        yield Probe(None, below=value)


def _text(leaf: Leaf, shift: int) -> Iterator[Probe]:
    where, bound = "", ()
    if isinstance(leaf, Like) and not leaf.ignore_case:
        where, bound = _starting_with(literal_prefix(leaf.pattern))
    assert isinstance(leaf, (Like, TextMatch, PartOf))
    yield from _scan(shift, leaf.test, where, bound)


def _scan(shift: int, test: Callable[[str], bool], where: str = "", bound: tuple[Any, ...] = ()) -> Iterator[Probe]:
    yield Probe(TEXT + shift, where, bound, test=test)
    yield Probe(LONG + shift, where, bound, sure=False)
    yield Probe(ODD + shift, sure=False)


def _starting_with(prefix: str) -> tuple[str, tuple[Any, ...]]:
    """Give the range of the strings that start with a prefix, where there is an easy one."""
    prefix = prefix[:PREFIX]
    if not prefix or not storable(prefix):
        return "", ()
    if ord(prefix[-1]) >= 0xD7FF:  # the next code point is a surrogate or none
        return "value >= ?", (prefix,)
    return "value >= ? AND value < ?", (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))
