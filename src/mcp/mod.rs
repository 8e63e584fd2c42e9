//! MCP as bytes: the envelope of a message, and nothing of its meaning.
