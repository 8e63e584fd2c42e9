//! The servers that come with tenantd, so that a fresh machine needs nothing else.
//!
//! A built-in server is an ordinary stdio MCP server: it runs as a tenant's child, in the tenant's
//! sandbox, and knows nothing of the supervisor or of any other tenant.

pub mod documents;
