"""What a collection holds and what it takes, measured on its files and structures."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from typing import Any

from octavo._html import notebook_table
from octavo._printing import human_bytes
from octavo._version import __version__
from octavo.compression import Codec
from octavo.encoders.dense import Encoder
from octavo.encoders.tokens import TokenEncoder
from octavo.store import _originals
from octavo.store.database import DATABASE_NAME
from octavo.store.reencoding import PREFIX
from octavo.store.settings import DERIVED, INDEXES
from octavo.store.snapshot import Snapshot
from octavo.store.sqlite import Connection, library_version
from octavo.store.store import Store, derived_files
from octavo.store.tokens import TokenView


@dataclass(frozen=True)
class CollectionInfo:
    """Description of a collection; `to_dict` gives JSON.

    Parameters
    ----------
    path : str or None
        The directory; None in memory.
    documents : int
        Documents in it.
    dim : int or None
        Dimension of the vectors as they come in.
    metric, codec : str
        What it was made with.
    fitted : bool
        False while vectors wait as float32 for the codec to be fitted.
    fit_after : int
        Documents from which on it is fitted.
    encoder : str or None
        The encoder that it was made with; None when vectors were given.
    full_text : str
        Stemmer of the full-text index.
    tiers : list of dict
        Coarse to fine: type, values and bytes of a row.
    ram : dict of str to int
        Bytes in RAM by part. ``codec`` is what was learned, ``coarse tier`` and ``cells`` are mapped from their
        files, ``graph`` holds its own copy of the coarse codes.
    disk : dict of str to int
        Bytes on disk by part; empty in memory.
    ram_bytes_per_document, disk_bytes_per_document, vector_bytes_per_document : float
        Sums over the documents; the last one counts the codes of all tiers (of the tokens and sparse vectors, too) alone.
    dead_slots : int
        Rows of deleted or replaced documents that `compact` would drop.
    index : str
        What finds candidates in a large collection: ``"cells"`` or ``"graph"``.
    index_covers : int
        Rows that it reaches; the rest is scanned exactly.
    generation, commits, format_version : int
        Numbers of the vector files, of the last commit, and of the format.
    versions : dict of str to str
        Of Octavo and of what it stands on.
    tokens : dict or None
        Of a multi-vector collection: stored token vectors, type, values and bytes of one, how they are pooled, and what
        finds candidates (`tiers` describe the candidate vectors then).
    tuning : dict or None
        What `tune` stored: ef or rows looked at, oversample, the recall found with them, and the one asked for.
    originals : dict or None
        Documents whose original vectors are kept beside the codes, so that the codec can be learned again from them, and their
        bytes; None where there are none.
    sparse : dict or None
        Of learned sparse vectors, where there are some: documents that have one, their terms altogether, segments, rows that
        wait to be in one, bytes of both, and the encoder.
    reencoding : dict or None
        The change of the model that is under way, None where there is none: ``encoder``, ``late``, ``codec``, ``serve``,
        ``documents`` that are done, how many there are in all (``of``), ``share`` of them, ``per_second`` and
        ``seconds_left`` (None before anything is known), ``bytes`` that the new vectors take now and ``bytes_in_all`` that
        they may take in the end.

    Examples
    --------
    >>> import octavo
    >>> with octavo.open() as kb:
    ...     _ = kb.add(["red", "green"], vectors=[[1.0, 0.0], [0.0, 1.0]])
    ...     info = kb.info()
    >>> info.documents, info.dim, info.codec, info.fitted
    (2, 2, 'int8', False)
    """

    path: str | None
    documents: int
    dim: int | None
    metric: str
    codec: str
    fitted: bool
    fit_after: int
    encoder: str | None
    full_text: str
    tiers: list[dict[str, Any]]
    ram: dict[str, int]
    disk: dict[str, int]
    ram_bytes_per_document: float
    disk_bytes_per_document: float
    vector_bytes_per_document: float
    dead_slots: int
    index: str
    index_covers: int
    generation: int
    commits: int
    format_version: int
    versions: dict[str, str]
    tokens: dict[str, Any] | None = None
    tuning: dict[str, Any] | None = None
    originals: dict[str, int] | None = None
    sparse: dict[str, Any] | None = None
    reencoding: dict[str, Any] | None = None

    def _repr_html_(self) -> str:
        rows = {
            "place": self.path or "in memory",
            "documents": f"{self.documents:,}",
            "codec": self.codec if self.fitted else f"{self.codec} (float32 until {self.fit_after:,} documents are in)",
            "metric": self.metric,
            "dimension": str(self.dim or "not known yet"),
            "encoder": self.encoder or "none (vectors were given)",
            "in RAM": f"{human_bytes(self.ram_bytes)}, {self.ram_bytes_per_document:,.0f} bytes a document",
            "on disk": f"{human_bytes(self.disk_bytes)}, {self.disk_bytes_per_document:,.0f} bytes a document",
        }
        return notebook_table("Collection", [], rows.items())

    @property
    def ram_bytes(self) -> int:
        """Bytes in RAM, all parts."""
        return sum(self.ram.values())

    @property
    def disk_bytes(self) -> int:
        """Bytes on disk, all parts."""
        return sum(self.disk.values())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self) | {"ram_bytes": self.ram_bytes, "disk_bytes": self.disk_bytes}


def describe(
    store: Store, connection: Connection, snapshot: Snapshot, encoder: Encoder | TokenEncoder | None
) -> CollectionInfo:
    """Measure a collection."""
    manifest = dict(
        connection.execute(
            "SELECT key, value FROM manifest WHERE key IN ('format_version', 'encoder', 'sparse_encoder')"
        ).fetchall()
    )
    stored_encoder = json.loads(manifest["encoder"])["name"] if manifest.get("encoder") else None
    ram = {"alive mask": snapshot.alive.nbytes}
    tiers: list[dict[str, Any]] = []
    for number, tier in enumerate(snapshot.tiers):
        layout = tier.layout
        tiers.append({"type": layout.kind, "values": layout.dim, "row_bytes": layout.row_bytes})
        if number == 0 or tier.file.resident:
            ram["coarse tier" if number == 0 else f"tier {number}"] = tier.codes.nbytes
    vector_bytes = float(sum(tier.layout.row_bytes for tier in snapshot.tiers))
    tokens = _tokens(store, snapshot.tokens) if snapshot.tokens is not None else None
    if tokens is not None and isinstance(encoder, TokenEncoder) and encoder.pools is not None:
        tokens["pooled_by"] = encoder.pools
    if snapshot.tokens is not None:
        view = snapshot.tokens
        vector_bytes += (view.codes.nbytes + view.offsets.nbytes) / max(1, snapshot.n_slots)
        if view.file.resident:
            ram["tokens"] = view.codes.nbytes + view.offsets.nbytes
    if snapshot.codec is not None and (learned := _learned_bytes(snapshot)):
        ram["codec"] = learned
    kept, kept_bytes = _originals.size(connection)
    if kept and store.folder is None:
        ram["originals"] = kept_bytes
    if snapshot.graph is not None:
        ram["graph"] = snapshot.graph.graph.memory_bytes
    if snapshot.cells is not None:
        ram["cells"] = snapshot.cells.nbytes
    if snapshot.token_cells is not None:
        ram["token cells"] = snapshot.token_cells.nbytes
    sparse = _sparse(connection, snapshot, manifest.get("sparse_encoder")) if snapshot.sparse is not None else None
    if snapshot.sparse is not None:
        ram["sparse"] = snapshot.sparse.nbytes
    disk = _disk(store, connection, snapshot, kept_bytes, sparse["bytes"] if sparse is not None else 0)
    if snapshot.next is not None:
        (disk if store.folder is not None else ram)["new vectors"] = sum(file.bytes for file in snapshot.next.files)
    documents = snapshot.n_alive
    share = 1 / documents if documents else 0.0
    return CollectionInfo(
        path=str(store.directory) if store.directory is not None else None,
        documents=documents,
        dim=snapshot.dim,
        metric=store.settings.metric or "",
        codec=snapshot.codec_text,
        fitted=snapshot.fitted,
        fit_after=store.settings.fit_after or 0,
        encoder=stored_encoder or (encoder.name if encoder is not None else None),
        full_text=store.settings.full_text or "",
        tiers=tiers,
        ram=ram,
        disk=disk,
        ram_bytes_per_document=sum(ram.values()) * share,
        disk_bytes_per_document=sum(disk.values()) * share,
        vector_bytes_per_document=vector_bytes + (sparse["bytes"] * share if sparse is not None else 0.0),
        dead_slots=snapshot.dead,
        index=store.settings.index or INDEXES[0],
        index_covers=max(view.covered if view is not None else 0 for view in (snapshot.graph, snapshot.cells)),
        generation=max(0, snapshot.generation),
        commits=snapshot.seq,
        format_version=int(manifest["format_version"]),
        versions=_versions(),
        tokens=tokens,
        tuning=asdict(snapshot.tuning) if snapshot.tuning is not None else None,
        originals={"documents": kept, "bytes": kept_bytes} if kept else None,
        sparse=sparse,
        reencoding=_reencoding(connection, snapshot),
    )


def _reencoding(connection: Connection, snapshot: Snapshot) -> dict[str, Any] | None:
    """Return how far a change of the model is."""
    state, following = snapshot.reencoding, snapshot.next
    if state is None or following is None:
        return None
    beyond = connection.execute(f"SELECT count(*) FROM {PREFIX}originals WHERE slot >= ?", (state.done,)).fetchone()[0]
    done, total = following.n_alive + beyond, snapshot.n_alive
    speed = state.encoded / state.seconds if state.encoded and state.seconds > 0 else None
    return {
        "encoder": state.encoder["name"],
        "late": state.late,
        "codec": state.codec,
        "serve": state.serve,
        "documents": done,
        "of": total,
        "share": done / total if total else 1.0,
        "per_second": speed,
        "seconds_left": (total - done) / speed if speed else None,
        "bytes": sum(file.bytes for file in following.files) + _originals.size(connection, PREFIX)[1],
        "bytes_in_all": reencoded_bytes(state.codec, state.dim, total, late=state.late),
    }


def reencoded_bytes(codec: str, dim: int, documents: int, *, late: bool, tokens: float = 0.0) -> int:
    """Return about how many bytes the vectors of a second space take at most while it is filled.

    Parameters
    ----------
    codec : str
        The codec that it will be in.
    dim : int
        Dimension of the vectors.
    documents : int
        How many there are.
    late : bool
        Whether a document has many vectors.
    tokens : float
        How many, on average; 0 where nothing is known.
    """
    parsed = Codec.parse(codec)
    row = sum(tier.layout_for(dim).row_bytes for tier in parsed)
    if late:
        row = round(row * tokens) + 12 + dim
        wide = round(2 * dim * tokens) + 4 * dim
    else:
        wide = 4 * dim
    waiting = min(documents, _originals.CAPACITY) * wide
    return documents * row + waiting + most_original_bytes(dim, late=late)


def _sparse(connection: Connection, snapshot: Snapshot, encoder: str | None) -> dict[str, Any]:
    view = snapshot.sparse
    assert view is not None  # the caller has looked
    segments = [each.segment for each in view.segments if each.segment is not None]
    waiting, waiting_bytes = connection.execute("SELECT count(*), total(length(vector)) FROM sparse_rows").fetchone()
    sealed = sum(
        int((segment.scales[snapshot.alive[each.first : each.last]] > 0).sum())
        for each, segment in ((each, each.segment) for each in view.segments)
        if segment is not None
    )
    return {
        "documents": sealed + waiting,
        "terms": sum(map(len, segments)) + round((waiting_bytes - 4 * waiting) / 5),
        "segments": len(view.segments),
        "waiting": waiting,
        "bytes": sum(each.entry["bytes"] for each in view.segments) + round(waiting_bytes),
        "encoder": json.loads(encoder)["name"] if encoder else None,
    }


def _tokens(store: Store, view: TokenView) -> dict[str, Any]:
    layout = view.layout
    return {
        "count": len(view.codes),
        "type": layout.kind,
        "values": layout.dim,
        "row_bytes": layout.row_bytes,
        "pooling": store.settings.pooling,
        "candidates": store.settings.candidates,
    }


def most_original_bytes(dim: int, *, late: bool) -> int:
    """Return how many bytes the original vectors that are kept take at most, however many documents there are."""
    return _originals.capacity(dim, late=late) * (2 * dim + 4)


def _learned_bytes(snapshot: Snapshot) -> int:
    """Return the bytes of what the codecs have learned: matrices, means and factors."""
    total = snapshot.codec.state_bytes if snapshot.codec is not None else 0
    if snapshot.tokens is not None:
        codec = snapshot.tokens.codec
        total += codec.pipeline.state_bytes
        if codec.candidates is not None:
            total += sum(array.nbytes for array in codec.candidates.get_state().values())
    return total


def _disk(store: Store, connection: Connection, snapshot: Snapshot, originals: int, sparse: int) -> dict[str, int]:
    folder = store.folder
    if folder is None:
        return {}

    def size(name: str) -> int:  # of files that another process may be deleting
        found = folder.stat(name)
        return found.st_size if found is not None else 0

    sizes = {f"tier {number}": tier.file.bytes for number, tier in enumerate(snapshot.tiers)}
    if snapshot.tokens is not None:
        sizes["tokens"] = sum(file.bytes for file in snapshot.tokens.files)
    files = sum(size(each.entry["file"]) for each in snapshot.sparse.segments) if snapshot.sparse is not None else 0
    waiting = (
        sparse - sum(each.entry["bytes"] for each in snapshot.sparse.segments) if snapshot.sparse is not None else 0
    )
    if snapshot.sparse is not None:
        sizes["sparse"] = files + waiting  # the latter in the database's file
    sizes["documents"] = max(
        0, sum(size(f"{DATABASE_NAME}{suffix}") for suffix in ("", "-wal", "-shm")) - originals - waiting
    )
    if originals:
        sizes["originals"] = originals  # in the same file
    for index in DERIVED:
        names = [name for p in ("", PREFIX) for name in derived_files(index, store.artifact(connection, f"{p}{index}"))]
        length = sum(size(name) for name in names)
        if length:
            sizes[index.replace("_", " ")] = length
    text = store.artifact(connection, "text")
    if text is not None:
        sizes["full text"] = sum(length for length, _ in text["manifest"]["files"].values())
    return sizes


def _versions() -> dict[str, str]:
    from importlib import metadata  # slow to import, and needed only here

    found = {"octavo": __version__, "python": platform.python_version(), "sqlite": library_version()}
    return found | {name: metadata.version(name) for name in ("numpy", "usearch", "numkong", "tantivy")}
