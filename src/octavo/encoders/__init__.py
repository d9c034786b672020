"""Models that turn texts into vectors: one vector a text, or one a token."""
