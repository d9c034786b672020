"""What results say: comparisons, statistics, the Pareto front, tables."""
