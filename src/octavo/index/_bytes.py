"""Unit vectors in one byte a value, and the products of many with few: what cells are assigned and chosen by."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numkong
import numpy as np
from numpy.typing import NDArray

from octavo._layout import as_tensor

Floats: TypeAlias = NDArray[np.float32]
Bytes: TypeAlias = NDArray[np.int8]


def scale_of(dim: int) -> float:
    """Factor from a value of a rotated unit vector to a byte: 127 stands for 5.5 deviations, or for 1 if that is less."""
    return 127.0 * max(1.0, math.sqrt(dim) / 5.5)


def to_bytes(unit: Floats) -> Bytes:
    """Round rotated unit vectors to bytes."""
    codes: Bytes = np.clip(np.rint(unit * np.float32(scale_of(unit.shape[1]))), -127, 127).astype(np.int8)
    return codes


def to_directions(rotated: Floats) -> tuple[Bytes, Floats]:
    """Return the directions of rotated vectors in bytes, and the lengths of these vectors, of shape (n, 1)."""
    lengths: Floats = np.linalg.norm(rotated, axis=1, keepdims=True).astype(np.float32)
    return to_bytes(np.divide(rotated, np.where(lengths > 0, lengths, 1), dtype=np.float32)), lengths


def pack(rows: Bytes) -> Any:
    """Arrange rows as `multiply` reads them."""
    return numkong.dots_pack(as_tensor(np.ascontiguousarray(rows), "int8"))


def multiply(rows: Bytes, packed: Any) -> NDArray[np.int32]:
    """Return the products of each row with each of those that were packed."""
    return np.asarray(numkong.dots_packed(as_tensor(np.ascontiguousarray(rows), "int8"), packed))
