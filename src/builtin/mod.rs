//! Servers that come with the binary.
