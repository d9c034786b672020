"""Folders, JSON lines and other collections into a collection."""
