"""Ray Data: encode documents on many machines, and write them into a collection, with jobs that can be killed and resumed.

::

    import ray.data
    from octavo.integrations.ray import encode, fit_codec, upsert

    documents = ray.data.read_parquet("chunks/")  # columns id, text, and any others as metadata
    codec = fit_codec(documents, "all-MiniLM-L6-v2", "binary > int8")
    encoded = encode(documents, "all-MiniLM-L6-v2", codec, checkpoint="job/")
    report = upsert(encoded, "kb", codec=codec, checkpoint="job/")

Ray listens where others can reach it unless it is told otherwise: see ``docs/scale.md`` before starting it.
"""

try:
    import ray.data
except ModuleNotFoundError as err:
    if err.name is None or err.name.split(".")[0] not in ("ray", "pyarrow", "pandas"):
        raise  # it is there, but broken: its own error says more
    from octavo.errors import MissingExtraError

    raise MissingExtraError("octavo.integrations.ray needs ray[data]. Install it: pip install 'octavo[ray]'") from err

from octavo.integrations.ray._encode import encode
from octavo.integrations.ray._fit import fit_codec, stored_codec
from octavo.integrations.ray._upsert import upsert
from octavo.integrations.ray._writing import UpsertReport

__all__ = ["UpsertReport", "encode", "fit_codec", "stored_codec", "upsert"]

del ray
