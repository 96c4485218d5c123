"""How fast the engine is, as ratios in one run: beside the published procedure, and beside its own parts."""
