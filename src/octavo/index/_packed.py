"""Codes that are stored more narrowly than they are compared: a table says what each stored byte stands for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from octavo._layout import CodeLayout
from octavo.errors import ParameterError
from octavo.index._checks import Codes, check_codes

#: Table of shape (256, r): the r bytes of codes that each stored byte stands for.
Unpacking = NDArray[np.uint8]


def check_stored(layout: CodeLayout, codes: Codes, unpack: Unpacking | None) -> None:
    """Check stored codes: as codes of the layout or, with a table, as rows of ``ceil(row_bytes / r)`` bytes.

    Raises
    ------
    InputTypeError
        If the codes are not a uint8 array.
    ParameterError
        If the shape, the memory order or the table does not fit.
    """
    if unpack is None:
        check_codes(layout, codes, "document codes")
        return
    if unpack.dtype != np.uint8 or unpack.ndim != 2 or unpack.shape[0] != 256 or unpack.shape[1] not in (1, 2, 4, 8):
        raise ParameterError(
            f"expected unpack as uint8 of shape (256, r), r out of 1, 2, 4 and 8, got {unpack.dtype} {unpack.shape}"
        )
    width = -(-layout.row_bytes // unpack.shape[1])
    check_codes(CodeLayout("i8", width), codes, "packed document codes")


def expand(layout: CodeLayout, codes: Codes, unpack: Unpacking | None) -> Codes:
    """Return stored codes as codes of the layout; without a table they are already."""
    if unpack is None:
        return codes
    # All bytes that one stored byte stands for move as one number.
    words = np.ascontiguousarray(unpack).view(f"u{unpack.shape[1]}")[:, 0]
    # Every byte has an entry: `wrap` only saves `take` the time to look for those that have none, a third of it all.
    wide = words.take(codes, mode="wrap").view(np.uint8)
    return wide if wide.shape[1] == layout.row_bytes else np.ascontiguousarray(wide[:, : layout.row_bytes])
