"""Fitted codecs as bytes: a JSON header and raw arrays, checked before anything is believed.

Layout, all integers little-endian:

======  =====  ==========================================================================
offset  bytes  content
======  =====  ==========================================================================
0       8      ``OCTAVOCD``
8       4      format version (1)
12      4      length of the header, ``h``
16      8      length of the arrays, ``a``
24      32     SHA-256 of everything else: bytes 0 to 23, then 56 to the end
56      h      JSON: ``steps`` (configuration and arrays of each), ``tiers`` (positions in ``steps``)
56 + h  a      the arrays, one behind the other, C-contiguous and little-endian
======  =====  ==========================================================================

A step that several tiers share (the same leading reducers, fitted on the same vectors) is stored once.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo.compression._base import State, Step
from octavo.compression._pipeline import Pipeline
from octavo.compression._registry import step_from_config
from octavo.errors import CodecError, OctavoError

MAGIC = b"OCTAVOCD"
VERSION = 1
_HEAD = struct.Struct("<8sIIQ")
_DIGEST_BYTES = 32
_DTYPES = {"f4": "<f4", "f8": "<f8", "i8": "<i8", "i4": "<i4", "u1": "|u1"}


def dump(tiers: Sequence[Pipeline]) -> bytes:
    """Return the tiers, with what they learned if they are fitted, as bytes."""
    steps: list[Step] = []
    positions: dict[int, int] = {}
    for step in (step for tier in tiers for step in tier.steps):
        if id(step) not in positions:
            positions[id(step)] = len(steps)
            steps.append(step)
    chunks: list[bytes] = []
    described = []
    for step in steps:
        state = step.get_state() if step.is_fitted else {}
        arrays = []
        for name, array in state.items():
            code = array.dtype.str[1:]
            if code not in _DTYPES:
                raise CodecError(f"{step.step_id} keeps {name!r} as {array.dtype}; expected one of {sorted(_DTYPES)}")
            arrays.append({"name": name, "dtype": code, "shape": list(array.shape)})
            chunks.append(np.ascontiguousarray(array, _DTYPES[code]).tobytes())
        described.append({"config": step.get_config(), "arrays": arrays})
    header = json.dumps(
        {"steps": described, "tiers": [[positions[id(step)] for step in tier.steps] for tier in tiers]},
        separators=(",", ":"),
        sort_keys=True,
    ).encode()
    body = b"".join([header, *chunks])
    head = _HEAD.pack(MAGIC, VERSION, len(header), len(body) - len(header))
    return head + hashlib.sha256(head + body).digest() + body


def load(data: bytes) -> list[Pipeline]:
    """Return the tiers that `dump` stored.

    Raises
    ------
    CodecError
        If the bytes are damaged, of another version, or describe something that cannot be.
    """
    start = _HEAD.size + _DIGEST_BYTES
    if len(data) < start or data[:8] != MAGIC:
        raise CodecError("this is not a stored codec: the first bytes are wrong")
    _, version, header_bytes, array_bytes = _HEAD.unpack_from(data)
    if version != VERSION:
        raise CodecError(f"the stored codec has format version {version}, this version of octavo reads {VERSION}")
    if len(data) != start + header_bytes + array_bytes:
        raise CodecError(f"the stored codec should have {start + header_bytes + array_bytes} bytes, got {len(data)}")
    if hashlib.sha256(data[: _HEAD.size] + data[start:]).digest() != data[_HEAD.size : start]:
        raise CodecError("the stored codec is damaged: its checksum does not match")
    try:
        header = json.loads(data[start : start + header_bytes])
        return _build(header, memoryview(data)[start + header_bytes :])
    except CodecError:
        raise
    # A checksum proves that the bytes are those written, not that their writer meant well.
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        RecursionError,
        OverflowError,
        OctavoError,
    ) as err:
        raise CodecError(f"the stored codec cannot be read: {err!r}") from err


def _build(header: dict[str, Any], payload: memoryview) -> list[Pipeline]:
    steps: list[Step] = []
    for described in header["steps"]:
        step = step_from_config(described["config"])
        state, payload = _take_arrays(described["arrays"], payload)
        steps.append(step.set_state(state) if state else step)
    if len(payload):
        raise CodecError(f"the stored codec holds {len(payload)} bytes that belong to no step")
    tiers = []
    for positions in header["tiers"]:
        if any(isinstance(i, bool) or not 0 <= i < len(steps) for i in positions):
            raise CodecError(f"the stored codec has a tier of unknown steps: {positions!r}")
        tiers.append(Pipeline([steps[i] for i in positions]))
    return tiers


def _take_arrays(described: list[dict[str, Any]], payload: memoryview) -> tuple[State, memoryview]:
    """Return the arrays at the front of `payload`, copied, and what follows them."""
    state: State = {}
    for entry in described:
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        shape = entry["shape"]
        size = dtype.itemsize
        for n in shape:
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                raise CodecError(f"the stored codec has an array of shape {shape!r}")
            size *= n  # Python integers do not overflow
        if size > len(payload):
            raise CodecError(f"the stored codec ends within an array: {size} bytes expected, {len(payload)} left")
        array: npt.NDArray[Any] = np.frombuffer(payload[:size], dtype).reshape(shape)
        state[str(entry["name"])] = array.astype(dtype.newbyteorder("="))
        payload = payload[size:]
    return state, payload
