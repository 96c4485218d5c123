"""User-supplied media → frames. The lowest layer: it imports nothing of the project but the
foundation (errors, memory errors, runs, settings)."""
