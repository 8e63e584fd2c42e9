//! What a legacy server asks of a modern client, and the retries that answer it.
