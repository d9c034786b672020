"""What a job has done already, in a folder that all machines see: files named after what they were made of.

::

    checkpoint/
      encoder.json            name, prompts, dimension and vector for a fixed sentence of the encoder
      <codec tag>.codec       a fitted codec: SHA-256, then `Codec.to_bytes`
      fitted-<key>.json       which codec was fitted for a codec string, so that a resumed job does not fit another
      encoded/<key>           encoded documents: SHA-256, then an Arrow stream with the schema `ENCODED`
      written-<target>/<key>  empty: these documents are in the target

A key is a hash of everything that the result depends on, so a changed document, or documents cut into other blocks, are
done anew, never mistaken. Files appear under their names complete, by renaming. Nothing is ever overwritten with other content,
so machines need no locks.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from octavo._files import write_atomically
from octavo.collection.model_check import prompts_of
from octavo.compression import Codec
from octavo.encoders.dense import Encoder, check_fingerprint, cosine, fingerprint
from octavo.errors import CodecError, MismatchError
from octavo.integrations.ray._rows import ENCODED, Row

_DIGEST_BYTES = 32

#: What every machine's encoder is asked for: a job has texts, but perhaps none that two runs of it have in common.
_PROBE = "Octavo asks every encoder for this sentence."

#: Two encodings of the probe that are closer than this come from the same model (numerics differ between machines).
_SAME_MODEL = 0.99


def content_key(parts: Iterable[str | bytes | None]) -> str:
    """Return a hash of strings, each with its length, so that no two sequences collide.

    Examples
    --------
    >>> content_key(["a", "bc"]) != content_key(["ab", "c"]) != content_key(["ab", None, "c"])
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"-" if data is None else len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class Checkpoint:
    """A checkpoint folder.

    Parameters
    ----------
    folder : str or path-like
        Created if it is not there. On more than one machine it must be on storage that all of them share.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser().resolve()

    # -- the encoder ---------------------------------------------------------------------------------------------------

    def check_encoder(self, encoder: Encoder) -> None:
        """Remember the encoder, or compare it with the one that is remembered.

        Raises
        ------
        MismatchError
            When what is there was encoded by another one.
        """
        path = self.folder / "encoder.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            write_atomically(path, json.dumps(_described(encoder)).encode())
            return
        _compare(stored, encoder)

    # -- codecs --------------------------------------------------------------------------------------------------------

    def save_codec(self, tag: str, codec: Codec) -> None:
        """Keep a fitted codec under its tag."""
        _write_checked(self.folder / f"{_file_name(tag)}.codec", codec.to_bytes())

    def load_codec(self, tag: str) -> Codec | None:
        """Return the codec of a tag; None if it is not there or damaged."""
        data = _read_checked(self.folder / f"{_file_name(tag)}.codec")
        try:
            return Codec.from_bytes(data) if data is not None else None
        except CodecError:
            return None

    def save_fitted(self, key: str, tag: str) -> None:
        """Remember which codec was fitted for `key`."""
        write_atomically(self.folder / f"fitted-{key}.json", json.dumps({"codec": tag}).encode())

    def load_fitted(self, key: str) -> Codec | None:
        """Return the codec that was fitted for `key`, if there is one."""
        try:
            return self.load_codec(json.loads((self.folder / f"fitted-{key}.json").read_text())["codec"])
        except FileNotFoundError:
            return None

    # -- documents -----------------------------------------------------------------------------------------------------

    def save_encoded(self, key: str, table: pa.Table) -> None:
        """Keep encoded documents."""
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, ENCODED) as stream:
            stream.write_table(table)
        _write_checked(self.folder / "encoded" / key, sink.getvalue())

    def load_encoded(self, key: str) -> pa.Table | None:
        """Return encoded documents; None if they are not there or damaged."""
        data = _read_checked(self.folder / "encoded" / key)
        if data is None:
            return None
        with pa.ipc.open_stream(data) as stream:
            return stream.read_all()

    def mark_written(self, target: str, key: str) -> None:
        """Remember that these documents are in a target."""
        write_atomically(self._written(target) / key, b"")

    def is_written(self, target: str, key: str) -> bool:
        """Tell whether these documents were written into a target."""
        return (self._written(target) / key).exists()

    def _written(self, target: str) -> Path:
        return self.folder / f"written-{content_key([target])[:32]}"


def _described(encoder: Encoder) -> dict[str, Any]:
    """Describe an encoder; the probe is left out for those that give another vector each time."""
    first, second = (encoder.encode_documents([_PROBE])[0] for _ in range(2))
    described = fingerprint(encoder.name, prompts_of(encoder), len(first))
    if cosine(first, second) > _SAME_MODEL:
        described["probe"] = base64.b64encode(first.astype("<f4").tobytes()).decode("ascii")
    return described


def _compare(stored: dict[str, Any], encoder: Encoder) -> None:
    vector = encoder.encode_documents([_PROBE])[0]
    check_fingerprint(stored, encoder.name, len(vector))
    if stored.get("probe") is None:
        return
    similarity = cosine(np.frombuffer(base64.b64decode(stored["probe"]), dtype="<f4"), vector)
    if similarity < _SAME_MODEL and cosine(vector, encoder.encode_documents([_PROBE])[0]) >= _SAME_MODEL:
        raise MismatchError(
            f"the checkpoint was made with encoder {stored['name']!r}, got {encoder.name!r}, whose vector for the probe "
            f"sentence differs (cosine {similarity:.3f}); go on with the first, or choose a new checkpoint folder"
        )


def encoding_key(encoder: str, tag: str, rows: Iterable[Row]) -> str:
    """Return the key of documents that are to be encoded."""
    parts: list[str | None] = ["1", encoder, tag]
    for row in rows:
        parts += [row.id, row.text, row.metadata, row.error]
    return content_key(parts)


def table_key(table: pa.Table) -> str:
    """Return the key of encoded documents."""
    parts: list[Any] = ["1"]
    for name in ENCODED.names:
        parts += [name, *table.column(name).to_pylist()]
    return content_key(parts)


def _file_name(tag: str) -> str:
    return tag.replace(":", "-")  # which file names on Windows cannot hold


def _write_checked(path: Path, data: bytes) -> None:
    write_atomically(path, hashlib.sha256(data).digest() + data)


def _read_checked(path: Path) -> bytes | None:
    """Return what `_write_checked` wrote; None if it is not there or not what was written."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, data = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == digest else None
