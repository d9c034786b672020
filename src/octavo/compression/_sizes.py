"""How many dimensions a reducer keeps: a number, or a percentage resolved when the dimension is known."""

from __future__ import annotations

import math
import re

from octavo.errors import CodecError

_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(%?)")

#: From this many dimensions on a percentage is rounded to a multiple of 8, so that codes of any kind fill whole bytes.
ROUND_FROM = 64


class Size:
    """A number of dimensions, as the user wrote it.

    Parameters
    ----------
    text : str or int
        ``192``, ``"192"`` or ``"50%"``.

    Examples
    --------
    >>> Size("50%").resolve(384), Size("33%").resolve(384), Size("33%").resolve(10), Size(5).resolve(384)
    (192, 128, 3, 5)
    """

    def __init__(self, text: str | int) -> None:
        match = None if isinstance(text, bool) else _SIZE.fullmatch(str(text))
        if match is None or (not match[2] and "." in match[1]):
            raise CodecError(f"expected a number of dimensions or a percentage such as 50%, got {text!r}")
        number = float(match[1])
        if match[2]:
            if not 0 < number <= 100:
                raise CodecError(f"expected a percentage above 0 and at most 100, got {text!r}")
        elif number < 1:
            raise CodecError(f"expected at least 1 dimension, got {text!r}")
        self.count = None if match[2] else int(match[1])
        self.percent = number if match[2] else None

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.percent:.9g}%"

    def resolve(self, dim: int) -> int:
        """Return the number of dimensions to keep out of `dim`.

        Raises
        ------
        CodecError
            If it is more than `dim`.
        """
        if self.count is not None:
            if self.count > dim:
                raise CodecError(f"cannot keep {self.count} dimensions: only {dim} go in")
            return self.count
        assert self.percent is not None  # one of the two is set
        if self.percent == 100:
            return dim
        unit = 8 if dim >= ROUND_FROM else 1
        kept = math.floor(dim * self.percent / 100 / unit + 0.5) * unit
        return min(max(kept, unit), dim)
