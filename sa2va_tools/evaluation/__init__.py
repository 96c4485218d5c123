"""Metrics of the benchmarks, in numpy."""
