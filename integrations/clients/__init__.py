"""Agent frameworks that other people wrote, tried with the MCP server: each in an environment of its own."""
