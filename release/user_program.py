"""A program as a user would write it: `make package` runs it from the wheel alone and type checks it from outside."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import octavo
from octavo import Collection, Hit, SearchResult
from octavo.compression import Codec
from octavo.filters import parse_filter
from octavo.index import exact_search
from octavo.retrievers import reciprocal_rank_fusion

WORDS = ["apple", "pear", "plum", "house", "garden", "street", "river", "mountain"]


class Letters:
    """An encoder of one's own: counts of letters."""

    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        rows = [[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
        return np.asarray(rows, dtype=np.float32)


def best(result: SearchResult) -> str:
    """The id of the first hit."""
    first: Hit = result[0]
    score: float = first.score
    if not score > 0:
        raise SystemExit(f"a hit that has nothing in common: {first}")
    return first.id


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kb"
        kb: Collection = octavo.open(path, encoder=Letters(), codec="rabitq:1 > int8", fit_after=4)
        ids: list[str] = kb.add(WORDS, ids=WORDS, metadata=[{"length": len(word)} for word in WORDS])
        if ids != WORDS:
            raise SystemExit(f"expected {WORDS}, got {ids}")
        kb.close()

        with octavo.open(path, encoder=Letters()) as kb:
            found = {mode: best(kb.search("mountain", k=3, mode=mode)) for mode in ("dense", "text", "hybrid")}
            if set(found.values()) != {"mountain"}:
                raise SystemExit(f"expected mountain in every mode, got {found}")
            short = kb.search("mountain", k=10, filter={"length": {"$lte": 4}})
            if sorted(short.ids) != ["pear", "plum"]:
                raise SystemExit(f"expected the two short words, got {short.ids}")
            report: octavo.VerifyReport = kb.verify()
            if report.problems:
                raise SystemExit(f"problems: {report.problems}")
            information: octavo.CollectionInfo = kb.info()
            print(f"{information.documents} documents, codec {information.codec}")

    X = np.eye(4, 8, dtype=np.float32)
    [tier] = Codec.parse("int8").fit(X)
    rows, _ = exact_search(tier.layout, tier.encode(X), tier.encode_queries(X), 1)
    if rows[:, 0].tolist() != [0, 1, 2, 3]:
        raise SystemExit(f"expected each row to find itself, got {rows.tolist()}")
    parse_filter({"year": {"$gte": 2020}})
    scores = np.array([2.0, 1.0], np.float32)
    slots, _ = reciprocal_rank_fusion([(np.array([7, 8]), scores), (np.array([8, 9]), scores)])
    if slots[0] != 8:
        raise SystemExit(f"expected 8 first, got {slots}")


if __name__ == "__main__":
    main()
