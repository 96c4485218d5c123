"""Front ends of sa2va-tools: the command line (`cli`) and the MCP server (`mcp`)."""
