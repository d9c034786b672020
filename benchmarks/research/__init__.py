"""What was compared and not taken: codes, poolings and candidate vectors that only benchmarks use."""
