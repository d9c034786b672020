"""Checks of options, each rule once: what is accepted, and what the error says.

An option that is not what it should be is a `ParameterError`, whatever is wrong with it: its type, its sign, or a value
outside the range. (Data of the wrong type, such as an id that is a number, is an `InputTypeError`; that is for the places
that read data.) Numbers of numpy and of anything else that Python takes as an index are numbers; booleans are not.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from octavo.errors import ParameterError

T = TypeVar("T")


def check_integer(value: Any, name: str, *, least: int | None = None, most: int | None = None) -> int:
    """Return an option as an int.

    Parameters
    ----------
    value : int or anything with ``__index__``
        What the caller gave.
    name : str
        The option, as the message calls it.
    least, most : int, optional
        The range, both ends included.

    Raises
    ------
    ParameterError
        If it is no integer, a boolean, or outside the range.

    Examples
    --------
    >>> check_integer(np.int64(5), "k", least=1)
    5
    >>> check_integer(0, "k", least=1)
    Traceback (most recent call last):
    octavo.errors.ParameterError: expected k as an integer of at least 1, got 0
    """
    number: int | None = None
    if not isinstance(value, bool | np.bool_):
        try:
            number = operator.index(value)
        except TypeError:
            number = None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        raise ParameterError(f"expected {name} as an integer{_range(least, most)}, got {_shown(value)}")
    return number


def check_integers(values: Any, name: str) -> npt.NDArray[np.int64]:
    """Return numbers of rows as an int64 array of one dimension.

    Raises
    ------
    ParameterError
        If they are no integers, or not in one dimension.
    """
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ParameterError(f"expected {name} as integers in 1 dimension(s), got {array.dtype} {array.shape}")
    return array.astype(np.int64, copy=False)


def check_number(
    value: Any,
    name: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return an option as a finite float.

    Parameters
    ----------
    value : float or int, of Python or numpy
        What the caller gave.
    name : str
        The option, as the message calls it.
    least, most : float, optional
        The range, both ends included.
    above, below : float, optional
        Ends of the range that are not included.

    Raises
    ------
    ParameterError
        If it is no number, a boolean, NaN, infinite, or outside the range.

    Examples
    --------
    >>> check_number(np.float32(0.5), "alpha", least=0, most=1)
    0.5
    >>> check_number(float("nan"), "alpha", least=0, most=1)
    Traceback (most recent call last):
    octavo.errors.ParameterError: expected alpha as a number between 0 and 1, got nan
    """
    good = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    try:
        number = float(value) if good else math.nan
    except OverflowError:  # an int beyond the range of floats
        number = math.inf
    if (
        not math.isfinite(number)
        or (least is not None and number < least)
        or (most is not None and number > most)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    ):
        raise ParameterError(f"expected {name} as a number{_range(least, most, above, below)}, got {_shown(value)}")
    return number


def check_flag(value: Any, name: str) -> bool:
    """Return an option as a bool; nothing else is taken for one.

    Raises
    ------
    ParameterError
        If it is no boolean.

    Examples
    --------
    >>> check_flag(np.True_, "exact")
    True
    """
    if not isinstance(value, bool | np.bool_):
        raise ParameterError(f"expected {name} as True or False, got {_shown(value)}")
    return bool(value)


def check_choice(value: T, name: str, choices: Collection[T]) -> T:
    """Return an option that has to be one of a few.

    Raises
    ------
    ParameterError
        If it is none of them; the message lists them.

    Examples
    --------
    >>> check_choice("dense", "mode", ["dense", "text"])
    'dense'
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ParameterError(f"expected {name} as one of {', '.join(map(repr, choices))}, got {_shown(value)}")
    return value


def _range(
    least: float | None = None, most: float | None = None, above: float | None = None, below: float | None = None
) -> str:
    if least is not None and most is not None:
        return (
            f" between {least:g} and {most:g}" if max(abs(least), abs(most)) < 1e6 else f" between {least} and {most}"
        )
    parts = [
        f"{word} {end:g}" if abs(end) < 1e6 else f"{word} {end}"
        for word, end in (("of at least", least), ("of at most", most), ("above", above), ("below", below))
        if end is not None
    ]
    return " " + " and ".join(parts) if parts else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
