"""Dates and times on one axis, so that filters and the index can compare them; see ``docs/decisions/typed-metadata.md``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A point in time; it equals and precedes other points only, never numbers or strings.

    Parameters
    ----------
    microseconds : int
        Since 1970-01-01T00:00Z.
    """

    microseconds: int


def instant(value: date) -> Instant:
    """Return the point in time of a date (its midnight) or a time; without a zone it is taken as UTC.

    Examples
    --------
    >>> instant(date(1970, 1, 2)) == instant(datetime(1970, 1, 2))
    True
    """
    if not isinstance(value, datetime):
        return Instant((datetime(value.year, value.month, value.day) - _EPOCH) // _MICROSECOND)
    offset = value.utcoffset() or timedelta(0)
    # As integers: next to the years 1 and 9999 the time in UTC may be none that a datetime can hold.
    return Instant((value.replace(tzinfo=None) - _EPOCH) // _MICROSECOND - offset // _MICROSECOND)


def instant_of(value: Any) -> Instant | None:
    """Return the point in time that a date, a time or a string in ISO form names; None for anything else.

    Examples
    --------
    >>> instant_of("1970-01-01T00:00:01Z")
    Instant(microseconds=1000000)
    >>> instant_of("yesterday") is None
    True
    """
    if isinstance(value, Instant):
        return value
    if isinstance(value, date):
        return instant(value)
    if not isinstance(value, str):
        return None
    try:
        return instant(datetime.fromisoformat(value))
    except ValueError:
        return None


def plain_time(value: date) -> date | None:
    """Return a date or time of a subclass (such as those of pandas) as a plain one; None if that would not be equal."""
    if type(value) in (date, datetime):
        return value
    try:
        plain = (datetime if isinstance(value, datetime) else date).fromisoformat(value.isoformat())
    except (ValueError, TypeError):
        return None
    return plain if plain == value else None


def plain_datetime64(value: np.datetime64) -> date | None:
    """Return a time of numpy as a plain date or time; None where there is none that is equal (NaT, nanoseconds)."""
    unit = "D" if np.datetime_data(value.dtype)[0] in ("Y", "M", "W", "D") else "us"
    plain = value.astype(f"datetime64[{unit}]").item()  # an int where the year is beyond 9999
    return plain if isinstance(plain, date) and np.datetime64(plain.isoformat()) == value else None
