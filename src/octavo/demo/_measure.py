"""Store the same vectors with several codecs and compare size, agreement and speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import octavo
from octavo._arrays import Floats
from octavo.demo._corpus import Docstring
from octavo.encoders.dense import Encoder

BASELINE = "float32"
CODECS = (BASELINE, "int8", "rabitq:1 > int8", "rabitq:4")

#: The collection that the rest of the demo goes on with.
CHOSEN = "rabitq:1 > int8"

K = 10


@dataclass(frozen=True)
class CodecFigures:
    """What one codec takes and gives; sizes in bytes a document, measured on the files and structures.

    Parameters
    ----------
    codec : str
        The codec string.
    vector_bytes : float
        Codes of all tiers.
    coarse_bytes : float
        Codes of the first tier alone, which is what every search reads.
    ram_bytes, disk_bytes : float
        As `Collection.info` reports them; on disk with texts and metadata.
    agreement : float
        Share of float32's ten best that are among this codec's ten best, averaged over the queries.
    latency_ms : float
        Median time of one search by vector.
    build_s : float
        Time to store everything, vectors given.
    """

    codec: str
    vector_bytes: float
    coarse_bytes: float
    ram_bytes: float
    disk_bytes: float
    agreement: float
    latency_ms: float
    build_s: float


def folder_of(codec: str) -> str:
    """Return a directory name for a codec's collection."""
    return "".join(letter if letter.isalnum() else "-" for letter in codec.replace(" > ", "-over-")).replace("--", "-")


def compare_codecs(
    folder: Path,
    documents: Sequence[Docstring],
    vectors: Floats,
    queries: Floats,
    encoder: Encoder,
    codecs: Sequence[str] = CODECS,
) -> list[CodecFigures]:
    """Build a collection below `folder` for each codec, the first being what the others are compared with.

    Parameters
    ----------
    folder : Path
        Each collection becomes a directory in it.
    documents : sequence of Docstring
        Texts and metadata.
    vectors : ndarray of shape (len(documents), dim)
        Their vectors.
    queries : ndarray of shape (m, dim)
        Vectors to search with.
    encoder : Encoder
        What made the vectors; recorded in the collections.
    codecs : sequence of str
        Codec strings.
    """
    figures: list[CodecFigures] = []
    expected: list[set[str]] = []
    for codec in codecs:
        start = time.perf_counter()
        with octavo.open(folder / folder_of(codec), encoder, codec=codec) as collection:
            collection.add(
                [document.text for document in documents],
                ids=[document.id for document in documents],
                metadata=[document.metadata for document in documents],
                vectors=vectors,
            )
            collection.fit()  # it would wait for more documents where there are few
            build_s = time.perf_counter() - start
            collection.search(queries[0], K)  # the first search maps files; it is not what a user waits for later
            found, times = [], []
            for query in queries:
                start = time.perf_counter()
                result = collection.search(query, K)
                times.append(time.perf_counter() - start)
                found.append(set(result.ids))
            info = collection.info()
        expected = expected or found
        overlaps = [len(ours & exact) / len(exact) for ours, exact in zip(found, expected, strict=True)]
        figures.append(
            CodecFigures(
                codec=codec,
                vector_bytes=info.vector_bytes_per_document,
                coarse_bytes=float(info.tiers[0]["row_bytes"]),
                ram_bytes=info.ram_bytes_per_document,
                disk_bytes=info.disk_bytes_per_document,
                agreement=float(np.mean(overlaps)),
                latency_ms=float(np.median(times) * 1000),
                build_s=build_s,
            )
        )
    return figures
