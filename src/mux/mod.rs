//! The exchange: one process per tenant, many sessions on its servers.
