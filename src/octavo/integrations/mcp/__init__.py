"""A server of the Model Context Protocol, through which assistants search a collection: ``octavo mcp``.

Examples
--------
>>> import octavo
>>> from octavo.integrations.mcp import collection_server
>>> kb = octavo.open()
>>> _ = kb.add(["red", "green"], vectors=[[1, 0], [0, 1]])
>>> server = collection_server(kb)
>>> kb.close()
"""

try:
    import mcp
except ModuleNotFoundError as err:
    if err.name != "mcp":
        raise  # it is there, but broken: its own error says more
    from octavo.errors import MissingExtraError

    raise MissingExtraError("octavo mcp needs the mcp package. Install it: pip install 'octavo[mcp]'") from err

try:
    import mcp.server.mcpserver
except ModuleNotFoundError as err:
    if not (err.name or "").startswith("mcp.server.mcpserver"):
        raise
    from octavo.errors import MissingExtraError

    raise MissingExtraError(
        "octavo mcp needs mcp 2.0 or newer, and there is an older one. Install it: pip install 'octavo[mcp]'"
    ) from err

from octavo.integrations.mcp._server import collection_server

__all__ = ["collection_server"]

del mcp
