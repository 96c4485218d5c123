"""Checks and measurements for a machine with a GPU, to be run in one go; see README.md."""
