"""Codes of every kind with what they decode to, made without the library under test."""

from __future__ import annotations

import ml_dtypes
import numpy as np

FLOATS = {
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}


def encode(kind: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and the values that they stand for."""
    n, dim = x.shape
    if kind in FLOATS:
        typed = (x * (8.0 if kind.startswith("e") else 1.0)).astype(FLOATS[kind])
        codes, values = typed.view(np.uint8), typed.astype(np.float64)
    elif kind == "i8":
        typed = np.clip(np.rint(x * 254), -127, 127).astype(np.int8)
        codes, values = typed.view(np.uint8), typed.astype(np.float64)
    elif kind == "i4":
        values = np.clip(np.rint(x * 14), -8, 7)
        nibbles = np.zeros((n, dim + dim % 2), dtype=np.uint8)
        nibbles[:, :dim] = values.astype(np.int8).view(np.uint8) & 15
        codes = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
    elif kind == "i2":
        places = np.zeros((n, dim + -dim % 4), dtype=np.uint8)
        places[:, :dim] = np.digitize(x * np.sqrt(dim), [-1, 0, 1])
        values = np.array([-127.0, -38.0, 38.0, 127.0])[places[:, :dim]]
        codes = (places.reshape(n, -1, 4) * np.array([1, 4, 16, 64], dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
    elif kind == "b1":
        codes = np.packbits(x > 0, axis=1)
        values = np.where(x > 0, 1.0, -1.0) / np.sqrt(dim)
    else:
        raise AssertionError(f"teach encode the kind {kind!r}")
    return np.ascontiguousarray(codes).reshape(n, -1), values
