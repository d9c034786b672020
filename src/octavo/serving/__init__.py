"""A page about one collection, for a browser on this machine: ``octavo serve``."""

from octavo.serving._server import PageServer

__all__ = ["PageServer"]
