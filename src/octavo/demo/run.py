"""The demo from corpus to crash, without anything on the screen: what is shown is up to the caller."""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo import Collection
from octavo._arrays import Floats
from octavo.demo._corpus import Docstring, docstrings
from octavo.demo._crash import CrashReport, kill_a_writer
from octavo.demo._frameworks import Answers, ask_langchain, ask_llama_index, ask_plain
from octavo.demo._measure import CHOSEN, CodecFigures, compare_codecs, folder_of
from octavo.encoders.dense import Encoder
from octavo.errors import ParameterError

QUESTION = "How do I read a file inside a zip archive?"
_ANSWERS = 3

DEFAULT_DOCUMENTS = 4_000
#: Encoding stops here on a slow machine, and the demo goes on with what it has, unless told how many documents to take.
ENCODING_BUDGET_S = 75.0
_ENCODE_AT_A_TIME = 250

#: Docstrings that are kept out of the collections; their summaries are the queries.
_QUERIES = 200
_CRASH_DOCUMENTS = 2_000
#: Enough to fit every codec, and for the writer to be killed well before it is done.
MIN_DOCUMENTS = 500
_SEED = 0

#: Directory, in the folder that collections are kept in, of the one that is searched.
KEPT = folder_of(CHOSEN)


@dataclass(frozen=True)
class DemoOptions:
    """What the caller chooses.

    Parameters
    ----------
    folder : Path
        Empty directory for the collections.
    documents : int or None
        How many to index; None for `DEFAULT_DOCUMENTS`, or as many as fit into `ENCODING_BUDGET_S`.
    """

    folder: Path
    documents: int | None = None


@dataclass
class DemoReport:
    """Everything that the demo found out; `to_dict` gives JSON."""

    python: str
    available: int
    documents: int = 0
    queries: int = 0
    encoding_s: float = 0.0
    cut_short: bool = False
    codecs: list[CodecFigures] = field(default_factory=list)
    question: str = QUESTION
    texts: dict[str, str] = field(default_factory=dict)  # of the documents that answered, by id
    answers: dict[str, Answers] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # framework -> the command that installs it
    crash: CrashReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


#: Told what begins and its number of steps (0 where nobody knows); returns what to call with each number of steps done.
Progress = Callable[[str, int], Callable[[int], object]]


def run_demo(options: DemoOptions, encoder: Encoder, progress: Progress) -> DemoReport:
    """Run all parts of the demo.

    Parameters
    ----------
    options : DemoOptions
        Where, and how much.
    encoder : Encoder
        The embedding model.
    progress : callable
        See `Progress`.

    Raises
    ------
    ParameterError
        When there are fewer documents than asked for, or too few to leave some over as queries.
    """
    corpus = docstrings()
    report = DemoReport(python=platform.python_version(), available=len(corpus))
    documents, queries = _draw(corpus, options.documents)
    report.queries = len(queries)

    start = time.perf_counter()
    advance = progress("Encoding documents", len(documents))
    query_vectors = encoder.encode_queries([query.summary for query in queries])
    deadline = start + ENCODING_BUDGET_S if options.documents is None else None
    vectors = _encode(documents, encoder, deadline, advance)
    report.encoding_s = time.perf_counter() - start
    report.cut_short = len(vectors) < len(documents)
    documents = documents[: len(vectors)]
    report.documents = len(documents)

    progress("Storing with each codec, searching", 0)
    report.codecs = compare_codecs(options.folder, documents, vectors, query_vectors, encoder)

    progress("Asking through each interface", 0)
    with octavo.open(options.folder / folder_of(CHOSEN), encoder, must_exist=True) as collection:
        _ask_everywhere(report, collection)

    progress("Killing a writer", 0)
    few = slice(0, _CRASH_DOCUMENTS)
    report.crash = kill_a_writer(options.folder / "killed", documents[few], vectors[few], CHOSEN)
    return report


def _draw(corpus: Sequence[Docstring], wanted: int | None) -> tuple[list[Docstring], list[Docstring]]:
    """Choose documents and queries at random, the same ones each time."""
    most = len(corpus) - _QUERIES
    if wanted is not None and not MIN_DOCUMENTS <= wanted <= most:
        raise ParameterError(
            f"expected {MIN_DOCUMENTS:,} to {most:,} documents (this Python documents {len(corpus):,} things, and "
            f"{_QUERIES} are kept for queries), got {wanted:,}"
        )
    order = np.random.default_rng(_SEED).permutation(len(corpus))
    drawn = [corpus[position] for position in order]
    number = min(DEFAULT_DOCUMENTS, most) if wanted is None else wanted
    return drawn[_QUERIES : _QUERIES + number], drawn[:_QUERIES]


def _encode(
    documents: Sequence[Docstring], encoder: Encoder, deadline: float | None, advance: Callable[[int], object]
) -> Floats:
    parts: list[Floats] = []
    for first in range(0, len(documents), _ENCODE_AT_A_TIME):
        enough = first >= MIN_DOCUMENTS
        if enough and deadline is not None and time.perf_counter() > deadline:
            break
        batch = documents[first : first + _ENCODE_AT_A_TIME]
        parts.append(encoder.encode_documents([document.text for document in batch]))
        advance(len(batch))
    return np.concatenate(parts)


def _ask_everywhere(report: DemoReport, collection: Collection) -> None:
    report.answers["Python"] = ask_plain(collection, QUESTION, _ANSWERS)
    for name, package, extra, ask in (
        ("LangChain", "langchain_core", "langchain", ask_langchain),
        ("LlamaIndex", "llama_index", "llama-index", ask_llama_index),
    ):
        if importlib.util.find_spec(package) is None:
            report.missing[name] = f"pip install 'octavo[{extra}]'"
        else:
            report.answers[name] = ask(collection, QUESTION, _ANSWERS)
    ids = dict.fromkeys(name for answers in report.answers.values() for name in answers.ids)
    report.texts = {document.id: document.text for document in collection.get(ids)}
