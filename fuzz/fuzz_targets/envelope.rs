//! Any bytes as lines: framer, scanner, envelope, splice.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tenantd::mcp::fuzzing::envelope(input));
