"""Embeddings on disk, shared between runs: each text is encoded once for each model.

A cache is a directory with one directory for each model, which holds ``model.json`` (what identifies the model) and, in
``documents/`` and ``queries/``, shards of up to `SHARD_ROWS` vectors::

    <shard>.json       manifest: rows, dim, and length and SHA-256 of the two files below; written last
    <shard>.keys.npy   uint8 (rows, 16), BLAKE2b of each text
    <shard>.npy        float32 (rows, dim)

Token vectors, for late interaction, lie in the same way below ``tokens/``, with the tokens of all texts in one matrix and
a third file, ``<shard>.lengths.npy``: int64 (rows,), how many belong to each text.

A shard counts only with its manifest and when both files match it; a damaged one is deleted and its texts are encoded
again. Files are complete or not there: they are written under another name, synced, and renamed.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo._files import write_atomically
from octavo._progress import progress_bar
from octavo.eval.running.models import EvalModel, same_probes
from octavo.eval.vectors import Role

CACHE_VERSION = 1

#: Vectors committed at a time: what an interruption can lose, a minute or so on two cores.
SHARD_ROWS = 1_024

#: Texts given to the model at a time, so that the bar moves.
_CALL_ROWS = 128

_KEY_BYTES = 16

#: The files of a shard with the type and the number of axes of each.
_Files = dict[str, tuple[Any, int]]


class EmbeddingCache:
    """Vectors of one model, in memory and (if there is a directory) on disk.

    Parameters
    ----------
    root : Path or None
        The cache's directory; None keeps nothing.
    model : EvalModel
        What makes the vectors.

    Attributes
    ----------
    fingerprint : str
        The model's, as it was first seen here: a last digit that differs on another day does not change it.
    encoded : int
        Texts that had to be encoded so far.
    """

    _shard_rows: ClassVar[int] = SHARD_ROWS
    _files: ClassVar[_Files] = {".keys.npy": (np.uint8, 2), ".npy": (np.float32, 2)}

    def __init__(self, root: Path | None, model: EvalModel) -> None:
        self.model = model
        self.encoded = 0
        self._directory: Path | None = None
        self.fingerprint = model.fingerprint
        if not model.deterministic:
            # Its vectors today say nothing about those of tomorrow, and neither would results that name it the same.
            self.fingerprint = f"not-deterministic-{os.urandom(8).hex()}"
        elif root is not None:
            self._directory = _model_directory(root, model)
            self.fingerprint = self._directory.name.rpartition("-")[2]

    def embed(self, texts: Sequence[str], role: Role, *, progress: bool = False, description: str = "embed") -> Floats:
        """Return the vectors of texts, from the cache where it has them.

        Returns
        -------
        ndarray of shape (len(texts), dim), float32
        """
        vectors = np.empty((len(texts), self.model.dim), np.float32)

        def put(place: int, vector: Floats) -> None:
            vectors[place] = vector

        self._collect(texts, role, put, progress, description)
        return vectors

    def _collect(
        self,
        texts: Sequence[str],
        role: Role,
        put: Callable[[int, Floats], None],
        progress: bool,
        description: str,
    ) -> None:
        """Call `put` with the place of each text and what the model makes of it."""
        keys = [_key(text) for text in texts]
        places: dict[bytes, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(key, []).append(place)
        for shard_keys, rows in self._shards(role):
            for row, key in enumerate(shard_keys):
                for place in places.pop(key, ()):
                    put(place, rows[row])
        # Long texts first: batches of equal lengths waste no padding, and what memory it takes shows at once.
        todo = sorted(places, key=lambda key: len(texts[places[key][0]]), reverse=True)
        with progress_bar(description, len(todo), shown=progress) as advance:
            for start in range(0, len(todo), self._shard_rows):
                part = todo[start : start + self._shard_rows]
                encoded = self._encode([texts[places[key][0]] for key in part], role, advance)
                self._store(role, part, self._arrays(encoded))
                for key, vector in zip(part, encoded, strict=True):
                    for place in places[key]:
                        put(place, vector)
        self.encoded += len(todo)

    def _arrays(self, encoded: Any) -> dict[str, npt.NDArray[Any]]:
        """Return what a shard's files hold, beside the keys."""
        return {".npy": encoded}

    def _rows(self, arrays: dict[str, npt.NDArray[Any]]) -> Sequence[Floats]:
        """Return what belongs to each text from a shard's files; ValueError if they do not fit together."""
        rows: Any = arrays[".npy"]
        if len(rows) != len(arrays[".keys.npy"]) or rows.shape[1] != self.model.dim:
            raise ValueError("of another shape")
        return rows  # type: ignore[no-any-return]

    def _encode(self, texts: Sequence[str], role: Role, advance: Callable[[int], object]) -> Any:
        parts = []
        for start in range(0, len(texts), _CALL_ROWS):
            part = texts[start : start + _CALL_ROWS]
            parts.append(self.model.encode(part, role))
            advance(len(part))
        return np.ascontiguousarray(np.concatenate(parts), np.float32)

    def _shards(self, role: Role) -> list[tuple[list[bytes], Sequence[Floats]]]:
        if self._directory is None:
            return []
        manifests = sorted((self._directory / role).glob("*.json"))
        shards = (self._read_shard(path) for path in manifests)
        return [shard for shard in shards if shard is not None]

    def _store(self, role: Role, keys: Sequence[bytes], arrays: dict[str, npt.NDArray[Any]]) -> None:
        if self._directory is None:
            return
        matrix = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY_BYTES)
        folder = self._directory / role
        name = hashlib.sha256(matrix.tobytes()).hexdigest()[:_KEY_BYTES]
        files = {}
        for suffix, array in {**arrays, ".keys.npy": matrix}.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            data = buffer.getvalue()
            write_atomically(folder / f"{name}{suffix}", data)
            files[suffix] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest = {"version": CACHE_VERSION, "rows": len(keys), "dim": self.model.dim, "files": files}
        write_atomically(folder / f"{name}.json", json.dumps(manifest))

    def _read_shard(self, manifest_path: Path) -> tuple[list[bytes], Sequence[Floats]] | None:
        """Return the keys and the memory-mapped vectors of a shard, or delete it if anything about it is not right."""
        stem = manifest_path.with_suffix("")
        try:
            manifest = json.loads(manifest_path.read_bytes())
            if manifest["version"] != CACHE_VERSION:
                raise ValueError("another version")
            arrays: dict[str, npt.NDArray[Any]] = {}
            for suffix, (dtype, axes) in self._files.items():
                path, described = Path(f"{stem}{suffix}"), manifest["files"][suffix]
                if path.stat().st_size != described["bytes"] or _sha256(path) != described["sha256"]:
                    raise ValueError("damaged")
                array = np.load(path, mmap_mode="r", allow_pickle=False)
                if array.dtype != dtype or array.ndim != axes:
                    raise ValueError("of another shape")
                arrays[suffix] = array
            keys = arrays[".keys.npy"]
            if keys.shape != (manifest["rows"], _KEY_BYTES):
                raise ValueError("of another shape")
            return [row.tobytes() for row in np.asarray(keys)], self._rows(arrays)
        except (OSError, ValueError, KeyError, TypeError):
            manifest_path.unlink(missing_ok=True)  # first: without it the others count for nothing
            for suffix in self._files:
                Path(f"{stem}{suffix}").unlink(missing_ok=True)
            return None


