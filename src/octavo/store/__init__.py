"""The durable store under a collection: documents, metadata, vector files, full text, snapshots."""

from octavo.store._blueprint import Blueprint
from octavo.store._copy import copy_collection
from octavo.store._database import document_crc, select_documents, write_manifest
from octavo.store._documents import (
    Batch,
    Document,
    DocumentLike,
    Floats,
    as_matrix,
    check_directions,
    check_ids,
    chunked,
    read_batches,
    unit_rows,
)
from octavo.store._encoders import Encoder, as_encoder, check_fingerprint, fingerprint
from octavo.store._erase import erase_leftovers
from octavo.store._export import export_store
from octavo.store._graph_keeper import GraphKeeper
from octavo.store._info import CollectionInfo, describe
from octavo.store._late_settings import candidates_config, pooling_config
from octavo.store._metadata_index import select
from octavo.store._settings import Settings
from octavo.store._snapshot import GraphView, Mask, Slots, Snapshot, TierView
from octavo.store._store import Store, delete_files
from octavo.store._text_keeper import TextKeeper, TextView
from octavo.store._token_encoders import MeanProbe, TokenEncoder, encode_pooled, is_multi_vector, pooled, unit_tokens
from octavo.store._tokens import TokenView
from octavo.store._verify import VerifyReport, repair_damage, verify_files
from octavo.store._writer import Writer, decode_rows
from octavo.store.filters import Filter, parse_filter

__all__ = [
    "Batch",
    "Blueprint",
    "CollectionInfo",
    "Document",
    "DocumentLike",
    "Encoder",
    "Filter",
    "Floats",
    "GraphKeeper",
    "GraphView",
    "Mask",
    "MeanProbe",
    "Settings",
    "Slots",
    "Snapshot",
    "Store",
    "TextKeeper",
    "TextView",
    "TierView",
    "TokenEncoder",
    "TokenView",
    "VerifyReport",
    "Writer",
    "as_encoder",
    "as_matrix",
    "candidates_config",
    "check_directions",
    "check_fingerprint",
    "check_ids",
    "chunked",
    "copy_collection",
    "decode_rows",
    "delete_files",
    "describe",
    "document_crc",
    "encode_pooled",
    "erase_leftovers",
    "export_store",
    "fingerprint",
    "is_multi_vector",
    "parse_filter",
    "pooled",
    "pooling_config",
    "read_batches",
    "repair_damage",
    "select",
    "select_documents",
    "unit_rows",
    "unit_tokens",
    "verify_files",
    "write_manifest",
]
