"""The inverted index of metadata values, which answers filters."""
