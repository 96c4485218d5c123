"""Anything the user can point at → frames. The lowest layer: it imports nothing of the project
but errors, progress and settings."""
