"""What a run found: one JSON file a run, with a published schema (``result.schema.json``) and a version."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from octavo._files import write_atomically
from octavo._html import notebook_table
from octavo._printing import short
from octavo.errors import OctavoError, ParameterError
from octavo.eval.configurations import Configuration, Kind, digest

#: Names the file format, so that other JSON files in a folder are told apart from results.
FORMAT = "octavo-eval-result"

#: Rises when a field changes its meaning or goes; new optional fields do not change it.
SCHEMA_VERSION = 1

#: Directory of cached embeddings within an output directory; never searched for results.
CACHE_NAME = ".cache"

#: How the file beside a result ends that holds one match of late interaction, token by token.
EXPLANATION_SUFFIX = ".explain.json"


class ResultError(OctavoError, ValueError):
    """A result file cannot be read; the message names it and says why."""


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """Which questions were asked of which documents.

    Parameters
    ----------
    name, split, source : str
        What it is called, which judgements were used, and where it came from (a name, never a machine's path).
    documents, queries, judgements : int
        How many; only queries with at least one judgement are asked and count.
    fingerprint : str
        Hash of ids, texts and judgements: equal if and only if the data is.
    ignore_identical_ids : bool, default=False
        Whether a document was left out of the results of the query that has its id.
    """

    name: str
    split: str
    source: str
    documents: int
    queries: int
    judgements: int
    fingerprint: str
    ignore_identical_ids: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Which model made the vectors.

    Parameters
    ----------
    name : str
        As the user called it.
    fingerprint : str
        Hash of name, prompts, dimension, layers and the vectors of fixed texts.
    dim : int
        Dimension of the vectors as they come from the model.
    layers : int or None
        Transformer layers kept; None if the model was used whole.
    encoder : str or None
        How to name it again: a name, a folder's absolute path, or ``module:attribute``. None for an object that has no such
        name, and for ready vectors.
    query_ms : float or None
        Milliseconds of processor time, of all threads, that encoding one query took: the median of some. Measured where
        configurations cut the model's layers; None elsewhere.
    """

    name: str
    fingerprint: str
    dim: int
    layers: int | None = None
    encoder: str | None = None
    query_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Share of the best `depth` documents that two searches have in common, as a mean over the queries.

    Needs no judgements. ``float32`` is what a user notices; the two others split it into its causes.

    Parameters
    ----------
    depth : int
        How many documents of each ranking are compared.
    float32 : float or None
        The search as configured, with exact search over the float32 vectors. None for text.
    same_codes : float or None
        The search as configured, with exact search over the same stored codes: what graph and coarse tier lose.
    codes_float32 : float or None
        Exact search over the stored codes, with exact search over the float32 vectors: what the codec loses.
    per_query : dict of str to dict of str to float
        The same for each query: ``per_query["float32"][query_id]``.
    """

    depth: int
    float32: float | None
    same_codes: float | None
    codes_float32: float | None
    per_query: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Storage:
    """What the documents take, in bytes.

    Parameters
    ----------
    measured : bool
        True: read off the open collection and its files. False (baselines): computed from the shape of the codes.
    documents : int
        How many documents the totals are for.
    vector_bytes_per_document : float
        Codes of all tiers alone.
    ram_bytes_per_document : float
        All that is held or mapped in RAM: coarse codes and graph.
    index_bytes_per_document : float
        On disk without the texts: codes of all tiers, and the graph.
    disk_bytes_per_document : float
        All files, with texts, metadata and full text.
    ram, disk : dict of str to int
        Total bytes by part.
    """

    measured: bool
    documents: int
    vector_bytes_per_document: float
    ram_bytes_per_document: float
    index_bytes_per_document: float
    disk_bytes_per_document: float
    ram: dict[str, int]
    disk: dict[str, int]

    @property
    def ram_bytes(self) -> int:
        """Total bytes in RAM."""
        return sum(self.ram.values())

    @property
    def disk_bytes(self) -> int:
        """Total bytes on disk."""
        return sum(self.disk.values())


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds that one `Collection.search` of one query vector took, on one thread, all repetitions counted."""

    p50: float
    p95: float
    p99: float
    mean: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How long it took; embedding the texts is not part of it.

    Parameters
    ----------
    build_seconds : float
        From vectors to a closed collection on disk: adding, fitting, the graph, full text where the mode needs it.
    latency_ms : Latency or None
        None for baselines, which are not an implementation that anybody would use.
    queries_per_second : float or None
        Through `Collection.search_batch`, median of the repetitions.
    k : int
        Results asked for in what was timed.
    timed_queries, warmup, repeats : int
        Different queries timed, searches thrown away before, and how often each query was timed.
    """

    build_seconds: float
    latency_ms: Latency | None
    queries_per_second: float | None
    k: int
    timed_queries: int
    warmup: int
    repeats: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must hold whatever the configuration; a failed check means a broken index, not a bad codec."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where and how it was measured.

    Parameters
    ----------
    started : str
        UTC, ISO 8601.
    seconds : float
        The whole run, without embedding.
    seed : int
        Seed of everything random.
    command : str
        What reproduces it.
    versions : dict of str to str
        Of Octavo and of what it stands on.
    platform, cpu : str
        Operating system and model of the processor.
    cores : int
        Cores that the process may use.
    cpu_features : list of str
        Instruction sets that the kernels can use.
    """

    started: str
    seconds: float
    seed: int
    command: str
    versions: dict[str, str]
    platform: str
    cpu: str
    cores: int
    cpu_features: list[str]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that one run found.

    Parameters
    ----------
    id : str
        Hash of data, model, configuration, seed and Octavo's version: equal runs have equal ids.
    label : str
        What to call the configuration in tables.
    kind : {"collection", "baseline"}
        Baselines are reference schemes outside the collection, for comparison only.
    configuration : Configuration
        What was measured.
    dataset : DatasetInfo
        On which data.
    model : ModelInfo or None
        None for full text alone.
    quality : dict of str to float
        Mean of each measure, named as ir-measures does: ``quality["nDCG@10"]``.
    per_query : dict of str to dict of str to float
        The same for each query: ``per_query["nDCG@10"][query_id]``.
    agreement : Agreement
        With what exact searches find.
    storage : Storage
        Bytes.
    speed : Speed
        Of building and searching.
    checks : list of Check
        What had to hold, and whether it did.
    environment : Environment
        Where, when and with which versions.
    depth : int
        Documents per query in the run file.
    run_file : str
        The TREC run file of that depth, relative to the result file; empty if none was written.
    runs : dict of str to str
        All run files by their depth: a measure at 10 is measured on a search for 10 documents (``runs["10"]``), which
        need not be the head of a search for 100.

    Examples
    --------
    >>> from octavo.eval import Dataset, ReadyVectors, run
    >>> data = Dataset(
    ...     name="tiny", document_ids=["a", "b"], texts=["red", "green"],
    ...     query_ids=["q"], queries=["red"], qrels={"q": {"a": 1}},
    ... )
    >>> vectors = ReadyVectors([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.2]])
    >>> results = run(data, None, "int8", vectors=vectors, measures=["RR@10"])
    >>> [result] = results
    >>> result.label, result.value("RR@10"), result.ok
    ('int8', 1.0, True)
    """

    id: str
    label: str
    kind: Kind
    configuration: Configuration
    dataset: DatasetInfo
    model: ModelInfo | None
    quality: dict[str, float]
    per_query: dict[str, dict[str, float]]
    agreement: Agreement
    storage: Storage
    speed: Speed
    checks: list[Check]
    environment: Environment
    depth: int
    run_file: str
    runs: dict[str, str]

    def __repr__(self) -> str:
        quality = ", ".join(f"{name} {value:.4f}" for name, value in list(self.quality.items())[:3])
        failed = "" if self.ok else ", failed checks"
        where = f"{short(self.label)} on {short(self.dataset.name)}"
        size = f"{self.storage.vector_bytes_per_document:,.0f} bytes a document"
        return f"<octavo.eval.Result {where}: {quality}, {size}{failed}>"

    def _repr_html_(self) -> str:
        rows = [(name, f"{value:.4f}") for name, value in self.quality.items()]
        stored = self.storage
        rows += [
            ("vector bytes a document", f"{stored.vector_bytes_per_document:,.0f}"),
            ("bytes a document in RAM", f"{stored.ram_bytes_per_document:,.0f}"),
            ("bytes a document on disk", f"{stored.disk_bytes_per_document:,.0f}"),
        ]
        if self.speed.latency_ms is not None:
            rows.append(("median latency", f"{self.speed.latency_ms.p50:.2f} ms"))
        rows += [("failed check", check.name) for check in self.checks if not check.ok]
        return notebook_table(f"{self.label} on {self.dataset.name}", [], rows)

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return all(check.ok for check in self.checks)

    @property
    def configuration_key(self) -> str:
        """Equal for the same configuration and model name on different data: what averages are taken over."""
        return digest({"configuration": self.configuration.to_dict(), "model": self.model and self.model.name})

    def value(self, name: str) -> float:
        """Return a measure, or ``agreement`` (with exact float32), ``agreement.same_codes``, ``agreement.codes_float32``.

        Parameters
        ----------
        name : str
            Of the measure, as ir-measures writes it.

        Returns
        -------
        float
            Its mean over the queries.

        Raises
        ------
        ParameterError
            When the run did not measure it.
        """
        if name in self.quality:
            return self.quality[name]
        measured = [*self.quality, *(f"agreement.{level}" for level in ("float32", "same_codes", "codes_float32"))]
        if name == "agreement" or name in measured:
            value = getattr(self.agreement, name.removeprefix("agreement").lstrip(".") or "float32")
            if isinstance(value, float):
                return value
        raise ParameterError(f"expected a measure out of {', '.join(measured)}, got {name!r} for {self.label!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that the file holds."""
        values = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(self)}
        # Fields that came later are written where they say something: files of earlier versions have none of them.
        if not self.dataset.ignore_identical_ids:
            del values["dataset"]["ignore_identical_ids"]
        if self.model is not None and self.model.encoder is None:
            del values["model"]["encoder"]
        return {**values, "configuration": self.configuration.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """Return the result that `to_dict` described; fields that a newer writer added are left out.

        Parameters
        ----------
        values : mapping
            A JSON object.

        Raises
        ------
        ResultError
            When it is not a result, is of another schema version, or lacks a field.
        """
        if values.get("format") != FORMAT:
            raise ResultError(f"expected format {FORMAT!r}, got {values.get('format')!r}")
        if values.get("schema_version") != SCHEMA_VERSION:
            raise ResultError(
                f"expected schema version {SCHEMA_VERSION}, got {values.get('schema_version')!r}; run it again with this "
                "version of Octavo, or read it with the one that wrote it"
            )
        try:
            speed = values["speed"]
            latency = speed["latency_ms"]
            return cls(
                **{
                    **_known(cls, values),
                    "configuration": Configuration.from_dict(values["configuration"]),
                    "dataset": DatasetInfo(**_known(DatasetInfo, values["dataset"])),
                    "model": None if values["model"] is None else ModelInfo(**_known(ModelInfo, values["model"])),
                    "agreement": Agreement(**_known(Agreement, values["agreement"])),
                    "storage": Storage(**_known(Storage, values["storage"])),
                    "speed": Speed(
                        **{
                            **_known(Speed, speed),
                            "latency_ms": None if latency is None else Latency(**_known(Latency, latency)),
                        }
                    ),
                    "checks": [Check(**_known(Check, check)) for check in values["checks"]],
                    "environment": Environment(**_known(Environment, values["environment"])),
                }
            )
        except (KeyError, TypeError, AttributeError, ParameterError) as error:
            raise ResultError(f"the result is incomplete or malformed: {error}") from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, complete or not at all."""
        write_atomically(Path(path), json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1) + "\n")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Result:
        """Read a result file.

        Parameters
        ----------
        path : str or path-like
            The file.

        Raises
        ------
        ResultError
            When it is not JSON or not a result; the message names the file.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ResultError(f"expected a JSON object, got {type(values).__name__}")
            return cls.from_dict(values)
        except (UnicodeDecodeError, json.JSONDecodeError, ResultError) as error:
            raise ResultError(f"{Path(path).name}: {error}") from error


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(cls)}
    return {name: value for name, value in values.items() if name in names}


def load_results(places: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Result]:
    """Read result files, and all of those below directories, in the order of their names.

    JSON files of other formats that lie in a directory are left alone; a file that is named must be a result.

    Parameters
    ----------
    places : str, path-like or iterable of them
        Files and directories.

    Returns
    -------
    list of Result
        Place by place.

    Raises
    ------
    ResultError
        When there is nothing at a place, or a result cannot be read.
    """
    listed: Sequence[str | os.PathLike[str]]
    listed = [places] if isinstance(places, str | os.PathLike) else list(places)
    found: list[Result] = []
    for place in map(Path, listed):
        if place.is_file():
            found.append(Result.read(place))
        elif place.is_dir():
            found += [Result.read(path) for path in sorted(place.rglob("*.json")) if _is_result(path, place)]
        else:
            raise ResultError(f"expected a result file or a directory of them, but there is nothing at {str(place)!r}")
    return found


def _is_result(path: Path, root: Path) -> bool:
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        return False
    with path.open("rb") as file:  # the format is the first field, and results may be large
        return b'"' + FORMAT.encode() + b'"' in file.read(200)


def result_schema() -> dict[str, Any]:
    """Return the JSON schema of a result file."""
    text = resources.files("octavo.eval").joinpath("result.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
