"""From a query to ranked documents: dense, full text, hybrid, late interaction, and how hard to look."""
