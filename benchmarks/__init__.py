"""How fast the engine is, as ratios in one run: compared to the published procedure, and to its own parts."""