class TokenCache(EmbeddingCache):
    """Token vectors of one model: a matrix for each text, in memory-mapped files where there is a directory.

    Parameters
    ----------
    root : Path or None
        The cache's directory; None keeps nothing.
    model : EvalModel
        Loaded with ``tokens=True``.
    """

    _shard_rows = 256  # a text has hundreds of vectors
    _files: ClassVar[_Files] = {**EmbeddingCache._files, ".lengths.npy": (np.int64, 1)}

    def __init__(self, root: Path | None, model: EvalModel) -> None:
        super().__init__(root / "tokens" if root is not None else None, model)

    def embed_tokens(
        self, texts: Sequence[str], role: Role, *, progress: bool = False, description: str = "embed"
    ) -> list[Floats]:
        """Return the token vectors of texts, from the cache where it has them.

        Returns
        -------
        list of ndarray of shape (n_tokens, dim), float32
            Read-only where they lie in the cache.
        """
        matrices: list[Floats] = [np.zeros((0, self.model.dim), np.float32)] * len(texts)
        self._collect(texts, role, matrices.__setitem__, progress, description)
        return matrices

    def _encode(self, texts: Sequence[str], role: Role, advance: Callable[[int], object]) -> list[Floats]:
        matrices: list[Floats] = []
        for start in range(0, len(texts), _CALL_ROWS):
            part = self.model.encode_tokens(texts[start : start + _CALL_ROWS], role)
            matrices += [np.asarray(matrix, np.float32).reshape(-1, self.model.dim) for matrix in part]
            advance(len(part))
        return matrices

    def _arrays(self, encoded: list[Floats]) -> dict[str, npt.NDArray[Any]]:
        return {".npy": np.concatenate(encoded), ".lengths.npy": np.array([len(one) for one in encoded], np.int64)}

    def _rows(self, arrays: dict[str, npt.NDArray[Any]]) -> Sequence[Floats]:
        lengths, flat = np.asarray(arrays[".lengths.npy"]), arrays[".npy"]
        ends = np.cumsum(lengths)
        fits = len(lengths) == len(arrays[".keys.npy"]) and flat.shape == (int(lengths.sum()), self.model.dim)
        if not fits or (lengths < 0).any():
            raise ValueError("of another shape")
        return [flat[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_directory(root: Path, model: EvalModel) -> Path:
    """Return the directory of this very model, made if it is new."""
    for path in sorted(root.glob("*/model.json")):
        if _describes(path, model):
            return path.parent
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", model.name).strip("-.")[-60:] or "model"
    directory = root / f"{slug}-{model.fingerprint}"
    described = {
        "version": CACHE_VERSION,
        **model.identity,
        "probes": base64.b64encode(model.probes.astype("<f4").tobytes()).decode("ascii"),
    }
    write_atomically(directory / "model.json", json.dumps(described, indent=1))
    return directory


def _describes(path: Path, model: EvalModel) -> bool:
    try:
        described = json.loads(path.read_bytes())
        if {name: described[name] for name in ("version", *model.identity)} != {
            "version": CACHE_VERSION,
            **model.identity,
        }:
            return False
        probes = np.frombuffer(base64.b64decode(described["probes"]), "<f4").reshape(-1, model.dim)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return same_probes(probes.astype(np.float32), model.probes)
