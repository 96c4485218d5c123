"""Metrics of the published benchmarks (RefCOCO, GRES, DAVIS, GCG), in NumPy."""
