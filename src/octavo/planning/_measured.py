"""What was measured, in one place: every constant of a plan that is not arithmetic, with where it comes from.

``docs/scale.md`` says how each was taken. The machine is the one of ``docs/results.md`` (two cores of an AMD EPYC, Zen 5).
"""

from __future__ import annotations

# -- a collection on one machine ---------------------------------------------------------------------------------------

#: Bytes of a usearch node beside its codes: ``base + link * connectivity`` (25,000 rows; 148.5 at 16, 276.3 at 32, and the
#: same for rows of 16, 48, 128 and 192 bytes).
GRAPH_BASE_BYTES, GRAPH_LINK_BYTES = 20.5, 8.0
#: Memory beside the file of a mapped graph: pointers and keys (`Graph.memory_bytes`).
GRAPH_TABLE_BYTES = 64
#: One flag a slot says whether its document is alive.
ALIVE_BYTES = 1

#: SQLite's page, what of it holds rows, and what a row costs beside its own values (header, slot, checksum, pointer).
PAGE_BYTES, PAGE_USED, ROW_OVERHEAD = 4096, 4088, 22
#: The longest row that a page holds, and what is lost where a longer one begins and ends.
LONGEST_IN_PAGE, OVERFLOW_LOSS = 4061, 500
#: A row of the index of ids, beside the id.
ID_OVERHEAD = 9
#: A row of the inverted index of metadata values, the value included (numbers and short strings).
FIELD_BYTES = 20
#: The full-text index, as a share of the text: 0.15 (LIMIT, few words), 0.16 (SciFact), 0.23 (Vaswani), 0.29 (SQuAD).
FULL_TEXT_SHARE = 0.25

#: CPU microseconds to add one document with a ready vector, graph included: ``base + byte * row_bytes`` of the coarse tier.
#: From 100,000 documents of 384 dimensions on two cores (docs/results.md): 10.6 s for 48 bytes (binary), 17.1 s for 384 bytes
#: (int8). Codes of float8 and of 16 and 32 bits take longer to compare while the graph is built: 23.0 s for 192 bytes.
ADD_BASE_US, ADD_BYTE_US, ADD_FLOAT_US = 193.0, 0.387, 193.0
#: Documents at which this was measured: a graph costs more the larger it is, about in proportion to the logarithm.
ADD_MEASURED_AT = 100_000

#: The same with cells: writing (52 us, docs/benchmarks.md), and training and encoding a value of a vector once and a half, as
#: a collection that grows does (400,000 of 384 dimensions: 18 CPU s).
ADD_PLAIN_US, CELLS_VALUE_US = 52.0, 0.18

# -- a node of the cluster ---------------------------------------------------------------------------------------------

#: Share of a node's memory that the plan fills; the rest is for requests, the system, and segments being rebuilt.
RAM_USED = 0.75
#: Share of a node's disk that the plan fills: an optimiser writes the new segment before it deletes the old one.
DISK_USED = 0.6
#: Shards a node, so that a later node takes over whole shards.
SHARDS_PER_NODE = 2
#: With fewer nodes than this no majority survives the loss of one.
NODES_FOR_CONSENSUS = 3

#: Bytes of one point in the engine's files: 20,000 points through qdrant-edge-py 0.9.0, one segment, after `optimize`.
#: What the engine keeps beside each quantized vector (int8; binary has nothing; TurboQuant, which `rabitq` becomes).
POINT_INT8_EXTRA, POINT_TURBO_EXTRA = 4, 8
#: Compressed links of the graph at m = 16 and m = 32 (55.5 and 83.4), and the list of its levels.
POINT_LINK_BASE, POINT_LINK_BYTES, POINT_LEVELS = 27.6, 1.744, 12
#: Points at which that was measured. A compressed link has as many bits as numbers of points need: links are taken to grow
#: with the logarithm, which is on the safe side (44.0 bytes at 20,000 points of 32 dimensions, 47.9 at 100,000).
POINT_MEASURED_AT = 20_000
#: Ids and versions.
POINT_ID_BYTES = 29
#: Payload: its place, blocks of 128 bytes of which the last is half empty on average, and the names of the fields; and what
#: `QdrantCollection` adds for each value of the metadata. Texts are counted as they are; the engine compresses some.
POINT_PAYLOAD_BYTES, POINT_PAYLOAD_FIELD_BYTES = 16 + 64 + 40, 60
#: Index of the terms that stand for metadata values, a value: 103 (four a document) and 117 (two a document).
POINT_FIELD_BYTES = 110
#: Words, as a share of the text: their inverted index (0.61 SciFact, 0.75 Vaswani, 1.11 SQuAD), and the sparse vectors it is
#: made from (0.63, 1.13, 0.86).
POINT_WORDS_SHARE, POINT_SPARSE_SHARE = 0.8, 0.8
#: The write-ahead log of one shard: it is cut off, so it does not grow with the points.
SHARD_LOG_BYTES = 64 * 2**20
#: CPU microseconds a point for writing it, and for building the graph (m = 16, ef_construct = 100): ``base + value * dim``.
#: Measured: 37 + 99 at 32 dimensions, 40 + 157 at 128, 46 + 158 at 256, 78 + 236 at 768.
POINT_WRITE_US, POINT_WRITE_VALUE_US = 36.0, 0.055
POINT_GRAPH_US, POINT_GRAPH_VALUE_US = 115.0, 0.16

#: Learned sparse vectors in a local collection: a term of a document in the inverted lists (SciFact, a SPLADE of two layers:
#: 1.93; with 28 % of the terms left out by chance: 2.05), and the document's scale with its share of the tables of terms.
SPARSE_TERM_BYTES, SPARSE_SCALE_BYTES = 2.05, 10

#: The same in the engine, a term, counted in RAM and on disk alike, since it is mapped: 6,000 points of 180 terms.
POINT_SPARSE_TERM_BYTES = 20.7
