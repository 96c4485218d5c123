"""One script per client. Each connects as its own documentation says, and lets an agent work on the task."""
